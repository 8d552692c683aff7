"""Data sets as examples, and examples as prompts."""
