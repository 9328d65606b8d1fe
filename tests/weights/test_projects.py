"""Tables of names against lists of published checkpoints, and models beside those of other projects."""

import dataclasses
import functools
import hashlib
import json
import math
import re
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest

import vq_jax
from tests.weights.models import CODED, KL, SCALES, TOKENIZERS, images, random_weights, sizes_of
from vq_jax.errors import UserError
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.codes import write_codes
from vq_jax.tasks.conversion import check_new, convert, export_run, origin_in_words
from vq_jax.tasks.init_from import take_weights
from vq_jax.tasks.registry import complete_config
from vq_jax.tasks.restore import write_for_inference
from vq_jax.training.run_dir import DataFacts
from vq_jax.training.state import abstract_batch
from vq_jax.weights import PROJECTS, read_weights, write_pytorch, write_safetensors
from vq_jax.weights.project import theirs_of
from vq_jax.weights.vqgan import Sizes

# What the projects' own modules give: see `make_published.py`.
PUBLISHED = json.loads(Path(__file__).with_name('published.json').read_text())
F16 = Sizes(3, 128, (1, 1, 2, 2, 4), 2, (4,), 256, 256, 1024)
DS16 = Sizes(3, 128, (1, 1, 2, 2, 4), 2, (4,), 256, 8, 16_384)


@pytest.mark.parametrize(
    'project, sizes, parameters, names',
    [
        # CRC-32 of the sorted lines 'name (shape)' of the state dicts of taming-transformers' f16-1024,
        # LlamaGen's vq_ds16_c2i and VAR's tokenizer, without losses and the record of codes used.
        ('taming', F16, 72_141_699, 3109195042),
        ('llamagen', DS16, 71_883_403, 1866608190),
        ('var', Sizes(3, 160, (1, 1, 2, 2, 4), 2, (4,), 32, 32, 4096), 108_948_355, 3002036440),
        # Esser et al.'s f16-16384, and vq-f8 of Rombach et al., by the numbers of their parameters.
        ('taming', Sizes(3, 128, (1, 1, 2, 2, 4), 2, (4,), 256, 256, 16_384), 76_073_859, None),
        ('taming', Sizes(3, 128, (1, 2, 2, 4), 2, (3,), 4, 4, 16_384), 67_717_295, None),
        # Stable Diffusion's, which diffusers counts.
        ('latent-diffusion', Sizes(3, 128, (1, 2, 4, 4), 2, (), 4, 4, 0), 83_653_863, None),
    ],
)
def test_tables_are_those_of_published_checkpoints(project, sizes, parameters, names):
    shapes = {row.theirs: row.shape for row in PROJECTS[project].table(sizes)}
    assert sum(map(math.prod, shapes.values())) == parameters
    if names is not None:
        lines = sorted(f'{name} {shape}' for name, shape in shapes.items())
        assert zlib.crc32('\n'.join(lines).encode()) == names


def test_the_same_layers_are_the_same_arrays_of_ours():
    ways = {
        name: [(row.ours, row.ours_shape) for row in PROJECTS[name].table(CODED)]
        for name in TOKENIZERS
        if PROJECTS[name].bottleneck == 'vq'
    }
    assert len(ways) == 3 and all(way == ways['taming'] for way in ways.values())


@pytest.fixture(scope='module')
def taming(tmp_path_factory):
    """A checkpoint of taming-transformers on disk, with arrays of its losses, which are not needed."""
    path = tmp_path_factory.mktemp('taming') / 'last.ckpt'
    losses = {'loss.discriminator.main.0.weight': np.zeros((64, 3, 4, 4), np.float32)}
    write_pytorch(path, {'state_dict': random_weights('taming') | losses})
    return path


