"""Priors and diffusion that learn examples of which a part is given, where positions hold what is not.

Of clips of four frames of bits, two frames are a code or a latent. The second frame is the first one
inverted, and the third one the last: given the first and the last, which are a part of a position each, the
two between are known, but only to a model that reads what is given of such positions.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.models.dit import DiT
from vq_jax.spec import CodeSpec, Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.codec import Identity
from vq_jax.tasks.token_network import make_network

SPEC = Spec('video', (4, 2, 2, 1))
BETWEEN = np.zeros(SPEC.grid, bool)
BETWEEN[1:3] = True


class Pairs(Identity):
    """Codes from 0 to 3, and latents of two numbers, for two frames of bits."""

    code_spec: ClassVar[CodeSpec] = CodeSpec(((2, 2, 2),), ((4,),))
    latent_shape: ClassVar[tuple[int, ...]] = (2, 2, 2, 2)

    def encode(self, state, x):
        first, second = (x[:, i::2] // 255 for i in (0, 1))
        return ((2 * first + second).astype(jnp.int32),)

    def decode(self, state, codes, labels, goes_on=None):
        pairs = jnp.stack([codes[0] // 2, codes[0] % 2], axis=2)
        return (255 * pairs).astype(jnp.uint8).reshape(-1, *SPEC.shape)

    def latents(self, state, x):
        return jnp.concatenate([x[:, i::2] / 127.5 - 1 for i in (0, 1)], axis=-1)

    def decode_latents(self, state, z, labels):
        pairs = jnp.stack(jnp.split(z, 2, axis=-1), axis=2)
        return (255 * (pairs > 0)).astype(jnp.uint8).reshape(-1, *SPEC.shape)


def clips(n, seed):
    ends = np.random.default_rng(seed).integers(0, 2, (n, 2, 2, 2, 1))
    first, last = ends[:, 0], ends[:, 1]
    return np.uint8(255) * np.stack([first, 1 - first, 1 - last, last], axis=1).astype(np.uint8)


def prior(kind, given, **changes):
    config = default_config('prior')
    config.model.kind, config.model.given = kind, given
    config.transformer.depth, config.transformer.width, config.transformer.heads = 1, 24, 2
    config.sampling.temperature, config.sampling.steps = 0.0, 4
    config.optimizer.learning_rate = 1e-2
    config.update_from_flattened_dict(changes)
    task = make_task(config, SPEC)
    sizes = {'transformer': task.model.sizes}
    network = make_network(task.network.config, sizes, Pairs.code_spec, 0, 0)
    return dataclasses.replace(task, codec=Pairs(SPEC), network=network)


def diffusion(given):
    config = default_config('diffusion')
    config.model.given = given
    config.model.backbone = 'dit'
    config.dit.patch, config.dit.depth, config.dit.width, config.dit.heads = 1, 1, 24, 2
    config.sampling.steps = 8
    config.optimizer.learning_rate = 1e-2
    task = make_task(config, SPEC)
    return dataclasses.replace(task, codec=Pairs(SPEC), model=DiT(task.model.sizes, 2))


def right(task, steps):
    """The share of the bits of two frames that is right, given those at both ends, after so many steps."""
    batch = {'x': clips(64, 0), 'label': np.zeros(64, np.int32), 'mask': np.ones(64, bool)}
    state = jax.jit(task.init)(jax.random.key(0), batch).replace(frozen=task.pretrained())
    step = jax.jit(task.train_step)
    for i in range(steps):
        state, _ = step(state, {**batch, 'x': clips(64, i + 1)})
    x = clips(64, 10**6)
    mask = jnp.broadcast_to(BETWEEN, x.shape[:-1])
    hidden = np.where(mask[..., None], 77, x).astype(np.uint8)
    inpaint = jax.jit(functools.partial(task.inpaint, sampling=task.sampling))
    made = np.asarray(inpaint(state, jax.random.split(jax.random.key(1), 64), hidden, mask, batch['label']))
    np.testing.assert_array_equal(made[:, [0, 3]], x[:, [0, 3]])
    return (made == x)[:, 1:3].mean()


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['maskgit', 'transformer'])
def test_a_prior_reads_what_is_given_of_positions_that_hold_more(kind):
    assert right(prior(kind, 0.9), 120) > 0.95


@pytest.mark.slow
def test_a_prior_that_has_not_learned_to_is_told_nothing_of_them():
    assert right(prior('maskgit', 0.0), 120) < 0.7


@pytest.mark.slow
def test_diffusion_reads_what_is_given_of_positions_that_hold_more():
    assert right(diffusion(0.9), 300) > 0.9


def test_a_transformer_is_told_what_follows():
    """Each prediction depends on what is given near it, before and after, and on tokens before it alone."""
    task = prior('transformer', 0.5)
    variables = jax.jit(task.init)(jax.random.key(0), {}).params
    codes = jnp.zeros((1, 2, 2, 2, 1), jnp.int32)

    @jax.jit
    def logits(given):
        context = task._context({'params': variables}, jnp.zeros(1, int), {}, (codes,), given)
        return task.network.logits(
            {'params': variables}, codes.reshape(1, 8), jnp.ones((1, 8), bool), context
        )

    blank = jnp.full(codes.shape, 4)
    change = np.abs(logits(blank.at[0, 1, 1, 1].set(2)) - logits(blank)).max(-1)
    assert (change > 0).all()


def test_what_diffusion_reads_of_a_hole():
    task = diffusion(0.5)
    x = clips(2, 0)
    mask = np.random.default_rng(0).random((2, *SPEC.grid)) < 0.6
    z = np.asarray(task.codec.latents(None, x))
    found = np.asarray(task.given_grid(z, mask))
    shares = 1 - np.stack([mask[:, 0::2], mask[:, 1::2]]).mean(0)
    np.testing.assert_array_equal(found[..., -1], shares)
    np.testing.assert_array_equal(found[..., :2], np.where(shares[..., None] > 0, z, 0))
    assert task.nothing_given(3).shape == (3, 2, 2, 2, 3) and not task.nothing_given(3).any()
    assert diffusion(0.0).nothing_given(3) is None


def test_what_can_be_given():
    for model, words in (
        ({'given': 1.5}, r'given is 1\.5'),
        (
            {'given': 0.5, 'upscale': 2},
            'given is 0.5, and super-resolution is given all of an image; leave it',
        ),
    ):
        config = default_config('diffusion')
        config.model.update(model)
        with pytest.raises(UserError, match=words):
            make_task(config, Spec('image', (8, 8, 1)))
