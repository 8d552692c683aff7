"""The embedded verifier: its training pairs, training and packaging."""
