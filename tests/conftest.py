"""Settings of all tests."""

import os
from importlib.metadata import version
from pathlib import Path

# Nearly all of the time of a test is XLA's compilation, and what is compiled runs once: all that makes the
# program fast is left out. Processes that tests start inherit it, and share what is compiled, which a flag
# of their own would keep from them. With the last one, XLA does not end a process one of whose devices is 40
# seconds late for the others.
os.environ['XLA_FLAGS'] = (
    f'{os.environ.get("XLA_FLAGS", "")} '
    '--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1 '
    '--xla_cpu_collective_call_terminate_timeout_seconds=3600'
)
# XLA ends a process that is given a flag it does not know, as jaxlib 0.11 and 0.12 do not know this one.
if tuple(map(int, version('jaxlib').split('.')[:2])) < (0, 11):
    os.environ['XLA_FLAGS'] += ' --xla_cpu_use_fusion_emitters=false'

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


@pytest.fixture(params=['cpu', 'default'])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is done in one way on CPUs and in another elsewhere: either, here."""

    def choose(*arrays, **ways):
        return ways[request.param](*arrays)

    monkeypatch.setattr(jax.lax, 'platform_dependent', choose)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The objects of all buckets, which are in memory, by their names from that of the bucket on."""
    import fsspec

    from vq_jax import buckets

    files = fsspec.filesystem('memory', skip_instance_cache=True)
    store = {}
    monkeypatch.setattr(files, 'store', store)
    monkeypatch.setattr(files, 'pseudo_dirs', [''])
    monkeypatch.setattr(buckets, '_client', lambda scheme: files)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return files
