"""How arrays are split over the devices of a mesh, where a function is compiled for one."""

from collections.abc import Callable

import jax
from jax.sharding import AxisType, PartitionSpec

AXES = DATA, FSDP = 'data', 'fsdp'


def split_batch(x: jax.Array) -> jax.Array:
    """Keeps the examples of an array [b ...] split over the devices, each of which has the rest whole.

    Where parameters are split over the devices that share a batch, a compiler may choose to move what
    networks compute instead of the parameters: it is told here not to. Outside of a mesh of `AXES`, as on one
    device or under `pmap`, and where devices cannot share b evenly, this does nothing.
    """
    if not _shared(len(x)):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(AXES))


def per_device(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """A function that acts on each example of an array [b ...] by itself.

    For one that compilers do not split, such as a Fourier transform, before which they gather the whole batch
    on every device. Where `split_batch` does nothing, it is called as it is.
    """
    if not _shared(len(x)):
        return function(x)
    return jax.shard_map(function, in_specs=PartitionSpec(AXES), out_specs=PartitionSpec(AXES))(x)


def _shared(n: int) -> bool:
    """Whether the devices of a mesh of `AXES` share n examples evenly."""
    mesh = jax.sharding.get_abstract_mesh()
    ours = mesh.axis_names == AXES and all(kind == AxisType.Auto for kind in mesh.axis_types)
    return ours and n % mesh.size == 0
