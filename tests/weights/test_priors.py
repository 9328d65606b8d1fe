"""Transformers of other projects beside their own modules, on runs of the tokenizers they sample with."""

import dataclasses
import json
import math
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest

import vq_jax
from tests.weights.models import (
    HEADS,
    LABELS,
    OF_CODES,
    codes,
    random_weights,
)
from vq_jax.errors import UserError
from vq_jax.tasks.conversion import convert, export_run
from vq_jax.weights import PROJECTS, read_weights, write_pytorch, write_safetensors
from vq_jax.weights.gpt import GPTSizes
from vq_jax.weights.vqgan import Sizes

# What the projects' own modules give: see `make_published_networks.py`.
PUBLISHED = json.loads(Path(__file__).with_name('published_networks.json').read_text())
TINY = Sizes(3, 128, (1,), 1, (), 8, 8, 16)  # a code for each pixel
TOKENIZER = {'taming-gpt': 'taming', 'llamagen-gpt': 'llamagen'}


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A checkpoint of each project, and the run of a tokenizer, by the names of the former."""
    folder, found = tmp_path_factory.mktemp('priors'), {}
    for project, of in TOKENIZER.items():
        sizes = dataclasses.replace(TINY, num_codes=OF_CODES[project].num_codes)
        tokenizer = random_weights(of, sizes)
        write_safetensors(folder / f'{of}.safetensors', tokenizer, {})
        run = convert(folder / f'{of}.safetensors', of, {'data.image_size': 8, 'discriminator.stages': 1})
        run.write(folder / of)
        section = PROJECTS[project].section
        weights = random_weights(project)
        if project == 'taming-gpt':  # its files hold the tokenizer too
            theirs = {f'transformer.{name}': array for name, array in weights.items()}
            theirs |= {f'first_stage_model.{name}': array for name, array in tokenizer.items()}
            weights, section = theirs, 'state_dict'
        write_pytorch(folder / f'{project}.ckpt', {section: weights})
        found[project] = folder / f'{project}.ckpt', folder / of
    return found


def overrides(project, tokenizer):
    given = {'tokenizer.workdir': str(tokenizer), 'data.image_size': 8, 'transformer.heads': HEADS}
    classes = {'model.class_conditional': True, 'model.label_dropout': 0.0}
    return given | (classes if project == 'taming-gpt' else {})


@pytest.mark.parametrize('project', [pytest.param('taming-gpt', marks=pytest.mark.slow), 'llamagen-gpt'])
def test_transformers_equal_those_of_other_projects(files, project):
    source, tokenizer = files[project]
    made = convert(source, project, overrides(project, tokenizer))
    network, tokens = made.task.network, codes(project)

    @jax.jit
    def logits(variables):
        context = network.context(variables, np.array(LABELS))
        return network.logits(variables, tokens, tokens >= 0, context)

    found = logits(made.state.eval_variables())
    np.testing.assert_allclose(found[:, ::7, ::8].reshape(-1), PUBLISHED[project]['logits'], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('project', OF_CODES)
def test_converted_priors_sample_and_go_back(files, project, tmp_path):
    source, tokenizer = files[project]
    convert(source, project, overrides(project, tokenizer)).write(tmp_path / 'run')
    run = vq_jax.load(tmp_path / 'run')
    guidance = {} if project == 'taming-gpt' else {'guidance': 2.0}
    sampling = dataclasses.replace(run.task.sampling, temperature=0.0, top_k=None, top_p=None, **guidance)
    keys = jax.random.split(jax.random.key(0), 2)
    sampled = run.task.sample_codes(run.state, keys, np.array(LABELS), sampling=sampling)
    np.testing.assert_array_equal(sampled.reshape(2, 64), PUBLISHED[project]['sampled'])
    assert run.sample(2, label=3, seed=1).shape == (2, 8, 8, 3)
    export_run(tmp_path / 'run', project, tmp_path / 'back.safetensors')
    back = read_weights([tmp_path / 'back.safetensors']).arrays
    wanted = random_weights(project)
    assert {name for name in back if not name.endswith('attn.mask')} == set(wanted)
    for name, array in wanted.items():
        assert back[name].tobytes() == array.tobytes(), name
    if project == 'taming-gpt':
        np.testing.assert_array_equal(back['blocks.1.attn.mask'][0, 0], np.tril(np.ones((64, 64))))
    other = 'llamagen-gpt' if project == 'taming-gpt' else 'taming-gpt'
    with pytest.raises(UserError, match=r'cannot be written as a model of .*GPT: config\.'):
        export_run(tmp_path / 'run', other, tmp_path / 'x.ckpt')
    with pytest.raises(UserError, match='is a run of the task prior; taming-transformers has none of that'):
        export_run(tmp_path / 'run', 'taming', tmp_path / 'x.ckpt')


@pytest.mark.parametrize(
    'project, sizes, parameters, names',
    [
        # CRC-32 of the sorted lines 'name (shape)' of the state dicts of the projects' own models, without
        # the masks of attention.
        ('taming-gpt', GPTSizes(48, 1536, 6144, 16_384, 256, 0), 1_410_640_896, 3151202799),
        ('llamagen-gpt', GPTSizes(12, 768, 2048, 16_384, 0, 1000), 110_888_448, 1970201866),
        ('llamagen-gpt', GPTSizes(24, 1024, 2816, 16_384, 0, 1000), 342_910_976, 1212299932),
        ('llamagen-gpt', GPTSizes(36, 1280, 3584, 16_384, 0, 1000), 774_699_520, 1522422062),
        ('llamagen-gpt', GPTSizes(48, 1536, 4096, 16_384, 0, 1000), 1_410_972_672, 1497871794),
        ('llamagen-gpt', GPTSizes(24, 3200, 8704, 16_384, 0, 1000), 3_096_659_200, 3318618959),
    ],
)
def test_tables_are_those_of_published_transformers(project, sizes, parameters, names):
    config = {'model.class_conditional': True, **PROJECTS[project].known_as(sizes).config}
    shapes = {row.theirs: row.shape for row in PROJECTS[project].table(sizes, config)}
    assert sum(map(math.prod, shapes.values())) == parameters
    lines = sorted(f'{name} {shape}' for name, shape in shapes.items())
    assert zlib.crc32('\n'.join(lines).encode()) == names


@pytest.mark.parametrize(
    'project, changes, told',
    [
        ('taming-gpt', {'tokenizer.workdir': ''}, 'by --override=tokenizer.workdir=DIR'),
        ('taming-gpt', {'transformer.heads': None}, 'do not say what transformer.heads was'),
        ('llamagen-gpt', {'transformer.mlp': 'gelu'}, 'transformer.mlp is as the arrays of'),
        ('llamagen-gpt', {'transformer.heads': 5}, 'width is 64, not a multiple of 5 heads'),
        ('taming-gpt', {'data.image_size': 16}, 'learns as many codes, and these are 256; give its size'),
    ],
)
def test_what_is_missing_or_does_not_fit_is_told(files, project, changes, told):
    source, tokenizer = files[project]
    given = overrides(project, tokenizer) | changes
    with pytest.raises(UserError, match=told):
        convert(source, project, {key: value for key, value in given.items() if value is not None})


def test_files_are_known_by_what_is_in_them(files, tmp_path):
    with pytest.raises(UserError, match='of several projects; say which by --from=taming or taming-gpt'):
        convert(files['taming-gpt'][0])
    with pytest.raises(UserError, match="is not a model of LlamaGen: it holds LlamaGen's class"):
        convert(files['llamagen-gpt'][0], 'llamagen')
    weights = random_weights('taming-gpt')
    mask = {f'blocks.{i}.attn.mask': np.ones((1, 1, 64, 64), np.float32) for i in range(2)}
    write_safetensors(tmp_path / 'a.safetensors', weights | mask, {})
    given = overrides('taming-gpt', files['taming-gpt'][1])
    with pytest.raises(UserError, match=r'of other values than the network has: blocks\.0\.attn\.mask'):
        convert(tmp_path / 'a.safetensors', overrides=given)
    write_safetensors(tmp_path / 'b.safetensors', {**weights, 'head.weight': weights['head.weight'][:9]}, {})
    with pytest.raises(UserError, match=r'of another shape: head.weight \(\(9, 64\) there, \(1024, 64\) nee'):
        convert(tmp_path / 'b.safetensors', overrides=given)
