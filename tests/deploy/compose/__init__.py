"""docker-compose.yml and the Dockerfiles, read by several tools and checked against the service."""
