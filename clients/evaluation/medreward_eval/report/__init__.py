"""Scores as tables, as one HTML page, and as a submission."""
