"""The cache of judgements and embeddings: bytes by key, in this process and in Redis for all replicas."""