def beside(project, latents, decoded):
    """Asserts that codes or latents and images are those of the project's own modules."""
    wanted = PUBLISHED[project]
    if 'codes' in wanted:
        np.testing.assert_array_equal(latents, np.reshape(wanted['codes'], latents.shape))
    else:
        np.testing.assert_allclose(latents[:, ::3, ::3].reshape(-1), wanted['latents'], atol=1e-4)
    np.testing.assert_allclose(decoded[:, ::3, ::3].reshape(-1), wanted['decoded'], atol=1e-4)


def reconstructed(task, variables):
    @jax.jit
    def both(variables, x):
        outputs, quantized = task.model.apply(variables, x)
        return outputs, quantized.codes[0]

    return jax.device_get(both(variables, images() / np.float32(127.5) - 1))


def test_vqgan_equals_that_of_taming_transformers(taming):
    made = convert(taming)
    decoded, codes = reconstructed(made.task, made.state.eval_variables())
    beside('taming', codes[..., 0], decoded)
    assert made.left_out == ('loss.discriminator.main.0.weight',)
    told = origin_in_words(made.facts.origin)
    sha256 = hashlib.sha256(taming.read_bytes()).hexdigest()
    assert 'a model of taming ' in told and 'code under MIT' in told and sha256 in told


def test_arrays_go_there_and_back_bit_for_bit():
    kinds = {}
    for project in TOKENIZERS:
        for row in PROJECTS[project].table(CODED):
            kinds.setdefault(row.theirs, {})[row.shape, row.axes, row.part] = row
    assert {row.parts for rows in kinds.values() for row in rows.values()} == {1, 3}
    seen = set()
    for name, found in kinds.items():
        for shape in {shape for shape, *_ in found} - seen:
            seen.add(shape)  # once is enough of each
            rows = [row for row in found.values() if row.shape == shape]
            theirs = np.arange(math.prod(shape), dtype=np.int32).view(np.float32).reshape(shape)
            ours = {row.ours: row.to_ours(theirs) for row in rows}
            assert all(ours[row.ours].shape == row.ours_shape for row in rows)
            assert theirs_of(rows, ours)[name].tobytes() == theirs.tobytes()


def test_a_published_model_is_known_by_its_sizes():
    published = PROJECTS['taming'].known_as(F16)
    assert published.name == 'f16-1024' and published.config['adversarial.weight'] == 0.8
    assert PROJECTS['llamagen'].known_as(DS16).facts == {
        'rFID on the validation set of ImageNet, 256 pixels': '2.19'
    }
    assert PROJECTS['llamagen'].known_as(DS16).config['adversarial.adaptive'] is False
    assert PROJECTS['taming'].known_as(CODED) is None


def test_what_is_known_of_published_models_are_keys_of_the_config():
    for task, published in ((p.TASK, one) for p in PROJECTS.values() for one in p.published):
        config = default_config(task)
        config.update_from_flattened_dict(published.config)  # raises for a key that is not there
        complete_config(config)


FEW = Sizes(3, 128, (1,), 1, (), 8, 8, 16)
TINY = {'data.image_size': 16, 'discriminator.stages': 1}


def zeros(project, **sizes):
    """A small model of a project."""
    rows = PROJECTS[project].table(dataclasses.replace(FEW, **sizes))
    return {row.theirs: np.zeros(row.shape, np.float32) for row in rows}


SMALL = zeros('taming', latent=4)


