"""The embedded verifier: the pairs it learns from, and how it is trained."""
