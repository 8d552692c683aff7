"""Scores, their intervals, and the difference of two models."""
