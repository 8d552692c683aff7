"""One module for each trainer: its contract on one side, `medreward_client.scoring` on the other."""
