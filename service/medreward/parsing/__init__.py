"""Responses and references as text in, parsed samples out; no model and no network."""
