"""Group-based RL for medical (vision-)language models, rewarded by a medreward service."""
