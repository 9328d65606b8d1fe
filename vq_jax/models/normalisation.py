"""Normalisations. The variance of each is that of differences from the mean, in float32.

Flax's default, the mean square less the square of the mean, is wrong where the mean is large beside the
deviation: in float32 nothing is left of a deviation of 0.1 around 1,000.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.ops.grids import over_grid
from vq_jax.ops.sums import scale_and_shift, sum_positions

BATCH_STATS = 'batch_stats'  # the collection of what normalisations learn without gradients
_SCALE = nn.initializers.normal(0.02)  # Radford et al. 2016, section 4


def batch_norm(train: bool, axis_name: str | None, dtype: str) -> nn.BatchNorm:
    """Batch normalisation over all devices, with the constants of DCGAN's published code.

    To `train` is to use the statistics of the batch, and to learn from them. They are float32, and `dtype` is
    what comes out.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        axis_name=axis_name,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        scale_init=lambda key, *rest: 1 + _SCALE(key, *rest),
        use_fast_variance=False,
    )


def layer_norm(dtype: str, *, affine: bool = True, epsilon: float = 1e-6) -> nn.LayerNorm:
    """Layer normalisation, with statistics in float32 (Ba et al. 2016, arXiv:1607.06450).

    A scale and a bias are learned if it is `affine`; epsilon is added to the variance.
    """
    return nn.LayerNorm(
        epsilon=epsilon, dtype=dtype, use_scale=affine, use_bias=affine, use_fast_variance=False
    )


class GroupNorm(nn.Module):
    """`flax.linen.GroupNorm`: the same parameters and, but for rounding, the same result.

    Wu and He 2018 (arXiv:1803.08494). Means and scales of groups are folded into one factor and one
    summand a channel, so that the only work on whole grids is two sums and one multiplication of their
    differences from the mean; on CPUs this is twice as fast as Flax's or more.

    Attributes:
        groups: of channels. As many as divide the channels and hold four or more each are used: alone,
            a channel would lose its mean over the grid, which is where colour and brightness are.
        epsilon: added to variances.
    """

    groups: int = 32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(
        self, x: jax.Array, scale_by: jax.Array | None = None, shift_by: jax.Array | None = None
    ) -> jax.Array:
        """Normalises each example [b *grid c], with statistics in float32.

        What comes out is multiplied by `1 + scale_by` [b c], if given, and then `shift_by` [b c] is added:
        one more multiplication of whole grids is saved.
        """
        b, *grid, c = x.shape
        fitting = (g for g in range(min(self.groups, c // 4), 0, -1) if c % g == 0)
        groups = next(fitting, 1)
        scale = self.param('scale', nn.initializers.ones_init(), (c,), jnp.float32)
        bias = self.param('bias', nn.initializers.zeros_init(), (c,), jnp.float32)

        def of_groups(values: jax.Array) -> jax.Array:
            means = (sum_positions(values) / math.prod(grid)).reshape(b, groups, c // groups).mean(-1)
            return jnp.repeat(means, c // groups, axis=1)

        wide = x.astype(jnp.float32)
        mean = of_groups(wide)
        if x.dtype == jnp.float32:
            # A constant may be taken from all values. The mean that is left is zero, but has a gradient.
            constant = jax.lax.stop_gradient(mean)
            wide, mean = wide - over_grid(constant, x), mean - constant
        # Else the values have so few digits that float32 loses none of them, and both sums can be taken at
        # once, where the values are computed.
        variance = jnp.maximum(of_groups(jnp.square(wide)) - jnp.square(mean), 0)
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        summand = bias - mean * factor
        if scale_by is not None:
            factor, summand = factor * (1 + scale_by), summand * (1 + scale_by) + shift_by
        return scale_and_shift(wide, factor, summand).astype(x.dtype)
