"""Diffusion models learn what they are shown, on pixels and on latents, and can change images."""

import dataclasses
import functools
import inspect
import math
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.models.context import enlarge
from vq_jax.ops import diffusion as ops
from vq_jax.ops.images import to_float
from vq_jax.sampling import diffusion
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.batched_sampling import BatchedSampler
from vq_jax.tasks.diffusion import Sampling
from vq_jax.tasks.diffusion_sampling import reduce

RNG = np.random.default_rng(0)
# Two classes of one image each: the left or the right half is white.
PATTERNS = np.zeros((2, 8, 8, 1), np.uint8)
PATTERNS[0, :, :4] = PATTERNS[1, :, 4:] = 255
LABELS = np.arange(16, dtype=np.int32) % 2
BATCH = {'x': PATTERNS[LABELS], 'label': LABELS, 'mask': np.ones(16, bool)}


def small(**changes):
    config = default_config('diffusion')
    config.unet.channels = 16
    config.unet.multipliers = (1,)
    config.unet.residual_blocks = 1
    config.unet.attention_resolutions = ()
    config.unet.head_channels = 16
    config.unet.patch = 2
    config.sampling.steps = 10
    config.evaluation.times = 4
    config.optimizer.learning_rate = 3e-3
    with config.unlocked():
        for name, value in changes.items():
            section, key = name.split('__')
            config[section][key] = value
    return config


def started(config, batch=BATCH, num_classes=2):
    task = make_task(config, Spec('image', batch['x'].shape[1:]), num_classes)
    return task, initialised(task.init, jax.random.key(0), batch)


def keys(n, seed=1):
    return jax.random.split(jax.random.key(seed), n)


@pytest.fixture(scope='module')
def learned():
    task, state = started(small(model__class_conditional=True))
    step = jax.jit(task.train_step, donate_argnums=0)
    for _ in range(300):
        state, metrics = step(state, BATCH)
    assert metrics['loss'] < 0.3
    return task, state


def right(images, labels):
    """The share of the pixels that are as the class wants them."""
    return float(np.mean((np.asarray(images) > 127) == (PATTERNS[np.asarray(labels)] > 127)))


def test_samples_of_a_class_are_what_the_class_looks_like(learned):
    task, state = learned
    drawn = jax.jit(task.sample)(state, keys(16), LABELS)
    assert right(drawn, LABELS) > 0.9  # one of 16 may become the other image, by rounding
    # Number by number, whatever else is drawn with it.
    np.testing.assert_array_equal(drawn[3:5], jax.jit(task.sample)(state, keys(16)[3:5], LABELS[3:5]))


def test_guidance_of_one_is_the_model_and_zero_forgets_the_class(learned):
    task, state = learned

    @functools.cache
    def sample(guidance):
        sampling = dataclasses.replace(task.sampling, guidance=guidance, steps=3)
        return jax.jit(functools.partial(task.sample, sampling=sampling))

    def drawn(label, guidance):
        return np.asarray(sample(guidance)(state, keys(4), jnp.full(4, label))).astype(int)

    # Not the very same code runs: with the factor next to 1, both passes are made.
    assert np.abs(drawn(0, 1.0) - drawn(0, 1.0 + 1e-6)).max() <= 1
    assert np.abs(drawn(0, 0.0) - drawn(1, 0.0)).max() <= 1
    assert np.abs(drawn(0, 1.0) - drawn(1, 1.0)).max() > 100


