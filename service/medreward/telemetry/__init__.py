"""Metrics, spans and logs: numbers and closed names, never a sample's text."""
