"""HTTP requests and responses; beside `app.py`, the only code that imports a web framework."""
