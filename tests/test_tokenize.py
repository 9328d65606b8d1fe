"""Codes of a whole data set: every image once, gone on with after a kill, and of one tokenizer alone."""

import json
import os
import shutil
import signal
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import vq_jax
from tests.runs import arrays, refused, run
from vq_jax.data import CodeDataset, DataConfig, eval_batches
from vq_jax.errors import UserError
from vq_jax.evaluators.opening import open_split
from vq_jax.spec import Spec
from vq_jax.tasks import default_config
from vq_jax.tasks.codes import write_codes
from vq_jax.train import train
from vq_jax.training.config import to_json
from vq_jax.training.run_dir import write_config


def tokenizer_config(steps):
    config = default_config('vqvae')
    config.steps = config.eval_every = config.log_every = steps
    config.checkpoint_every = 10
    config.keep_checkpoints = 3
    config.data.name = 'digits'
    config.data.channels = 1
    config.model.channels = 8
    config.model.stages = 1
    config.quantizer.num_codes = 16
    config.quantizer.dim = 4
    return config


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('tokenizer') / 'run'
    train(tokenizer_config(20), workdir)
    return workdir


@pytest.fixture(scope='module')
def other(tmp_path_factory):
    """A tokenizer that differs in what it began with."""
    workdir = tmp_path_factory.mktemp('other') / 'run'
    config = tokenizer_config(20)
    config.seed = 1
    train(config, workdir)
    return workdir


@pytest.fixture(scope='module')
def codes(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp('codes') / 'digits'
    assert write_codes(tokenizer, folder, shard_batches=4) == {'train': 1438, 'test': 359}
    return folder


def prior_config(tokenizer, data):
    config = default_config('prior')
    config.steps = config.eval_every = config.log_every = 6
    config.batch_size = 32
    config.num_shown = 4
    config.data.name = data
    config.data.channels = 1
    config.tokenizer.workdir = str(tokenizer)
    config.model.class_conditional = True
    config.transformer.depth = 1
    config.transformer.width = 16
    config.transformer.heads = 2
    return config


def opened(folder, split='train', **options):
    return CodeDataset(DataConfig(name=f'codes:{folder}', **options), split)


@pytest.mark.parametrize('cache_gib', [1.0, 0.0])
def test_each_image_has_its_codes_and_its_label(codes, tokenizer, cache_gib):
    tokenizing = vq_jax.load(tokenizer)
    written = opened(codes, cache_gib=cache_gib)
    assert written.cached == bool(cache_gib) and len(written) == 1438
    images = eval_batches(tokenizing.dataset('train'), batch_size=100)
    rows = eval_batches(written, batch_size=100)
    for image, row in zip(images, rows, strict=True):
        mask = image['mask']
        np.testing.assert_array_equal(row['mask'], mask)
        np.testing.assert_array_equal(row['label'][mask], image['label'][mask])
        expected = np.asarray(tokenizing.encode(image['x'][mask]))
        np.testing.assert_array_equal(row['codes'][mask], expected.reshape(len(expected), -1))


def test_a_killed_command_goes_on_where_it_was(codes, tokenizer, tmp_path):
    folder = tmp_path / 'codes'
    arguments = [f'--workdir={tokenizer}', f'--output={folder}', '--shard_batches=4']
    signalled = folder / 'train-00001-of-00006.array_record', signal.SIGKILL
    run(arguments, module='vq_jax.tokenize', signalled=signalled, status=-signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in folder.glob('*.array_record')}
    assert len(before) == 2
    output, _ = run(arguments, module='vq_jax.tokenize')
    assert 'train: codes of 1,438 images' in output
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    names = {path.name for path in codes.iterdir()}
    assert {path.name for path in folder.iterdir() if path.suffix != '.partial'} == names
    for path in codes.glob('*.array_record'):
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_what_decides_no_code_may_change(codes, tokenizer, tmp_path):
    """How images are read, which splits are the run's, where it lies, and what else its config says."""
    folder, moved = tmp_path / 'codes', tmp_path / 'moved'
    shutil.copytree(codes, folder)
    shutil.copytree(tokenizer, moved)
    config = json.loads((moved / 'config.json').read_text())
    (moved / 'config.json').write_text(json.dumps(config | {'num_shown': 1}))
    lacking = folder / 'test-00000-of-00002.array_record'
    lacking.unlink()
    overrides = {'data.cache_gib': 0.25, 'data.prefetch': 1, 'data.eval_split': 'train'}
    options = {'splits': ['test'], 'shard_batches': 4, 'overrides': overrides}
    assert write_codes(moved, folder, **options) == {'test': 359}
    assert lacking.read_bytes() == (codes / lacking.name).read_bytes()


@pytest.mark.slow
def test_a_prior_learns_the_same_from_images_and_from_codes(codes, tokenizer, tmp_path):
    metrics = {}
    for name, data in (('images', 'digits'), ('codes', f'codes:{codes}')):
        config = prior_config(tokenizer, data)
        config.optimizer.name, config.optimizer.learning_rate = 'sgd', 0.1
        metrics[name] = train(config, tmp_path / name)
    assert metrics['codes'] == pytest.approx(metrics['images'], rel=1e-4)
    a, b = (arrays(tmp_path / name).params for name in metrics)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b)
    prior = vq_jax.load(tmp_path / 'codes')
    assert prior.sample(2, label=3).shape == (2, 8, 8, 1)
    assert prior.evaluate().metrics['loss'] == pytest.approx(metrics['codes']['loss'], rel=1e-5)


