"""HTTP requests and responses: the only package that imports a web framework."""
