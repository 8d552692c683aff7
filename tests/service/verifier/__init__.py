"""The verifier: its terms, its pairs, its training."""
