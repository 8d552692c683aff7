"""Guards: what is decided of an answer without a model, between reading and asking."""
