"""Flax modules: descriptions with typed attributes, never a config."""
