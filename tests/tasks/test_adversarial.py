"""GAN and VQGAN steps against brute-force differentiation, and what must not leak."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.models.context import Context, beside, class_vector
from vq_jax.models.discriminators import BATCH_STATS, PatchDiscriminator
from vq_jax.ops import adversarial_losses
from vq_jax.ops.images import to_float
from vq_jax.ops.losses import mean_absolute
from vq_jax.ops.parts import Part
from vq_jax.ops.similarity import ms_ssim
from vq_jax.quantizers.gaussian import GaussianBottleneck
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.adversarial import AdversarialLossConfig, Adversary, mean_image
from vq_jax.training.optimizer import OptimizerConfig, make_optimizer

RNG = np.random.default_rng(0)
SMALL = {
    'model.channels': 8,
    'model.multipliers': (1,),
    'model.residual_blocks': 1,
    'model.attention_resolutions': (),
    'model.features': 8,
    'quantizer.num_codes': 16,
    'quantizer.codebook_init': 'random',
    'discriminator.channels': 8,
    'discriminator.stages': 2,
    'perceptual.kind': 'ms_ssim',
    # Plain gradient descent: what changes is the gradient.
    'optimizer.name': 'sgd',
    'optimizer.b1': 0.0,
    'optimizer.learning_rate': 1.0,
}


def batch(size, channels=3, b=4):
    images = RNG.integers(0, 256, (b, size, size, channels), np.uint8)
    return {'x': images, 'label': np.arange(b, dtype=np.int32) % 3, 'mask': np.ones(b, bool)}


def make(name, data, changes, num_classes=3):
    config = default_config(name)
    with config.unlocked():
        for key, value in changes.items():
            section, leaf = key.split('.')
            config[section][leaf] = value
    task = make_task(config, Spec('image', data['x'].shape[1:]), num_classes)
    task.check_spec(Spec('image', data['x'].shape[1:]))
    return task, initialised(task.init, jax.random.key(0), data)


@pytest.fixture(scope='module')
def vqgan():
    data = batch(16)
    return *make('vqgan', data, {**SMALL, 'perceptual.kind': 'none'}), data


def against(task, **changes):
    """A task with other values in the section 'adversarial'."""
    adversary = dataclasses.replace(
        task.adversary, config=dataclasses.replace(task.adversary.config, **changes)
    )
    return dataclasses.replace(task, adversary=adversary)


def judged(task, state, images, labels):
    discriminator = state.discriminator
    variables = {'params': discriminator.params, **discriminator.variables}
    judgement, _ = task.adversary.discriminator.apply(
        variables, images, labels, train=True, mutable=[BATCH_STATS]
    )
    return judgement.logits


def brute(task, state, data):
    """Losses of a VQGAN as functions of all parameters of the generator."""
    images = to_float(data['x'])

    def run(params):
        variables = {'params': params, **state.generator.variables}
        (outputs, latent), _ = task.model.apply(
            variables,
            task.seen(images),
            Context(vector=class_vector(data['label'], 3)),
            train=True,
            mutable=['batch_means'],
            rngs={'codebook': state.generator.step_key(), 'latent': state.generator.step_key()},
        )
        return outputs, latent

    def rebuilding(params):
        outputs, _ = run(params)
        return jnp.mean(mean_absolute(outputs, images) + 1 - ms_ssim(outputs, images))

    def against(params):
        outputs, _ = run(params)
        shown = outputs if task.source.kind == 'image' else jnp.concatenate([outputs, task.seen(images)], -1)
        return jnp.mean(adversarial_losses.generator_loss('hinge', judged(task, state, shown, data['label'])))

    kl = task.bottleneck_loss.weight / images[0].size  # of the KL autoencoder, a value
    weight = kl if isinstance(task.model.bottleneck, GaussianBottleneck) else 1.0
    return rebuilding, against, lambda params: weight * jnp.mean(run(params)[1].loss)


@pytest.mark.slow
@pytest.mark.parametrize(
    'changes',
    [
        pytest.param({}, id='plain'),
        pytest.param({'variant.class_conditional': True, 'variant.source': 'small'}, id='class and small'),
        pytest.param(
            {'variant.bottleneck': 'gaussian', 'loss.kl_weight': 30.0, 'adversarial.most_adaptive': 0.1},
            id='gaussian and held',
        ),
    ],
)
def test_the_vqgan_step_is_the_gradient_of_the_whole(changes):
    data = batch(16)
    task, state = make('vqgan', data, {**SMALL, 'adversarial.loss': 'hinge', **changes})
    after, metrics = jax.jit(task.train_step)(state, data)
    rebuilding, against, latent = brute(task, state, data)
    params = state.generator.params
    a, b, c = jax.jit(lambda p: [jax.grad(loss)(p) for loss in (rebuilding, against, latent)])(params)
    kernel = lambda tree: tree['decoder']['last']['kernel']  # noqa: E731
    adaptive = jnp.linalg.norm(kernel(a)) / (jnp.linalg.norm(kernel(b)) + 1e-4)
    most = changes.get('adversarial.most_adaptive', 1e4)
    assert (adaptive > most) == ('adversarial.most_adaptive' in changes)
    weight = 0.8 * jnp.minimum(adaptive, most)
    np.testing.assert_allclose(metrics['adversarial_weight'], weight, rtol=1e-3)
    expected = jax.tree.map(lambda a, b, c: a + weight * b + c, a, b, c)
    stepped = jax.tree.map(lambda old, new: old - new, params, after.generator.params)
    for x, y in zip(jax.tree.leaves(stepped), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-2, atol=2e-4 * float(jnp.abs(y).max()) + 1e-6)


def test_the_generator_runs_once_and_the_discriminator_twice(vqgan):
    task, state, data = vqgan
    calls = []

    def record(call, args, kwargs, context):
        if context.method_name == '__call__':
            calls.append(type(context.module).__name__)
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        jax.eval_shape(task.train_step, state, data)
    assert calls.count('ResidualEncoder') == calls.count('ResidualTrunk') == 1
    assert calls.count('PatchDiscriminator') == 2  # on real and on generated images


@pytest.mark.slow
def test_before_the_start_a_broken_discriminator_changes_nothing(vqgan):
    task, state, data = vqgan
    task = against(task, start=10, warmup=4)
    assert [task.phase(s) for s in (0, 5, 6, 9, 10, 99)] == [
        'absent', 'absent', 'alone', 'alone', 'together', 'together'
    ]  # fmt: skip
    nan = jax.tree.map(lambda p: p * jnp.nan, state.discriminator.params)
    broken = state.replace(discriminator=state.discriminator.replace(params=nan))
    steps = [
        jax.jit(functools.partial(task.train_step, phase=phase)) for phase in ('absent', 'alone', 'together')
    ]
    absent, alone, _ = steps
    results = [absent(state, data), absent(broken, data), alone(broken, data)]
    for after, _ in results[1:]:
        for x, y in zip(
            jax.tree.leaves(results[0][0].generator.params),
            jax.tree.leaves(after.generator.params),
            strict=True,
        ):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    assert 'discriminator_loss' not in results[0][1]
    flops = [step.lower(state, data).cost_analysis()['flops'] for step in steps]
    assert flops[0] < flops[1] < flops[2]


def test_the_weight_ramps_up_from_the_start(vqgan):
    task, state, data = vqgan
    task = against(task, start=10, ramp=4, adaptive=False)
    step = jax.jit(task.train_step)
    weights = []
    for number in (10, 11, 13, 40):
        at = state.replace(generator=state.generator.replace(step=jnp.int32(number)))
        weights.append(float(step(at, data)[1]['adversarial_weight']))
    np.testing.assert_allclose(weights, [0.2, 0.4, 0.8, 0.8], rtol=1e-6)


@pytest.mark.parametrize(
    'loss',
    [*(pytest.param(name, marks=pytest.mark.slow) for name in ('non_saturating', 'hinge')), 'wasserstein'],
)
def test_the_gan_step_is_the_gradient_of_the_whole(loss):
    data = batch(8)
    changes = {
        'model.class_conditional': True,
        'generator.channels': 8,
        'discriminator.channels': 8,
        'discriminator.norm': 'none',
        'adversarial.loss': loss,
        'adversarial.r1': 0.3,
        'adversarial.gradient_penalty': 0.2,
        'adversarial.lecam': 0.1,
    }
    for player in ('optimizer', 'discriminator_optimizer'):
        changes |= {f'{player}.name': 'sgd', f'{player}.b1': 0.0, f'{player}.learning_rate': 1.0}
    task, state = make('gan', data, changes)
    old = {**state.discriminator.variables['averages'], 'real': jnp.float32(0.4), 'fake': jnp.float32(-0.3)}
    variables = {**state.discriminator.variables, 'averages': old}
    state = state.replace(discriminator=state.discriminator.replace(variables=variables))
    after, metrics = jax.jit(task.train_step)(state, data)
    real, labels = to_float(data['x']), data['label']

    def draw(params):
        variables = {'params': params, **state.generator.variables}
        noise = jax.vmap(lambda key: jax.random.normal(key, (100,)))(
            Part.of_device(4).keys(state.generator.step_key())
        )
        return task.model.apply(variables, noise, labels, train=True, mutable=[BATCH_STATS])[0]

    def discriminate(params, images):
        variables = {'params': params, **state.discriminator.variables}
        return task.adversary.discriminator.apply(variables, images, labels)

    def generator_loss(params):
        logits = discriminate(state.discriminator.params, draw(params)).logits
        return jnp.mean(adversarial_losses.generator_loss(loss, logits))

    def discriminator_loss(params):
        fake = draw(state.generator.params)
        r, f = discriminate(params, real), discriminate(params, fake)
        logits = lambda x: discriminate(params, x).logits  # noqa: E731
        keys = Part.of_device(4).keys(state.discriminator.step_key())
        probe = -jnp.take_along_axis(jax.nn.log_softmax(r.classes), labels[:, None], 1)
        return jnp.mean(
            adversarial_losses.discriminator_loss(loss, r.logits, f.logits)
            + 0.15 * adversarial_losses.squared_gradients(logits, real)
            + 0.2 * adversarial_losses.gradient_penalty(logits, keys, real, fake)
            + 0.1 * adversarial_losses.lecam(r.logits, f.logits, 0.4, -0.3)
            + probe[:, 0]
        )

    for player, whole in (('generator', generator_loss), ('discriminator', discriminator_loss)):
        before = getattr(state, player).params
        stepped = jax.tree.map(lambda a, b: a - b, before, getattr(after, player).params)
        expected = jax.jit(jax.grad(whole))(before)
        for x, y in zip(jax.tree.leaves(stepped), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4 * float(jnp.abs(y).max()) + 1e-6)
    now = {
        name: discriminate(state.discriminator.params, images).logits
        for name, images in (('real', real), ('fake', draw(state.generator.params)))
    }
    ahead = np.mean(now['real'] > now['fake'])
    assert ahead != old['accuracy']  # so that it would be seen the wrong way round
    now |= {'accuracy': ahead, 'loss': adversarial_losses.discriminator_loss(loss, now['real'], now['fake'])}
    averages = after.discriminator.variables['averages']
    for name, values in now.items():
        np.testing.assert_allclose(averages[name], 0.99 * old[name] + 0.01 * np.mean(values), rtol=1e-5)
    assert metrics['discriminator_accuracy'] == averages['accuracy']
    assert metrics['discriminator_average_loss'] == averages['loss']


@pytest.mark.slow
def test_a_collapse_is_seen_beside_a_condition():
    """The diversity is that of what is generated, none here; its average begins at 1."""
    data = batch(16)
    task, state = make('vqgan', data, {**SMALL, 'perceptual.kind': 'none', 'variant.source': 'grey'})
    decoder = state.generator.params['decoder']
    grey = {**decoder, 'last': jax.tree.map(jnp.zeros_like, decoder['last'])}
    params = {**state.generator.params, 'decoder': grey}
    state = state.replace(generator=state.generator.replace(params=params))
    _, metrics = jax.jit(task.train_step)(state, data)
    assert metrics['diversity'] == pytest.approx(0.99, abs=1e-6)


def updated(adversary, state, real, fake, labels, condition=None):
    """The discriminator's update by a whole batch, and its numbers."""
    centre = mean_image(real, None)
    part = Part.of_device(len(real))
    _, means = adversary.compare(state, real, fake, labels, part, centre, condition)
    return adversary.update(state, means)


