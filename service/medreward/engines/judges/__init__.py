"""The judge engines, one module each."""
