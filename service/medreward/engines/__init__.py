"""Judges and embedders: protocols, what can be loaded, and what keeps it loaded."""
