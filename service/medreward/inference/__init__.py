"""Resolution of questions: from caches, from other replicas, or by batches to an engine."""
