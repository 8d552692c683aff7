"""What training runs are watched for: drift, and rewards that were not earned. docs/runs.md."""