def patch_adversary(**config):
    """A small adversary over patches of 16x16 images, its discriminator without normalisation."""
    options = OptimizerConfig(name='sgd', b1=0.0, learning_rate=1.0)
    discriminator = PatchDiscriminator(channels=4, stages=1, norm='none')
    return Adversary(AdversarialLossConfig(**config), discriminator, make_optimizer(options, 1))


@pytest.mark.parametrize('n', [1, 3])
def test_images_that_are_all_alike_tell_nothing_of_diversity(n):
    adversary = patch_adversary()
    real = np.repeat(RNG.normal(size=(1, 16, 16, 3)), n, 0).astype(np.float32)
    labels = np.zeros(n, np.int32)
    state = initialised(adversary.init, jax.random.key(0), real, labels)
    diversity = jax.jit(lambda fake: updated(adversary, state, real, fake, labels)[1]['diversity'])
    for fake in (real, RNG.normal(size=real.shape).astype(np.float32)):
        assert diversity(fake) == pytest.approx(1, abs=1e-6)


def test_penalties_are_of_the_images_alone():
    """A discriminator that looks at nothing but the condition has no slope."""
    adversary = patch_adversary(r1=1.0, gradient_penalty=1.0)
    real, fake, condition = RNG.normal(size=(3, 4, 16, 16, 3)).astype(np.float32)
    labels = np.zeros(4, np.int32)
    state = initialised(adversary.init, jax.random.key(0), beside(real, condition), labels)
    penalties = jax.jit(lambda s: updated(adversary, s, real, fake, labels, condition)[1])
    kernel = state.params['Conv_0']['kernel']
    found = {}
    for name, sees in (('images', slice(0, 3)), ('condition', slice(3, 6))):
        alone = jnp.zeros_like(kernel).at[:, :, sees].set(kernel[:, :, sees])
        first = {**state.params['Conv_0'], 'kernel': alone}
        found[name] = penalties(state.replace(params={**state.params, 'Conv_0': first}))
    assert found['condition']['r1'] == 0 and found['images']['r1'] > 0
    assert found['condition']['gradient_penalty'] == pytest.approx(1, abs=1e-5)
    assert found['images']['gradient_penalty'] < 1 - 1e-5


