"""A trained run in a notebook: encode, decode, reconstruct, and the mistakes that can be made."""

import gc
import re
import weakref
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import vq_jax
from vq_jax.tasks import default_config
from vq_jax.tasks.batched_sampling import BatchedSampler
from vq_jax.train import train


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    config = default_config('vqvae')
    config.steps = 150
    config.batch_size = 64
    config.model.channels = 32
    config.model.stages = 1
    config.quantizer.num_codes = 32
    config.quantizer.dim = 8
    config.optimizer.learning_rate = 2e-3
    config.optimizer.ema_decay = 0.9
    workdir = tmp_path_factory.mktemp('runs') / 'run'
    train(config, workdir)
    return workdir


@pytest.fixture(scope='module')
def run(workdir):
    return vq_jax.load(workdir)


@pytest.fixture(scope='module')
def digits():
    from sklearn.datasets import load_digits

    return np.round(load_digits().images[:16, ..., None] * (255 / 16)).astype(np.uint8)


def test_codes_and_back(run, digits):
    codes = run.encode(digits)
    assert codes.shape == (16, 4, 4) and codes.dtype == np.int32
    images = np.asarray(run.decode(codes))
    assert images.shape == digits.shape and images.dtype == np.uint8
    np.testing.assert_array_equal(images, run.reconstruct(digits))
    error = np.mean(np.square(images / 255.0 - digits / 255.0))
    assert error < 0.5 * np.var(digits / 255.0)


def code_of_docs(first):
    """The block of docs/python.md that begins so."""
    page = (Path(__file__).parent.parent / 'docs' / 'python.md').read_text()
    blocks = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    (code,) = (block for block in blocks if block.startswith(first))
    return code


def test_the_code_of_the_docs_for_a_run(workdir, run):
    code = code_of_docs("import vq_jax\n\nrun = vq_jax.load('runs/mnist')")
    here = {}
    exec(code.replace("'runs/mnist'", repr(str(workdir))), here)
    assert here['codes'].shape == (16, 4, 4) and here['vectors'].shape == (16, 4, 4, 8)
    np.testing.assert_array_equal(here['images'], run.reconstruct(here['batch']['x']))
    assert here['metrics'] == run.evaluate('test').metrics


@pytest.mark.slow
def test_the_code_of_the_docs_for_training(tmp_path, monkeypatch):
    code = code_of_docs('from vq_jax.tasks import default_config')
    assert 'num_codes = 128\n' in code
    monkeypatch.chdir(tmp_path)
    exec(code.replace('num_codes = 128\n', 'num_codes = 16\nconfig.steps = 2\n'), {})
    assert vq_jax.load('runs/mine').step == 2


def test_images_of_another_size(run, digits):
    wide = np.concatenate([digits, digits], axis=2)
    assert run.encode(wide).shape == (16, 4, 8)


def test_evaluation_equals_doing_it_by_hand(run):
    dataset = run.dataset('test')
    from vq_jax.data import eval_batches

    batches = list(eval_batches(dataset, batch_size=50))
    images = np.concatenate([b['x'][b['mask']] for b in batches])
    difference = np.float64(run.reconstruct(images)) - images
    mse = np.mean(np.square(difference), axis=(1, 2, 3))
    codes = np.bincount(np.asarray(run.encode(images)).reshape(-1), minlength=32)
    p = codes[codes > 0] / codes.sum()
    metrics = run.evaluate().metrics
    assert metrics['examples'] == len(images) == 359
    assert metrics['psnr'] == pytest.approx(np.mean(10 * np.log10(255**2 / mse)), rel=1e-4)
    assert metrics['perplexity'] == pytest.approx(np.exp(-np.sum(p * np.log(p))), rel=1e-4)
    assert metrics['code_entropy_bits'] == pytest.approx(-np.sum(p * np.log2(p)), rel=1e-4)
    assert metrics['codebook_usage'] == pytest.approx(np.mean(codes > 0))


