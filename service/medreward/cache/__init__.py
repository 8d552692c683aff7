"""Bytes by key: in this process, and in Redis for all replicas."""
