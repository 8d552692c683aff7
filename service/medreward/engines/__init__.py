"""Judges and embedders: their protocols, the registry of engines, and the supervisor of a service."""
