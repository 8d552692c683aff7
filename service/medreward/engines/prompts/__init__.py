"""Prompts and labels: an inquiry as tokens, and token probabilities as a judgement."""