@pytest.mark.slow
def test_the_bound_falls_with_learning_and_its_parts_sum_to_it(learned):
    task, state = learned
    evaluate = jax.jit(task.eval_step)
    values = evaluate(state, BATCH)
    numbers = task.summarize({name: np.mean(value, 0) for name, value in values.items()})
    parts = sum(numbers[f'bits_{name}'] for name in ('prior', 'diffusion', 'decoder'))
    assert numbers['bits_per_dimension'] == pytest.approx(parts, rel=1e-5)
    quarters = sum(numbers[f'bits_diffusion_{i}_of_4'] for i in range(1, 5))
    assert numbers['bits_diffusion'] == pytest.approx(quarters, rel=1e-5)
    _, fresh = started(small(model__class_conditional=True))
    before = evaluate(fresh, BATCH)
    # But for the least noise, of which so short a training learns nothing.
    assert np.sum(values['diffusion'][:, 1:]) < 0.3 * np.sum(before['diffusion'][:, 1:])
    # What is measured of an image does not depend on its batch.
    part = evaluate(state, {name: value[3:5] for name, value in BATCH.items()})
    for name, value in part.items():
        np.testing.assert_allclose(value, values[name][3:5], rtol=1e-3, atol=1e-4)


def test_inpainting_keeps_what_is_known_byte_for_byte(learned):
    task, state = learned
    images = PATTERNS[LABELS].copy()
    images[:, 0, 0] = 77  # which the model has never seen
    mask = np.zeros((16, 8, 8), bool)
    mask[:, 3:, 2:6] = True
    for repeats in (1, 2):
        sampling = dataclasses.replace(task.sampling, repeats=repeats)
        inpaint = jax.jit(functools.partial(task.inpaint, sampling=sampling))
        drawn = np.asarray(inpaint(state, keys(16), images, mask, LABELS))
        np.testing.assert_array_equal(drawn[~mask], images[~mask])
        wrong = (drawn > 127) != (PATTERNS[LABELS] > 127)
        assert wrong[mask].mean() < 0.05


def test_denoising_takes_noise_out(learned):
    task, state = learned
    sigma = 100.0
    clean = to_float(PATTERNS[LABELS])
    noisy = clean + sigma / 127.5 * jax.random.normal(jax.random.key(0), clean.shape)
    cleaned = to_float(jax.jit(task.denoise)(state, keys(16), noisy, sigma, LABELS))
    assert np.mean((cleaned - clean) ** 2) < 0.05 * np.mean((noisy - clean) ** 2)
    # Of no noise, nothing is taken.
    same = jax.jit(task.denoise)(state, keys(16), PATTERNS[LABELS], 0.1, LABELS)
    assert np.abs(np.asarray(same).astype(int) - PATTERNS[LABELS]).max() <= 8


def test_an_image_becomes_another_as_far_as_its_strength(learned):
    task, state = learned
    change = jax.jit(task.image_to_image)
    weak = change(state, keys(16), PATTERNS[LABELS], 0.05, 1 - LABELS)
    assert right(weak, LABELS) > 0.95
    strong = change(state, keys(16), PATTERNS[LABELS], 1.0, 1 - LABELS)
    assert right(strong, 1 - LABELS) > 0.9


@pytest.mark.parametrize('sampler', ['ddpm', 'dpm_solver'])
def test_more_steps_than_times_up_to_the_start(sampler):
    """Of 20 times, 4 are up to a strength of 0.2, for 10 steps; and none is up to 0."""
    config = small(model__timesteps=20, model__learned_variance=True, sampling__sampler=sampler)
    task, state = started(config)
    change = jax.jit(
        lambda state, t, x: task.visit(
            state, keys(16), task.context(state.eval_variables(), LABELS), task.sampling, t, x
        )[0]
    )
    x = jax.random.normal(jax.random.key(0), (16, 8, 8, 1))
    assert np.isfinite(change(state, 0.2, x)).all()
    np.testing.assert_allclose(change(state, 0.0, x), x, atol=1e-5)
    same = jax.jit(task.image_to_image)(state, keys(16), PATTERNS[LABELS], 0.0, LABELS)
    assert np.abs(np.asarray(same).astype(int) - PATTERNS[LABELS]).max() <= 1


