"""What a checkpoint says about itself: arrays and checksums, sealed by a hash."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from msgspec import Meta

from vq_jax.errors import UserError
from vq_jax.json_files import parse_json, read_file
from vq_jax.training.parallel import one_at_a_time

PyTree = Any
Checksums = Callable[[], dict[str, int]]  # waits for them: unsigned 32-bit numbers, by name


class _Array(TypedDict):
    shape: list[Annotated[int, Meta(ge=0)]]
    dtype: str
    impl: NotRequired[str]
    checksum: int


class _File(TypedDict):
    size: int
    sha256: str


class Sealed(TypedDict):
    """What a run says of itself in each checkpoint.

    Attributes:
        config: its config.
        data: the facts of its data (see `vq_jax.training.run_dir.facts_to_seal`).
        inference_only: whether the checkpoint holds no more of the state than inference needs.
    """

    config: dict[str, Any]
    data: dict[str, Any]
    inference_only: NotRequired[bool]


class _Record(TypedDict):
    """What a sealed record must hold, whoever has sealed it."""

    step: int
    position: dict[str, Any]
    metrics: dict[str, float]
    sealed: NotRequired[Sealed]
    arrays: dict[str, _Array]
    files: dict[str, _File]
    sha256: str


class DamagedError(Exception):
    """A checkpoint is not what was written; the message says why."""


def flatten(tree: PyTree) -> tuple[dict[str, Any], Any]:
    """Returns {path: leaf}, the path as Python writes it (`.params['kernel']`), and the treedef."""
    flat, treedef = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path) or 'state': leaf for path, leaf in flat}, treedef


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed random keys."""
    return hasattr(leaf, 'dtype') and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def plain(leaf: Any) -> jax.Array | np.ndarray:
    """The leaf as an array of numbers: random keys as uint32 [..., words], a number as NumPy []."""
    if is_key(leaf):
        return jax.random.key_data(leaf)
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)


def describe(leaf: Any) -> dict[str, Any]:
    """Shape and dtype, and for an array of random keys how to make keys of the numbers."""
    array = leaf if hasattr(leaf, 'dtype') else np.asarray(leaf)
    entry = {'shape': list(array.shape), 'dtype': str(array.dtype)}
    if is_key(leaf) and isinstance(leaf, jax.Array):
        entry['impl'] = str(jax.random.key_impl(leaf))
    return entry


def as_text(entry: dict[str, Any]) -> str:
    """What `describe` returns, for people: `float32[3, 4]`."""
    return f'{entry["dtype"]}{entry["shape"]}'


def plain_type(leaf: Any) -> tuple[tuple[int, ...], Any]:
    """Shape and dtype of what `plain` returns, also for a `jax.ShapeDtypeStruct`."""
    if is_key(leaf):
        abstract = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        leaf = jax.eval_shape(jax.random.key_data, abstract)
    array = leaf if hasattr(leaf, 'dtype') else np.asarray(leaf)
    return tuple(array.shape), array.dtype


# Checksums.


def start_checksums(arrays: dict[str, jax.Array | np.ndarray]) -> Checksums:
    """Starts the checksums of arrays on the devices."""
    words = {name: x if isinstance(x, jax.Array) else _host_words(x) for name, x in arrays.items()}
    return start_each(_checksum, words)


def start_each(
    function: Callable[[Any], jax.Array], arrays: Mapping[str, jax.Array | np.ndarray]
) -> Callable[[], dict[str, Any]]:
    """Starts a computation for each array.

    A state has many arrays of few shapes, and each of these is compiled once; one program of all of them
    would take longer to compile, and be of use to no other state.

    Args:
        function: a compiled one, of an array to a number.
        arrays: by name.

    Returns:
        A function that waits for the numbers, by name.
    """
    start = one_at_a_time(function)
    numbers = {name: start(x).addressable_data(0) for name, x in arrays.items()}
    # The numbers alone: a function that is kept for later would keep the arrays with it.
    return lambda: {name: number.item() for name, number in jax.device_get(numbers).items()}


def _host_words(x: np.ndarray) -> np.ndarray:
    # Raw words, because JAX would round 64-bit numbers to 32 bits.
    flat = np.ascontiguousarray(x).reshape(-1)
    return flat.view({1: np.uint8, 2: np.uint16}.get(x.dtype.itemsize, np.uint32))


@jax.jit
def _checksum(x: jax.Array) -> jax.Array:
    """Sum modulo 2^32 of the array's words, each mixed with its position.

    For a given position the mixing is a bijection of the word (the finalizer of MurmurHash3,
    Appleby 2011), so a change of any single word always changes the sum. A sum is independent of
    its order, so the result does not depend on how the array is spread over devices.

    Args:
        x: Any shape, any dtype of 8, 16, 32 or 64 bits, or bool.

    Returns:
        uint32 [].
    """
    if x.dtype == bool:
        x = x.astype(jnp.uint8)
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag], -1)
    word = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    words = jax.lax.bitcast_convert_type(x, word).astype(jnp.uint32)
    # Positions are counted along each axis, not after a reshape, which would gather a sharded x.
    position, stride = jnp.zeros((), jnp.uint32), 1
    for axis in reversed(range(words.ndim)):
        index = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        position = position + index * jnp.uint32(stride % 2**32)
        stride *= words.shape[axis]
    mixed = words + position * jnp.uint32(0x9E3779B9)
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
    return jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32)


def fingerprint(tree: PyTree) -> str:
    """Hexadecimal SHA-256 of the names, types and contents of the arrays of a tree."""
    digest = hashlib.sha256()
    for name, leaf in sorted(flatten(tree)[0].items()):
        array = np.asarray(plain(leaf))
        digest.update(f'{name} {as_text(describe(array))} '.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def seal(record: dict[str, Any]) -> str:
    """JSON text of a record with a hash of itself, so that `unseal` notices any change."""
    digest = hashlib.sha256(_dump(record).encode()).hexdigest()
    return _dump(record | {'sha256': digest})


def unseal(path: Path) -> dict[str, Any]:
    """Reads a file made by `seal`; raises `DamagedError` if it is missing, or any byte of it has changed."""
    try:
        raw = read_file(path)
        parse_json(raw, _Record, where=path.name, advice='')
    except FileNotFoundError as error:
        raise DamagedError(f'the file {path.name} is missing') from error
    except UserError as error:
        raise DamagedError(f'the file {path.name} is not what was written') from error
    record = json.loads(raw)
    del record['sha256']
    if seal(record).encode() == raw:
        return record
    raise DamagedError(f'the content of the file {path.name} has changed')


def _dump(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=1)
