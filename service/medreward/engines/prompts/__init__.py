"""From an inquiry to the tokens of a prompt, and from token probabilities to a judgement."""
