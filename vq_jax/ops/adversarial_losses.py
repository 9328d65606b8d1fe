"""The losses of generator and discriminator, one value for each example.

Logits [b ...] are the discriminator's, greater where an example seems real; each example has one, or a grid
of them (one for each patch), over which losses are means. Those of several discriminators are a tuple, with a
grid for each, and the loss is the mean over the discriminators: a weight then means the same for any number
of them. Published code of codecs often has the sum.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from vq_jax.ops.losses import mean_absolute, mean_each, sum_each

AdversarialLoss = Literal['non_saturating', 'vanilla', 'hinge', 'wasserstein', 'least_squares']
Logits = jax.Array | tuple[jax.Array, ...]


def discriminator_loss(name: AdversarialLoss, real: Logits, fake: Logits) -> jax.Array:
    """What the discriminator lowers, of logits of real and of generated examples, float32 [b].

    - 'non_saturating', 'vanilla': `-log s(real) - log(1 - s(fake))`, s the sigmoid (Goodfellow et al.
      2014, arXiv:1406.2661, equation 1).
    - 'hinge': `max(0, 1 - real) + max(0, 1 + fake)` (Miyato et al. 2018, arXiv:1802.05957, equation 16).
    - 'wasserstein': `fake - real` (Arjovsky et al. 2017, arXiv:1701.07875, equation 2).
    - 'least_squares': `(1 - real)^2 + fake^2` (Mao et al. 2017, arXiv:1611.04076, equation 9, without its
      halves, as HiFi-GAN and descript-audio-codec have it).

    The sums are those of the papers. VQGAN's published code (Esser et al. 2021, arXiv:2012.09841) has the
    same two terms, of 'hinge' and of 'vanilla', but half their sum: the values here are twice those in its
    logs. Adam without clipping or decay takes the same steps for both. Penalties are another matter: the
    gamma of `squared_gradients` and the weight of `lecam` are those of papers that add them to the whole
    sum, and a weight from a recipe that has half of it is to be doubled here.
    """

    def one(real: jax.Array, fake: jax.Array) -> jax.Array:
        if name == 'hinge':
            return jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)
        if name == 'wasserstein':
            return fake - real
        if name == 'least_squares':
            return jnp.square(1 - real) + jnp.square(fake)
        return jax.nn.softplus(-real) + jax.nn.softplus(fake)

    return mean_logits(jax.tree.map(one, real, fake))


def generator_loss(name: AdversarialLoss, fake: Logits) -> jax.Array:
    """What the generator lowers, of logits of generated examples, float32 [b].

    - 'non_saturating': `-log s(fake)` (Goodfellow et al. 2014, arXiv:1406.2661, section 3).
    - 'vanilla', 'hinge', 'wasserstein': `-fake`. This is what VQGAN's published training does under
      the names 'vanilla' and 'hinge', without a factor.
    - 'least_squares': `(1 - fake)^2` (Mao et al. 2017, equation 9, without its half).
    """

    def one(fake: jax.Array) -> jax.Array:
        if name == 'least_squares':
            return jnp.square(1 - fake)
        return jax.nn.softplus(-fake) if name == 'non_saturating' else -fake

    return mean_logits(jax.tree.map(one, fake))


def feature_matching(fake: Sequence[jax.Array], real: Sequence[jax.Array]) -> jax.Array:
    """How far features of generated examples are from those of their originals, float32 [b].

    The mean over the layers of their mean absolute differences [b ...], without a gradient to the real ones:
    Larsen et al. 2016 (arXiv:1512.09300); Kumar et al. 2019 (MelGAN, arXiv:1910.06711), equation 4. Published
    code of HiFi-GAN and of descript-audio-codec has the sum over all layers of all discriminators.
    """
    distances = [mean_absolute(x, jax.lax.stop_gradient(y)) for x, y in zip(fake, real, strict=True)]
    return sum(distances) / len(distances)


def squared_gradients(logits: Callable[[jax.Array], Logits], x: jax.Array) -> jax.Array:
    """The squared length of the gradient of each example's logit with respect to the example, float32 [b].

    Half its mean over real examples, times gamma, is R1 (Mescheder et al. 2018, arXiv:1801.04406,
    equation 9).

    Where an example has logits of n patches, the gradient is that of their sum over sqrt(n). Of patches that
    share nothing the square is then the mean over patches of what each has for itself, so that a weight
    means what it does for one logit. That of their mean logit would be n times less, and that of their sum,
    which much public code differentiates, n times more. Of several discriminators it is likewise.

    Args:
        logits: maps examples to logits [b ...], each example by itself.
        x: examples [b ...].
    """

    def scaled_sum(x: jax.Array) -> jax.Array:
        each = [values.astype(jnp.float32) for values in jax.tree.leaves(logits(x))]
        sums = [jnp.sum(values) / math.sqrt(math.prod(values.shape[1:])) for values in each]
        return sum(sums) / math.sqrt(len(sums))

    return sum_each(jnp.square(jax.grad(scaled_sum)(x)))


def gradient_penalty(
    logits: Callable[[jax.Array], Logits], keys: jax.Array, real: jax.Array, fake: jax.Array
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


def lecam(real: Logits, fake: Logits, real_average: Logits, fake_average: Logits) -> jax.Array:
    """Keeps logits from running away from the moving average of the other kind, a scalar: float32 [b].

    Of several discriminators, each has averages of its own.

    `max(0, real - fake_average)^2 + max(0, real_average - fake)^2`: Tseng et al. 2021
    (arXiv:2104.03310), equation 6, with the clipping of its authors' code.
    """

    def above(logits: jax.Array, average: jax.Array) -> jax.Array:
        return jnp.square(jax.nn.relu(logits - average))

    def below(logits: jax.Array, average: jax.Array) -> jax.Array:
        return jnp.square(jax.nn.relu(average - logits))

    of_real = mean_logits(jax.tree.map(above, real, fake_average))
    return of_real + mean_logits(jax.tree.map(below, fake, real_average))


def adaptive_weight(reconstruction: jax.Array, adversarial: jax.Array, most: float = 1e4) -> jax.Array:
    """How much the adversarial loss may count, so that both pull equally at the last layer.

    `|reconstruction| / (|adversarial| + 1e-4)`, from 0 to `most`, scalar, without a gradient, of the
    gradients of both losses with respect to the last layer's kernel: Esser et al. 2021 (arXiv:2012.09841),
    equation 7, with the published code's bounds.
    """
    ratio = jnp.linalg.norm(reconstruction) / (jnp.linalg.norm(adversarial) + 1e-4)
    return jax.lax.stop_gradient(jnp.clip(ratio, 0, most))


def mean_logits(logits: Logits) -> jax.Array:
    """The mean over the logits of each example, and over discriminators if there are several: float32 [b]."""
    each = [mean_each(values.astype(jnp.float32)) for values in jax.tree.leaves(logits)]
    return sum(each) / len(each)
