"""The context of a network: whatever is known of an example beside what is to be predicted.

A class, a text, a low-resolution image, a coarser scale of codes and the frames before all become one
`Context`, and networks take no other condition. Guidance acts on it as a whole (`vq_jax.ops.guidance`).
"""

import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from vq_jax.errors import UserError
from vq_jax.models.conditioning_stack import ConditioningStack
from vq_jax.models.convolution import Initializer
from vq_jax.ops.guidance import drop, pair
from vq_jax.spec import ConditionSpec


@struct.dataclass
class Context:
    """What is known of each example; a part that is None is not known, and costs no parameters.

    Attributes:
        vector: of the whole example, such as its class (one-hot) or a summary of its text [b d].
        tokens: to be attended to, such as those of a text [b m d].
        mask: True for the tokens that are there, bool [b m]; None if all are.
        grid: at each position of what is predicted, such as a low-resolution image or a coarser scale
            [b *grid c].
        negative: what guidance leans away from in place of nothing, such as a negative text: a context of
            vector and tokens. Networks do not read it.
    """

    vector: jax.Array | None = None
    tokens: jax.Array | None = None
    mask: jax.Array | None = None
    grid: jax.Array | None = None
    negative: 'Context | None' = None


NOTHING = Context()
Conditions = Mapping[str, jax.Array]  # [b ...] by name
NO_CONDITIONS: Conditions = MappingProxyType({})
NEGATIVE = 'negative '  # stands before the names of conditions from which guidance leans away


class Conditioner(nn.Module):
    """A module that encodes conditions, such as a text or an angle, and learns together with its model.

    A subclass has `specs` and `__call__`, and `prepare` where users write something else than data sets hold.
    Of what it encodes, training drops a share of the examples, in whose place there are zeros, and a mask
    without tokens; guidance leans to it.
    """

    def specs(self) -> dict[str, ConditionSpec]:
        """The conditions that are read, by the names that they have in the data set."""
        raise NotImplementedError

    def __call__(self, **conditions: jax.Array) -> Context:
        """The context of conditions [b ...], given by name.

        Its vector [b d] and its tokens [b m d] have any width. A grid is as large as what is learned: of a
        diffusion model [b *grid c], of a transformer or a PixelCNN [b *grid width].
        """
        raise NotImplementedError

    def prepare(self, **given: Any) -> Mapping[str, Any]:
        """The conditions of one example, by name, of what a user gives of it; by default the same.

        A subclass names its arguments, as `prepare(self, text)`, and users give each by that name.
        """
        return given

    def describe(self, **conditions: np.ndarray) -> Sequence[str]:
        """What people read under examples of these conditions [b ...], such as their texts [b]; else none."""
        return ()


