"""k-means, to start a codebook where the data is."""

import jax
import jax.numpy as jnp

from vq_jax.errors import UserError
from vq_jax.ops.nearest import nearest_code
from vq_jax.ops.quantization import code_shares, code_sums, normalise


def kmeans(
    key: jax.Array, points: jax.Array, k: int, *, iterations: int = 10, cosine: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Lloyd's algorithm (1982), started at k points sampled without replacement.

    A centre that no point chooses stays where it is, so every centre is a point or a mean of points. With
    `cosine`, centres are kept, and points [n d] are taken, at unit length (spherical k-means).

    Returns:
        Centres [k d] and the share of points nearest to each [k].

    Raises:
        UserError: if there are fewer points than centres.
    """
    if len(points) < k:
        raise UserError(f'{len(points)} points cannot start {k} centres; give as many or more.')
    points = points.astype(jnp.float32)
    if cosine:
        points = normalise(points)
    middle = jnp.mean(points, axis=0)  # from where sums of points far from zero keep their digits
    start = points[jax.random.choice(key, points.shape[0], (k,), replace=False)]

    def assign(centres: jax.Array) -> tuple[jax.Array, jax.Array]:
        codes = nearest_code(points, centres)
        return codes, code_shares(codes, k)

    def step(_: int, centres: jax.Array) -> jax.Array:
        codes, shares = assign(centres)
        sums = code_sums(points - middle, codes, k)
        means = middle + sums / jnp.maximum(shares, 1 / points.shape[0])[:, None]
        means = normalise(means) if cosine else means
        return jnp.where(shares[:, None] > 0, means, centres)

    centres = jax.lax.fori_loop(0, iterations, step, start)
    return centres, assign(centres)[1]
