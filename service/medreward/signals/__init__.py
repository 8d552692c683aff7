"""Signals that need no judge and no embedder: one module each, and the type that all of them have."""
