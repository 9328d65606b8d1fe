"""A step in parts is the step of the whole batch, for every task, or is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.ops.images import to_float
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.diffusion_sampling import reduce
from vq_jax.training.parallel import ParallelConfig, make_engine

SGD = {'optimizer.name': 'sgd', 'optimizer.b1': 0.0, 'optimizer.ema_decay': 0.9}
TRANSFORMER = {'transformer.depth': 1, 'transformer.width': 16, 'transformer.heads': 2}
UNET = {
    'unet.channels': 8,
    'unet.multipliers': (1,),
    'unet.residual_blocks': 1,
    'unet.attention_resolutions': (),
    'unet.head_channels': 8,
    'unet.dropout': 0.1,
}
VQVAE = {
    'model.channels': 8,
    'model.stages': 1,
    'model.residual_channels': 8,
    'model.residual_blocks': 1,
    'quantizer.dim': 4,
    'quantizer.num_codes': 16,
    'quantizer.codebook_init': 'random',
    'quantizer.decay': 0.5,
}
VQGAN = {
    'model.channels': 8,
    'model.multipliers': (1,),
    'model.residual_blocks': 1,
    'model.attention_resolutions': (),
    'model.features': 8,
    'quantizer.num_codes': 16,
    'quantizer.codebook_init': 'random',
    'quantizer.revive_below': 0.9,
    'discriminator.channels': 8,
    'discriminator.stages': 1,
    'discriminator.norm': 'none',
    'discriminator_optimizer.name': 'sgd',
    'discriminator_optimizer.b1': 0.0,
    'discriminator_optimizer.learning_rate': 0.1,
    'perceptual.kind': 'none',
}
# Of a task with changes of its config, and the learning rate with which three steps go far.
EQUAL = {
    'classifier': ('classifier', {'model.channels': 8, 'model.stages': 1, 'model.dropout': 0.3}, 0.3),
    'vae': ('vae', {'mlp.hidden': (16,), 'model.latent_dim': 4}, 1e-3),
    'transformer': (
        'prior',
        {**TRANSFORMER, 'tokenizer.levels': 4, 'transformer.dropout': 0.1, 'model.class_conditional': True},
        0.3,
    ),
    'maskgit': (
        'prior',
        {**TRANSFORMER, 'tokenizer.levels': 4, 'model.kind': 'maskgit', 'model.given': 0.5},
        0.3,
    ),
    'pixelcnn': (
        'prior',
        {'tokenizer.levels': 4, 'model.kind': 'pixelcnn', 'pixelcnn.channels': 8, 'pixelcnn.depth': 1},
        0.3,
    ),
    'diffusion': (
        'diffusion',
        {**UNET, 'model.class_conditional': True, 'model.label_dropout': 0.3, 'model.given': 0.5},
        0.1,
    ),
    'vqvae': (
        'vqvae',
        {**VQVAE, 'quantizer.revive_below': 0.9, 'loss.reconstruction': 'bernoulli'},
        0.3,
    ),
    'two levels': (
        'vqvae',
        {**VQVAE, 'model.top_stages': 1, 'quantizer.learning': 'gradient', 'quantizer.revive_below': 0.9},
        0.3,
    ),
    'fsq': ('vqvae', {**VQVAE, 'quantizer.kind': 'fsq', 'fsq.levels': (3, 3)}, 0.3),
    'lfq': ('vqvae', {**VQVAE, 'quantizer.kind': 'lfq', 'lfq.bits': 4, 'lfq.diversity': 0.0}, 0.05),
    'vqgan': (
        'vqgan',
        {
            **VQGAN,
            'adversarial.loss': 'wasserstein',
            'adversarial.r1': 0.1,
            'adversarial.lecam': 0.1,
            'discriminator.spectral_norm': True,
        },
        0.1,
    ),
    'kl autoencoder': (
        'vqgan',
        {
            **VQGAN,
            'variant.bottleneck': 'gaussian',
            'variant.source': 'small',
            'adversarial.gradient_penalty': 0.1,
        },
        0.1,
    ),
    'super-resolution': ('diffusion', {**UNET, 'model.upscale': 2}, 0.1),
}


def batches(n=3, b=12, size=8):
    draw = np.random.default_rng(0)
    for _ in range(n):
        images = draw.integers(0, 256, (b, size, size, 1), np.uint8)
        yield {'x': images, 'label': draw.integers(0, 3, b, np.int32), 'mask': np.ones(b, bool)}


def make(name, changes, accumulate):
    config = default_config(name)
    config.accumulate = accumulate
    with config.unlocked():
        for key, value in changes.items():
            section, leaf = key.split('.')
            config[section][leaf] = value
    return make_task(config, Spec('image', (8, 8, 1)), 3)


def first_state(task):
    """The state before the first step, however many parts a step has."""
    return initialised(task.init, jax.random.key(0), next(batches()))


def steps(task, state):
    """The state after three steps, and what each of them gives."""
    state = state.replace(frozen=task.pretrained())
    step, metrics = jax.jit(task.train_step), []
    for batch in batches():
        state, numbers = step(state, batch)
        metrics.append(jax.device_get(numbers))
    return numbers_of(state.replace(frozen=None)), metrics


def numbers_of(tree):
    """Its arrays by path, the random keys left out."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path): np.asarray(x)
        for path, x in leaves
        if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    }


