"""A small convolutional classifier, of sounds too, whose features serve to compare sets of examples."""

from typing import Literal

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least, check_share
from vq_jax.models.convolution import Conv
from vq_jax.models.normalisation import GroupNorm
from vq_jax.ops.dropout import dropout
from vq_jax.ops.stft import log_mel


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
        mel_bands: of sound, in how many mel bands the convolutions see its spectrum, as an image of times and
            bands (`vq_jax.ops.stft.log_mel`); 0 shows them the samples.
        mel_window: samples of the window of that spectrum, four times as long as its hop.
        num_classes: k.
        rate: samples in a second, where there are mel bands.
        dtype: what the convolutions compute in.
    """

    channels: int = 32
    stages: int = 3
    features: int = 64
    dropout: float = 0.3
    mel_bands: int = 0
    mel_window: int = 512
    num_classes: int = 10
    rate: float | None = None
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def __post_init__(self) -> None:
        check_least(1, self, 'channels', 'stages', 'features', 'mel_window')
        check_least(0, self, 'mel_bands')
        check_share(self, 'dropout', one=False)
        if self.mel_window % 4:
            raise UserError(f'mel_window is {self.mel_window}; give a multiple of 4.')
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> Classified:
        """Classifies examples in [-1, 1] [b *grid c]; random keys [b] are for dropout, None leaves it out."""
        if self.mel_bands:
            x = log_mel(x, self.rate, self.mel_window, self.mel_bands)
        for stage in range(self.stages):
            x = Conv(self.channels * 2**stage, strides=2, dtype=self.dtype)(x)
            x = nn.silu(GroupNorm()(x))
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        features = nn.silu(nn.Dense(self.features)(x))
        logits = nn.Dense(self.num_classes)(dropout(features, keys, self.dropout))
        return Classified(features=features, logits=logits)