def test_running_statistics_see_real_and_generated_images():
    data = batch(16)
    task, state = make('gan', data, {'generator.channels': 8, 'discriminator.channels': 8})
    learn = jax.jit(lambda a, b: updated(task.adversary, state.discriminator, a, b, data['label'])[0])
    real, fake = RNG.normal(size=(2, 4, 16, 16, 3)).astype(np.float32)
    both, twice_real, twice_fake = (
        learn(a, b).variables[BATCH_STATS]['BatchNorm_0']['mean']
        for a, b in ((real, fake), (real, real), (fake, fake))
    )
    # From 0, one batch enters with 0.1 * 0.9, the next with 0.1.
    np.testing.assert_allclose(both, (twice_real * 0.09 + twice_fake * 0.1) / 0.19, rtol=1e-4, atol=1e-6)


def test_warnings_name_who_has_won(vqgan):
    adversary = vqgan[0].adversary

    def metrics(accuracy, loss, diversity=1.0):
        return {
            'discriminator_accuracy': accuracy,
            'discriminator_average_loss': loss,
            'diversity': diversity,
        }

    assert adversary.watch(metrics(0.7, 1.0)) is None and adversary.watch({}) is None
    assert 'collapsed' in adversary.watch(metrics(0.7, 1.0, 0.01))
    assert 'won' in adversary.watch(metrics(0.995, 0.01))
    assert 'the discriminator has won' in adversary.watch(metrics(0.998, 0.03, 0.05))
    assert 'has lost: it ranks 10.0% of pairs right' in adversary.watch(metrics(0.1, 1.4))
    assert 'has diverged: its loss is 80, where that of knowing nothing is 1.4' in adversary.watch(
        metrics(0.5, 80.0)
    )
    # Nothing is wrong with a discriminator that wins before the generator feels what it says.
    won = metrics(0.995, 0.01)
    assert vqgan[0].watch({**won, 'adversarial_weight': 0.0}) is None
    assert 'won' in vqgan[0].watch({**won, 'adversarial_weight': 0.1})
    # R1 is refused beside batch normalisation, which this one has and the other has not.
    for numbers in (metrics(0.7, 1.0, 0.01), metrics(0.995, 0.01)):
        assert 'or set config.adversarial.r1 with config.discriminator.norm=none in a new' in adversary.watch(
            numbers
        )
        assert 'or raise config.adversarial.r1.' in patch_adversary().watch(numbers)
    assert 'raise config.adversarial.lecam' in adversary.watch(metrics(0.995, 0.01))