# Further networks and quantizers of tasks that the others show.
FURTHER = ('vqgan', 'diffusion', 'pixelcnn', 'two levels', 'fsq', 'kl autoencoder', 'super-resolution')


@pytest.mark.parametrize(
    'name',
    [pytest.param(name, marks=pytest.mark.slow) if name in FURTHER else name for name in EQUAL],
)
def test_a_step_in_parts_is_that_of_the_whole_batch(name):
    """After three updates, with plain gradient descent, in which no rounding grows."""
    kind, changes, rate = EQUAL[name]
    changes = {**SGD, 'optimizer.learning_rate': rate, **changes}
    at_once, in_parts = (make(kind, changes, accumulate) for accumulate in (1, 4))
    state = first_state(at_once)
    first = numbers_of(state)
    whole, whole_metrics = steps(at_once, state)
    parts, parts_metrics = steps(in_parts, state)
    moved = max(np.abs(whole[path] - first[path]).max() for path in whole if 'params' in path)
    assert moved > 1e-3
    for path, x in whole.items():
        np.testing.assert_allclose(parts[path], x, rtol=1e-5, atol=1e-4 * moved, err_msg=path)
    for a, b in zip(whole_metrics, parts_metrics, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert b[key] == pytest.approx(a[key], rel=1e-4, abs=1e-6), key


class Means:
    """Latents, as of an autoencoder: the means of squares of pixels, far from zero."""

    latent_shape, num_labels, class_names, run = (4, 4, 1), 0, None, 'an autoencoder'

    def state(self):
        return {'far': jnp.float32(3)}

    def latents(self, state, x):
        return state['far'] + to_float(reduce(x, 2))


@pytest.mark.slow
def test_latents_are_measured_and_learned_in_parts():
    results, first = [], None
    for accumulate in (1, 4):
        task = make('diffusion', {**SGD, 'optimizer.learning_rate': 0.1, **UNET}, accumulate)
        task = dataclasses.replace(task, codec=Means())
        engine = make_engine(ParallelConfig(), 12)
        first = first or first_state(task)
        state = task.init_from_data(jax.random.key(1), first, batches(), engine)
        measured = numbers_of(state.variables)
        state = state.replace(frozen=task.pretrained())
        state, metrics = jax.jit(task.train_step)(state, next(batches()))
        results.append((measured, numbers_of(state.params), float(metrics['loss'])))
    (measured, whole, loss), (again, parts, loss_of_parts) = results
    assert measured.keys() == again.keys() and abs(measured["['latent']['mean']"][0] - 3) < 0.1
    for path, x in measured.items():
        np.testing.assert_allclose(again[path], x, rtol=1e-6, err_msg=path)
    for path, x in whole.items():
        np.testing.assert_allclose(parts[path], x, rtol=1e-5, atol=1e-6, err_msg=path)
    assert loss_of_parts == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(
    'name, changes, words',
    [
        ('vae', {'loss.free_bits': 0.1}, r'config.loss.free_bits depends .* config.loss.free_bits=0'),
        ('vqvae', {**VQVAE, 'quantizer.kind': 'lfq'}, r'the entropy of the mean .* config.lfq.diversity=0'),
        ('vqgan', {**VQGAN, 'quantizer.kind': 'lfq'}, r'the entropy of the mean .* config.lfq.diversity=0'),
        (
            'vqgan',
            {**VQGAN, 'discriminator.norm': 'batch'},
            r'the discriminator.* config.discriminator.norm=none',
        ),
        ('gan', {}, r'the generator.* set config.accumulate=1, or config.batch_size to that of a step'),
    ],
)
def test_what_cannot_be_equal_is_refused(name, changes, words):
    with pytest.raises(UserError, match=f'config.accumulate is 2, but {words}'):
        make(name, changes, 2)
    make(name, changes, 1)
