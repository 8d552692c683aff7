"""The routes of docs/api.md, the probes, and the routes of a judge or embedder process."""
