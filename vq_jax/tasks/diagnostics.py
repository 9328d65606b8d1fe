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
from vq_jax.ops.losses import sum_each
from vq_jax.ops.parts import Part
from vq_jax.quantizers.quantizer import BATCH_MEANS, decodable, unquantized
from vq_jax.tasks.code_reports import of_scales

_MOMENTS, _NORMS = 'vector_moments', 'gradient_norms'


def vector_moments(model: Autoencoder, z: jax.Array, codes: Codes) -> dict[str, jax.Array]:
    """What the quantization error is made of.

    Args:
        model: bound to its variables, as `model.apply(variables, ..., method=vector_moments)` does.
        z: what the encoder returns [b ... d].
        codes: that they have, of each scale.

    Returns:
        Of each scale of which it is known what would go out unquantized, means over the positions of an
        example, float32 [b 1+n+d]: the squared length of those vectors; their squared distance from what
        their codes stand for, for each number of codes that can be decoded, in ascending order; the vectors.
        Vectors are less one that is the same in all examples, and near them: a code.
    """
    found = {}
    for i, (name, quantizer) in enumerate(of_scales(_MOMENTS, model.quantizers).items()):
        vectors = unquantized(quantizer, model.given(z, i))
        if vectors is None:
            continue
        near = quantizer.lookup(jnp.zeros(len(quantizer.vocabulary), jnp.int32))
        decoded = [quantizer.lookup(codes[i][..., :n]) for n in decodable(quantizer)]
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
    """The squared norms of a gradient before and after it passes the quantizer of each scale.

    It passes as in training, by the straight-through estimator or what a quantizer has in its place.

    Args:
        model: not bound.
        variables: for training.
        z: what the encoder returns [b ... d].
        loss: a scalar, of what the bottleneck passes on; no function of the parameters is asked for.
        part: see `Quantizer`.
        step: likewise.

    Returns:
        Of each scale, for each example, float32 [b 2]: with respect to what its quantizer passes on, and,
        by way of the former alone, with respect to what the quantizer is given.
    """

    def passed_on(given: jax.Array, scale: int) -> jax.Array:
        def quantize(model: Autoencoder) -> jax.Array:
            return model.quantizers[scale](given, train=True, part=part, step=step).values

        rngs = {'codebook': jax.random.key(0)}
        return model.apply(variables, method=quantize, mutable=[BATCH_MEANS], rngs=rngs)[0]

    def squared_norm(gradient: jax.Array) -> jax.Array:
        return sum_each(jnp.square(gradient.astype(jnp.float32)))

    values, pulls = [], []
    for scale in range(len(model.quantizers)):
        given = model.apply(variables, z, scale, method='given')
        value, pull = jax.vjp(lambda x, scale=scale: passed_on(x, scale), given)
        values.append(value)
        pulls.append(pull)
    gradients = jax.grad(lambda values: loss(values if len(values) > 1 else values[0]))(tuple(values))
    norms = [
        jnp.stack([squared_norm(x), squared_norm(pull(x)[0])], axis=-1)
        for x, pull in zip(gradients, pulls, strict=True)
    ]
    return of_scales(_NORMS, norms)


def quantization_metrics(means: dict[str, np.ndarray], fewer: Sequence[Sequence[int]]) -> dict[str, float]:
    """Metrics of means over examples of what `vector_moments` and `gradient_norms` give, as far as there.

    Args:
        means: by name.
        fewer: how many codes of a position can be decoded, of each scale, in ascending order.

    Returns:
        Of each scale 'quantization_error', the mean squared error over the variance of the vectors, and that
        of the first codes alone as '..._depth_i', i being the last of them; and 'gradient_ratio', the norm of
        the gradient behind the quantizer over that before it. A ratio is not there if its divisor is 0, of a
        variance as far as float32 can tell.
    """
    metrics = {}
    for suffix, counts in of_scales('', fewer).items():
        if (moments := means.get(f'{_MOMENTS}{suffix}')) is not None:
            square, *errors = moments[: 1 + len(counts)]
            variance = square - np.sum(np.square(moments[1 + len(counts) :]))
            if variance > 1e-6 * square:
                *depths, whole = (error / variance for error in errors)
                metrics[f'quantization_error{suffix}'] = whole
                depths = zip(counts, depths, strict=False)
                metrics |= {f'quantization_error{suffix}_depth_{n - 1}': error for n, error in depths}
        before, after = means.get(f'{_NORMS}{suffix}', (0.0, 0.0))
        if before > 0:
            metrics[f'gradient_ratio{suffix}'] = math.sqrt(after / before)
    return {name: float(value) for name, value in metrics.items()}