@pytest.mark.parametrize(
    'task, size, changes, words',
    [
        ('gan', 8, {'adversarial.r1': 1.0}, 'discriminator.norm=none'),
        ('gan', 24, {}, '8, 16, 32'),
        ('vqgan', 18, {'model.multipliers': (1, 2, 4)}, 'divided by 4'),
        ('vqgan', 8, {'perceptual.kind': 'ms_ssim'}, '11 pixels'),
        (
            'vqgan',
            16,
            {'perceptual.weights': ('x.npz',), 'perceptual.kind': 'none'},
            'perceptual.weights is given, but kind',
        ),
        ('vqgan', 16, {'adversarial.ramp': -1}, 'adversarial.ramp'),
        ('vqgan', 16, {'adversarial.weight': -0.5}, 'adversarial.weight'),
        ('vqgan', 16, {'adversarial.most_adaptive': math.nan}, 'adversarial.most_adaptive is nan'),
        ('vqgan', 16, {'loss.perceptual_weight': -1.0}, 'loss.perceptual_weight'),
        ('vqgan', 16, {'loss.kl_weight': -1e-6}, 'loss.kl_weight'),
        ('vqgan', 16, {'model.residual_blocks': -1}, 'residual_blocks is -1'),
        ('vqgan', 16, {'discriminator.stages': 0}, 'discriminator.stages is 0'),
        ('gan', 16, {'discriminator.channels': 0}, 'discriminator.channels is 0'),
        ('gan', 16, {'generator.noise_dim': 0}, 'generator.noise_dim is 0; give 1 or more'),
        ('gan', 16, {'generator.noise_dim': -1}, 'generator.noise_dim is -1; give 1 or more'),
        ('gan', 16, {'generator.channels': 0}, 'generator.channels is 0; give 1 or more'),
        ('vqgan', 16, {'adversarial.start': 5, 'adversarial.warmup': 6}, 'raise start or lower warmup'),
        ('vqgan', 16, {'discriminator.stages': 3}, 'discriminator.stages'),
        ('gan', 16, {'adversarial.loss': 'wasserstein'}, 'adversarial.gradient_penalty=10'),
        (
            'gan',
            16,
            {'adversarial.loss': 'wasserstein', 'discriminator.spectral_norm': True},
            'discriminator.norm=none with config.discriminator.spectral_norm=true',
        ),
        ('gan', 16, {'adversarial.lecam': -1.0}, 'adversarial.lecam'),
        ('gan', 16, {'discriminator_optimizer.ema_decay': 0.9}, 'config.optimizer.ema_decay'),
    ],
)
def test_mistakes(task, size, changes, words):
    smaller = {k: v for k, v in SMALL.items() if task == 'vqgan'}
    with pytest.raises(UserError, match=words):
        make(task, batch(size), {**smaller, **changes})


