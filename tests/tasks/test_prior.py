"""Priors learn what they are shown, and the chain from image to codes to image holds."""

import functools
import io
import itertools
import math
import re
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import vq_jax
from tests.initialised import initialised
from tests.runs import DESCENT, assert_same_descent, refused, run
from vq_jax.errors import UserError
from vq_jax.media.sheets import grid
from vq_jax.ops.images import fill
from vq_jax.run import Run
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.batched_sampling import BatchedSampler
from vq_jax.tasks.codec import Identity, TokenizerConfig, make_codec
from vq_jax.tasks.prior import Sampling
from vq_jax.tasks.restore import Restored
from vq_jax.train import train
from vq_jax.training.state import init_state

RNG = np.random.default_rng(0)
STATELESS = types.SimpleNamespace(frozen={'codec': None})  # pixels need nothing that is learned
KINDS = ('transformer', 'pixelcnn', 'maskgit')


def small(kind, **changes):
    config = default_config('prior')
    config.model.kind = kind
    config.transformer.depth = 2
    config.transformer.width = 32
    config.transformer.heads = 2
    config.pixelcnn.depth = 3
    config.pixelcnn.channels = 16
    config.pixelcnn.first_kernel = 5
    config.optimizer.learning_rate = 3e-3
    with config.unlocked():
        for name, value in changes.items():
            section, key = name.split('__')
            config[section][key] = value
    return config


