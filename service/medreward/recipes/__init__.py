"""Recipes: signals and their weights, with a name and a fingerprint."""
