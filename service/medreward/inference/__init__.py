"""From questions to answers: caches, other replicas, batches, and the engine at last."""
