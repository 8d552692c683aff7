"""Generation of groups; samplers.py chooses the engine."""
