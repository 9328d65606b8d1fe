"""Images changed by a diffusion model, in a notebook and by the command."""

import numpy as np
import pytest
from PIL import Image

import vq_jax
from tests.runs import refused, run
from vq_jax.data import eval_batches
from vq_jax.errors import UserError
from vq_jax.sampling.diffusion import SAMPLERS
from vq_jax.tasks import default_config
from vq_jax.train import train


def trained(workdir, upscale=1):
    config = default_config('diffusion')
    config.steps = config.log_every = config.eval_every = 10
    config.num_shown = 2
    config.data.name = 'digits'
    config.data.image_size = 8
    config.data.channels = 1
    config.model.class_conditional = True
    config.model.upscale = upscale
    config.unet.channels = 8
    config.unet.multipliers = (1,)
    config.unet.residual_blocks = 1
    config.unet.attention_resolutions = ()
    config.unet.head_channels = 8
    config.sampling.steps = 4
    config.evaluation.times = 1
    train(config, workdir)
    return workdir


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    return trained(tmp_path_factory.mktemp('diffusion') / 'run')


@pytest.fixture(scope='module')
def model(workdir):
    return vq_jax.load(workdir)


@pytest.fixture(scope='module')
def digits(model):
    batch = next(eval_batches(model.dataset('test'), batch_size=3))
    return batch['x'], batch['label']


def test_what_is_not_to_change_stays(model, digits):
    images, labels = digits
    mask = np.zeros((8, 8), bool)
    mask[:, 3:] = True
    drawn = model.inpaint(images, mask, label=labels, sampler='ddpm', repeats=2)
    np.testing.assert_array_equal(drawn[:, :, :3], images[:, :, :3])
    assert (drawn[:, :, 3:] != images[:, :, 3:]).any()
    same = model.image_to_image(images, 0.0, label=labels)
    assert np.abs(same.astype(int) - images).max() <= 3  # there is a little noise at time 0 too
    far = model.image_to_image(images, 0.9, label=labels)
    assert np.abs(far.astype(int) - images).mean() > np.abs(same.astype(int) - images).mean() + 5


def test_one_step_of_denoising_is_what_the_network_expects(model, digits):
    images, labels = digits
    noisy = np.clip(images + np.random.default_rng(0).normal(0, 30, images.shape), 0, 255).astype(np.uint8)
    a = model.denoise(noisy, 30.0, label=labels, sampler='ddim', steps=1)
    b = model.denoise(noisy, 30.0, label=labels, sampler='ddim', steps=1, seed=1)
    np.testing.assert_array_equal(a, b)  # nothing is drawn
    assert (a != noisy).any()


def test_the_way_from_a_image_to_another(model, digits):
    images, labels = digits
    between = np.asarray(model.interpolate(images[0], images[1], 5, label=int(labels[0]), steps=20))
    assert between.shape == (5, 8, 8, 1)
    turned = np.asarray(model.interpolate(images[1], images[0], 5, label=int(labels[0]), steps=20))
    np.testing.assert_allclose(between[::-1].astype(int), turned, atol=2)


@pytest.mark.slow
def test_small_images_are_made_large(tmp_path, digits):
    images, labels = digits
    workdir = trained(tmp_path / 'run', upscale=2)
    enlarging = vq_jax.load(workdir)
    small = images.reshape(3, 4, 2, 4, 2, 1).mean((2, 4)).round().astype(np.uint8)
    large = enlarging.upscale(small, label=labels, seed=3)
    assert large.shape == images.shape
    Image.fromarray(small[0, ..., 0]).save(tmp_path / 'small.png')
    arguments = [
        f'--input={tmp_path}/small.png',
        f'--output={tmp_path}/x.npz',
        f'--label={labels[0]}',
        '--seed=3',
    ]
    run([f'--workdir={workdir}', *arguments], module='vq_jax.edit')
    np.testing.assert_array_equal(np.load(tmp_path / 'x.npz')['images'][0], large[0])
    with pytest.raises(UserError, match='reduced by 2'):
        enlarging.upscale(images, label=labels)
    with pytest.raises(UserError, match='give it small images'):
        enlarging.sample(1)