@pytest.mark.slow
def test_the_bound_is_that_of_the_model_that_is_drawn_from():
    """Of discrete time: with r times the variance, the divergence of each of 64 numbers changes as known."""
    task, state = started(small(model__timesteps=20, model__schedule='linear', evaluation__times=19))

    def found(variance):
        changed = dataclasses.replace(task, sampling=Sampling(variance=variance))
        return jax.jit(changed.eval_step)(state, BATCH)['diffusion']

    t = jnp.arange(2, 21) / 20
    _, least = task.process.posterior(t, t, t - 1 / 20, t)
    r = task.process.added_variance(t - 1 / 20, t) / least
    wanted = found('posterior') / r + 64 / 2 * (1 / r - 1 + jnp.log(r))
    np.testing.assert_allclose(found('forward'), wanted, rtol=1e-3, atol=1e-4)
    assert r[0] > 1.5


def test_interpolation_begins_and_ends_with_what_it_is_given(learned):
    task, state = learned
    sampling = Sampling(steps=250)  # with 60, rounding may lead from one end to the other pattern
    between = jax.jit(functools.partial(task.interpolate, n=5, sampling=sampling))
    a, b = PATTERNS
    way = np.asarray(between(state, a, b, labels=jnp.full(5, 2)))  # of no class
    assert way.shape == (5, 8, 8, 1)
    assert np.mean((way[0] > 127) == (a > 127)) > 0.95
    assert np.mean((way[-1] > 127) == (b > 127)) > 0.95
    changed = dataclasses.replace(task, config=dataclasses.replace(task.config, prediction='x0'))
    with pytest.raises(UserError, match='that predicts x0 cannot find the noise'):
        changed.interpolate(state, a, b, 5, jnp.full(5, 2))