@pytest.mark.parametrize(
    'kind', ['transformer', *(pytest.param(kind, marks=pytest.mark.slow) for kind in ('pixelcnn', 'maskgit'))]
)
def test_samples_of_a_class_are_what_the_class_looks_like(kind):
    """Two classes of two black and white images each, which are learned by heart."""
    patterns = np.random.default_rng(0).integers(0, 2, (2, 2, 4, 4, 1)).astype(np.uint8) * 255
    labels = np.arange(32, dtype=np.int32) % 2
    batch = {'x': patterns[labels, np.arange(32) // 2 % 2], 'label': labels, 'mask': np.ones(32, bool)}
    config = small(kind, model__class_conditional=True, tokenizer__levels=2)
    config.optimizer.learning_rate = 1e-3 if kind == 'maskgit' else 3e-3
    task = make_task(config, Spec('image', (4, 4, 1)), num_classes=2)
    state = initialised(task.init, jax.random.key(0), batch).replace(frozen=task.pretrained())
    step = jax.jit(task.train_step, donate_argnums=0)
    for _ in range(600 if kind == 'maskgit' else 300):
        state, metrics = step(state, batch)
    if kind != 'maskgit':  # whose loss depends on the masks
        assert metrics['loss'] < 0.12  # at least log(2) / 16, for the choice of two
    asked = jnp.arange(40) % 2
    # In so many steps a masked model draws one token at a time; several at once may not go together.
    draw = jax.jit(functools.partial(task.sample, sampling=Sampling(steps=32)))
    sampled = draw(state, jax.random.split(jax.random.key(1), 40), asked)
    right = (np.asarray(sampled)[:, None] == patterns[asked]).all((2, 3, 4))  # [40, 2]
    assert right.any(1).mean() > (0.6 if kind == 'maskgit' else 0.85)
    for label in (0, 1):
        assert right[asked == label].any(0).all()  # both images of the class come
    if kind != 'maskgit':
        nats = -task.log_probability(state, task.encode(state, batch['x']), labels)
        values = jax.jit(task.eval_step)(state, batch)
        np.testing.assert_allclose(values['nats'], nats, rtol=1e-4)
        assert task.summarize({k: np.mean(v, 0) for k, v in values.items()})['nats'] < 2.0


def untrained(kind, shape=(4, 4, 1), **changes):
    """A prior of pixels, in 16 levels if nothing else is said, opened as one that was trained."""
    config = small(kind, **{'tokenizer__levels': 16, **changes})
    spec = Spec('image', shape)
    task = make_task(config, spec, num_classes=3)
    state = init_state(task.init, jax.random.key(0), spec).replace(frozen=task.pretrained())
    return Run(Restored(config, task, state, spec, 0, Path()))


@pytest.mark.parametrize('kind', KINDS)
def test_colours_lie_side_by_side(kind):
    opened = untrained(kind, (4, 4, 3))
    images = RNG.integers(0, 16, (2, 4, 4, 3)).astype(np.uint8) * 17
    codes = opened.encode(images)
    np.testing.assert_array_equal(codes, images // 17)
    np.testing.assert_array_equal(opened.decode(codes), images)
    with pytest.raises(UserError, match=r'\[b 4 4 3\], 3 of a position; these are of shape \(2, 4, 4, 2\)'):
        opened.decode(codes[..., :2])
    mask = np.zeros((4, 4), bool)
    mask[1:, 2] = True
    drawn = opened.inpaint(images, mask)
    np.testing.assert_array_equal(drawn[:, ~mask], images[:, ~mask])
    assert (drawn[:, mask] != images[:, mask]).mean((0, 1)).min() > 0.5  # of each colour


def test_levels_are_decoded_to_bytes_of_theirs():
    for levels in range(2, 257):
        codec = make_codec(TokenizerConfig(levels=levels), Spec('image', (1, 256, 1)))
        tokens = np.minimum(np.arange(256), levels - 1)[None, None, :, None]  # of one shape, compiled once
        values = codec.decode(None, (tokens,), None)
        np.testing.assert_array_equal(codec.encode(None, values)[0], tokens)
        assert np.abs(np.asarray(values).ravel() - tokens.ravel() * 255 / (levels - 1)).max() <= 1.5
        assert values.min() == 0 and values.max() == 255


def test_dithered_pixels_are_drawn_by_their_value():
    values = np.repeat(np.arange(256, dtype=np.uint8), 400).reshape(400, 16, 16, 1)
    for levels in (2, 4, 256):
        config = TokenizerConfig(levels=levels, dither=True)
        codec = make_codec(config, Spec('image', (16, 16, 1)))
        (tokens,) = codec.encode(None, values)
        np.testing.assert_array_equal(tokens, codec.encode(None, values)[0])
        means = np.asarray(tokens).reshape(256, 400).mean(1) * (255 / (levels - 1))
        spread = 255 / (levels - 1) / 2 / np.sqrt(400)  # the largest standard error
        assert np.abs(means - np.arange(256)).max() <= (4 * spread if levels < 256 else 1e-9)
        assert means[0] == 0 and means[255] == 255


@pytest.mark.parametrize('kind', ['transformer', 'pixelcnn'])
def test_whole_grids_have_a_likelihood(kind):
    """The reference is the loss of evaluation."""
    opened = untrained(kind)
    images = RNG.integers(0, 256, (2, 4, 4, 1), np.uint8)
    batch = {'x': images, 'label': np.zeros(2, np.int32)}
    nats = jax.jit(opened.task.eval_step)(opened.state, batch)['nats']
    np.testing.assert_allclose(opened.log_prob(opened.encode(images)), -nats, rtol=1e-5)
    for shape in ((1, 8, 8), (4, 2, 2), (1, 3, 4), (1, 2, 8)):
        with pytest.raises(UserError, match=re.escape(f'codes of shape {shape} have no likelihood')) as e:
            opened.log_prob(np.zeros(shape, int))
        assert 'a prior of grids of (4, 4)' in str(e.value)
    with pytest.raises(UserError, match='no codes in an array'):
        opened.log_prob(np.zeros((0, 4, 4), int))
    with pytest.raises(UserError, match='codes must be from 0 to 15; these are from 0 to 16'):
        opened.log_prob(np.arange(17)[:, None, None] * np.ones((4, 4), int))


@pytest.mark.parametrize(
    'kind, shape, levels',
    [('transformer', (2, 2, 1), 3), ('pixelcnn', (2, 2, 1), 3), ('pixelcnn', (2, 1, 3), 2)],
)
def test_probabilities_of_all_grids_sum_to_one(kind, shape, levels):
    opened = untrained(kind, shape, tokenizer__levels=levels, model__class_conditional=True)
    opened.state = opened.state.replace(params=jax.tree.map(lambda p: 5 * p, opened.state.params))
    h, w = opened.task.network.grid
    depth = shape[-1]
    grids = np.array(list(itertools.product(range(levels), repeat=h * w)))
    grids = grids.reshape(-1, h, w // depth, *([depth] if depth > 1 else []))
    of_classes = [np.exp(np.asarray(opened.log_prob(grids, label=label), np.float64)) for label in range(3)]
    for probabilities in of_classes:
        assert probabilities.sum() == pytest.approx(1, abs=1e-5)
        assert probabilities.std() > 0.1 / len(grids)  # it is no uniform distribution
    assert np.abs(of_classes[0] - of_classes[1]).max() > 0.1 / len(grids)


def test_a_label_is_asked_for_where_it_counts(monkeypatch):
    """A prior of classes whose decoder knows none, and one whose decoder does."""
    opened = untrained('transformer', model__class_conditional=True)
    codes = np.zeros((2, 4, 4), int)
    np.testing.assert_array_equal(opened.decode(codes), opened.decode(codes, label=1))
    images = opened.decode(codes)
    np.testing.assert_array_equal(opened.reconstruct(images), images)
    with pytest.raises(UserError, match='give a label'):
        opened.log_prob(codes)
    monkeypatch.setattr(Identity, 'num_labels', 3)
    with pytest.raises(UserError, match='give a label'):
        opened.decode(codes)


def test_a_masked_prior_has_no_likelihood(prior):
    with pytest.raises(UserError, match='a masked prior has no likelihood'):
        prior.log_prob(prior.encode(images_of(prior)[0]), label=0)


def test_what_changes_nothing_is_refused():
    for kind, unused in (
        ('maskgit', set()),
        ('transformer', {'steps', 'confidence_temperature'}),
    ):
        config = small(kind)
        task = make_task(config, Spec('image', (4, 4, 1)), num_classes=2)
        sampler = BatchedSampler(task, None, config)
        for name in ('steps', 'confidence_temperature', 'top_k'):
            if name in unused:
                with pytest.raises(
                    UserError, match=f'{name} changes nothing here: this model samples token by token'
                ):
                    sampler.sampling('sample', {name: 2})
            else:
                assert getattr(sampler.sampling('sample', {name: 2}), name) == 2
        with pytest.raises(UserError, match='top_k changes nothing here: of a temperature of 0'):
            sampler.sampling('sample', {'top_k': 2, 'temperature': 0.0})


@pytest.mark.parametrize('kind, scale', [('transformer', 20), ('pixelcnn', 3), ('maskgit', 20)])
def test_guidance_of_one_is_the_model_and_zero_forgets_the_class(kind, scale):
    config = small(kind, model__class_conditional=True, tokenizer__levels=4)
    task = make_task(config, Spec('image', (3, 3, 1)), num_classes=2)
    batch = {'x': np.zeros((1, 3, 3, 1), np.uint8), 'label': np.zeros(1, np.int32)}
    state = initialised(task.init, jax.random.key(0), batch).replace(frozen=task.pretrained())
    state = state.replace(params=jax.tree.map(lambda p: scale * p, state.params))
    keys = jax.random.split(jax.random.key(1), 16)

    @functools.cache
    def sample(guidance):
        sampling = Sampling(guidance=guidance, steps=4)
        return jax.jit(functools.partial(task.sample_codes, known=None, sampling=sampling))

    def tokens(label, guidance):
        return np.asarray(sample(guidance)(state, keys, jnp.full(16, label)))

    # Not the very same code runs: with the factor next to 1, both passes are made.
    np.testing.assert_array_equal(tokens(0, 1.0), tokens(0, 1.0 + 1e-7))
    np.testing.assert_array_equal(tokens(0, 0.0), tokens(1, 0.0))
    assert (tokens(0, 1.0) != tokens(1, 1.0)).any()


def test_grey_values_and_back():
    task = make_task(small('pixelcnn', tokenizer__levels=16), Spec('image', (8, 8, 1)))
    images = RNG.integers(0, 256, (2, 8, 8, 1), np.uint8)
    (values,) = task.encode(STATELESS, images)
    assert values.shape == (2, 8, 8, 1) and values.min() >= 0 and values.max() <= 15
    back = np.asarray(task.decode(STATELESS, (values,), None)).astype(int)
    assert np.abs(back - images).max() <= 16
    assert task.decode(STATELESS, (jnp.array([[[[0], [15]]]]),), None).ravel().tolist() == [0, 255]


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('tokenizer') / 'run'
    config = default_config('vqvae')
    config.steps = config.eval_every = config.log_every = 40
    config.data.name = 'digits'
    config.data.channels = 1
    config.model.channels = 16
    config.model.stages = 1
    config.quantizer.num_codes = 16
    config.quantizer.dim = 8
    train(config, workdir)
    return workdir


@pytest.fixture(scope='module')
def workdir(tokenizer, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('prior') / 'run'
    config = small('maskgit', tokenizer__workdir=str(tokenizer), model__class_conditional=True)
    config.steps = config.eval_every = config.log_every = 20
    config.num_shown = 4
    config.data.name = 'digits'
    config.data.channels = 1
    train(config, workdir)
    return workdir


@pytest.fixture(scope='module')
def prior(workdir):
    return vq_jax.load(workdir)


def images_of(run, n=6):
    batch = next(iter(vq_jax.data.eval_batches(run.dataset('test'), batch_size=n)))
    return batch['x'], batch['label']


def test_the_code_of_the_readme(tokenizer, workdir, prior):
    (code,) = re.findall(
        r'```python\n(.*?)```', (Path(__file__).parents[2] / 'README.md').read_text(), re.DOTALL
    )
    for name, path in (('quickstart', tokenizer), ('quickstart_prior', workdir)):
        assert f"'runs/{name}'" in code
        code = code.replace(f"'runs/{name}'", repr(str(path)))
    here = {}
    exec(code, here)
    assert here['codes'].shape == (16, 4, 4) and here['images'].shape == (16, 8, 8, 1)
    np.testing.assert_array_equal(here['threes'], prior.sample(16, label='3'))


def test_images_of_another_size_than_those_of_the_tokenizer_are_told(tokenizer, caplog):
    config = TokenizerConfig(str(tokenizer))
    assert make_codec(config, Spec('image', (8, 8, 1))).code_spec.grids == ((4, 4),) and not caplog.text
    assert make_codec(config, Spec('image', (16, 16, 1))).code_spec.grids == ((8, 8),)
    assert 'was trained on examples of 8x8, and is given 16x16' in caplog.text


def test_a_prior_encodes_and_decodes_as_its_tokenizer(prior, tokenizer):
    images, labels = images_of(prior)
    tokenizing = vq_jax.load(tokenizer)
    codes = prior.encode(images)
    np.testing.assert_array_equal(codes, tokenizing.encode(images))
    np.testing.assert_array_equal(prior.decode(codes, label=labels), tokenizing.decode(codes))


VQGAN = {
    'task': 'vqgan',
    'model.channels': 8,
    'model.multipliers': (1, 2),
    'model.residual_blocks': 1,
    'model.attention_resolutions': (),
    'model.features': 8,
    'quantizer.num_codes': 15,
    'discriminator.channels': 8,
    'discriminator.stages': 1,
    'perceptual.kind': 'none',
    'adversarial.start': 2,  # so that the discriminator does not come
}
FSQ = {'task': 'vqvae', 'model.channels': 8, 'model.stages': 1, 'quantizer.kind': 'fsq', 'fsq.levels': (5, 3)}


@pytest.mark.slow
@pytest.mark.parametrize('changes', [VQGAN, FSQ], ids=['vqgan', 'fsq'])
def test_codes_of_other_tokenizers_are_learned_and_drawn(changes, tmp_path):
    config = default_config(changes['task'])
    config.update_from_flattened_dict(changes)
    config.steps = config.eval_every = config.log_every = 2
    config.batch_size, config.num_shown = 32, 4
    config.data.name, config.data.channels = 'digits', 1
    train(config, tmp_path / 'tokenizer')
    config = small('transformer', tokenizer__workdir=str(tmp_path / 'tokenizer'))
    config.steps = config.eval_every = config.log_every = 20
    config.batch_size, config.num_shown = 32, 4
    config.data.name, config.data.channels = 'digits', 1
    numbers = train(config, tmp_path / 'prior')
    assert 0 < numbers['loss'] < math.log(15) - 0.1

    opened, tokenizing = vq_jax.load(tmp_path / 'prior'), vq_jax.load(tmp_path / 'tokenizer')
    images, _ = images_of(opened)
    codes = opened.encode(images)
    np.testing.assert_array_equal(codes, tokenizing.encode(images))
    assert codes.shape == (6, 4, 4) and len(np.unique(codes)) > 1
    np.testing.assert_array_equal(opened.decode(codes), tokenizing.decode(codes))
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(3), i))(jnp.arange(4))
    drawn = opened.task.sample_codes(jax.device_put(opened.state), keys, jnp.zeros(4, int))[..., 0]
    np.testing.assert_array_equal(opened.sample(4, seed=3), tokenizing.decode(drawn))
    assert len(np.unique(drawn, axis=0)) == 4


def test_a_sample_depends_on_its_number_and_the_seed_alone(prior):
    three, five = prior.sample(3, label=7), prior.sample(5, label=7)
    np.testing.assert_array_equal(three, five[:3])
    assert (np.asarray(five) != np.asarray(prior.sample(5, label=7, seed=1))).any()
    assert prior.sample(3, steps=1, temperature=0.5, top_k=3, guidance=2.0).shape == (3, 8, 8, 1)


def test_the_command_draws_the_same(prior, workdir, tmp_path):
    options = [
        '--num=5',
        '--label=7',
        '--seed=3',
        '--steps=4',
        '--top_k=5',
        '--temperature=0.8',
        '--top_p=0.9',
    ]
    run([f'--workdir={workdir}', f'--output={tmp_path}/x.npz', *options], module='vq_jax.sample')
    drawn = prior.sample(5, label=7, seed=3, steps=4, top_k=5, temperature=0.8, top_p=0.9)
    np.testing.assert_array_equal(np.load(tmp_path / 'x.npz')['images'], drawn)


def test_inpainting_draws_the_codes_in_the_mask_and_no_other_pixels(prior):
    images, labels = images_of(prior)
    mask = np.zeros((8, 8), bool)
    mask[:, 5:] = True  # a part of the last two of four columns of codes
    codes = np.asarray(prior.encode(np.asarray(fill(images, np.broadcast_to(mask, images.shape[:3])))))
    given = np.where([[False, False, True, True]], -1, codes)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(4), i))(jnp.arange(len(images)))
    sample = jax.jit(prior.task.sample_codes)
    tokens = np.asarray(sample(prior.state, keys, labels, given[..., None]))[..., 0]
    np.testing.assert_array_equal(tokens[..., :2], codes[..., :2])
    assert (tokens[..., 2:] != codes[..., 2:]).any() and (tokens >= 0).all()
    drawn = prior.inpaint(images, mask, label=labels, seed=4)
    by_hand = np.where(mask[..., None], prior.decode(tokens, label=labels), images)
    np.testing.assert_array_equal(drawn, by_hand)
    others = np.where(mask[..., None], 255 - images, images)  # what is in the hole does not count
    np.testing.assert_array_equal(prior.inpaint(others, mask, label=labels, seed=4), drawn)
    np.testing.assert_array_equal(prior.inpaint(images, np.zeros((8, 8), bool), label=labels), images)


@pytest.fixture
def command(prior, workdir, tmp_path):
    """Of `vq_jax.edit` for a digit, of which the lower half is drawn, as its mask and label are given."""
    images, _ = images_of(prior, 1)
    mask = np.zeros((8, 8), bool)
    mask[4:] = True
    Image.fromarray(images[0, ..., 0]).save(tmp_path / 'digit.png')
    Image.fromarray(mask).convert('L').save(tmp_path / 'mask.png')
    Image.fromarray(np.zeros((4, 8), np.uint8)).save(tmp_path / 'small.png')

    def words(mask, label):
        files = [f'--input={tmp_path}/digit.png', f'--mask={tmp_path}/{mask}', f'--output={tmp_path}/x.npz']
        return [f'--workdir={workdir}', *files, *label, '--num=3', '--seed=5']

    return words


@pytest.mark.slow
def test_the_edit_command(prior, command, tmp_path):
    images, labels = images_of(prior, 1)
    run(command('mask.png', [f'--label={labels[0]}']), module='vq_jax.edit')
    repeated = np.repeat(images, 3, axis=0)
    mask = np.repeat(np.arange(8)[:, None] >= 4, 8, axis=1)
    expected = prior.inpaint(repeated, mask, label=int(labels[0]), seed=5)
    np.testing.assert_array_equal(np.load(tmp_path / 'x.npz')['images'], expected)
    captioned = [arg.replace('x.npz', 'x.png') for arg in command('mask.png', [f'--label={labels[0]}'])]
    run(captioned, module='vq_jax.edit')
    assert Image.open(tmp_path / 'x.png').height > grid(np.asarray(expected)).shape[0]


def test_mistakes_of_the_edit_command(command, tmp_path):
    mistakes = (
        (
            'small.png',
            ['--label=1'],
            f'error: {tmp_path}/digit.png is 8x8 pixels and the mask 8x4; make them',
        ),
        ('nosuch.png', ['--label=1'], f'error: {tmp_path}/nosuch.png cannot be read'),
        ('mask.png', [], 'error: this model is conditioned on classes; give a label'),
    )
    commands = [command(name, label) for name, label, _ in mistakes]
    for errors, (*_, words) in zip(refused('vq_jax.edit', *commands), mistakes, strict=True):
        assert errors.splitlines()[-1].startswith(words)


def test_images_of_another_size_are_prepared_as_the_data(prior):
    file = io.BytesIO()
    wide = np.arange(16 * 32, dtype=np.uint8).reshape(16, 32)
    Image.fromarray(wide).save(file, 'png')
    with pytest.raises(UserError, match='32x16 pixels and the model was trained on 8x8'):
        prior.prepare(file.getvalue(), file.getvalue())
    prior.config.data.image_size = 8
    image, mask = prior.prepare(file.getvalue(), file.getvalue())
    prior.config.data.image_size = None
    middle = Image.fromarray(wide).resize((16, 8), Image.Resampling.LANCZOS).crop((4, 0, 12, 8))
    np.testing.assert_array_equal(image[..., 0], middle)
    np.testing.assert_array_equal(mask, np.asarray(middle) > 127)
    with pytest.raises(UserError, match='cannot be decoded'):
        prior.prepare(b'nothing', file.getvalue())


@pytest.mark.slow
@pytest.mark.parametrize(
    'kind, engine, of_codes',
    [
        ('transformer', 'pmap', False),
        ('maskgit', 'jit', False),
        ('pixelcnn', 'pmap', False),
        ('transformer', 'jit', True),
    ],
)
def test_eight_devices_train_and_draw_as_one_does(kind, engine, of_codes, tokenizer, tmp_path):
    """Of pixels and of codes, with dropout, classes that are hidden, and random masks."""
    options = [
        *DESCENT,
        f'--config.parallel.engine={engine}',
        f'--config.model.kind={kind}',
        '--config.data.image_size=8',
        f'--config.tokenizer.workdir={tokenizer if of_codes else ""}',
        '--config.tokenizer.levels=4',
        '--config.batch_size=16',
        '--config.transformer.depth=1',
        '--config.pixelcnn.depth=2',
        '--config.pixelcnn.channels=8',
        '--config.pixelcnn.dropout=0.2',
    ]
    for devices in (1, 8):
        workdir = tmp_path / str(devices)
        command = ['--config=tests/digits_prior.py', f'--workdir={workdir}', *options]
        run(command, devices=devices)
    assert_same_descent(tmp_path / '1', tmp_path / '8')
    for devices in (1, 8):
        command = [f'--workdir={tmp_path}/1', f'--output={tmp_path}/{devices}.npz', '--num=11']
        run([*command, '--guidance=2'], module='vq_jax.sample', devices=devices)
    drawn = [np.load(tmp_path / f'{devices}.npz')['images'] for devices in (1, 8)]
    np.testing.assert_array_equal(*drawn)
    assert drawn[0].shape == (11, 8, 8, 1)


def test_mistakes_with_a_prior(prior):
    images, labels = images_of(prior)
    for call, words in (
        (lambda: prior.sample(2, label=10), 'from 0 to 9'),
        (lambda: prior.sample(-1), '-1 images cannot be sampled; ask for 1 or more'),
        (lambda: prior.sample(2, tempreature=1.0), "did you mean 'temperature'"),
        (lambda: prior.sample(2, temp=1.0), "did you mean 'temperature'"),
        (
            lambda: prior.sample(2, sampler='ddim'),
            'sampling by this model takes no sampler; it takes confidence',
        ),
        (lambda: prior.sample(2, top_p=1.5), 'top_p'),
        (lambda: prior.sample(2, top_p=math.nan), 'top_p is nan'),
        (lambda: prior.sample(2, temperature=math.nan), 'temperature is nan; give a finite number'),
        (lambda: prior.sample(2, confidence_temperature=-1.0), 'confidence_temperature is -1'),
        (lambda: prior.sample(2, seed=-1), 'seed'),
        (lambda: prior.decode(np.full((1, 4, 4), 16), label=0), 'from 0 to 15'),
        (lambda: prior.inpaint(images, np.zeros((4, 4), bool), label=labels), 'mask'),
        (lambda: prior.inpaint(images, np.zeros((8, 8)), label=labels), 'mask'),
    ):
        with pytest.raises(UserError, match=words):
            call()


@pytest.mark.parametrize(
    'changes, shape, words',
    [
        ({}, (64, 64, 3), r'the pixels, of which these images have 12,288; a transformer is made for'),
        ({'tokenizer__levels': 1}, (8, 8, 1), 'levels'),
        ({'tokenizer__workdir': '/nowhere'}, (8, 8, 1), 'nowhere'),
        ({'model__class_conditional': True}, (8, 8, 1), 'needs data with labels'),
        ({'model__label_dropout': 1.5}, (8, 8, 1), 'config.model.label_dropout is 1.5'),
        ({'sampling__top_k': 0}, (8, 8, 1), 'top_k'),
        ({'sampling__guidance': 2.0}, (8, 8, 1), 'needs a model that is conditioned on classes'),
    ],
)
def test_mistakes_in_a_config(changes, shape, words):
    with pytest.raises(UserError, match=words):
        make_task(small('transformer', **changes), Spec('image', shape), num_classes=0)