def prepared(conditioner: Conditioner, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The conditions of one example, as the conditioner takes them, of what a user gives of it.

    Raises:
        UserError: if something is missing, unknown, or of another shape or type.
    """
    specs, taken = conditioner.specs(), inspect.signature(conditioner.prepare)
    names = ' and '.join(name for name, one in taken.parameters.items() if one.kind is not one.VAR_KEYWORD)
    told = UserError(
        f'this model is conditioned on {names or described(specs)}, and was given '
        f'{" and ".join(map(str, given)) or "nothing"}; give each by its name (--text TEXT, or --condition '
        'name=value).'
    )
    try:
        taken.bind(**given)
    except TypeError as error:
        raise told from error
    found = conditioner.prepare(**given)
    if found.keys() != specs.keys():
        raise told
    return {name: spec.array(found[name], f'the condition {name}') for name, spec in specs.items()}


def described(specs: Mapping[str, ConditionSpec]) -> str:
    """Names, types and shapes of conditions, for messages."""
    return ' and '.join(f'{name} ({spec})' for name, spec in specs.items())


class ContextEncoder(nn.Module):
    """Classes, conditions and coarser scales, as a batch has them, to a context.

    Its parameters, those of `conditioning` and of `conditioner`, lie beside those of the network that takes
    the context. The vector is that of the class, with that of the conditioner after it.

    Attributes:
        num_classes: classes that examples can have; one more stands for none. 0 leaves the vector out.
        conditioning: makes the grid of codes, of a coarser scale or of what is given, if there are any.
        conditioner: encodes what else is known of an example, if there is anything.
        label_dropout: the share of the training examples whose class is dropped.
        dropout: the share of those whose vector and tokens of the conditioner are dropped.
        grid_dropout: the share of those whose grid is dropped. What is dropped by a smaller share is dropped
            by all larger ones too.
    """

    num_classes: int = 0
    conditioning: ConditioningStack | None = None
    conditioner: Conditioner | None = None
    label_dropout: float = 0.0
    dropout: float = 0.0
    grid_dropout: float = 0.0

    @property
    def specs(self) -> dict[str, ConditionSpec]:
        """The conditions that are read of a batch, by name."""
        return self.conditioner.specs() if self.conditioner else {}

    @property
    def conditional(self) -> bool:
        """Whether there is anything in a context that guidance could lean to."""
        return bool(self.num_classes or self.conditioner or self.grid_dropout)

    @property
    def most_dropped(self) -> float:
        """The largest share of the training examples of which something is dropped."""
        of_classes = self.label_dropout if self.num_classes else 0.0
        return max(of_classes, self.dropout if self.conditioner else 0.0, self.grid_dropout)

    def encode(
        self,
        labels: jax.Array,
        coarser: jax.Array | None = None,
        conditions: Conditions = NO_CONDITIONS,
        grid: jax.Array | None = None,
    ) -> Context:
        """The context of examples.

        Args:
            labels: classes, int [b]; `num_classes` stands for none. They are not read if that is 0.
            coarser: codes of the coarser scale, or of what is given, int [b *grid' depth], where there is
                `conditioning`.
            conditions: [b ...] by name, with those of `specs` among them; also, with `NEGATIVE` before each
                name, those from which guidance leans away, if not from nothing.
            grid: of the context, where it is known already [b *grid c].
        """
        grid = grid if coarser is None else self.conditioning(coarser)
        classes = Context(vector=class_vector(labels, self.num_classes))
        if self.conditioner is None:
            return classes.replace(grid=grid)
        own = self._own(conditions)
        if own.grid is not None and grid is not None:
            raise UserError(
                'the conditioner makes a grid, and that of the context is a coarser scale, a small image or '
                'what is given; let it make a vector or tokens.'
            )
        if any(name.startswith(NEGATIVE) for name in conditions):
            own = own.replace(negative=self._own(conditions, NEGATIVE).replace(grid=None))
        return _joined(classes, own, own.grid if grid is None else grid)

    def _own(self, conditions: Conditions, prefix: str = '') -> Context:
        """What the conditioner makes of the conditions that have a prefix to their names."""
        own = self.conditioner(**{name: conditions[prefix + name] for name in self.specs})
        if own.tokens is not None and own.mask is None:  # without one, they could not be dropped
            own = own.replace(mask=jnp.ones(own.tokens.shape[:2], bool))
        return own

    def drop(self, keys: jax.Array, context: Context) -> Context:
        """A context with parts of some examples dropped, for training with a random key for each [b]."""
        rates = self.label_dropout, self.dropout, self.grid_dropout
        parts = zip(rates, self._parts(context), self._parts(self.without(context)), strict=True)
        return _joined(*(drop(keys, rate, part, none) for rate, part, none in parts))

    def both(self, context: Context) -> Context:
        """A context and what guidance leans away from, as one of twice the batch (see `ops.guidance`)."""
        return pair(context.replace(negative=None), self.without(context))

    def without(self, context: Context) -> Context:
        """A context without all that training drops, but with its `negative`, if it has one."""
        classes, own, grid = self._parts(context)
        if self.num_classes and self.label_dropout:
            none = jnp.full(len(classes.vector), self.num_classes)
            classes = classes.replace(vector=class_vector(none, self.num_classes))
        if own.negative is not None:
            own = own.negative
        elif self.dropout:
            own = jax.tree.map(jnp.zeros_like, own)
        if self.grid_dropout:  # zeros are a grey image
            grid = jax.tree.map(jnp.zeros_like, grid)
        return _joined(classes, own, grid)

    def _parts(self, context: Context) -> tuple[Context, Context, jax.Array | None]:
        """What a context knows of the class, what the conditioner makes, and the grid; see `_joined`."""
        n = self.num_classes and self.num_classes + 1
        if context.vector is None or n in (0, context.vector.shape[-1]):
            of_class, of_own = (context.vector, None) if n else (None, context.vector)
        else:
            of_class, of_own = jnp.split(context.vector, [n], axis=-1)
        return Context(vector=of_class), context.replace(vector=of_own, grid=None), context.grid


def _joined(classes: Context, own: Context, grid: jax.Array | None) -> Context:
    vectors = [part.vector for part in (classes, own) if part.vector is not None]
    vector = jnp.concatenate(vectors, axis=-1) if vectors[1:] else next(iter(vectors), None)
    return own.replace(vector=vector, grid=grid)


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
