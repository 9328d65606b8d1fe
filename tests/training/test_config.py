"""Configs made from signatures, and checked against them."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import pytest
from flax import linen as nn
from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.spec import Spec, Tokens
from vq_jax.tasks import complete_config, default_config, make_task
from vq_jax.training.config import build, defaults, to_json
from vq_jax.training.optimizer import FORMER_KEYS
from vq_jax.training.state import AdversarialState, abstract_batch, init_state

CONFIGS = sorted((Path(__file__).parents[2] / 'configs').glob('*/*.py'))


@dataclasses.dataclass(frozen=True)
class Thing:
    size: int = 3
    rate: float = 1
    sizes: tuple[int, ...] = (1, 2)
    rates: tuple[float, ...] = (0.5,)
    limit: float | None = None
    mode: Literal['fast', 'slow'] = 'fast'
    part: object = None


class Module(nn.Module):
    width: int = 4
    name_of_it: str = 'x'


def test_a_section_has_the_plain_attributes():
    section = defaults(Thing)
    assert set(section) == {'size', 'rate', 'sizes', 'rates', 'limit', 'mode'}
    assert set(defaults(Module)) == {'width', 'name_of_it'}
    section.limit = 0.5
    with pytest.raises(AttributeError):
        section.szie = 4
    assert build(Thing, section, 'thing', part='p') == Thing(3, 1.0, (1, 2), (0.5,), 0.5, 'fast', 'p')
    rates = build(Thing, {'rates': [1, 0.5]}, 'thing').rates
    assert rates == (1.0, 0.5) and isinstance(rates[0], float)


def test_json_and_back():
    section = defaults(Thing)
    section.size = 7
    stored = json.loads(json.dumps(to_json(section)))
    assert stored['sizes'] == [1, 2] and stored['limit'] is None
    assert build(Thing, stored, 'thing') == Thing(size=7)


@pytest.mark.parametrize(
    'section, words',
    [
        ({'siez': 3}, "config.thing.siez is not read by anything; did you mean 'size'"),
        ({'qqq': 3}, 'the keys are size'),
        ({'si': 3}, "did you mean 'size'"),
        ({'size': 2.5}, 'config.thing.size is 2.5, which is not of type int'),
        ({'size': True}, 'not of type int'),
        ({'limit': 'x'}, 'not of type float or None'),
        ({'sizes': (1, 1.5)}, 'config.thing.sizes is (1, 1.5), which is not of type tuple of int'),
        ({'sizes': (1, True)}, 'not of type tuple of int'),
        ({'sizes': 3}, 'not of type tuple of int'),
        ({'rates': (0.5, 'x')}, 'not of type tuple of float'),
        ({'mode': 'fats'}, "choose one of fast, slow (did you mean 'fast'?)"),
        ({'mode': 'SLOW'}, "did you mean 'slow'?"),
        ({'SIEZ': 3}, "did you mean 'size'?"),
        ({'Siz': 3}, "did you mean 'size'?"),
    ],
)
def test_mistakes(section, words):
    with pytest.raises(UserError) as error:
        build(Thing, section, 'thing')
    assert words in str(error.value)


@dataclasses.dataclass
class Refused:
    size: int = 0
    given: int = 0
    says: str = ''

    def __post_init__(self):
        raise UserError(self.says)


@pytest.mark.parametrize(
    'says, path, words',
    [
        ('size is 0.', 'thing', 'config.thing.size is 0.'),
        ('size, and more, are 0.', '', 'config.size, and more, are 0.'),
        ('sizes are 0.', 'thing', 'config.thing: sizes are 0.'),
        ('given is 0.', 'thing', 'config.thing: given is 0.'),  # no key
        ('... is 0.', '', 'config: ... is 0.'),
    ],
)
def test_what_a_class_says_of_its_attributes_has_the_path_of_the_config(says, path, words):
    with pytest.raises(UserError) as error:
        build(Refused, {'says': says}, path, given=1)
    assert str(error.value) == words and str(error.value.__cause__) == says


def test_a_config_of_few_keys_is_completed():
    full = complete_config(ConfigDict({'task': 'vqvae', 'steps': 7, 'quantizer': {'num_codes': 9}}))
    assert (full.steps, full.quantizer.num_codes, full.quantizer.dim) == (7, 9, 64)
    assert set(full) == set(default_config('vqvae'))


@pytest.mark.parametrize(
    'config, words',
    [
        ({'task': 'vqvea'}, 'choose one of vae, vqvae, gan, vqgan'),
        ({}, 'no key task'),
        ({'task': 'vqvae', 'stesp': 1}, "did you mean 'steps'"),
        ({'task': 'vqvae', 'data': {'nmae': 'x'}}, 'config.data.nmae is not read by anything; did you mean'),
        ({'task': 'vqvae', 'data': 'mnist'}, 'section'),
        ({'task': 'vqvae', 'steps': 'x'}, 'config.steps'),
        ({'task': 'vqvae', 'seed': -1}, 'config.seed is -1; give 0 or more'),
        # Of quantizers that the config does not choose: they are stored with the run.
        ({'task': 'vqvae', 'lfq': {'bits': b'x'}}, "config.lfq.bits is b'x', which is not of type int"),
        ({'task': 'vqgan', 'fsq': {'levels': (5, 1j)}}, 'config.fsq.levels'),
        ({'task': 'vqgan', 'gaussian': {'latent_dim': float('nan')}}, 'config.gaussian.latent_dim'),
        ({'task': 'vqgan', 'lfq': {'entropy': float('nan')}}, 'config.lfq.entropy is nan; give a finite'),
        ({'task': 'vqvae', 'optimizer': {'accumulate': 4}}, FORMER_KEYS['accumulate']),
        (
            {'task': 'gan', 'discriminator_optimizer': {'accumulate': 2}},
            'config.discriminator_optimizer.accumulate is 2, and nothing reads it',
        ),
        ({'task': 'prior', 'model': {'level': 'top'}}, 'config.model.level is top, and nothing reads it'),
        ({'task': 'prior', 'model': {'top_workdir': 'x'}}, 'set config.model.coarser_workdir instead'),
    ],
)
def test_full_configs_with_mistakes(config, words):
    with pytest.raises(UserError) as error:
        complete_config(ConfigDict(config))
    assert words in str(error.value)


def test_a_run_of_before_that_accumulated_nothing_opens():
    config = ConfigDict({'task': 'vqvae', 'optimizer': {'accumulate': 1, 'b1': 0.8}})
    full = complete_config(config)
    assert (full.accumulate, full.optimizer.b1) == (1, 0.8) and 'accumulate' not in full.optimizer


def test_a_prior_of_before_over_one_scale_opens():
    full = complete_config(ConfigDict({'task': 'prior', 'model': {'level': None, 'top_workdir': ''}}))
    assert full == default_config('prior')


def read(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_other_runs(config):
    """The config, with pixels for the codes and latents of runs that are not here."""
    if config.task == 'vqgan' and config.perceptual.kind == 'lpips':
        config.perceptual.kind = 'ms_ssim'  # the weights are not here
    if config.task in ('prior', 'captioner'):
        config.tokenizer.workdir = ''
    if config.task == 'diffusion':
        config.latent.workdir = ''
    return config


def spec_of(path, config, size=None):
    """The spec of the examples of a config file; of images and video of another size, if one is given."""
    if path.parent.name == 'audio':
        return Spec('audio', (config.data.num_samples, 1), 8000.0)
    if config.data.num_tokens is not None:
        return Spec('text', (config.data.num_tokens,), tokens=Tokens('bytes'))
    size = size or (8 if config.task in ('prior', 'captioner') else config.data.image_size or 28)
    if path.parent.name == 'video':
        return Spec('video', (config.data.frames, size, size, config.data.channels))
    return Spec('image', (size, size, config.data.channels))


def task_of(path):
    """The task of a config file, and the spec of its examples."""
    config = without_other_runs(complete_config(read(path).get_config()))
    spec = spec_of(path, config)
    return make_task(config, spec, num_classes=10), spec


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_says_how_to_run_it(path):
    doc = read(path).__doc__
    assert path.name in doc or 'make train' in doc
    complete_config(read(path).get_config())


# Priors of sound need the codes of a run, for which no pixels stand.
ALONE = [path for path in CONFIGS if path.stem not in ('speech_prior', 'codec_prior')]


@pytest.mark.parametrize('path', ALONE, ids=lambda path: path.stem)
def test_every_config_makes_its_task(path):
    task, spec = task_of(path)
    task.check_spec(spec)


# Deep networks whose like are traced for other configs.
DEEP = (
    'codec_16k',
    'codec_24k',
    'codec_44k',
    'ddpm_cifar10',
    'ddpm_imagenette',
    'kl_f8_imagenet',
    'ldm_imagenet',
    'ldm_imagenette',
    'magvit2',
    'prior_imagenet',
    'sr_imagenette',
    'videogpt',
    'vqgan_imagenet',
)


@pytest.mark.parametrize(
    'path',
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in DEEP else [])
        for path in ALONE
    ],
)
def test_every_config_fits_its_task(path):
    """A step of the whole model is traced, of which nothing is computed."""
    task, spec = task_of(path)
    batch = abstract_batch(2, spec, task.condition_specs)
    state = jax.eval_shape(task.init, jax.random.key(0), batch).replace(frozen=task.pretrained_shapes())
    after, metrics = jax.eval_shape(task.train_step, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.tree.leaves(after) == jax.tree.leaves(state)
    assert all(value.shape == () for value in metrics.values())


@pytest.mark.parametrize('variant, parameters', [('f16_16384', 76_073_859), ('f8', 67_717_295)])
def test_published_vqgans_have_as_many_parameters(variant, parameters):
    """f16-16384 of Esser et al. 2021 and vq-f8 of Rombach et al. 2022, without their discriminators."""
    (path,) = (path for path in CONFIGS if path.stem == 'vqgan_imagenet')
    spec = Spec('image', (64, 64, 3))
    task = make_task(complete_config(read(path).get_config(variant)), spec, num_classes=0)
    state = jax.eval_shape(task.init, jax.random.key(0), abstract_batch(1, spec))
    assert sum(x.size for x in jax.tree.leaves(state.generator.params)) == parameters


@pytest.mark.slow
@pytest.mark.parametrize('path', ALONE, ids=lambda path: path.stem)
def test_every_config_trains_a_step(path):
    """One real step on two examples.

    Models for images of more than 128 pixels, or for video of as many, are given 32, and their channels are
    an eighth; those of VQGAN have one residual block a level. Channels of codecs are an eighth. Transformers
    have two blocks at most. The networks of diffusion models are small.
    """
    config = without_other_runs(complete_config(read(path).get_config()))
    size = config.data.image_size or 28
    if size > 128 or path.stem in ('magvit2', 'videogpt'):
        size = 32
        if config.task not in ('diffusion', 'prior'):
            config.model.channels //= 8
        if config.task == 'vqgan':
            config.model.residual_blocks = 1
    if path.stem.startswith('codec_'):
        config.seanet.channels //= 8
        config.seanet.decoder_channels = (
            config.seanet.decoder_channels and config.seanet.decoder_channels // 8
        )
    if config.task in ('prior', 'captioner'):
        size = 8
        config.transformer.depth = min(config.transformer.depth, 2)
    if config.task == 'diffusion':
        size = 16
        config.unet.channels, config.unet.head_channels, config.unet.residual_blocks = 8, 8, 1
        config.unet.multipliers, config.unet.attention_resolutions = config.unet.multipliers[:2], (1,)
        config.dit.depth, config.dit.width, config.dit.heads = 1, 32, 2
    spec = spec_of(path, config, size)
    task = make_task(config, spec, num_classes=10)
    task.check_spec(spec)
    state = init_state(task.init, jax.random.key(0), spec).replace(frozen=task.pretrained())
    rng, batch = np.random.default_rng(0), abstract_batch(2, spec, task.condition_specs)
    batch = {name: rng.integers(0, 256, one.shape).astype(one.dtype) for name, one in batch.items()}
    batch |= {'label': np.zeros(2, np.int32), 'mask': np.ones(2, bool)}
    after, metrics = jax.jit(task.train_step)(state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert int(after.step) == 1 and np.isfinite(list(metrics.values())).all()
    two = isinstance(state, AdversarialState)
    for before, now in [(state.generator, after.generator)] if two else [(state, after)]:
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), before.params, now.params)
        assert config.optimizer.warmup_steps or np.mean(jax.tree.leaves(moved)) > 0.9
