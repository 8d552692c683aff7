"""Parsing: texts of responses and references become parsed samples, without models or network."""
