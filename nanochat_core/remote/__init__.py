"""Training on rented machines: jobs of the hub."""
