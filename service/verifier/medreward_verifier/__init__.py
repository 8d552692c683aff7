"""Weights, tokenizer and thresholds of medreward's embedded judge; there is no code here."""
