"""One service in several processes: some hold a model each, others ask them."""
