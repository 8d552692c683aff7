"""Requests in, responses out: the only package that imports a web framework."""