@pytest.mark.parametrize(
    'images, words',
    [
        (np.zeros((1, 8, 8, 1), np.float32), r"uint8.*give \(255 \* images\)\.round\(\)\.astype\('uint8'\)"),
        (np.zeros((8, 8, 1), np.uint8), r'b h w c.*give images\[None\]'),
        (np.zeros((0, 8, 8, 1), np.uint8), 'there are no images'),
        (np.zeros((1, 1, 8, 8), np.uint8), r'give images\.transpose\(0, 2, 3, 1\)'),
        (np.zeros((1, 7, 8, 1), np.uint8), 'multiple of 2'),
        (np.zeros((1, 8, 8, 3), np.uint8), 'channels'),
    ],
)
def test_wrong_images(run, images, words):
    with pytest.raises(vq_jax.UserError, match=words):
        run.encode(images)


def test_a_image_that_is_open_is_taken_as_its_file_is(run, digits, tmp_path):
    """Turned, laid over white, and left as it is."""
    image = Image.fromarray(digits[0, ..., 0]).convert('LA')
    image.putalpha(Image.fromarray(digits[1, ..., 0]))
    image.getexif()[0x0112] = 6  # to be turned by a quarter
    image.save(tmp_path / 'turned.png', exif=image.getexif())
    from_file, _ = run.prepare(tmp_path / 'turned.png')
    opened = Image.open(tmp_path / 'turned.png')
    before = np.asarray(opened).copy()
    np.testing.assert_array_equal(run.prepare(opened)[0], from_file)
    np.testing.assert_array_equal(np.asarray(opened), before)
    assert not np.array_equal(from_file, digits[0])


def test_masks_are_arrays_too(run, digits):
    mask = np.zeros((8, 8), bool)
    mask[2:4] = True
    for given in (mask, np.uint8(255 * mask), Image.fromarray(mask)):
        np.testing.assert_array_equal(run.prepare(digits[0], given)[1], mask)


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((8, 8), np.float32),
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((1, 8, 8, 1), np.uint8),
        np.zeros((0, 8), np.uint8),
    ],
)
def test_arrays_that_are_no_image(run, image):
    with pytest.raises(vq_jax.UserError, match=r'the image is .* of shape .*; give uint8 \[h w\]'):
        run.prepare(image)
    with pytest.raises(vq_jax.UserError, match='the mask is'):
        run.prepare(np.zeros((8, 8), np.uint8), image)


def test_the_vectors_of_codes(run, digits):
    codebook = run.lookup(np.arange(32))
    np.testing.assert_array_equal(codebook, run.variables['codebook']['bottleneck']['codebook'])
    codes = run.encode(digits)
    np.testing.assert_array_equal(run.lookup(codes), np.asarray(codebook)[np.asarray(codes)])
    for codes, words in (
        (np.array([32]), 'from 0 to 31'),
        (np.zeros(1), 'must be integers'),
        ((np.arange(3), np.arange(3)), 'one array'),
    ):
        with pytest.raises(vq_jax.UserError, match=words):
            run.lookup(codes)


def test_an_evaluation_is_shown_in_a_line(run):
    shown = repr(run.evaluate('test[:8]'))
    assert 'examples=8' in shown and 'psnr=' in shown and 'images: reconstructions, code_usage' in shown
    assert len(shown) < 400 and '\n' not in shown


@pytest.mark.parametrize(
    'codes', [np.full((1, 4, 4), 32), np.full((1, 4, 4), -1), np.zeros((1, 4, 4)), np.zeros(4, int)]
)
def test_wrong_codes(run, codes):
    with pytest.raises(vq_jax.UserError, match='codes must be'):
        run.decode(codes)


@pytest.mark.parametrize('ragged', [[[0, 1], [0]], [[[0, 1]], [[0]]]], ids=str)
def test_lists_whose_parts_differ_are_told_in_a_sentence(run, ragged):
    for call in (run.encode, run.reconstruct, run.decode, run.lookup):
        with pytest.raises(
            vq_jax.UserError, match='must be an array, and the parts of these differ in shape'
        ):
            call(ragged)


