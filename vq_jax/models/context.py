"""The context of a network: whatever is known of an example beside what is to be predicted.

A class, a text, a low-resolution image, a coarser scale of codes and the frames before all become one
`Context`, and networks take no other condition. Guidance acts on it as a whole (`vq_jax.ops.guidance`).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from vq_jax.models.conditioning_stack import ConditioningStack
from vq_jax.models.convolution import Initializer


@struct.dataclass
class Context:
    """What is known of each example; a part that is None is not known, and costs no parameters.

    Attributes:
        vector: of the whole example, such as its class (one-hot) or a summary of its text [b d].
        tokens: to be attended to, such as those of a text [b m d].
        mask: True for the tokens that are there, bool [b m]; None if all are.
        grid: at each position of what is predicted, such as a low-resolution image or a coarser scale
            [b *grid c].
    """

    vector: jax.Array | None = None
    tokens: jax.Array | None = None
    mask: jax.Array | None = None
    grid: jax.Array | None = None


NOTHING = Context()


class ContextEncoder(nn.Module):
    """Classes and coarser scales, as a batch has them, to a context.

    Its parameters, those of `conditioning` alone, lie beside those of the network that takes the context.

    Attributes:
        num_classes: classes that examples can have; one more stands for none. 0 leaves the vector out.
        conditioning: makes the grid of the codes of a coarser scale, if there is one.
    """

    num_classes: int = 0
    conditioning: ConditioningStack | None = None

    def encode(self, labels: jax.Array, coarser: jax.Array | None = None) -> Context:
        """The context of examples.

        Args:
            labels: classes, int [b]; `num_classes` stands for none. They are not read if that is 0.
            coarser: codes of the coarser scale, int [b *grid' depth], where there is `conditioning`.
        """
        grid = None if coarser is None else self.conditioning(coarser)
        return Context(vector=class_vector(labels, self.num_classes), grid=grid)


class VectorEmbedding(nn.Module):
    """A linear map of a context's vector without a bias: of a class, which is one-hot, a row of a table.

    Attributes:
        features: width of the result.
        init: how the table starts; by default as Flax's `Embed`.
    """

    features: int
    init: Initializer = nn.initializers.variance_scaling(1.0, 'fan_in', 'normal', out_axis=0)

    @nn.compact
    def __call__(self, vector: jax.Array) -> jax.Array:
        """Maps [b d] to [b features], in float32 on every device, so that a row stays as it is."""
        table = self.param('embedding', self.init, (vector.shape[-1], self.features), jnp.float32)
        return jnp.dot(vector, table, precision=jax.lax.Precision.HIGHEST)


def class_vector(labels: jax.Array, num_classes: int) -> jax.Array | None:
    """Classes, int [b], as one-hot vectors [b num_classes + 1], the last of which stands for none.

    None where there are 0 classes.
    """
    return jax.nn.one_hot(labels, num_classes + 1) if num_classes else None


def without_class(context: Context, num_classes: int) -> Context:
    """The context of the same examples, but of no class; unchanged where there are 0 classes."""
    if not num_classes:
        return context
    none = jnp.full(len(context.vector), num_classes)
    return context.replace(vector=class_vector(none, num_classes))


def vector_or_ones(context: Context, b: int) -> jax.Array:
    """The context's vector [b d]; without one, a single 1 [b 1], whose embedding is then that of all."""
    return jnp.ones((b, 1)) if context.vector is None else context.vector


def beside(x: jax.Array, given: jax.Array | None) -> jax.Array:
    """Examples [b *grid c] with what is given of them [b *grid d], if anything is, as further channels."""
    return x if given is None else jnp.concatenate([x, given], axis=-1)


def enlarge(x: jax.Array, factor: int) -> jax.Array:
    """Images in [-1, 1] [b *grid c] enlarged on each axis by cubic interpolation [b *grid*factor c]."""
    b, *grid, c = x.shape
    return jnp.clip(jax.image.resize(x, (b, *(n * factor for n in grid), c), 'cubic'), -1, 1)
