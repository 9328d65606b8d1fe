"""The diffusion transformer of Peebles and Xie 2023 (DiT, arXiv:2212.09748), with adaLN-Zero."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least, check_share
from vq_jax.models.conditioning import Conditioning, sinusoids
from vq_jax.models.normalisation import layer_norm
from vq_jax.ops.dropout import dropout
from vq_jax.ops.grids import from_patches, to_patches
from vq_jax.ops.keys import fold_in

_ZEROS = nn.initializers.zeros_init()
_XAVIER = nn.initializers.xavier_uniform()


@dataclasses.dataclass(frozen=True)
class DiTSizes:
    """Sizes of a diffusion transformer.

    Attributes:
        patch: height and width of what becomes one token.
        depth: blocks.
        width: of the vectors.
        heads: of attention; they must divide the width.
        mlp_ratio: width inside the connected layers, in widths.
        dropout: share of the numbers that training sets to 0, in what each block adds.
        dtype: what the layers compute in.
        remat: compute the insides of blocks again in the backward pass instead of keeping them.
    """

    patch: int = 2
    depth: int = 12
    width: int = 384
    heads: int = 6
    mlp_ratio: int = 4
    dropout: float = 0.0
    dtype: Literal['float32', 'bfloat16'] = 'float32'
    remat: bool = False

    def __post_init__(self) -> None:
        check_least(1, 'config.dit.', self, 'patch', 'depth', 'width', 'heads', 'mlp_ratio')
        check_share('config.dit.', self, 'dropout', one=False)
        if self.width % self.heads or self.width % 4:
            raise UserError(
                f'the width {self.width} is not a multiple of 4 and of {self.heads} heads; change one.'
            )

    @property
    def factor(self) -> int:
        """What height and width must be multiples of."""
        return self.patch


class DiT(nn.Module):
    """Noisy images and times to predictions.

    Attributes:
        sizes: see `DiTSizes`.
        features: channels that come out.
        num_classes: classes that can be asked for; one more stands for none.
    """

    sizes: DiTSizes
    features: int
    num_classes: int = 0

    @nn.compact
    def __call__(
        self, x: jax.Array, t: jax.Array, labels: jax.Array, keys: jax.Array | None = None
    ) -> jax.Array:
        """Predicts; arguments and result are those of `vq_jax.models.unet.UNet`."""
        s, p = self.sizes, self.sizes.patch
        b, h, w, _ = x.shape
        rows, columns = h // p, w // p
        patches = to_patches(x, p).reshape(b, rows * columns, -1)
        x = nn.Dense(s.width, dtype=s.dtype, kernel_init=_XAVIER)(patches)
        x = x + places(rows, columns, s.width).astype(s.dtype)
        given = nn.swish(Conditioning(s.width, self.num_classes, dtype=s.dtype)(t, labels))
        block = nn.remat(DiTBlock) if s.remat else DiTBlock
        for i in range(s.depth):
            # The name is that without remat too.
            x = block(s, name=f'DiTBlock_{i}')(x, given, fold_in(keys, i))
        shift, scale = _changes(given, 2, s)
        x = _normalised(x) * (1 + scale) + shift
        x = nn.Dense(p * p * self.features, dtype=s.dtype, kernel_init=_ZEROS)(x.astype(s.dtype))
        return from_patches(x.reshape(b, rows, columns, -1), p).astype(jnp.float32)


class DiTBlock(nn.Module):
    """Attention, then connected layers, each normalised, scaled, shifted and gated as the vectors say.

    Attributes:
        sizes: see `DiTSizes`.
    """

    sizes: DiTSizes

    @nn.compact
    def __call__(self, x: jax.Array, given: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Maps tokens [b n d], as vectors [b d] say, to the same."""
        s = self.sizes
        b, n, d = x.shape
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = _changes(given, 6, s)
        y = (_normalised(x) * (1 + scale) + shift).astype(s.dtype)
        qkv = nn.Dense(3 * d, dtype=s.dtype, kernel_init=_XAVIER)(y).reshape(b, n, 3, s.heads, -1)
        y = jax.nn.dot_product_attention(*(qkv[:, :, i] for i in range(3))).reshape(b, n, d)
        y = nn.Dense(d, dtype=s.dtype, kernel_init=_XAVIER)(y)
        x = x + gate * dropout(y, fold_in(keys, 0), s.dropout)
        y = (_normalised(x) * (1 + mlp_scale) + mlp_shift).astype(s.dtype)
        y = nn.gelu(nn.Dense(s.mlp_ratio * d, dtype=s.dtype, kernel_init=_XAVIER)(y))
        y = nn.Dense(d, dtype=s.dtype, kernel_init=_XAVIER)(y)
        return x + mlp_gate * dropout(y, fold_in(keys, 1), s.dropout)


def places(rows: int, columns: int, width: int) -> jax.Array:
    """A vector for each place of a grid: sinusoids of its row, then of its column [rows*columns width]."""
    of_rows, of_columns = (sinusoids(jnp.arange(n), width // 2) for n in (rows, columns))
    shape = (rows, columns, width // 2)
    both = jnp.broadcast_to(of_rows[:, None], shape), jnp.broadcast_to(of_columns, shape)
    return jnp.concatenate(both, axis=-1).reshape(-1, width)


def _changes(given: jax.Array, n: int, sizes: DiTSizes) -> list[jax.Array]:
    """Scales, shifts and gates [b 1 d]; zeros at first. Called inside a module's compact method."""
    changes = nn.Dense(n * sizes.width, dtype=sizes.dtype, kernel_init=_ZEROS)(given)
    return jnp.split(changes[:, None], n, axis=-1)


def _normalised(x: jax.Array) -> jax.Array:
    """Vectors [... d] with mean 0 and variance 1; called inside a module's compact method."""
    return layer_norm('float32', affine=False)(x)