def test_the_command(model, workdir, digits, tmp_path):
    images, labels = digits
    Image.fromarray(images[0, ..., 0]).save(tmp_path / 'digit.png')
    command = [f'--workdir={workdir}', f'--input={tmp_path}/digit.png', f'--output={tmp_path}/x.npz']
    label = f'--label={labels[0]}'
    run([*command, label, '--strength=0.5', '--num=2', '--steps=3'], module='vq_jax.edit')
    copies = np.repeat(images[:1], 2, axis=0)
    expected = model.image_to_image(copies, 0.5, label=int(labels[0]), steps=3)
    np.testing.assert_array_equal(np.load(tmp_path / 'x.npz')['images'], expected)
    run([*command, label, f'--to={tmp_path}/digit.png', '--steps=3'], module='vq_jax.edit')
    assert len(np.load(tmp_path / 'x.npz')['images']) == 8
    (tmp_path / 'text.png').write_text('no image')
    mistakes = (
        (['--strength=0.5', '--sigma=3'], '--strength and --sigma do not go together'),
        ([label], 'give --mask (a prior or a diffusion model), --strength'),
        ([label, f'--to={tmp_path}/digit.png', '--num=1'], '--num is 1; give 2 or more'),
        ([label, f'--to={tmp_path}/digit.png', '--seed=1'], '--seed changes nothing with --to'),
        # Told before the run is opened.
        ([f'--mask={tmp_path}/text.png', '--workdir=none'], f'{tmp_path}/text.png cannot be decoded'),
        (['--strength=1.5', '--workdir=none'], '--strength is 1.5; give a number from 0 to 1.'),
        (
            [f'--output={tmp_path}/digit.png', '--workdir=none'],
            '--output is the file of --input, which would',
        ),
    )
    commands = [[*command, *flags] for flags, _ in mistakes]
    for errors, (_, words) in zip(refused('vq_jax.edit', *commands), mistakes, strict=True):
        assert errors.splitlines()[-1].startswith(f'error: {words}')


def test_numbers_may_be_those_of_numpy(model):
    expected = model.sample(2, label=0, seed=1, steps=2, sampler='ddim', eta=0.5)
    numbers = {'seed': np.int32(1), 'steps': np.int64(2), 'eta': np.float32(0.5)}
    np.testing.assert_array_equal(model.sample(2, label=0, sampler='ddim', **numbers), expected)


def test_mistakes(model, digits):
    images, labels = digits
    for call, words in (
        (lambda: model.denoise(images, 0.0, label=labels), 'sigma is 0'),
        (lambda: model.denoise(images, np.nan, label=labels), 'sigma is nan'),
        (lambda: model.denoise(images, '25', label=labels), "sigma is '25'"),
        (lambda: model.image_to_image(images, 1.5, label=labels), 'the strength is 1.5'),
        (lambda: model.image_to_image(images, np.ones(3), label=labels), 'the strength is array'),
        (lambda: model.sample(1, label=0, seed=1.5), 'the seed is 1.5; give a whole number'),
        (lambda: model.interpolate(images[0], images[1], 3.0, label=0), '3.0 images cannot be sampled'),
        (lambda: model.interpolate(images[0], images[1], 10**9, label=0), 'ask for 2 or more, up to 1,024'),
        (lambda: model.interpolate([[0], [0, 1]], images[1], 3, label=0), 'images must be an array'),
        (
            lambda: model.interpolate(images[0], [[0], [0, 1]], 3, label=0),
            'the parts of these differ in shape',
        ),
        (lambda: model.inpaint(images, [[True], [True, False]], label=labels), 'masks must be an array'),
        (lambda: model.denoise([images[0], images[0][:4]], 3.0, label=labels), 'images must be an array'),
        (lambda: model.image_to_image(images, 0.5), 'this model is conditioned on classes'),
        (
            lambda: model.interpolate(images[0], images[1], 3, label=0, guidance=2.0),
            'guidance changes nothing here',
        ),
        (lambda: model.sample(1, sampler='dmpm'), "did you mean 'ddpm'"),
        (lambda: model.sample(1, top_k=3), 'sampling by this model takes no top_k; it takes eta, grid'),
        (lambda: model.sample(1, repeats=2), 'repeats changes nothing here: it is for inpainting'),
        (lambda: model.encode(images), 'a run of the task diffusion cannot encode'),
        (lambda: model.upscale(images, label=labels), 'not trained to make small images large'),
        (lambda: model.log_prob(images), 'cannot tell the likelihood of codes; one of prior can'),
    ):
        with pytest.raises(UserError, match=words):
            call()


def test_the_help_repeats_no_list_of_samplers():
    output, _ = run(['--helpfull'], module='vq_jax.edit', status=None)
    described = output[output.index('--sampler:') : output.index('--seed:')]
    assert sum(name in described for name in SAMPLERS) <= 1, described
