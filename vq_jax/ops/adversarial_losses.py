"""The losses of generator and discriminator, one value for each example.

Logits [b ...] are the discriminator's, greater where an example seems real; each example has one, or a grid
of them (one for each patch), over which losses are means.
"""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from vq_jax.ops.losses import mean_each, sum_each

AdversarialLoss = Literal['non_saturating', 'vanilla', 'hinge', 'wasserstein']


def discriminator_loss(name: AdversarialLoss, real: jax.Array, fake: jax.Array) -> jax.Array:
    """What the discriminator lowers, of logits of real and of generated examples, float32 [b].

    - 'non_saturating', 'vanilla': `-log s(real) - log(1 - s(fake))`, s the sigmoid (Goodfellow et al.
      2014, arXiv:1406.2661, equation 1).
    - 'hinge': `max(0, 1 - real) + max(0, 1 + fake)` (Miyato et al. 2018, arXiv:1802.05957, equation 16).
    - 'wasserstein': `fake - real` (Arjovsky et al. 2017, arXiv:1701.07875, equation 2).

    The sums are those of the papers. VQGAN's published code (Esser et al. 2021, arXiv:2012.09841) has the
    same two terms, of 'hinge' and of 'vanilla', but half their sum: the values here are twice those in its
    logs. Adam without clipping or decay takes the same steps for both. Penalties are another matter: the
    gamma of `squared_gradients` and the weight of `lecam` are those of papers that add them to the whole
    sum, and a weight from a recipe that has half of it is to be doubled here.
    """
    if name == 'hinge':
        return _mean(jax.nn.relu(1 - real) + jax.nn.relu(1 + fake))
    if name == 'wasserstein':
        return _mean(fake - real)
    return _mean(jax.nn.softplus(-real) + jax.nn.softplus(fake))


def generator_loss(name: AdversarialLoss, fake: jax.Array) -> jax.Array:
    """What the generator lowers, of logits of generated examples, float32 [b].

    - 'non_saturating': `-log s(fake)` (Goodfellow et al. 2014, arXiv:1406.2661, section 3).
    - 'vanilla', 'hinge', 'wasserstein': `-fake`. This is what VQGAN's published training does under
      the names 'vanilla' and 'hinge', without a factor.
    """
    return _mean(jax.nn.softplus(-fake) if name == 'non_saturating' else -fake)


def squared_gradients(logits: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """The squared length of the gradient of each example's logit with respect to the example, float32 [b].

    Half its mean over real examples, times gamma, is R1 (Mescheder et al. 2018, arXiv:1801.04406,
    equation 9).

    Where an example has logits of n patches, the gradient is that of their sum over sqrt(n). Of patches that
    share nothing the square is then the mean over patches of what each has for itself, so that a weight
    means what it does for one logit. That of their mean logit would be n times less, and that of their sum,
    which much public code differentiates, n times more.

    Args:
        logits: maps examples to logits [b ...], each example by itself.
        x: examples [b ...].
    """

    def scaled_sum(x: jax.Array) -> jax.Array:
        values = logits(x).astype(jnp.float32)
        return jnp.sum(values) / math.sqrt(math.prod(values.shape[1:]))

    return sum_each(jnp.square(jax.grad(scaled_sum)(x)))


def gradient_penalty(
    logits: Callable[[jax.Array], jax.Array], keys: jax.Array, real: jax.Array, fake: jax.Array
) -> jax.Array:
    """`(|gradient| - 1)^2` at a random point between a real and a generated example, float32 [b].

    Gulrajani et al. 2017 (arXiv:1704.00028), equation 3, without its weight. The gradient of logits of
    patches is that of `squared_gradients`: of patches that share nothing, the root mean square of theirs.

    Args:
        logits: maps examples to logits [b ...], each example by itself.
        keys: a random key for each example [b].
        real: real examples [b ...].
        fake: generated ones.
    """
    share = jax.vmap(jax.random.uniform)(keys).reshape(-1, *[1] * (real.ndim - 1))
    squares = squared_gradients(logits, fake + share * (real - fake))
    # The root has no finite gradient at zero, where a critic that is still constant starts.
    return jnp.square(jnp.sqrt(jnp.maximum(squares, 1e-12)) - 1)


def lecam(real: jax.Array, fake: jax.Array, real_average: jax.Array, fake_average: jax.Array) -> jax.Array:
    """Keeps logits from running away from the moving average of the other kind, a scalar: float32 [b].

    `max(0, real - fake_average)^2 + max(0, real_average - fake)^2`: Tseng et al. 2021
    (arXiv:2104.03310), equation 6, with the clipping of its authors' code.
    """
    above = jnp.square(jax.nn.relu(real - fake_average))
    below = jnp.square(jax.nn.relu(real_average - fake))
    return _mean(above) + _mean(below)


def adaptive_weight(reconstruction: jax.Array, adversarial: jax.Array, most: float = 1e4) -> jax.Array:
    """How much the adversarial loss may count, so that both pull equally at the last layer.

    `|reconstruction| / (|adversarial| + 1e-4)`, from 0 to `most`, scalar, without a gradient, of the
    gradients of both losses with respect to the last layer's kernel: Esser et al. 2021 (arXiv:2012.09841),
    equation 7, with the published code's bounds.
    """
    ratio = jnp.linalg.norm(reconstruction) / (jnp.linalg.norm(adversarial) + 1e-4)
    return jax.lax.stop_gradient(jnp.clip(ratio, 0, most))


def _mean(values: jax.Array) -> jax.Array:
    return mean_each(values.astype(jnp.float32))
