"""Guards: decisions about an answer without a model; `parsing/sample.py` runs them."""