def test_a_critic_of_bounded_slope_is_taken():
    bounded = {'discriminator.spectral_norm': True, 'discriminator.norm': 'none'}
    make('gan', batch(8), {'generator.channels': 8, 'adversarial.loss': 'wasserstein', **bounded})


def test_grey_images_cannot_be_made_of_their_grey_values():
    with pytest.raises(UserError, match=r'are grey already; set config\.data\.channels=3'):
        make('vqgan', batch(16, channels=1), {**SMALL, 'variant.source': 'grey'})


def test_duplicates_are_samples_that_noise_does_not_change():
    """A generator that draws one image a class can have diversity, but duplicates alone."""
    data = batch(8, b=32)
    changes = {'model.class_conditional': True, 'generator.channels': 8, 'discriminator.channels': 8}
    task, state = make('gan', data, changes)
    evaluate = jax.jit(task.eval_step)

    def evaluated(of_noise, of_class, data):
        """With the generator's first kernel as so many times its part of the noise and of the class."""
        params = state.generator.params
        kernel = params['Dense_0']['kernel']
        times = jnp.where(jnp.arange(len(kernel)) < task.model.noise_dim, of_noise, of_class)
        params = {**params, 'Dense_0': {'kernel': kernel * times[:, None]}}
        return evaluate(state.replace(generator=state.generator.replace(params=params)), data)

    def numbers(*arguments):
        return task.summarize({k: np.mean(v, 0) for k, v in evaluated(*arguments).items()})

    collapsed, varied = numbers(0.0, 300.0, data), numbers(20.0, 0.0, data)
    assert collapsed['duplicates'] == 1.0 and collapsed['diversity'] > 0.2
    assert varied['duplicates'] == 0.0
    # Some of both, and the same ones in a batch of half the size.
    some = evaluated(6.0, 0.0, data)['duplicates']
    assert some.shape == (32,) and some.dtype == jnp.float32 and 0.2 < some.mean() < 0.9
    half = {name: values[16:] for name, values in data.items()}
    np.testing.assert_array_equal(evaluated(6.0, 0.0, half)['duplicates'], some[16:])


