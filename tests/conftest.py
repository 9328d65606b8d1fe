"""Settings of all tests."""

import os
from pathlib import Path

# Nearly all of the time of a test is XLA's compilation, and what is compiled runs once: all that makes the
# program fast is left out. Processes that tests start inherit it.
os.environ['XLA_FLAGS'] = (
    f'{os.environ.get("XLA_FLAGS", "")} --xla_backend_optimization_level=0 '
    '--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1'
)

# And most of it is compiled by more than one test, process, or start of the tests.
os.environ.setdefault(
    'JAX_COMPILATION_CACHE_DIR', str(Path(__file__).parents[1] / '.pytest_cache' / 'compiled')
)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '-1'

import gc
from collections.abc import Iterator

import jax
import pytest

# Tracing makes many objects and hardly a cycle of them: to look for those took a tenth of the time.
gc.set_threshold(100_000)


@pytest.fixture(autouse=True, scope='module')
def _forget_what_was_compiled() -> Iterator[None]:
    """Compiled functions of one file are of no use to the next, and would add up to gigabytes."""
    yield
    jax.clear_caches()
