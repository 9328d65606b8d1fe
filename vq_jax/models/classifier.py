"""A small convolutional classifier, whose features serve to compare sets of examples."""

from typing import Literal

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import check_least, check_share
from vq_jax.models.convolution import Conv
from vq_jax.models.normalisation import GroupNorm
from vq_jax.ops.dropout import dropout


@chex.dataclass(frozen=True)
class Classified:
    """What a classifier returns.

    Attributes:
        features: of the whole example, which the last layer reads: float32 [b d].
        logits: of the classes, float32 [b k].
    """

    features: jax.Array
    logits: jax.Array


class Classifier(nn.Module):
    """Strided convolutions with group normalisation, a connected layer, and one for the classes.

    Attributes:
        channels: of the first stage; each further one doubles them.
        stages: convolutions of size 3 and stride 2, each of which halves the sizes of the grid.
        features: numbers that describe an example, before the last layer.
        dropout: share of them that is set to 0 in training.
        num_classes: k.
        dtype: what the convolutions compute in.
    """

    channels: int = 32
    stages: int = 3
    features: int = 64
    dropout: float = 0.3
    num_classes: int = 10
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def __post_init__(self) -> None:
        check_least(1, self, 'channels', 'stages', 'features')
        check_share(self, 'dropout', one=False)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> Classified:
        """Classifies examples in [-1, 1] [b *grid c]; random keys [b] are for dropout, None leaves it out."""
        for stage in range(self.stages):
            x = Conv(self.channels * 2**stage, strides=2, dtype=self.dtype)(x)
            x = nn.silu(GroupNorm()(x))
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        features = nn.silu(nn.Dense(self.features)(x))
        logits = nn.Dense(self.num_classes)(dropout(features, keys, self.dropout))
        return Classified(features=features, logits=logits)
