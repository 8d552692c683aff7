"""Responses of a model's server to the questions of a task."""
