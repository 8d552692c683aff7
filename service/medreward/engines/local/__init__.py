"""Models in this process: threads, forward passes, batches by length, weights."""
