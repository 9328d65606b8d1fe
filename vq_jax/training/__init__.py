"""The one loop and what it stands on: config, state, optimizers, parallel engines, checkpoints, logs."""
