"""The score cache: bytes by key, in this process and in Redis for all replicas."""
