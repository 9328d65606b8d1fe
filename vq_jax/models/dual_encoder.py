"""Examples and texts as vectors that can be compared: Radford et al. 2021 (CLIP, arXiv:2103.00020)."""

import math

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import check_least
from vq_jax.models.classifier import Classifier
from vq_jax.models.text_encoder import TextEncoder

_LARGEST_SCALE = 100.0  # section 2.5


@chex.dataclass(frozen=True)
class Pairs:
    """What a dual encoder returns of b examples and their texts.

    Attributes:
        examples: vectors of length 1, float32 [b d].
        texts: the same of the texts.
        scale: by which their products become logits, a float.
    """

    examples: jax.Array
    texts: jax.Array
    scale: jax.Array


class DualEncoder(nn.Module):
    """A convolutional network for examples and a transformer for texts, of either of which it takes a vector.

    The vectors that are compared are the logits of the former, and a linear map of the vector of the latter,
    both of length 1. (The networks of the paper are larger.)

    Attributes:
        of_examples: its `num_classes` is the width of the vectors, d.
        of_texts: the text encoder.
        temperature: by which products are divided at first; it is learned.
    """

    of_examples: Classifier
    of_texts: TextEncoder
    temperature: float = 0.07

    def __post_init__(self) -> None:
        """Raises `UserError` for a temperature that cannot be."""
        check_least(1 / _LARGEST_SCALE, self, 'temperature')
        super().__post_init__()

    def setup(self) -> None:  # noqa: D102 (Flax's)
        self.map_texts = nn.Dense(self.of_examples.num_classes, use_bias=False)
        start = nn.initializers.constant(-math.log(self.temperature))
        self.log_scale = self.param('log_scale', start, (), jnp.float32)

    def __call__(self, x: jax.Array, text: jax.Array, keys: jax.Array | None = None) -> Pairs:
        """Encodes examples in [-1, 1] [b *grid c] and their texts, int32 [b m]; keys [b] are for dropout."""
        return Pairs(examples=self.examples(x, keys), texts=self.texts(text), scale=self.scale())

    def scale(self) -> jax.Array:
        """What products are multiplied by to become logits: a float, 100 at most."""
        # The paper clips the parameter after each step, so that it always has a gradient. Here the value is
        # bounded, and the gradient passes straight through: else no loss would bring it back from above.
        fixed = jax.lax.stop_gradient(self.log_scale)
        return jnp.exp(jnp.minimum(fixed, math.log(_LARGEST_SCALE)) + (self.log_scale - fixed))

    def examples(self, x: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """The vectors of examples in [-1, 1] [b *grid c], float32 [b d]; keys [b] are for dropout."""
        return _unit(self.of_examples(x, keys).logits)

    def texts(self, text: jax.Array) -> jax.Array:
        """The vectors of texts, int32 [b m] with -1 after the end, float32 [b d]."""
        return _unit(self.map_texts(self.of_texts(text).vector))


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)
