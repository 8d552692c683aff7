"""The update of the policy: from scored groups to new weights."""