def test_a_run_without_codes_is_refused(tmp_path):
    diffusion, gaussian = default_config('diffusion'), default_config('vqgan')
    gaussian.variant.bottleneck = 'gaussian'
    commands = []
    for config in (diffusion, gaussian):
        write_config(tmp_path / config.task, to_json(config))
        commands.append([f'--workdir={tmp_path / config.task}', f'--output={tmp_path}/codes'])
    for errors, task in zip(refused('vq_jax.tokenize', *commands), ('diffusion', 'vqgan'), strict=True):
        assert errors.startswith(f'error: {tmp_path}/{task} is a run of the task {task} without codes; give')
    assert not (tmp_path / 'codes').exists()


def test_codes_and_priors_of_another_tokenizer_are_refused(codes, tokenizer, other, tmp_path):
    with pytest.raises(UserError, match='holds other codes, which differ in tokenizer'):
        write_codes(other, codes, shard_batches=4)
    with pytest.raises(UserError, match='holds other codes, which differ in data, spec, codes; give'):
        write_codes(tokenizer, codes, shard_batches=4, overrides={'data.image_size': 16})
    with pytest.raises(UserError, match='holds other codes, which differ in data; give'):
        write_codes(tokenizer, codes, shard_batches=4, overrides={'data.fit': 'stretch'})
    with pytest.raises(UserError, match=r'as it was trained, and quantizer\.num_codes cannot be overridden'):
        write_codes(tokenizer, tmp_path / 'new', overrides={'quantizer.num_codes': 8, 'data.fit': 'pad'})
    flags = r'--batch_size times --shard_batches \(256 there, 16,384 now\); give what they were made with'
    with pytest.raises(UserError, match=flags):
        write_codes(tokenizer, codes)
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=r'Cannot write .*file.*; make room, or choose another'):
        write_codes(tokenizer, tmp_path / 'file')
    with pytest.raises(UserError, match='codes of another tokenizer'):
        train(prior_config(other, f'codes:{codes}'), tmp_path / 'prior')
    with pytest.raises(UserError, match='this task needs images'):
        config = tokenizer_config(10)
        config.data.name = f'codes:{codes}'
        train(config, tmp_path / 'vqvae')
    assert not (tmp_path / 'prior').exists() and not (tmp_path / 'vqvae').exists()


@pytest.mark.slow
def test_a_tokenizer_that_is_trained_longer_harms_no_prior(tmp_path):
    """Its checkpoint of that time is pruned, and the prior opens and goes on with its own copy."""
    place, prior, config = tmp_path / 'tokenizer', tmp_path / 'prior', tokenizer_config(10)
    config.keep_checkpoints, config.optimizer.schedule = 1, 'constant'
    train(config, place)
    of_codes = prior_config(place, 'digits')
    of_codes.optimizer.schedule = 'constant'
    train(of_codes, prior)
    drawn = vq_jax.load(prior).sample(2, label=3)
    config.steps = config.eval_every = 20
    train(config, place)
    assert vq_jax.load(place).step == 20 and not (place / 'checkpoints' / '10').exists()
    np.testing.assert_array_equal(vq_jax.load(prior).sample(2, label=3), drawn)
    of_codes.steps = 12
    assert train(of_codes, prior) is not None
    assert vq_jax.load(prior).step == 12


def test_mistakes_with_codes(codes, tmp_path):
    for make, words in (
        (lambda: opened(tmp_path), 'holds no codes'),
        (
            lambda: opened(codes, 'validation'),
            "no codes of the split 'validation'; set the split to one of train, test",
        ),
        (lambda: opened(codes, flip=True), 'need images'),
    ):
        with pytest.raises(UserError, match=words):
            make()
    (tmp_path / 'codes.json').write_text('{"format": 2}')
    with pytest.raises(
        UserError, match=r'codes\.json does not hold what it should .*; write the codes again'
    ):
        opened(tmp_path)
    partly = tmp_path / 'partly'
    shutil.copytree(codes, partly)
    (partly / 'train-00002-of-00006.array_record').unlink()
    with pytest.raises(UserError, match='1 of 6 files'):
        opened(partly)


