"""Embedders: how near two texts are."""
