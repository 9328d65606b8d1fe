"""Priors of several scales of codes, and the whole bound on the likelihood of images."""

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
from tests.runs import logged
from vq_jax.data import eval_batches
from vq_jax.errors import UserError
from vq_jax.ops.grids import to_patches
from vq_jax.spec import CodeSpec
from vq_jax.tasks import complete_config, default_config
from vq_jax.tasks.codec import Identity
from vq_jax.tasks.codes import write_codes
from vq_jax.tasks.prior_config import Sampling
from vq_jax.tasks.restore import identities
from vq_jax.train import train

pytestmark = pytest.mark.slow  # a tokenizer and two priors are trained first


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


def prior_config(tokenizer, scale, **model):
    config = default_config('prior')
    config.steps = config.eval_every = config.log_every = 15
    config.num_shown = 4
    config.data.name = 'digits'
    config.data.channels = 1
    config.tokenizer.workdir = str(tokenizer)
    config.model.class_conditional = True
    config.model.scale = scale
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

    A tokenizer with two scales, and a prior for each; that of the fine one learns from written codes.
    """
    project = tmp_path_factory.mktemp('project')
    configs = {
        'tokenizer': tokenizer_config(),
        'coarse': prior_config('runs/tokenizer', 0),
        'fine': prior_config('runs/tokenizer', 1, kind='pixelcnn', coarser_workdir='runs/coarse'),
    }
    configs['fine'].data.name = f'codes:{project}/codes'
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        train(configs['tokenizer'], 'runs/tokenizer')
        write_codes('runs/tokenizer', 'codes')
        for name in ('coarse', 'fine'):
            train(configs[name], f'runs/{name}')
    return project, configs


@pytest.fixture(scope='module')
def folder(project):
    return project[0] / 'runs'


@pytest.fixture(scope='module')
def fine(folder):
    return vq_jax.load(folder / 'fine', overrides={'data.name': 'digits'})


def some(run, n=6):
    batch = next(iter(eval_batches(run.dataset('test'), batch_size=n)))
    return batch['x'], batch['label']


def test_a_run_of_a_tokenizer_tells_of_both_scales(folder):
    last = {line['split']: line for line in logged(folder / 'tokenizer')}
    names = {path.name for path in (folder / 'tokenizer' / 'images').iterdir()}
    for scale in (0, 1):
        numbers = {f'{name}_scale_{scale}' for name in ('perplexity', 'code_entropy_bits', 'codebook_usage')}
        assert numbers <= last['eval'].keys() and numbers <= last['train'].keys()
        assert f'code_usage_scale_{scale}_0000030.png' in names
    tokenizer = vq_jax.load(folder / 'tokenizer')
    coarse, fine = np.zeros((1, 2, 2), int), np.zeros((1, 4, 4), int)
    for codes in (
        fine,
        (coarse,),
        (fine, coarse),
        (coarse, fine + 8),
        (coarse + 0.5, fine),
        (coarse[[0, 0]], fine),
    ):
        with pytest.raises(UserError, match='codes must be'):
            tokenizer.decode(codes)


def test_a_finer_prior_is_given_the_coarser_codes(folder, fine):
    images, labels = some(fine)
    coarse_codes, fine_codes = fine.encode(images)
    assert coarse_codes.shape == (6, 2, 2) and fine_codes.shape == (6, 4, 4)
    log_p = fine.log_prob((coarse_codes, fine_codes), label=labels)
    other = fine.log_prob(((np.asarray(coarse_codes) + 1) % 8, fine_codes), label=labels)
    assert (np.abs(np.asarray(log_p - other)) > 1e-4).all()
    coarse = vq_jax.load(folder / 'coarse')
    changed = (coarse_codes, (np.asarray(fine_codes) + 1) % 8)
    codes = (coarse_codes, fine_codes)
    np.testing.assert_array_equal(
        coarse.log_prob(codes, label=labels), coarse.log_prob(changed, label=labels)
    )


def test_both_scales_must_be_whole_grids(fine):
    zeros = (np.zeros((1, 4, 4), int), np.zeros((1, 8, 8), int))
    with pytest.raises(UserError, match=r'codes of shape \(1, 4, 4\) have no .* grids of \(2, 2\)'):
        fine.log_prob(zeros, label=0)
    assert fine.decode(zeros).shape == (1, 16, 16, 1)


def test_images_are_drawn_scale_by_scale(fine):
    """By hand: the coarse codes, the fine ones given them, and the decoder."""
    labels = jnp.array([3, 5, 7])
    task, state = fine.task, jax.device_put(fine.state)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(2), i))(jnp.arange(3))

    def fold(number):
        return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)

    coarse = task.coarser.task.sample_codes(state.frozen['coarser'][0], fold(0), labels)
    drawn = task.sample_codes(state, fold(1), labels, coarser=(coarse,))
    by_hand = fine.decode((coarse[..., 0], drawn[..., 0]), label=np.asarray(labels))
    np.testing.assert_array_equal(fine.sample(3, label=np.asarray(labels), seed=2), by_hand)


def test_both_scales_are_drawn_where_a_mask_is(fine):
    images, labels = some(fine)
    mask = np.zeros((8, 8), bool)
    mask[:, 7] = True
    drawn = fine.inpaint(images, mask, label=labels)
    np.testing.assert_array_equal(drawn[:, :, :7], images[:, :, :7])
    assert (drawn[:, :, 7] != images[:, :, 7]).any()


def test_the_bound_is_that_of_pixels_and_codes_together(folder, fine):
    """Added up by hand over the test set, from the parts that the runs give."""
    coarse, tokenizer = vq_jax.load(folder / 'coarse'), vq_jax.load(folder / 'tokenizer')
    nats = []
    for batch in eval_batches(fine.dataset('test'), batch_size=100):
        images, labels = batch['x'], batch['label']
        codes = fine.encode(images)
        scales = tuple(scale[..., None] for scale in codes)
        pixels = tokenizer.task.log_likelihood(tokenizer.state, images, scales)
        of_codes = coarse.log_prob(codes, label=labels) + fine.log_prob(codes, label=labels)
        nats.append(np.asarray(pixels + of_codes)[batch['mask']])
    bound = np.concatenate(nats).mean()
    metrics = fine.evaluate('test').metrics
    assert metrics['bound'] == pytest.approx(bound, rel=1e-4)
    assert metrics['pixel_bits_per_dimension'] == pytest.approx(-bound / 64 / math.log(2), rel=1e-4)
    # A learned prior saves nats of those that equally likely codes cost.
    uniform = tokenizer.evaluate('test').metrics['bits_per_dimension_uniform_prior']
    assert metrics['pixel_bits_per_dimension'] < uniform


def checksums(workdir, **options):
    task = vq_jax.load(workdir, **options).task
    return {name: part['checksum'] for name, part in identities(task).items()}


def test_the_coarser_prior_is_that_of_the_beginning(folder, tmp_path):
    """It goes on training while the finer one is stopped; only another directory exchanges it."""
    coarse = tmp_path / 'coarse'
    config = prior_config(folder / 'tokenizer', 0)
    config.steps, config.keep_checkpoints = 5, 1
    config.optimizer.schedule = 'constant'
    train(config, coarse)
    fine = prior_config(folder / 'tokenizer', 1, coarser_workdir=str(coarse))
    fine.steps = 2
    train(fine, tmp_path / 'fine')
    begun = checksums(tmp_path / 'fine')
    config.steps = 10
    train(config, coarse)
    assert vq_jax.load(coarse).step == 10 and not (coarse / 'checkpoints' / '5').exists()
    assert checksums(tmp_path / 'fine') == begun
    train(fine, tmp_path / 'fine')
    exchanged = vq_jax.load(tmp_path / 'fine', overrides={'model.coarser_workdir': str(folder / 'coarse')})
    assert exchanged.task.coarser.step == 15
    fine.model.coarser_workdir = str(folder / 'coarse')
    with pytest.raises(UserError, match='no checkpoint of step 5'):
        train(fine, tmp_path / 'fine')
    with pytest.raises(UserError, match='coarser_step is not read by anything'):
        complete_config(ConfigDict({'task': 'prior', 'model': {'coarser_step': 5}}))


def test_a_run_keeps_the_weights_that_it_is_built_on(project, tmp_path, monkeypatch):
    """It opens, and goes on, though all that it was built on is gone, or others lie there."""
    project, configs = project
    monkeypatch.chdir(project)
    begun, label = vq_jax.load('runs/fine'), np.arange(2)
    before = checksums('runs/fine')
    assert before.keys() == {'tokenizer', 'coarser'}

    moved = tmp_path / 'moved'
    shutil.copytree('runs/fine', moved)
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    assert checksums(moved) == before
    other = configs['tokenizer'].copy_and_resolve_references()
    other.seed = 1
    train(other, 'runs/tokenizer')
    assert checksums(moved) == before
    overrides = {'tokenizer.workdir': str(Path('runs/tokenizer').absolute())}
    with pytest.raises(UserError, match=r'trained with the tokenizer of step 30 .* holds other weights'):
        vq_jax.load(project / 'runs' / 'coarse', overrides=overrides)
    opened = vq_jax.load(moved)
    np.testing.assert_array_equal(opened.sample(2, label=label), begun.sample(2, label=label))
    assert train(configs['fine'], moved) is not None  # which goes on, here from the end

    # The copies are runs, which hold nothing to go on training from.
    for name in ('tokenizer', 'coarser'):
        copy = vq_jax.load(moved / 'built_on' / name)
        assert copy.state.opt_state is None
    images, _ = some(vq_jax.load(project / 'runs' / 'coarse'))
    codes = vq_jax.load(moved / 'built_on' / 'tokenizer').encode(images)
    jax.tree.map(np.testing.assert_array_equal, codes, begun.encode(images))
    with pytest.raises(UserError, match='holds weights alone, and nothing to go on training from'):
        train(configs['tokenizer'], moved / 'built_on' / 'tokenizer')


def test_a_copy_that_is_damaged_can_be_moved_away(project, tmp_path, monkeypatch):
    shutil.copytree(project[0] / 'runs', tmp_path / 'runs')
    monkeypatch.chdir(tmp_path)
    before = checksums('runs/coarse')
    copy = Path('runs/coarse/built_on/tokenizer')
    (manifest,) = copy.glob('checkpoints/*/manifest.json')
    manifest.write_text(manifest.read_text().replace('1', '2', 1))
    with pytest.raises(UserError, match=f'is damaged .* with the folder {copy} moved away'):
        vq_jax.load('runs/coarse')
    copy.rename('aside')
    assert checksums('runs/coarse') == before
    assert train(project[1]['coarse'], 'runs/coarse') is not None
    shutil.rmtree('runs/tokenizer')
    assert checksums('runs/coarse') == before


def test_what_is_named_anew_must_hold_the_same_weights(project, tmp_path, monkeypatch):
    """Wherever it is; where a run of before keeps no copy, it is named so."""
    project, configs = project
    shutil.copytree(project / 'runs', tmp_path / 'runs')
    monkeypatch.chdir(tmp_path)
    before = checksums('runs/fine')
    Path('runs/tokenizer').rename('moved')
    assert checksums('runs/fine', overrides={'tokenizer.workdir': 'moved'}) == before
    config = configs['coarse'].copy_and_resolve_references()
    config.tokenizer.workdir = 'moved'
    assert train(config, 'runs/coarse') is not None
    shutil.rmtree('moved')
    vq_jax.load('runs/coarse')
    assert train(config, 'runs/coarse') is not None

    other = configs['tokenizer'].copy_and_resolve_references()
    other.seed, other.steps, other.eval_every, other.checkpoint_every = 1, 30, 30, 30
    train(other, 'other')
    config.tokenizer.workdir, overrides = 'other', {'tokenizer.workdir': 'other'}
    for use in (
        lambda: train(config, 'runs/coarse'),
        lambda: vq_jax.load('runs/coarse', overrides=overrides),
    ):
        with pytest.raises(UserError, match=r'trained with the tokenizer of step 30 .* holds other weights'):
            use()
    config.tokenizer.workdir = ''
    with pytest.raises(UserError, match=r'tokenizer\.workdir \(there "runs/tokenizer", now ""\)'):
        train(config, 'runs/coarse')
    with pytest.raises(UserError, match='is nowhere, where no trained run is'):
        vq_jax.load('runs/coarse', overrides={'tokenizer.workdir': 'nowhere'})
    with pytest.raises(
        UserError, match=r'config\.tokenizer\.workdir is runs/tokenizer, where no trained run'
    ):
        train(configs['coarse'], 'new/coarse')
    assert not Path('new').exists()

    shutil.rmtree('runs/coarse/built_on')
    with pytest.raises(UserError, match='is moved, where no trained run is'):
        vq_jax.load('runs/coarse')
    assert checksums('runs/coarse', overrides={'tokenizer.workdir': str(project / 'runs' / 'tokenizer')})


def test_what_neither_scale_reads_is_refused(fine):
    """A masked model of the coarse codes is drawn in steps, though that of the fine ones is not."""
    task = fine.task
    assert task.unused(Sampling(), 'sample').keys() == {'steps', 'confidence_temperature'}
    network = dataclasses.replace(
        task.coarser.task.network,
        config=dataclasses.replace(task.coarser.task.network.config, kind='maskgit'),
    )
    coarser = dataclasses.replace(task.coarser, task=dataclasses.replace(task.coarser.task, network=network))
    assert not dataclasses.replace(task, coarser=coarser).unused(Sampling(), 'sample')


def test_guidance_needs_both_scales_to_be_trained_without_classes(fine):
    """The coarse codes are drawn with the same choices."""
    task = fine.task
    task.check_sampling(Sampling(guidance=2.0))
    network = task.coarser.task.network
    network = dataclasses.replace(network, encoder=network.encoder.clone(label_dropout=0.0))
    coarser = dataclasses.replace(task.coarser, task=dataclasses.replace(task.coarser.task, network=network))
    task = dataclasses.replace(task, coarser=coarser)
    task.check_sampling(Sampling(guidance=1.0))
    with pytest.raises(UserError, match='also trained without classes'):
        task.check_sampling(Sampling(guidance=2.0))


def test_mistakes_with_scales(folder, tmp_path):
    tokenizer = folder / 'tokenizer'
    single = tokenizer_config()
    single.model.top_stages = 0
    single.steps = 1
    train(single, tmp_path / 'single')
    for config, words in (
        (prior_config(tokenizer, None), r'2 scales of codes; set config.model.scale .* from 0, .* to 1\.'),
        (prior_config(tokenizer, 2), '2 scales of codes; set config.model.scale to one of them'),
        (
            prior_config(tokenizer, 1, given=0.5),
            'given is 0.5, and a prior of scale 1 reads the coarser codes instead; set it to 0',
        ),
        (prior_config(tmp_path / 'single', 0), 'one scale of codes; leave config.model.scale out'),
        (
            prior_config(tokenizer, 0, coarser_workdir=str(folder / 'coarse')),
            'for the prior of a finer scale',
        ),
        (prior_config(tokenizer, 1, coarser_workdir=str(tokenizer)), 'is no run of a prior of scale 0'),
    ):
        with pytest.raises(UserError, match=words):
            train(config, tmp_path / 'run')
    with pytest.raises(UserError, match='samples the codes of scale 0 alone'):
        vq_jax.load(folder / 'coarse').sample(1)
    alone = vq_jax.load(folder / 'fine', overrides={'model.coarser_workdir': ''})
    with pytest.raises(UserError, match='samples the codes of scale 1 alone'):
        alone.sample(1)


class Pyramid(Identity):
    """Black and white at three scales: over 4x4 pixels, 2x2, and each."""

    has_likelihood = True

    @property
    def code_spec(self):
        return CodeSpec(((2, 2), (4, 4), (8, 8)), ((2,),) * 3)

    def encode(self, state, x):
        means = (to_patches(x, size).mean(-1, keepdims=True) for size in (4, 2, 1))
        return tuple((mean > 100).astype(jnp.int32) for mean in means)

    def decode(self, state, codes, labels, goes_on=None):
        return (codes[-1] * 255).astype(jnp.uint8)

    def log_likelihood(self, state, x, codes, labels):
        return -jnp.mean(jnp.square(x / 255 - codes[-1]), (1, 2, 3))


def test_a_chain_of_three_scales(tmp_path, monkeypatch):
    """Each prior but the first is trained over that of the next coarser scale, and keeps all of the chain."""
    monkeypatch.setattr('vq_jax.tasks.prior.make_codec', lambda config, spec: Pyramid(spec, 2))

    def config(scale, coarser=''):
        made = prior_config('', scale, coarser_workdir=coarser and str(tmp_path / coarser))
        made.steps = made.eval_every = made.log_every = 2
        return made

    evaluated = {}
    for scale, name, coarser in ((0, 'a', ''), (1, 'b', 'a'), (2, 'c', 'b'), (1, 'alone', '')):
        evaluated[name] = train(config(scale, coarser), tmp_path / name)
    for coarser, words in (('a', 'is no run of a prior of scale 1'), ('alone', 'without one of scale 0')):
        with pytest.raises(UserError, match=words):
            train(config(2, coarser), tmp_path / 'none')
    for name in ('b', 'alone'):
        with pytest.raises(UserError, match='samples the codes of scale 1 alone'):
            vq_jax.load(tmp_path / name).sample(1, label=0)
    for name in ('a', 'b'):
        shutil.rmtree(tmp_path / name)

    nats = [evaluated[name]['nats'] for name in 'abc']
    assert evaluated['b']['coarser_nats'] == pytest.approx(nats[0], rel=1e-5)
    assert evaluated['c']['coarser_nats'] == pytest.approx(nats[0] + nats[1], rel=1e-5)
    opened = vq_jax.load(tmp_path / 'c')
    images, labels = some(opened)
    assert 'bound' in evaluated['c'] and 'bound' not in evaluated['b']
    error = -evaluated['c']['bound'] - sum(nats)  # of pixels
    assert 0 < error < 0.25

    task, state = opened.task, jax.device_put(opened.state)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(2), i))(jnp.arange(6))
    codes = ()
    for i, (one, at) in enumerate(
        zip(
            (task.coarser.task.coarser.task, task.coarser.task, task),
            (*state.frozen['coarser'], state),
            strict=True,
        )
    ):
        own = jax.vmap(lambda key, i=i: jax.random.fold_in(key, i))(keys)
        codes += (one.sample_codes(at, own, labels, coarser=codes),)
    np.testing.assert_array_equal(opened.sample(6, label=labels, seed=2), codes[-1] * 255)

    mask = np.zeros((8, 8), bool)
    mask[:, 7] = True
    drawn = opened.inpaint(images, mask, label=labels)
    np.testing.assert_array_equal(drawn[:, :, :7], images[:, :, :7])
