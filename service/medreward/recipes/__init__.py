"""Recipes: which signals, with which weights, under a name and a fingerprint."""
