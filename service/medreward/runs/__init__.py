"""Monitoring of training runs: steps, moments, trends and alerts."""
