"""The state of a run, its checkpoints and its reports."""
