"""Guards: decisions about an answer without a model, after parsing and before inference."""
