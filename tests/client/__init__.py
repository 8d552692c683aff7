"""The tests of the Python client; a package, since other tests have files of the same names."""