def test_no_codes(run):
    with pytest.raises(vq_jax.UserError, match='there are no codes'):
        run.decode(np.zeros((0, 4, 4), int))


def test_a_image_is_read_from_its_file(run, digits, tmp_path):
    path = tmp_path / 'digit.png'
    Image.fromarray(digits[0, ..., 0]).save(path)
    for file in path, str(path), path.read_bytes():
        image, mask = run.prepare(file)
        np.testing.assert_array_equal(image, digits[0])
        assert mask is None
    for image in (digits[0], digits[0, ..., 0], Image.open(path), np.repeat(digits[0], 3, -1)):
        np.testing.assert_array_equal(run.prepare(image)[0], digits[0])
    large = np.tile(digits[0], (2, 3, 1))
    np.testing.assert_array_equal(run.prepare(large, whole=True)[0], large)
    masked = np.zeros((16, 24), bool)
    masked[:, 3] = True
    np.testing.assert_array_equal(run.prepare(large, masked, whole=True)[1], masked)
    for image, words in (
        (tmp_path / 'none', r'none cannot be read .*; give an image file'),
        ('\0', 'a name that no file can have'),
        (None, 'the image is of type NoneType; give a path'),
    ):
        with pytest.raises(vq_jax.UserError, match=words):
            run.prepare(image)


@pytest.mark.parametrize('split', ['test[50%:40%]', 3])
def test_splits_that_hold_nothing(run, split):
    with pytest.raises(vq_jax.UserError, match=r'no examples|the split is 3; give a text'):
        run.evaluate(split)


@pytest.mark.parametrize(
    'options, words',
    [
        ({'overrides': {'batch_size': 'many'}}, 'override batch_size .* must be of the type int'),
        ({'step': '30'}, "the step is '30'; give the number"),
        ({'overrides': [('batch_size', 2)]}, 'give a dict of dotted keys'),
        ({'overrides': {1: 2}}, 'config.1 is not read by anything'),
        ({'overrides': {'model.stages': 2**31 - 1}}, 'config.model.stages is 2147483647; give 1000 or less'),
        ({'allow': 'mine'}, "allow is 'mine'; give a tuple of modules"),
    ],
)
def test_a_run_opened_in_a_wrong_way(workdir, options, words):
    with pytest.raises(vq_jax.UserError, match=words):
        vq_jax.load(workdir, **options)


def test_directories_that_cannot_be_opened(tmp_path):
    with pytest.raises(vq_jax.UserError, match='does not exist'):
        vq_jax.load(tmp_path / 'none')
    with pytest.raises(vq_jax.UserError, match=r'config\.json'):
        vq_jax.load(tmp_path)
    for workdir, words in (
        (None, 'the workdir is None; give a path'),
        ('\0', 'a name that no file can have'),
    ):
        with pytest.raises(vq_jax.UserError, match=words):
            vq_jax.load(workdir)
    (tmp_path / 'config.json').write_text('{"task": "vqvae"')
    with pytest.raises(vq_jax.UserError, match='JSON'):
        vq_jax.load(tmp_path)


def test_features_that_are_not_there(run):
    with pytest.raises(vq_jax.UserError, match="features are 'fid'; give inception, i3d:FILE or the dir"):
        run.compare('fid')


def test_averaged_parameters_are_the_ones_used(run):
    state = run.state
    assert state.ema_params is not None
    assert run.variables['params'] is state.ema_params


def test_what_was_drawn_from_is_forgotten_with_its_run(run):
    class Task:
        def shown(self, state, keys, labels):
            return jax.vmap(jax.random.uniform)(keys)

    task = Task()
    sampler = BatchedSampler(task, {}, run.config)
    assert next(sampler.batches(task.shown, 3, np.zeros(3, np.int32), 0, {}))[:3].shape == (3,)
    last = weakref.ref(sampler)
    del sampler
    gc.collect()
    assert last() is None
