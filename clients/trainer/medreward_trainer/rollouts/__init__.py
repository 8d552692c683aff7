"""How groups are generated; the choices are in samplers.py."""
