"""Pure functions on arrays: what the models, losses and metrics are made of."""