@pytest.mark.parametrize(
    'changes, told',
    [
        (
            {'decoder.conv_out.bias': None, 'decoder.conv_out.bios': np.zeros(3, np.float32)},
            'is no whole model of taming-transformers; missing: decoder.conv_out.bias (there is '
            'decoder.conv_out.bios); of no use: decoder.conv_out.bios.',
        ),
        (
            {'decoder.conv_out.bias': np.zeros(4, np.float32)},
            'of another shape: decoder.conv_out.bias ((4,) there, (3,) needed).',
        ),
        (
            {'decoder.conv_out.bias': np.full(3, np.nan, np.float32)},
            'holds numbers that are not finite, in decoder.conv_out.bias;',
        ),
        ({'post_quant_conv.weight': None}, 'post_quant_conv.weight, by which the size of a model of'),
        ({'encoder.conv_in.weight': np.zeros((96, 3, 3, 3), np.float32)}, 'the channels of a model'),
        (
            {name: None for name in SMALL if name.startswith('enc')},
            'is not a model of taming-transformers, LlamaGen, ',
        ),
        (
            dict.fromkeys(SMALL) | {'features.0.weight': np.zeros(1, np.float32)},
            ': it holds VGG-16 of torchvision.',
        ),
    ],
)
def test_what_is_no_whole_checkpoint_is_told(tmp_path, changes, told):
    arrays = {name: array for name, array in (SMALL | changes).items() if array is not None}
    write_safetensors(tmp_path / 'a.safetensors', arrays, {})
    with pytest.raises(UserError) as raised:
        convert(tmp_path / 'a.safetensors')
    assert told in str(raised.value)


def test_files_of_stable_diffusion_are_known(tmp_path):
    """Its VAE has the names that diffusers had first, and beside a U-Net those of latent-diffusion."""
    former = {'to_q': 'query', 'to_k': 'key', 'to_v': 'value', 'to_out.0': 'proj_attn'}
    now = zeros('diffusers-kl', num_codes=0)
    old = {}
    for name, array in now.items():
        before, found, kind = re.fullmatch(r'(.*?)(?:\.(to_q|to_k|to_v|to_out\.0))?\.(\w+)', name).groups()
        old[f'{before}.{former[found]}.{kind}' if found else name] = array
    assert len(old.keys() - now.keys()) == 16  # a weight and a bias each, in encoder and decoder
    renamed = PROJECTS['diffusers-kl'].renamed(old)
    assert renamed.keys() == now.keys() and all(renamed[name] is now[name] for name in now)
    within = {f'first_stage_model.{k}': v for k, v in zeros('latent-diffusion', num_codes=0).items()}
    within['model.diffusion_model.out.0.weight'] = np.zeros(2, np.float32)
    nan = np.full(128, np.nan, np.float32)  # all else is right about them
    old['encoder.mid_block.attentions.0.proj_attn.bias'] = nan
    within['first_stage_model.encoder.mid.attn_1.proj_out.bias'] = nan
    for content, told in (
        (old, 'mid_block.attentions.0.to_out.0.bias'),
        (within, 'mid.attn_1.proj_out.bias'),
    ):
        write_safetensors(tmp_path / 'a.safetensors', content, {})
        with pytest.raises(UserError, match=f'numbers that are not finite, in encoder.{told};'):
            convert(tmp_path / 'a.safetensors')


@pytest.mark.parametrize(
    'project, key, value, told',
    [
        ('taming', 'quantizer.learning', 'moving_average', 'quantizer.learning is as the arrays of'),
        ('taming', 'quantizer.codebook_init', 'kmeans', 'quantizer.codebook_init is as the arrays of'),
        ('llamagen', 'quantizer.unit_length', False, 'quantizer.unit_length is as the arrays of'),
        (
            'var',
            'multi_scale.scales',
            (8, 256),
            r'scales is \(8, 256\), and the convolutions of VAR fit 4 scales',
        ),
    ],
)
def test_the_network_stays_as_it_is(tmp_path, project, key, value, told):
    write_safetensors(tmp_path / 'a.safetensors', zeros(project), {})
    with pytest.raises(UserError, match=told):
        convert(tmp_path / 'a.safetensors', project, {key: value})


@pytest.mark.slow
def test_arrays_of_another_network_than_ours_are_told(tmp_path):
    """VAR's codes are as wide as its features."""
    write_safetensors(tmp_path / 'a.safetensors', zeros('var', latent=4), {})
    small = {**TINY, 'multi_scale.scales': (1, 2, 4, 16)}
    with pytest.raises(UserError) as raised:
        convert(tmp_path / 'a.safetensors', 'var', small)
    told = 'params.bottleneck.phi_0.kernel ((3, 3, 4, 4) there, (3, 3, 8, 8) here)'
    assert 'of another network than its config makes' in str(raised.value) and told in str(raised.value)