@pytest.mark.parametrize(
    'changes',
    [
        {'model__backbone': 'dit', 'dit__depth': 1, 'dit__width': 16, 'dit__heads': 2},
        pytest.param(
            {'model__path': 'straight', 'model__schedule': 'straight', 'model__prediction': 'velocity'},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {
                'model__timesteps': 20,
                'model__schedule': 'linear',
                'model__prediction': 'noise',
                'model__learned_variance': True,
                'model__weighting': 'min_snr',
                'sampling__sampler': 'ddpm',
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {
                'model__prediction': 'x0',
                'model__schedule': 'log_linear',
                'model__fourier': (3, 7),
                'sampling__sampler': 'heun',
                'evaluation__flow_steps': 4,
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_other_models_train_evaluate_and_draw(changes):
    task, state = started(small(**changes))
    step = jax.jit(task.train_step)
    losses = []
    for _ in range(25):
        state, metrics = step(state, BATCH)
        losses.append(float(metrics['loss']))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    values = jax.jit(task.eval_step)(state, BATCH)
    assert all(np.isfinite(value).all() for value in values.values())
    assert ('flow' in values) == ('evaluation__flow_steps' in changes)
    drawn = jax.jit(task.predict)(state, BATCH)
    assert drawn['chain'].shape == (16, 8, 8, 8, 1)
    np.testing.assert_array_equal(drawn['chain'][:, -1], drawn['samples'])


def test_fine_differences_are_shown_to_the_network():
    """A quarter of the way from a byte to the next turns the fastest sine by a quarter of pi."""
    task, _ = started(small(model__fourier=(3, 7)))
    x = np.float32(RNG.normal(size=(2, 8, 8, 1)))
    shown = task.features(jnp.asarray(x))
    angles = np.pi * np.float64(x) * np.array([8, 8, 128, 128])
    turned = np.where([True, False, True, False], np.sin(angles), np.cos(angles))
    np.testing.assert_allclose(shown, np.concatenate([x, turned], -1), atol=1e-4)
    near = task.features(jnp.asarray([[[[-1.0]]], [[[-1 + 0.25 / 128]]]]))[..., 3]
    np.testing.assert_allclose(near.ravel(), [0, np.sin(np.pi / 4)], atol=1e-4)


@pytest.mark.slow
def test_the_bound_teaches_the_variance_alone():
    """With ten times its weight, ten times the gradient of one half, and none for the other."""
    config = small(model__timesteps=20, model__learned_variance=True)
    config.optimizer.name, config.optimizer.learning_rate, config.optimizer.b1 = 'sgd', 1.0, 0.0
    task, state = started(config)

    @functools.partial(jax.jit, static_argnames='weight')
    def step(weight):
        changed = dataclasses.replace(task.config, variational_weight=weight)
        return dataclasses.replace(task, config=changed).train_step(state, BATCH)

    def gradient(weight):
        after, metrics = step(weight)
        assert metrics['variational_loss'] > 0
        last = [k for k in after.params if k.startswith('Conv')][-1]
        difference = jax.tree.map(lambda a, b: np.asarray(b - a), after.params[last], state.params[last])
        assert (difference['bias'] != 0).all()
        return [x.reshape(-1, 2).T for x in difference.values()]

    for once, more in zip(gradient(1.0), gradient(10.0), strict=True):
        (mean, variance), (same, larger) = once, more
        np.testing.assert_allclose(same, mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(larger, 10 * variance, rtol=1e-4, atol=1e-6)
        assert np.abs(mean).max() > 1e-3 and np.abs(variance).max() > 1e-3


@pytest.mark.parametrize('answer', [-1.5, 0.0, 1.5])
def test_a_variance_out_of_range_finds_its_way_back(answer):
    task, _ = started(small(model__timesteps=20, model__learned_variance=True))
    x, t = jnp.ones((1, 8, 8, 1)), jnp.full(1, 0.5)

    def share(answer):
        network = lambda x, t: jnp.concatenate([x, jnp.full_like(x, answer)], -1)  # noqa: E731
        return task.denoiser(network)(x, t).variance_share.mean()

    assert jax.grad(share)(answer) == pytest.approx(0.5)


@pytest.mark.slow
def test_eight_devices_equal_one():
    """By the gradients of a step over an axis, which `vmap` stands in for."""
    task, state = started(small(model__class_conditional=True, unet__dropout=0.2))
    state = state.replace(params=jax.tree.map(lambda p: p + 0.05, state.params))
    images = RNG.integers(0, 256, (16, 8, 8, 1), np.uint8)
    batch = {**BATCH, 'x': images}
    one, metrics = jax.jit(task.train_step)(state, batch)
    parts = {name: value.reshape(8, 2, *value.shape[1:]) for name, value in batch.items()}
    split = jax.vmap(functools.partial(task.train_step, axis_name='data'), (None, 0), 0, axis_name='data')
    eight, others = jax.jit(split)(state, parts)
    assert others['loss'][0] == pytest.approx(float(metrics['loss']), rel=1e-4)
    assert others['gradient_norm'][7] == pytest.approx(float(metrics['gradient_norm']), rel=1e-3)
    np.testing.assert_array_equal(eight.step, 1)
    assert int(one.step) == 1


@pytest.mark.slow
def test_super_resolution_sees_the_small_image():
    """Noise of 4x4 squares: what is drawn has the grey values of what it is made of."""
    task, state = started(small(model__upscale=4, optimizer__learning_rate=6e-3))
    step = jax.jit(task.train_step, donate_argnums=0)
    rng = np.random.default_rng(0)

    def images():
        return rng.integers(0, 256, (16, 2, 2, 1)).astype(np.uint8).repeat(4, 1).repeat(4, 2)

    for _ in range(400):
        state, _ = step(state, {**BATCH, 'x': images()})
    images = images()
    small_ones = reduce(images, 4)
    np.testing.assert_array_equal(small_ones, images[:, ::4, ::4])
    drawn = np.asarray(jax.jit(task.upscale)(state, keys(16), small_ones, LABELS)).astype(int)
    assert np.abs(drawn - images).mean() < 25  # of about 85 for images of something else
    values = jax.jit(task.eval_step)(state, {**BATCH, 'x': images})
    assert set(task.summarize({name: np.mean(x, 0) for name, x in values.items()})) == {
        'loss',
        'psnr',
        'psnr_cubic',
    }
    error = np.square(np.asarray(enlarge(to_float(small_ones), 4)) - np.asarray(to_float(images)))
    cubic = 10 * np.log10(4 / error.mean((1, 2, 3)))
    np.testing.assert_allclose(values['psnr_cubic'], cubic, atol=0.1)
    assert np.mean(values['psnr']) > cubic.mean() + 3
    with pytest.raises(UserError, match='samples nothing of its own'):
        task.sample(state, keys(2), LABELS[:2])
    with pytest.raises(UserError, match='reduced by 4'):
        task.upscale(state, keys(16), images, LABELS)


@pytest.mark.parametrize(
    'changes, words',
    [
        ({'model__learned_variance': True}, 'config.model.timesteps'),
        ({'model__clock': 'steps'}, 'config.model.timesteps is 0, and the clock counts steps'),
        ({'model__timesteps': 10, 'evaluation__flow_steps': 5}, 'continuous time'),
        ({'latent__workdir': 'a', 'evaluation__flow_steps': 5}, 'set config.evaluation.flow_steps=0'),
        ({'unet__patch': 3}, 'cannot be divided by 3'),
        ({'model__upscale': 3}, 'cannot be reduced by 3'),
        ({'model__class_conditional': True}, 'needs data with labels'),
        ({'model__label_dropout': 2.0}, 'label_dropout'),
        ({'sampling__steps': 0}, 'steps is 0'),
        ({'model__timesteps': 9}, 'cannot make 10 steps; give 1 to 9'),
        ({'sampling__sampler': 'ddpn'}, "did you mean 'ddpm'"),
        ({'sampling__eta': 1.5}, 'eta is 1.5; give a number from 0 to 1'),
        ({'sampling__guidance': math.inf}, 'give a finite number'),
        ({'model__shift': 0.0}, 'shift'),
        (
            {'model__path': 'straight', 'model__schedule': 'log_linear'},
            'noise has a scale of 0.92',
        ),
        ({'model__fourier': (3, 13)}, 'exponents from 0 to 12'),
        ({'sampling__guidance': 2.0}, 'needs a model that is conditioned on classes'),
    ],
)
def test_mistakes(changes, words):
    with pytest.raises(UserError) as error:
        make_task(small(**changes), Spec('image', (8, 8, 1)))
    assert words in str(error.value)


def test_guidance_needs_training_without_classes():
    config = small(model__class_conditional=True, model__label_dropout=0.0)
    task, state = started(config)
    sampler = BatchedSampler(task, state, config)
    assert sampler.sampling('sample', {'guidance': 1.0}).guidance == 1
    for guidance in (math.nan, math.inf):
        with pytest.raises(UserError, match='give a finite number'):
            sampler.sampling('sample', {'guidance': guidance})
    for guidance in (0.0, 3.0):
        with pytest.raises(UserError, match='also trained without classes'):
            sampler.sampling('sample', {'guidance': guidance})
        config.sampling.guidance = guidance
        with pytest.raises(UserError, match='also trained without classes'):
            started(config)


# What is asked for, beside a config of sampler 'dpm_solver', and what is refused of it.
REFUSED = [
    ('sample', {'eta': 0.5}, 'eta'),
    ('sample', {'sampler': 'euler', 'eta': 0.5}, 'eta'),
    ('sample', {'sampler': 'ddim', 'eta': 0.5}, None),
    ('sample', {'sampler': 'ddim', 'variance': 'forward'}, 'variance'),
    ('sample', {'sampler': 'ddpm', 'variance': 'forward'}, None),
    ('sample', {'percentile': 0.9}, 'percentile'),
    ('sample', {'percentile': 0.9, 'threshold': 'dynamic'}, None),
    ('sample', {'rescale': 0.5}, 'rescale'),
    ('sample', {'rescale': 0.5, 'guidance': 2.0}, None),
    ('sample', {'repeats': 2}, 'repeats'),
    ('image_to_image', {'repeats': 2}, 'repeats'),
    ('inpaint', {'repeats': 2}, None),
    ('interpolate', {'sampler': 'ddim'}, 'sampler'),
    ('interpolate', {'guidance': 2.0}, 'guidance'),
    ('interpolate', {'repeats': 2}, 'repeats'),
    ('interpolate', {'steps': 5, 'grid': 'karras'}, None),
]


@pytest.mark.parametrize('method, changes, refused', REFUSED)
def test_what_changes_nothing_is_refused(learned, method, changes, refused):
    task, state = learned
    config = small(model__class_conditional=True, sampling__sampler='dpm_solver', sampling__repeats=3)
    sampler = BatchedSampler(task, state, config)
    if refused:
        with pytest.raises(UserError, match=f'{refused} changes nothing here'):
            sampler.sampling(method, changes)
    else:
        sampling = sampler.sampling(method, changes)
        assert {name: getattr(sampling, name) for name in changes} == changes
    # What the config holds is never refused.
    assert sampler.sampling(method, {'steps': 3}).repeats == 3


def test_what_changes_nothing_for_a_model_is_refused():
    for config, changes in (
        (small(), {'rescale': 0.5}),
        (
            small(model__timesteps=20, model__learned_variance=True),
            {'sampler': 'ddpm', 'variance': 'forward'},
        ),
    ):
        task, state = started(config)
        with pytest.raises(UserError, match=f'{list(changes)[-1]} changes nothing here: this model'):
            BatchedSampler(task, state, config).sampling('sample', changes)


# The others are drawn with in tests/sampling/test_diffusion.py.
@pytest.mark.parametrize('sampler', ['ddpm', 'ddim'])
def test_options_change_what_their_samplers_draw_alone(learned, sampler):
    task, state = learned

    def drawn(**changes):
        sampling = dataclasses.replace(task.sampling, sampler=sampler, steps=4, **changes)
        return np.asarray(
            jax.jit(functools.partial(task.sample, sampling=sampling))(state, keys(4), LABELS[:4])
        )

    plain = drawn()
    for name, value in (('eta', 0.5), ('variance', 'forward')):
        changed = (drawn(**{name: value}) != plain).any()
        assert changed == (sampler in diffusion.READERS[name])


def test_the_dynamic_threshold_is_that_of_its_percentile():
    """The last step leads to what the network expects, but for noise of 0.13%."""
    task, state = started(small())
    x = 6 * jax.random.normal(jax.random.key(0), (4, 8, 8, 1))

    def drawn(**changes):
        sampling = Sampling(steps=1, **changes)
        visit = jax.jit(
            lambda x: task.visit(
                state, keys(4), task.context(state.eval_variables(), LABELS[:4]), sampling, start=0.5, x=x
            )[0]
        )
        return np.asarray(visit(x))

    plain = drawn(threshold='none')
    bound = np.quantile(np.abs(plain), 0.7, axis=(1, 2, 3), keepdims=True)
    assert (bound > 2).all()
    found = drawn(threshold='dynamic', percentile=0.7)
    np.testing.assert_allclose(found, np.clip(plain / bound, -1, 1), atol=0.03)


@pytest.mark.parametrize(
    'module, table, names',
    [
        (diffusion, 'SAMPLERS', 'SamplerName'),
        (ops, 'SCHEDULES', 'ScheduleName'),
        (ops, 'PREDICTIONS', 'PredictionName'),
    ],
)
def test_a_line_in_a_table_is_a_choice(module, table, names):
    """The module is read again with a further line in the table, and nothing else changed."""
    source = inspect.getsource(module)
    changed = re.sub(rf'^({table}: .* = ){{', r"\1{'another': None} | {", source, flags=re.M)
    namespace = {'__name__': module.__name__}
    exec(compile(changed, module.__file__, 'exec'), namespace)
    assert typing.get_args(namespace[names]) == tuple(namespace[table])
    assert typing.get_args(namespace[names])[0] == 'another'
