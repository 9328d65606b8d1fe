"""Priors of two levels of codes, and the whole bound on the likelihood of images."""

import dataclasses
import math
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import vq_jax
from vq_jax.data import eval_batches
from vq_jax.errors import UserError
from vq_jax.tasks import complete_config, default_config
from vq_jax.tasks.codes import write_codes
from vq_jax.tasks.prior_config import Sampling
from vq_jax.tasks.restore import identities
from vq_jax.train import train


def tokenizer_config():
    config = default_config('vqvae')
    config.steps = config.eval_every = config.log_every = 30
    config.data.name = 'digits'
    config.data.channels = 1
    config.model.channels = 8
    config.model.stages = 1
    config.model.top_stages = 1
    config.quantizer.num_codes = 8
    config.quantizer.dim = 4
    config.loss.reconstruction = 'bernoulli'
    return config


def prior_config(tokenizer, level, **model):
    config = default_config('prior')
    config.steps = config.eval_every = config.log_every = 15
    config.num_shown = 4
    config.data.name = 'digits'
    config.data.channels = 1
    config.tokenizer.workdir = str(tokenizer)
    config.model.class_conditional = True
    config.model.level = level
    config.model.update(model)
    config.transformer.depth = 1
    config.transformer.width = 16
    config.transformer.heads = 2
    config.pixelcnn.depth = 2
    config.pixelcnn.channels = 8
    return config


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A folder whose runs were named by paths that are relative to it, with their configs.

    A tokenizer with two levels, and a prior for each; the bottom one learns from written codes.
    """
    project = tmp_path_factory.mktemp('project')
    configs = {
        'tokenizer': tokenizer_config(),
        'top': prior_config('runs/tokenizer', 'top'),
        'bottom': prior_config('runs/tokenizer', 'bottom', kind='pixelcnn', top_workdir='runs/top'),
    }
    configs['bottom'].data.name = f'codes:{project}/codes'
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        train(configs['tokenizer'], 'runs/tokenizer')
        write_codes('runs/tokenizer', 'codes')
        for name in ('top', 'bottom'):
            train(configs[name], f'runs/{name}')
    return project, configs


@pytest.fixture(scope='module')
def folder(project):
    return project[0] / 'runs'


@pytest.fixture(scope='module')
def bottom(folder):
    return vq_jax.load(folder / 'bottom', overrides={'data.name': 'digits'})


def some(run, n=6):
    batch = next(iter(eval_batches(run.dataset('test'), batch_size=n)))
    return batch['x'], batch['label']


def test_the_prior_of_the_bottom_is_given_the_top(folder, bottom):
    images, labels = some(bottom)
    top_codes, bottom_codes = bottom.encode(images)
    assert top_codes.shape == (6, 2, 2) and bottom_codes.shape == (6, 4, 4)
    log_p = bottom.log_prob((top_codes, bottom_codes), label=labels)
    other = bottom.log_prob(((np.asarray(top_codes) + 1) % 8, bottom_codes), label=labels)
    assert (np.abs(np.asarray(log_p - other)) > 1e-4).all()
    top = vq_jax.load(folder / 'top')
    changed = (top_codes, (np.asarray(bottom_codes) + 1) % 8)
    codes = (top_codes, bottom_codes)
    np.testing.assert_array_equal(top.log_prob(codes, label=labels), top.log_prob(changed, label=labels))


def test_both_levels_must_be_whole_grids(bottom):
    zeros = (np.zeros((1, 4, 4), int), np.zeros((1, 8, 8), int))
    with pytest.raises(UserError, match=r'codes of shape \(1, 4, 4\) have no .* grids of \(2, 2\)'):
        bottom.log_prob(zeros, label=0)
    assert bottom.decode(zeros).shape == (1, 16, 16, 1)


def test_images_are_drawn_level_by_level(bottom):
    """By hand: the top's codes, the bottom's given them, and the decoder."""
    labels = jnp.array([3, 5, 7])
    task, state = bottom.task, jax.device_put(bottom.state)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(2), i))(jnp.arange(3))

    def fold(number):
        return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)

    top = task.top.task.sample_tokens(state.frozen['top'], fold(0), labels)
    drawn = task.sample_tokens(state, fold(1), labels, coarser=(top,))
    by_hand = bottom.decode((top, drawn), label=np.asarray(labels))
    np.testing.assert_array_equal(bottom.sample(3, label=np.asarray(labels), seed=2), by_hand)


def test_both_levels_are_drawn_where_a_mask_is(bottom):
    images, labels = some(bottom)
    mask = np.zeros((8, 8), bool)
    mask[:, 7] = True
    drawn = bottom.inpaint(images, mask, label=labels)
    np.testing.assert_array_equal(drawn[:, :, :7], images[:, :, :7])
    assert (drawn[:, :, 7] != images[:, :, 7]).any()


def test_the_bound_is_that_of_pixels_and_codes_together(folder, bottom):
    """Added up by hand over the test set, from the parts that the runs give."""
    top, tokenizer = vq_jax.load(folder / 'top'), vq_jax.load(folder / 'tokenizer')
    nats = []
    for batch in eval_batches(bottom.dataset('test'), batch_size=100):
        images, labels = batch['x'], batch['label']
        codes = bottom.encode(images)
        scales = tuple(scale[..., None] for scale in codes)
        pixels = tokenizer.task.log_likelihood(tokenizer.state, images, scales)
        of_codes = top.log_prob(codes, label=labels) + bottom.log_prob(codes, label=labels)
        nats.append(np.asarray(pixels + of_codes)[batch['mask']])
    bound = np.concatenate(nats).mean()
    metrics = bottom.evaluate('test').metrics
    assert metrics['bound'] == pytest.approx(bound, rel=1e-4)
    assert metrics['pixel_bits_per_dimension'] == pytest.approx(-bound / 64 / math.log(2), rel=1e-4)
    # A learned prior saves nats of those that equally likely codes cost.
    uniform = tokenizer.evaluate('test').metrics['bits_per_dimension_uniform_prior']
    assert metrics['pixel_bits_per_dimension'] < uniform


def checksums(workdir, **options):
    task = vq_jax.load(workdir, **options).task
    return {name: part['checksum'] for name, part in identities(task).items()}


@pytest.mark.slow
def test_the_top_prior_is_that_of_the_beginning(folder, tmp_path):
    """It goes on training while the bottom one is stopped; only another directory exchanges it."""
    top = tmp_path / 'top'
    config = prior_config(folder / 'tokenizer', 'top')
    config.steps, config.keep_checkpoints = 5, 1
    config.optimizer.schedule = 'constant'
    train(config, top)
    bottom = prior_config(folder / 'tokenizer', 'bottom', top_workdir=str(top))
    bottom.steps = 2
    train(bottom, tmp_path / 'bottom')
    begun = checksums(tmp_path / 'bottom')
    config.steps = 10
    train(config, top)
    assert vq_jax.load(top).step == 10 and not (top / 'checkpoints' / '5').exists()
    assert checksums(tmp_path / 'bottom') == begun
    train(bottom, tmp_path / 'bottom')
    exchanged = vq_jax.load(tmp_path / 'bottom', overrides={'model.top_workdir': str(folder / 'top')})
    assert exchanged.task.top.run.step == 15
    bottom.model.top_workdir = str(folder / 'top')
    with pytest.raises(UserError, match='no checkpoint of step 5'):
        train(bottom, tmp_path / 'bottom')
    with pytest.raises(UserError, match='top_step is not read by anything'):
        complete_config(ConfigDict({'task': 'prior', 'model': {'top_step': 5}}))


def test_a_run_keeps_the_weights_that_it_is_built_on(project, tmp_path, monkeypatch):
    """It opens, and goes on, though all that it was built on is gone, or others lie there."""
    project, configs = project
    monkeypatch.chdir(project)
    begun, label = vq_jax.load('runs/bottom'), np.arange(2)
    before = checksums('runs/bottom')
    assert before.keys() == {'tokenizer', 'top_prior'}

    moved = tmp_path / 'moved'
    shutil.copytree('runs/bottom', moved)
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    assert checksums(moved) == before
    other = configs['tokenizer'].copy_and_resolve_references()
    other.steps = 1
    train(other, 'runs/tokenizer')
    assert checksums(moved) == before
    opened = vq_jax.load(moved)
    np.testing.assert_array_equal(opened.sample(2, label=label), begun.sample(2, label=label))
    assert train(configs['bottom'], moved) is not None  # which goes on, here from the end

    # The copies are runs, which hold nothing to go on training from.
    for name in ('tokenizer', 'top_prior'):
        copy = vq_jax.load(moved / 'built_on' / name)
        assert copy.state.opt_state is None
    images, _ = some(vq_jax.load(project / 'runs' / 'top'))
    codes = vq_jax.load(moved / 'built_on' / 'tokenizer').encode(images)
    jax.tree.map(np.testing.assert_array_equal, codes, begun.encode(images))
    with pytest.raises(UserError, match='keeps weights that another run is built on'):
        train(configs['tokenizer'], moved / 'built_on' / 'tokenizer')


def test_a_copy_that_is_damaged_can_be_moved_away(project, tmp_path, monkeypatch):
    shutil.copytree(project[0] / 'runs', tmp_path / 'runs')
    monkeypatch.chdir(tmp_path)
    before = checksums('runs/top')
    copy = Path('runs/top/built_on/tokenizer')
    (manifest,) = copy.glob('checkpoints/*/manifest.json')
    manifest.write_text(manifest.read_text().replace('1', '2', 1))
    with pytest.raises(UserError, match=f'is damaged .* with the folder {copy} moved away'):
        vq_jax.load('runs/top')
    copy.rename('aside')
    assert checksums('runs/top') == before
    assert train(project[1]['top'], 'runs/top') is not None
    shutil.rmtree('runs/tokenizer')
    assert checksums('runs/top') == before


def test_what_is_named_anew_must_hold_the_same_weights(project, tmp_path, monkeypatch):
    """Wherever it is; where a run of before keeps no copy, it is named so."""
    project, configs = project
    shutil.copytree(project / 'runs', tmp_path / 'runs')
    monkeypatch.chdir(tmp_path)
    before = checksums('runs/bottom')
    Path('runs/tokenizer').rename('moved')
    assert checksums('runs/bottom', overrides={'tokenizer.workdir': 'moved'}) == before
    config = configs['top'].copy_and_resolve_references()
    config.tokenizer.workdir = 'moved'
    assert train(config, 'runs/top') is not None
    shutil.rmtree('moved')
    vq_jax.load('runs/top')
    assert train(config, 'runs/top') is not None

    other = configs['tokenizer'].copy_and_resolve_references()
    other.seed, other.steps, other.eval_every, other.checkpoint_every = 1, 30, 30, 30
    train(other, 'other')
    config.tokenizer.workdir, overrides = 'other', {'tokenizer.workdir': 'other'}
    for use in (lambda: train(config, 'runs/top'), lambda: vq_jax.load('runs/top', overrides=overrides)):
        with pytest.raises(UserError, match=r'trained with the tokenizer of step 30 .* holds other weights'):
            use()
    config.tokenizer.workdir = ''
    with pytest.raises(UserError, match=r'tokenizer\.workdir \(there "runs/tokenizer", now ""\)'):
        train(config, 'runs/top')
    with pytest.raises(UserError, match='is nowhere, where no trained run is'):
        vq_jax.load('runs/top', overrides={'tokenizer.workdir': 'nowhere'})
    with pytest.raises(
        UserError, match=r'config\.tokenizer\.workdir is runs/tokenizer, where no trained run'
    ):
        train(configs['top'], 'new/top')
    assert not Path('new').exists()

    shutil.rmtree('runs/top/built_on')
    with pytest.raises(UserError, match='is moved, where no trained run is'):
        vq_jax.load('runs/top')
    assert checksums('runs/top', overrides={'tokenizer.workdir': str(project / 'runs' / 'tokenizer')})


def test_what_neither_level_reads_is_refused(bottom):
    """A masked model above is drawn in steps, though that below is not."""
    task = bottom.task
    assert task.unused(Sampling(), 'sample').keys() == {'steps', 'confidence_temperature'}
    network = dataclasses.replace(
        task.top.task.network, config=dataclasses.replace(task.top.task.network.config, kind='maskgit')
    )
    top = dataclasses.replace(task.top, task=dataclasses.replace(task.top.task, network=network))
    assert not dataclasses.replace(task, top=top).unused(Sampling(), 'sample')


def test_guidance_needs_both_levels_to_be_trained_without_classes(bottom):
    """The level above is drawn with the same choices."""
    task = bottom.task
    task.check_sampling(Sampling(guidance=2.0))
    network = dataclasses.replace(
        task.top.task.network, config=dataclasses.replace(task.top.task.network.config, label_dropout=0.0)
    )
    top = dataclasses.replace(task.top, task=dataclasses.replace(task.top.task, network=network))
    task = dataclasses.replace(task, top=top)
    task.check_sampling(Sampling(guidance=1.0))
    with pytest.raises(UserError, match='also trained without classes'):
        task.check_sampling(Sampling(guidance=2.0))


def test_mistakes_with_levels(folder, tmp_path):
    tokenizer = folder / 'tokenizer'
    single = tokenizer_config()
    single.model.top_stages = 0
    single.steps = 1
    train(single, tmp_path / 'single')
    for config, words in (
        (prior_config(tokenizer, None), 'set config.model.level to top or bottom'),
        (prior_config(tmp_path / 'single', 'top'), 'one level of codes; leave config.model.level out'),
        (
            prior_config(tokenizer, 'top', top_workdir=str(folder / 'top')),
            'for the prior of the bottom codes',
        ),
        (prior_config(tokenizer, 'bottom', top_workdir=str(tokenizer)), 'is no run of a prior of top codes'),
    ):
        with pytest.raises(UserError, match=words):
            train(config, tmp_path / 'run')
    with pytest.raises(UserError, match='draws the top codes alone'):
        vq_jax.load(folder / 'top').sample(1)
    alone = vq_jax.load(folder / 'bottom', overrides={'model.top_workdir': ''})
    with pytest.raises(UserError, match='draws the bottom codes alone'):
        alone.sample(1)