def run_of(workdir, project, sizes, **changes):
    """A run of ours whose network is that of a project, of zeros."""
    config = default_config('vqgan')
    config.update_from_flattened_dict({**PROJECTS[project].config(sizes), **TINY, **changes})
    spec = Spec('image', (16, 16, 3))
    task = make_task(config, spec)
    like = jax.eval_shape(task.init, jax.random.key(0), abstract_batch(1, spec)).for_inference()
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    write_for_inference(workdir, complete_config(config), DataFacts(spec, 0), 0, state)


@pytest.mark.slow
def test_runs_are_written_where_they_fit(tmp_path):
    run_of(tmp_path / 'few', 'var', FEW, **{'multi_scale.scales': (1, 16)})
    with pytest.raises(
        UserError, match=r'multi_scale\.scales is \(1, 16\), and the convolutions of VAR fit 4'
    ):
        export_run(tmp_path / 'few', 'var', tmp_path / 'a.safetensors')
    kl = dataclasses.replace(FEW, num_codes=0)
    run_of(tmp_path / 'kl', 'latent-diffusion', kl, **{'quantizer.unit_length': False})  # which has no codes
    export_run(tmp_path / 'kl', 'latent-diffusion', tmp_path / 'kl.safetensors')
    written = read_weights([tmp_path / 'kl.safetensors']).arrays
    assert {name: x.shape for name, x in written.items()} == {
        name: x.shape for name, x in zeros('latent-diffusion', num_codes=0).items()
    }


def test_groups_of_few_channels_are_refused():
    """Here they would be normalised in other groups than there."""
    with pytest.raises(UserError, match='normalises 32 groups'):
        PROJECTS['taming'].config(Sizes(3, 64, (1, 2), 1, (), 8, 4, 16))
    assert PROJECTS['taming'].config(Sizes(3, 160, (1, 2), 1, (), 8, 4, 16))['model.channels'] == 160


@pytest.mark.parametrize('name, told', [('tamming', "did you mean 'taming'"), ('x', 'there are taming, ')])
def test_projects_that_there_are_not(name, told):
    with pytest.raises(UserError, match=told):
        convert('last.ckpt', name)


def test_a_checkpoint_of_another_project_is_not_read_as_one(tmp_path):
    write_safetensors(tmp_path / 'a.safetensors', SMALL, {})
    with pytest.raises(UserError, match='is not a model of LlamaGen'):
        convert(tmp_path / 'a.safetensors', 'llamagen')


def test_folders_of_diffusers_say_what_its_classes_are_made_of():
    """As `make_published.py` makes them."""
    settings = PROJECTS['diffusers-vq'].settings(CODED, {})
    wanted = {
        '_class_name': 'VQModel',
        'down_block_types': ['DownEncoderBlock2D', 'AttnDownEncoderBlock2D'],
        'up_block_types': ['AttnUpDecoderBlock2D', 'UpDecoderBlock2D'],
        'block_out_channels': [128, 256],
        'layers_per_block': 1,
        'latent_channels': 16,
        'num_vq_embeddings': 32,
        'vq_embed_dim': 8,
    }
    assert {key: settings[key] for key in wanted} == wanted
    assert PROJECTS['diffusers-kl'].settings(KL, {})['latent_channels'] == 8
    with pytest.raises(UserError, match='as many features as latent dimensions, and these are 16 and 8'):
        PROJECTS['diffusers-kl'].settings(dataclasses.replace(KL, features=16), {})


