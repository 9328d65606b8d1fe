"""Pages that show runs and tables of runs: what run directories hold, and the HTML that is made of it."""

from vq_jax.reporting.environment import Environment, find_environment
from vq_jax.reporting.page import make_page
from vq_jax.reporting.runs import RecordedRun, read_runs

__all__ = ['Environment', 'RecordedRun', 'find_environment', 'make_page', 'read_runs']