FIRST, SECOND, LAST = (f'train-{i:05d}-of-00006.array_record' for i in (0, 1, 5))


def flip(folder):
    content = bytearray((folder / FIRST).read_bytes())
    content[1000] ^= 1
    (folder / FIRST).write_bytes(content)


def replace_by_a_pipe(folder):
    (folder / FIRST).unlink()
    os.mkfifo(folder / FIRST)


DAMAGE = {
    'a flipped bit': (flip, f'{FIRST} is damaged or of other codes'),
    'a shard twice': (
        lambda folder: shutil.copy(folder / FIRST, folder / SECOND),
        f'{SECOND} is damaged or of',
    ),
    'half a shard': (
        lambda folder: os.truncate(folder / LAST, 70_000),
        f'{LAST} is damaged or of other codes',
    ),
    'an empty shard': (lambda folder: os.truncate(folder / LAST, 0), f'{LAST} is damaged or of other codes'),
    'a pipe': (replace_by_a_pipe, f'Cannot read .*{FIRST} .it is not a regular file.'),
    'no shard': (lambda folder: (folder / LAST).unlink(), '1 of 6 files'),
}


@pytest.mark.parametrize(('damage', 'words'), DAMAGE.values(), ids=DAMAGE)
def test_damaged_shards_are_told(codes, tmp_path, damage, words):
    folder = tmp_path / 'codes'
    shutil.copytree(codes, folder)
    damage(folder)
    with pytest.raises(UserError, match=words):
        opened(folder)


def change(folder, **facts):
    path = folder / 'codes.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


@pytest.mark.parametrize(
    ('facts', 'words'),
    [
        (
            {'codes': {'grids': [[4, 4]], 'vocabularies': [[3]]}},
            r'the code \d+ and the label \d, and there are 3 codes and 10 classes; write the',
        ),
        ({'class_names': ['0', '1']}, r'the label \d, and there are 16 codes and 2 classes'),
        ({'codes': {'grids': [[4, 5]], 'vocabularies': [[16]]}}, 'are not of 20 positions'),
        (
            {'codes': {'grids': [[4, 4]], 'vocabularies': [[300]]}},
            'are not of 16 positions',
        ),  # which need records of two bytes a code
        ({'codes': {'grids': [[4, 4]], 'vocabularies': [[-1]]}}, 'does not hold what it should'),
        ({'codes': {'grids': [[4, 4]], 'vocabularies': [[1e400]]}}, 'does not hold what it should'),
        ({'codes': {'grids': [], 'vocabularies': []}}, 'does not hold what it should'),
        ({'shard_size': 0}, 'does not hold what it should'),
        (
            {'splits': {'train': 10**9}},
            r'1,000,000,000 examples of .* are 3,906,250 files, more than 100,000',
        ),
        ({'shards': {}}, '6 of 6 files'),
        (
            {'format': 3},
            'codes of format 3, and this version of vq_jax reads format 2; write the codes again',
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize('cache_gib', [1.0, 0.0])
def test_codes_that_are_not_as_their_facts_say(codes, tmp_path, facts, words, cache_gib):
    folder = tmp_path / 'codes'
    shutil.copytree(codes, folder)
    change(folder, **facts)
    with pytest.raises(UserError, match=words):
        next(eval_batches(opened(folder, cache_gib=cache_gib), batch_size=1438))


def test_a_prior_is_told_of_codes_that_its_tokenizer_does_not_have(codes, tokenizer, tmp_path):
    folder = tmp_path / 'codes'
    shutil.copytree(codes, folder)
    change(folder, codes={'grids': [[4, 4]], 'vocabularies': [[32]]})
    with pytest.raises(
        UserError, match=r'says that it holds codes of 4x4 of 32, and its tokenizer makes 4x4 of 16'
    ):
        train(prior_config(tokenizer, f'codes:{folder}'), tmp_path / 'prior')


def test_evaluators_of_examples_ask_for_other_data_than_codes(codes, tokenizer):
    config = prior_config(tokenizer, f'codes:{codes}')
    run = SimpleNamespace(config=config, allow=(), spec=Spec('image', (16, 16, 1)))
    with pytest.raises(UserError, match=r'holds codes; name a set of images by --override=data.name=NAME\.'):
        open_split(run, 'test')


def test_a_prior_that_hides_parts_of_examples_needs_more_than_codes(codes, tokenizer, tmp_path):
    config = prior_config(tokenizer, f'codes:{codes}')
    config.model.given = 0.5
    with pytest.raises(
        UserError, match=r'holds codes, and config.model.given needs images, of which it hides'
    ):
        train(config, tmp_path / 'prior')
