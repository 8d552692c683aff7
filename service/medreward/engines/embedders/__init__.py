"""The embedder engines, one module each."""
