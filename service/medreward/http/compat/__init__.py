"""Formats of trainers that have their own client for a reward server."""
