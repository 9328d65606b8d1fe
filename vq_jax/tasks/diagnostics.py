"""How quantizers do, whatever their kind: the error of quantization, and how gradients pass them.

What is measured of examples, at each scale, is averaged over examples before metrics are made of it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.models.autoencoder import Autoencoder, Codes
from vq_jax.ops.losses import squared_norm_each
from vq_jax.ops.parts import Part
from vq_jax.quantizers.quantizer import BATCH_MEANS, unquantized
from vq_jax.tasks.code_reports import of_scales

_MOMENTS, _NORMS = 'vector_moments', 'gradient_norms'


def vector_moments(
    model: Autoencoder, z: jax.Array, codes: Codes, fewer: Sequence[Sequence[int]]
) -> dict[str, jax.Array]:
    """What the quantization error is made of.

    Args:
        model: bound to its variables, as `model.apply(variables, ..., method=vector_moments)` does.
        z: what the encoder returns [b ... d].
        codes: that they have, of each scale.
        fewer: how many codes of a position can be decoded, of each scale, in ascending order.

    Returns:
        Of each scale of which it is known what would go out unquantized, means over the positions of an
        example, float32 [b 1+n+d]: the squared length of those vectors; their squared distance from what
        their codes stand for, for each of the n numbers of codes that can be decoded; the vectors.
        Vectors are less one that is the same in all examples, and near them: a code.
    """
    found = {}
    for i, (name, quantizer) in enumerate(of_scales(_MOMENTS, model.quantizers).items()):
        vectors = unquantized(quantizer, model.given(z, i))
        if vectors is None:
            continue
        near = quantizer.lookup(jnp.zeros(codes[i].shape[-1], jnp.int32))
        decoded = [quantizer.lookup(codes[i][..., :n]) for n in fewer[i]]
        vectors, near, *decoded = (x.astype(jnp.float32) for x in (vectors, near, *decoded))
        lengths = [jnp.sum(jnp.square(vectors - x), -1, keepdims=True) for x in (near, *decoded)]
        of_positions = jnp.concatenate([*lengths, vectors - near], axis=-1)
        found[name] = jnp.mean(of_positions, axis=tuple(range(1, of_positions.ndim - 1)))
    return found


def gradient_norms(
    model: Autoencoder,
    variables: Any,
    z: jax.Array,
    loss: Callable[[Any], jax.Array],
    *,
    part: Part,
    step: jax.Array,
) -> dict[str, jax.Array]:
    """The squared norms of a gradient before and after it passes the bottleneck, as it does in training.

    Args:
        model: not bound.
        variables: of the model.
        z: what the encoder returns [b ... d].
        loss: a scalar, of what the bottleneck passes on.
        part: see `Quantizer`.
        step: likewise.

    Returns:
        For each example, float32 [b 2]: of the gradient with respect to what the bottleneck passes on, and
        with respect to z by way of that.
    """

    def passed_on(z: jax.Array) -> Any:
        training = {'train': True, 'part': part, 'step': step, 'mutable': [BATCH_MEANS]}
        rngs = {'codebook': jax.random.key(0)}
        return model.apply(variables, z, method='quantized', rngs=rngs, **training)[0].values

    values, pull = jax.vjp(passed_on, z)
    gradient = jax.grad(loss)(values)
    return {_NORMS: jnp.stack([squared_norm_each(x) for x in (gradient, pull(gradient))], axis=-1)}


def quantization_metrics(means: dict[str, np.ndarray], fewer: Sequence[Sequence[int]]) -> dict[str, float]:
    """Metrics of means over examples of what `vector_moments` and `gradient_norms` give, as far as there.

    Args:
        means: by name.
        fewer: as for `vector_moments`.

    Returns:
        Of each scale 'quantization_error', the mean squared error over the variance of the vectors, and that
        of the first codes alone as '..._depth_i', i being the last of them; and 'gradient_ratio', the norm of
        the gradient after the bottleneck over that before it. A ratio is not there if its divisor is 0, of a
        variance as far as sums in float32 can tell: they have the mean square to about five digits, of which
        two are to be left of what the square of the mean takes away.
    """
    metrics = {}
    for suffix, counts in of_scales('', fewer).items():
        if (moments := means.get(f'{_MOMENTS}{suffix}')) is None:
            continue
        square, *errors = moments[: 1 + len(counts)]
        variance = square - np.sum(np.square(moments[1 + len(counts) :]))
        if variance > 1e-3 * square:
            *depths, whole = (error / variance for error in errors)
            metrics[f'quantization_error{suffix}'] = whole
            depths = zip(counts, depths, strict=False)
            metrics |= {f'quantization_error{suffix}_depth_{n - 1}': error for n, error in depths}
    before, after = means.get(_NORMS, (0.0, 0.0))
    if before > 0:
        metrics['gradient_ratio'] = math.sqrt(after / before)
    return {name: float(value) for name, value in metrics.items()}
