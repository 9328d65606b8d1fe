"""What every quantizer does, and what models and tasks need around one.

A quantizer is called with vectors `z [b ... d]` (of images, sound, video: the axes between are free) and
returns a `Quantized`; `lookup` turns codes back into vectors. A position may have several codes: the last
axis of codes is their depth.
"""

from typing import Any, Protocol, runtime_checkable

import chex
import jax
import jax.numpy as jnp

from vq_jax.errors import UserError
from vq_jax.ops.parts import Part
from vq_jax.ops.quantization import ESTIMATORS

STATISTICS = 'codebook'  # the collection of what a codebook learns without gradients
BATCH_MEANS = 'batch_means'  # the collection of what it learns that from, means over examples
REVIVALS = 'revivals'  # the collection of replacements for dead codes among the parameters


@chex.dataclass(frozen=True)
class Quantized:
    """What a quantizer returns.

    Attributes:
        values: the quantized vectors, with the straight-through gradient [b ... d]; of several scales (see
            `Multiscale`) a tuple, if they are not one sum.
        codes: the codes chosen, int32 [b ... depth]; of several scales a tuple.
        loss: the quantizer's own losses, such as that of the codebook, weighted, of each example [b].
        metrics: named scalars, means over the examples.
    """

    values: jax.Array
    codes: jax.Array
    loss: jax.Array
    metrics: dict[str, jax.Array]


class Quantizer(Protocol):
    """What models and tasks ask of every quantizer.

    Attributes:
        dim: width of the vectors that come in and go out.
        vocabulary: how many codes there are at each depth [depth].
    """

    dim: int
    vocabulary: tuple[int, ...]

    def __call__(
        self, z: jax.Array, train: bool = False, part: Part | None = None, step: jax.Array | None = None
    ) -> Quantized:
        """Quantizes vectors.

        Args:
            z: vectors [b ... dim].
            train: whether this is a training step.
            part: of a training step, which examples of its batch these are; None if they are all.
            step: training steps done before this one, int32 scalar, for quantizers that change on the way;
                None outside of training.
        """

    def lookup(self, codes: jax.Array) -> jax.Array:
        """The vectors [... dim] that stand for codes, int32 [... depth]."""

    def project(self, z: jax.Array) -> jax.Array:
        """Takes vectors [... dim] to where codes are compared [... code_dim], in float32."""

    def nearest(self, vectors: jax.Array) -> jax.Array:
        """The codes, int32 [... depth], nearest to vectors where codes are compared [... code_dim]."""


@runtime_checkable
class Multiscale(Protocol):
    """A bottleneck of several scales of codes.

    It is called as a `Quantizer` is, and has its `lookup` and, if one of its quantizers has it,
    `after_update`; codes are a tuple, from coarse to fine, and values what the decoder is given.

    Attributes:
        quantizers: of each scale.
        shared_codebook: whether these are one and the same.
        decodable_scales: of how many scales `lookup` takes the codes, the first so many, in ascending order.
    """

    quantizers: tuple[Quantizer, ...]
    shared_codebook: bool
    decodable_scales: tuple[int, ...]

    def vectors(self, z: jax.Array, scale: int) -> jax.Array:
        """What the quantizer of a scale is given [b *grid dim] of what the bottleneck is given."""


@runtime_checkable
class LearnsWithoutGradients(Protocol):
    """A quantizer that learns something without gradients, once for each update of the parameters."""

    def after_update(self) -> dict[str, jax.Array]:
        """Learns from the collection 'batch_means' as training calls left it, averaged over the whole batch.

        Returns:
            Named scalars for the log.
        """


@runtime_checkable
class StartsFromData(Protocol):
    """A quantizer that can begin where the data is.

    Attributes:
        init_batches: how many batches of vectors it wants to see before the first step; 0 for none.
    """

    init_batches: int

    def init_from_data(self, key: jax.Array, z: jax.Array) -> None:
        """Begins where vectors are; parameters and the collections of the codebook must be mutable.

        Args:
            key: a random key.
            z: vectors of the first batches [n dim], those of an example one after another.

        Raises:
            UserError: if they are too few.
        """


@runtime_checkable
class DecodesFewer(Protocol):
    """A quantizer of which the first codes of a position stand for a vector without the others.

    Attributes:
        decodable: how many codes `lookup` takes of a position, in ascending order.
    """

    decodable: tuple[int, ...]


@runtime_checkable
class PassesUnquantized(Protocol):
    """A quantizer of which is known what it would pass on if it chose no codes."""

    def unquantized(self, z: jax.Array) -> jax.Array | None:
        """What would go out for vectors [... dim], through the maps before and after the choice of codes.

        Float32 [... dim], of which what `lookup` gives is the quantized form; None where a part of the
        quantizer does not know.
        """


def unquantized(quantizer: Quantizer, z: jax.Array) -> jax.Array | None:
    """What a quantizer would pass on if it chose no codes (see `PassesUnquantized`); None if not known."""
    return quantizer.unquantized(z) if isinstance(quantizer, PassesUnquantized) else None


def decodable(quantizer: Quantizer) -> tuple[int, ...]:
    """How many codes the `lookup` of a quantizer takes of a position: all, or as `DecodesFewer` says."""
    return quantizer.decodable if isinstance(quantizer, DecodesFewer) else (len(quantizer.vocabulary),)


def after_update(quantizer: Any) -> dict[str, jax.Array]:
    """Lets a bottleneck learn what it learns without gradients; see `LearnsWithoutGradients`."""
    return quantizer.after_update() if isinstance(quantizer, LearnsWithoutGradients) else {}


def revive(params: Any, revivals: Any) -> Any:
    """Replaces dead codes among the parameters, after the optimizer's update.

    Args:
        params: the model's parameters.
        revivals: the collection 'revivals' that the model's `after_update` left: at the place of
            each codebook, which rows are dead [k 1] and what replaces them [k code_dim].

    Returns:
        The parameters, in which other leaves are as they were.
    """
    if isinstance(revivals, tuple):
        dead, vectors = revivals
        return jnp.where(dead, vectors, params)
    return {k: revive(v, revivals[k]) if k in revivals else v for k, v in params.items()}


def check_estimator(name: str) -> None:
    """Raises `UserError` unless an estimator is one of `vq_jax.ops.quantization.ESTIMATORS`."""
    if name not in ESTIMATORS:
        raise UserError(f'estimator is {name!r}; give {" or ".join(map(repr, ESTIMATORS))}.')


def check_width(z: jax.Array, dim: int) -> None:
    """Raises `UserError` unless vectors have as many numbers as a quantizer was made for."""
    if z.shape[-1] != dim:
        raise UserError(
            f'the vectors have {z.shape[-1]} numbers and the quantizer was made for {dim}; set its dim to '
            'the width of what comes in.'
        )
