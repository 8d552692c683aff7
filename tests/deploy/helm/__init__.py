"""The chart, rendered by two real Helms and read as a cluster would."""
