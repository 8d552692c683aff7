"""The exam of a judge: its pairs, its result, and when a service takes it."""
