"""Every quantizer in every model that has one, chosen in a config."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.ops.usage import CodeCounts
from vq_jax.quantizers import (
    BinarySphericalQuantizer,
    FiniteScalarQuantizer,
    GroupedQuantizer,
    GumbelQuantizer,
    IndexBackpropagationQuantizer,
    LookupFreeQuantizer,
    MultiScaleQuantizer,
    ResidualQuantizer,
    SimVectorQuantizer,
    VectorQuantizer,
)
from vq_jax.spec import Spec
from vq_jax.tasks import complete_config, make_task
from vq_jax.tasks.code_reports import summarize, usage_of_batch
from vq_jax.tasks.quantizer_config import more_codes
from vq_jax.training.state import AdversarialState, TrainState, abstract_batch

CHOICES = {
    'vq': VectorQuantizer(num_codes=7, dim=8),
    'simvq': SimVectorQuantizer(5, dim=8),
    'fsq': FiniteScalarQuantizer((3, 4), dim=8),
    'lfq': LookupFreeQuantizer(3, dim=8, entropy=0.2),
    'bsq': BinarySphericalQuantizer(36, dim=8, group_bits=12),
    'ibq': IndexBackpropagationQuantizer(11, dim=8, code_dim=4),
    'gumbel': GumbelQuantizer(9, dim=8),
}
MULTI_SCALE = {'quantizer.kind': 'multi_scale', 'multi_scale.scales': (1, 2, 4)}
VOCABULARIES = {
    'vq': (7,),
    'simvq': (5,),
    'fsq': (12,),
    'lfq': (8,),
    'bsq': (4096,) * 3,
    'ibq': (11,),
    'gumbel': (9,),
}


def task_of(task, kind='vq', **changes):
    config = complete_config(
        ConfigDict(
            {
                'task': task,
                'quantizer': {'kind': kind, 'num_codes': 7},
                'simvq': {'num_codes': 5},
                'fsq': {'levels': (3, 4)},
                'lfq': {'bits': 3, 'entropy': 0.2},
                'bsq': {'bits': 36, 'group_bits': 12},
                'ibq': {'num_codes': 11, 'code_dim': 4},
                'gumbel': {'num_codes': 9},
            }
        )
    )
    if task == 'vqvae':
        config.quantizer.dim, config.model.channels, config.model.residual_channels = 8, 8, 8
    else:
        config.model.channels, config.model.features, config.model.residual_blocks = 8, 8, 1
        config.model.multipliers, config.model.attention_resolutions = (1, 2), ()
        config.discriminator.channels, config.discriminator.stages = 8, 2
        config.perceptual.kind = 'none'
    config.update_from_flattened_dict(changes)
    return make_task(config, Spec('image', (16, 16, 3)))


@pytest.mark.parametrize('kind', CHOICES)
def test_each_kind_is_made_of_its_section(kind):
    assert task_of('vqvae', kind).model.bottleneck == CHOICES[kind]
    two = task_of('vqvae', kind, **{'model.top_stages': 1}).model
    assert two.quantizers == (CHOICES[kind],) * 2
    task = task_of('vqgan', kind)
    assert task.model.bottleneck == CHOICES[kind]
    assert task.vocabularies == (VOCABULARIES[kind],) == (CHOICES[kind].vocabulary,)
    assert not task_of('vqgan', kind, **{'variant.bottleneck': 'gaussian'}).vocabularies


def test_groups_are_of_any_kind():
    changes = {'quantizer.groups': 2, 'residual.depth': 2, 'residual.shared': True, 'residual.dropout': 0.5}
    task = task_of('vqgan', 'residual', **changes)
    of_group = ResidualQuantizer(VectorQuantizer(num_codes=7, dim=4), 2, shared=True, dropout=0.5)
    assert task.model.bottleneck == GroupedQuantizer(of_group, 2)
    assert task.vocabularies == ((7, 7, 7, 7),) and task.decodable == ((2, 4),)
    batch = abstract_batch(2, Spec('image', (16, 16, 3)))
    state = jax.eval_shape(task.init, jax.random.key(0), batch)
    after, metrics = jax.eval_shape(task.train_step, state, batch)
    assert jax.tree.leaves(after) == jax.tree.leaves(state)
    assert {'perplexity_depth_3', 'codebook_usage_depth_0', 'codes_revived'} <= set(metrics)
    of_group = task_of('vqvae', 'simvq', **{'quantizer.groups': 4}).model.bottleneck.quantizer
    assert of_group == SimVectorQuantizer(5, dim=2)


def test_a_multi_scale_quantizer_has_the_grid_of_the_model_and_a_scale_of_codes_for_each():
    by_angle = {'cosine': True, 'unit_length': False}
    changes = {'multi_scale.scales': (1, 3, 8), 'multi_scale.convolutions': 2}
    changes |= {f'quantizer.{key}': value for key, value in by_angle.items()}
    task = task_of('vqgan', 'multi_scale', **changes)
    vq = VectorQuantizer(num_codes=7, dim=8, **by_angle)
    assert task.model.bottleneck == MultiScaleQuantizer(vq, (8, 8), (1, 3, 8), convolutions=2)
    assert task.vocabularies == ((7,),) * 3 and task.decodable_scales == (1, 2, 3)
    two = task_of('vqvae', 'vq', **{'model.top_stages': 1})
    assert two.decodable_scales == (2,) and not two.model.shared_codebook

    batch = abstract_batch(2, Spec('image', (16, 16, 3)))
    state = jax.eval_shape(task.init, jax.random.key(0), batch)
    after, metrics = jax.eval_shape(task.train_step, state, batch)
    assert jax.tree.leaves(after) == jax.tree.leaves(state)
    names = {
        f'{name}{of}' for name in ('perplexity', 'codebook_usage') for of in ('', '_scale_0', '_scale_2')
    }
    assert names | {'codes_revived', 'commitment_loss', 'codebook_loss'} <= set(metrics)
    values = jax.eval_shape(task.eval_step, state, batch)
    assert [values[f'codes_scale_{i}'].shape for i in range(3)] == [(2, n, n, 1) for n in (1, 3, 8)]
    # Of what scales share, the use by all of them counts.
    usage = {f'codebook_usage_scale_{i}': 0.01 for i in range(3)} | {'examples': 1000}
    assert task.watch_evaluation({**usage, 'codebook_usage': 0.5}) is None
    text = task.watch_evaluation({**usage, 'codebook_usage': 0.01})
    assert re.search('codebook_usage is 1.00% of 7. Set .* fewer dimensions .config.model.features', text)


def test_the_use_of_a_shared_codebook_is_that_of_all_scales_together():
    codes = np.array([[[0, 0], [1, 0]]])[..., None], np.array([[[2]]])[..., None]
    named = {f'codes_scale_{i}': (CodeCounts.of(scale),) for i, scale in enumerate(codes)}
    vocabularies = (4,), (4,)
    expected = CodeCounts.of(np.array([0, 0, 1, 0, 2])).usage(4)
    summary = summarize(named, vocabularies, shared_codebook=True)
    batch = usage_of_batch(tuple(map(jnp.asarray, codes)), vocabularies, shared_codebook=True)
    for name, value in expected.items():
        assert summary[name] == pytest.approx(value)
        assert name == 'dead_codes' or batch[name] == pytest.approx(value, rel=1e-6)
    assert summary['codebook_usage_scale_0'] == 0.5 and summary['codebook_usage_scale_1'] == 0.25
    assert 'codebook_usage' not in summarize(named, vocabularies)


@pytest.mark.parametrize(
    'name, kind, top_stages', [('vqvae', 'lfq', 1), ('vqgan', 'fsq', 0), ('vqvae', 'gumbel', 1)]
)
def test_a_step_and_an_evaluation_fit_the_state(name, kind, top_stages):
    """Traced, of which nothing is computed."""
    task = task_of(name, kind, **({'model.top_stages': 1} if top_stages else {}))
    batch = abstract_batch(2, Spec('image', (16, 16, 3)))
    state = jax.eval_shape(task.init, jax.random.key(0), batch)
    after, metrics = jax.eval_shape(task.train_step, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.tree.leaves(after) == jax.tree.leaves(state)
    suffixes = ('_scale_0', '_scale_1') if top_stages else ('',)
    names = ('perplexity', 'code_entropy_bits', 'codebook_usage') + (
        ('entropy_of_mean',) if kind == 'lfq' else ()
    )
    assert {name + suffix for suffix in suffixes for name in names} <= set(metrics)
    values = jax.eval_shape(task.eval_step, state, batch)
    for suffix, side in zip(suffixes, (2, 4) if top_stages else (8,), strict=True):
        assert values[f'codes{suffix}'].shape == (2, side, side, 1)


@pytest.mark.parametrize('kind', [kind for kind in CHOICES if kind != 'vq'])
def test_nothing_is_placed_before_the_first_step(kind):
    state = TrainState(*[None] * 6)
    assert task_of('vqvae', kind).init_from_data(None, state, None, None) is state
    players = AdversarialState(generator=state, discriminator=None)
    assert task_of('vqgan', kind).init_from_data(None, players, None, None).generator is state


@pytest.mark.parametrize(
    'kind, words',
    [
        ('bsq', r'Raise config.bsq.diversity'),
        ('ibq', r'Raise config.ibq.diversity'),
        ('fsq', r'Give fewer config.fsq.levels'),
        ('gumbel', r'Raise config.gumbel.kl'),
        (
            'vq',
            r'Compare in fewer dimensions \(config.quantizer.code_dim\), or lower config.quantizer.num_codes',
        ),
    ],
)
def test_few_codes_in_use_are_told_with_what_to_do(kind, words):
    task = task_of('vqvae', kind)
    depths = range(len(VOCABULARIES[kind]))
    usage = {'codebook_usage' + (f'_depth_{i}' if len(depths) > 1 else ''): 0.5 for i in depths}
    assert task.watch_evaluation({**usage, 'examples': 1000}) is None
    name = list(usage)[-1]
    text = task.watch_evaluation({**usage, name: 0.01, 'examples': 1000})
    assert text.startswith(f'few codes are in use: {name} is 1.00% of {VOCABULARIES[kind][-1]:,}. ')
    assert re.search(words, text)
    # Of few examples there cannot be many codes.
    if kind == 'bsq':
        assert task.watch_evaluation(dict.fromkeys(usage, 0.003) | {'examples': 1}) is None


def test_only_what_is_not_set_yet_is_advised():
    config = complete_config(ConfigDict({'task': 'vqvae', 'quantizer': {'revive_below': 0.0}}))
    assert more_codes(config).startswith('Set config.quantizer.revive_below=0.1 in a new run, compare in')
    config.quantizer.codebook_init = 'random'
    assert 'revive_below=0.1 and config.quantizer.codebook_init=kmeans in a new' in more_codes(config)


@pytest.mark.parametrize(
    'changes, words',
    [
        (
            {'quantizer.kind': 'lqf'},
            r"config.quantizer.kind is 'lqf'; choose one of vq, residual, multi_scale, simvq, fsq, lfq, bsq",
        ),
        ({'fsq.levels': (8.5,)}, 'config.fsq.levels is .* not of type tuple of int'),
        ({'quantizer.kind': 'fsq', 'lfq.bits': 'x'}, 'config.lfq.bits'),
        ({'quantizer.groups': 3}, 'config.quantizer.groups is 3, and vectors of 64 numbers cannot be split'),
        ({'quantizer.groups': 0}, 'config.quantizer.groups is 0; give'),
        (
            {'quantizer.estimator': 'x'},
            "config.quantizer.estimator is 'x'; choose one of straight_through, rot",
        ),
        ({'quantizer.orthogonality': 0.1}, 'config.quantizer.orthogonality is 0.1, and a codebook of moving'),
        ({'quantizer.unit_length': False}, 'config.quantizer.unit_length is False, and nothing but cosine'),
        ({'simvq.num_codes': 0}, 'config.simvq.num_codes is 0'),
        (
            {'quantizer.kind': 'fsq', 'quantizer.cosine': True},
            'config.quantizer.cosine is True, .*kind=fsq does not read; set it to False, or another',
        ),
        (
            {'quantizer.kind': 'simvq', 'quantizer.estimator': 'rotation'},
            'quantizer.estimator is rotation, .* set it to straight_through, and give config.simvq.estimator',
        ),
        (
            {'quantizer.kind': 'multi_scale'},
            r'config.multi_scale.scales is .* 16\), and the vectors have a grid of 4x4; let the last be 4',
        ),
        ({**MULTI_SCALE, 'quantizer.groups': 2}, 'config.quantizer.groups is 2, and the quantizer multi_sc'),
        (
            {**MULTI_SCALE, 'quantizer.code_dim': 2},
            'config.multi_scale: a multi-scale .* code_dim of 2; leave',
        ),
        (
            {**MULTI_SCALE, 'model.top_stages': 1},
            'which has scales of its own; set config.model.top_stages to',
        ),
        (
            {'quantizer.kind': 'ibq', 'accumulate': 2},
            'the mean .config.ibq.diversity.* config.ibq.diversity=0',
        ),
    ],
)
def test_mistakes(changes, words):
    with pytest.raises(UserError, match=words):
        config = complete_config(ConfigDict({'task': 'vqvae'}))
        with config.ignore_type():
            config.update_from_flattened_dict(changes)
        make_task(config, Spec('image', (16, 16, 3)))
