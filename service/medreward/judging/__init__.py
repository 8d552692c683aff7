"""Judges: whether an answer means what the reference means."""
