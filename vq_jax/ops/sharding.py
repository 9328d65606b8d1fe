"""How arrays are split over the devices of a mesh, where a function is compiled for one."""

import jax
from jax.sharding import AxisType, PartitionSpec

AXES = DATA, FSDP = 'data', 'fsdp'


def split_batch(x: jax.Array) -> jax.Array:
    """Keeps the examples of an array [b ...] split over the devices, each of which has the rest whole.

    Where parameters are split over the devices that share a batch, a compiler may choose to move what
    networks compute instead of the parameters: it is told here not to. Outside of a mesh of `AXES`, as on one
    device or under `pmap`, and where devices cannot share b evenly, this does nothing.
    """
    mesh = jax.sharding.get_abstract_mesh()
    ours = mesh.axis_names == AXES and all(kind == AxisType.Auto for kind in mesh.axis_types)
    if not ours or len(x) % mesh.size:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(AXES))