@pytest.mark.parametrize(
    'names, told',
    [
        ((), 'has no file of weights; name one'),
        (('a.ckpt', 'b.pth'), 'several files of weights, a.ckpt, b.pth'),
    ],
)
def test_a_folder_has_one_file(tmp_path, names, told):
    for name in names:
        (tmp_path / name).write_bytes(b'x')
    with pytest.raises(UserError, match=told):
        convert(tmp_path)
    write_safetensors(tmp_path / 'c.safetensors', {'features.0.weight': np.zeros(1, np.float32)}, {})
    with pytest.raises(UserError, match=r'c\.safetensors is not a model'):
        convert(tmp_path)


def test_what_is_there_is_kept_and_what_cannot_be_written_is_told(tmp_path):
    (tmp_path / 'a').write_text('')
    for place in (tmp_path, tmp_path / 'a'):
        with pytest.raises(UserError, match='is there already; give a --workdir that is not'):
            check_new(place)
    check_new(tmp_path / 'b')
    with pytest.raises(UserError, match=r'b\.npz; give a name that ends in \.safetensors, \.ckpt'):
        export_run(tmp_path, 'taming', 'b.npz')


@pytest.mark.slow
@pytest.mark.parametrize('project', TOKENIZERS)
def test_runs_of_other_projects_equal_them_and_go_back(tmp_path, project):
    weights = random_weights(project)
    section, others = PROJECTS[project].section, PROJECTS[project].constants(sizes_of(project))
    arrays = weights | {name: np.ones_like(array) for name, array in others.items()}
    write_pytorch(tmp_path / 'theirs.ckpt', {section: arrays} if section else arrays)
    overrides = TINY | {'multi_scale.scales': SCALES} if project == 'var' else None
    convert(tmp_path / 'theirs.ckpt', overrides=overrides).write(tmp_path / 'run')
    run = vq_jax.load(tmp_path / 'run')
    codes = run.encode(images())
    scales = codes if isinstance(codes, tuple) else (codes,)
    if run.task.vocabularies:
        codes = np.concatenate([scale.reshape(2, -1) for scale in scales], axis=1)
        scales = tuple(scale[..., None] for scale in scales)
    decoded = jax.jit(functools.partial(run.task.model.apply, method='decode'))(run.variables, scales)
    beside(project, np.asarray(codes), np.asarray(decoded))
    for ending in ('ckpt', 'safetensors'):
        export_run(tmp_path / 'run', project, tmp_path / f'ours.{ending}')
        back = read_weights([tmp_path / f'ours.{ending}']).arrays
        prefix = f'{section}.' if ending == 'ckpt' and section else ''
        assert back.keys() == {f'{prefix}{name}' for name in arrays}
        for name, array in weights.items():
            assert back[f'{prefix}{name}'].tobytes() == array.tobytes()
    other = 'llamagen' if project in ('taming', 'diffusers-vq') else 'taming'
    with pytest.raises(
        UserError, match=f'run cannot be written as a model of {PROJECTS[other].title}: config'
    ):
        export_run(tmp_path / 'run', other, tmp_path / 'x.ckpt')


@pytest.mark.slow
def test_a_converted_run_is_evaluated_tokenized_and_begun_with(taming, tmp_path):
    convert(taming).write(tmp_path / 'run')
    with pytest.raises(UserError, match='is there already'):
        convert(taming).write(tmp_path / 'run')
    data = {'data.name': 'photos', 'data.eval_split': 'test[:4]', 'data.image_size': 32, 'batch_size': 4}
    run = vq_jax.load(tmp_path / 'run', overrides=data)
    metrics = run.evaluate().metrics
    assert metrics['examples'] == 4 and np.isfinite(metrics['psnr'])
    new = jax.eval_shape(run.task.init, jax.random.key(0), abstract_batch(1, run.spec))
    assert re.search(r'into the generator: (\d+) of its \1 arrays', take_weights(run.state, new)[1][0])
    del data['batch_size']
    given = {'splits': ['test[:4]'], 'step': None, 'batch_size': 4, 'shard_batches': 1}
    written = write_codes(tmp_path / 'run', tmp_path / 'codes', **given, overrides=data)
    assert written == {'test[:4]': 4}
