"""Settings of all tests."""

import os

# Nearly all of the time of a test is XLA's compilation, and what is compiled runs once. Processes that
# tests start set their own flags.
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_backend_optimization_level=0'
