"""Rewards and grades, computed from signals and judgements; pure arithmetic."""
