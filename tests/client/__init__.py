"""What the Python client promises; a package, since other tests are named after the same stages."""