def test_the_classes_that_samples_cover():
    """Of three classes, one is seen in no sample to speak of."""
    data = batch(8)
    changes = {'model.class_conditional': True, 'generator.channels': 8, 'discriminator.channels': 8}
    task, _ = make('gan', data, changes)
    means = {f'{kind}_{name}': np.float64(0.3) for kind in ('real', 'fake') for name in ('mean', 'square')}
    means |= {'logits_real': 0.0, 'logits_fake': 0.0, 'duplicates': 0.0}
    means |= {'real_agree': 0.9, 'fake_agree': 0.7, 'fake_classes': np.array([0.5, 0.499, 0.001])}
    numbers = task.summarize(means)
    assert numbers['classes_covered'] == 2
    assert numbers['class_perplexity'] == pytest.approx(2, rel=1e-2)
    assert (numbers['probe_accuracy'], numbers['label_accuracy']) == (0.9, 0.7)


def test_averaged_parameters_come_with_averaged_statistics():
    data = batch(16)
    changes = {'generator.channels': 8, 'discriminator.channels': 8, 'optimizer.ema_decay': 0.5}
    task, state = make('gan', data, changes)
    after, _ = jax.jit(task.train_step)(state, data)
    used = after.generator.eval_variables()
    # The average of the first step has the decay 1/10.
    for name, now, before in (
        ('params', after.generator.params, state.generator.params),
        (BATCH_STATS, after.generator.variables[BATCH_STATS], state.generator.variables[BATCH_STATS]),
    ):
        jax.tree.map(
            lambda x, y, z: np.testing.assert_allclose(x, 0.9 * y + 0.1 * z, rtol=1e-4, atol=1e-6),
            used[name],
            now,
            before,
        )


def test_a_condition_needs_labels():
    for name, key in (('gan', 'model.class_conditional'), ('vqgan', 'variant.class_conditional')):
        with pytest.raises(UserError, match='needs data with labels'):
            make(name, batch(16), {key: True}, num_classes=0)
