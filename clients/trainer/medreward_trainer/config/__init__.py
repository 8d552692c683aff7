"""The configuration of a run: its keys, its files, and its names in other trainers."""
