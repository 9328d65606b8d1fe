"""Diffusion transformers of other projects beside their own modules, on the run of an autoencoder."""

import dataclasses
import functools
import json
import math
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vq_jax
from tests.weights.models import (
    HEADS,
    LABELS,
    OF_CLASSES,
    OF_LATENTS,
    STEPS,
    latents,
    random_weights,
    unet_weights,
)
from vq_jax.errors import UserError
from vq_jax.ops.diffusion import from_x0, interpolated_log_variance
from vq_jax.sampling.diffusion import SAMPLERS, Move, Options
from vq_jax.tasks.conversion import convert, export_run
from vq_jax.weights import PROJECTS, read_weights, write_safetensors
from vq_jax.weights.dit import DiTSizes
from vq_jax.weights.project import ours_of
from vq_jax.weights.unet import UNetSizes
from vq_jax.weights.vqgan import Sizes

# What the projects' own modules give: see `make_published_networks.py`.
PUBLISHED = json.loads(Path(__file__).with_name('published_networks.json').read_text())
# And `make_published_unets.py`.
OF_UNETS = json.loads(Path(__file__).with_name('published_unets.json').read_text())
KL = Sizes(3, 128, (1,), 1, (), 4, 4, 0)
UNET = 'latent-diffusion-unet'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A checkpoint of each project, and `kl`, the run of an autoencoder."""
    folder = tmp_path_factory.mktemp('latents')
    write_safetensors(folder / 'kl.safetensors', random_weights('latent-diffusion', KL), {})
    small = {'data.image_size': 8, 'discriminator.stages': 1}
    convert(folder / 'kl.safetensors', 'latent-diffusion', small).write(folder / 'kl')
    for project, sizes in OF_LATENTS.items():
        fixed = PROJECTS[project].constants(sizes, {})
        write_safetensors(folder / f'{project}.safetensors', random_weights(project) | fixed, {})
    weights = random_weights('diffusers-dit', OF_LATENTS['dit'])
    write_safetensors(folder / 'diffusers-dit.safetensors', weights, {})
    fixed = PROJECTS[UNET].constants(OF_CLASSES, {})
    write_safetensors(folder / f'{UNET}.safetensors', unet_weights('classes') | fixed, {})
    return folder


def converted(folder, project, **changes):
    heads = {'unet.heads': HEADS} if project == UNET else {'dit.heads': HEADS}
    given = {'latent.workdir': str(folder / 'kl'), 'data.image_size': 8, **heads}
    return convert(folder / f'{project}.safetensors', project, given | changes)


@pytest.mark.parametrize('project', ['dit', pytest.param('sit', marks=pytest.mark.slow)])
def test_networks_equal_those_of_other_projects(folder, project):
    """At the same noise; of DiT also what a step of sampling leads to."""
    made = converted(folder, project)
    task, t = made.task, (jnp.array(STEPS) + 1) / 1000
    x = jnp.asarray(latents())

    @jax.jit
    def both(variables):
        network = task.network(variables, task.context(variables, np.array(LABELS)))
        denoised = task.denoiser(network)(x, t)
        mean, _ = task.process.posterior(denoised.x0, x, t - 0.001, t)
        share = denoised.variance_share
        share = x if share is None else share
        return network(x, t), mean, interpolated_log_variance(share, task.process, t - 0.001, t)

    outputs, mean, log_variance = both(made.state.eval_variables())
    wanted = {name: np.reshape(values, (2, 4, 3, -1)) for name, values in PUBLISHED[project].items()}
    sign = -1 if project == 'sit' else 1
    np.testing.assert_allclose(sign * outputs[:, ::2, ::3], wanted['outputs'], atol=1e-4)
    if project == 'dit':
        # The first of all steps leads to data, and theirs has a variance that is never used.
        np.testing.assert_allclose(mean[1, ::2, ::3], wanted['mean'][1], atol=1e-4)
        np.testing.assert_allclose(log_variance[1, ::2, ::3], wanted['log_variance'][1], atol=1e-4)
    scale = made.state.variables['latent']['scale']
    np.testing.assert_allclose(scale, np.full(4, 1 / 0.18215), rtol=1e-6)


@pytest.mark.slow
def test_the_unet_of_classes_and_its_samples_are_those_of_latent_diffusion(folder):
    """The noise that is predicted with guidance, and two steps of DDIM."""
    made = converted(folder, UNET)
    task, x, wanted = made.task, jnp.asarray(latents()), OF_UNETS['classes']
    context = task.context(made.state.eval_variables(), np.array(LABELS))
    sampling = dataclasses.replace(task.sampling, guidance=2.0)
    denoise = jax.jit(lambda state, x, t: task.sampling_denoiser(state, context, sampling)(x, t))
    denoise = functools.partial(denoise, made.state)
    t = (jnp.array(STEPS) + 1) / 1000
    noise = from_x0('noise', task.process, denoise(x, t).x0, x, t)
    np.testing.assert_allclose(noise[:, ::2, ::3].reshape(-1), wanted['outputs'], atol=1e-4)
    for t, s in ((0.5, 0.25), (0.25, 0.0)):
        t, s = jnp.array(t), jnp.array(s)
        move = Move(t=t, s=s, t_before=t, x0_before=x, last=s == 0, noise=x)
        x, x0 = SAMPLERS['ddim'](denoise, task.process, x, move, Options())
    np.testing.assert_allclose(x0[:, ::2, ::3].reshape(-1), wanted['ddim'], atol=1e-4)


def test_dit_of_diffusers_is_dit(folder):
    """The same arrays of ours of both files, and of the modules of both projects the same outputs."""
    sizes, arrays = OF_LATENTS['dit'], []
    for project in ('dit', 'diffusers-dit'):
        theirs = read_weights([folder / f'{project}.safetensors']).arrays
        arrays.append(ours_of(PROJECTS[project].table(sizes, {}), theirs))
    assert arrays[0].keys() == arrays[1].keys()
    for way, array in arrays[0].items():
        np.testing.assert_array_equal(arrays[1][way], array)
    both = PUBLISHED['dit']['outputs'], OF_UNETS['diffusers-dit']['outputs']
    np.testing.assert_allclose(*both, atol=1e-4)


def test_what_config_json_says_of_dit_is_taken(tmp_path):
    said, path = PROJECTS['diffusers-dit'].said, tmp_path / 'config.json'
    path.write_text(json.dumps({'num_attention_heads': 12, 'sample_size': 64, 'norm_num_groups': 32}))
    assert said(path) == {'dit.heads': 12, 'data.image_size': 512}
    path.write_text(json.dumps({'activation_fn': 'geglu'}))
    with pytest.raises(UserError, match='activation_fn is geglu, and the DiT of vq_jax has only gelu-approx'):
        said(path)


def test_blocks_of_dit_have_one_embedding_of_classes(folder, tmp_path):
    (tmp_path / 'kl').symlink_to(folder / 'kl')
    name = 'transformer_blocks.1.norm1.emb.class_embedder.embedding_table.weight'
    weights = dict(read_weights([folder / 'diffusers-dit.safetensors']).arrays)
    weights[name] = weights[name] + 1
    write_safetensors(tmp_path / 'diffusers-dit.safetensors', weights, {})
    with pytest.raises(UserError, match=f'{name} differs from other arrays there that are one in vq_jax'):
        converted(tmp_path, 'diffusers-dit')


def test_the_table_of_dit_of_diffusers_is_that_of_its_class():
    rows = PROJECTS['diffusers-dit'].table(DiTSizes(28, 1152, 4608, 2, 4, 8, 0, 1000), {})
    shapes = {row.theirs: row.shape for row in rows}
    lines = sorted(f'{name} {shape}' for name, shape in shapes.items())
    count = sum(map(math.prod, shapes.values()))
    assert [count, zlib.crc32('\n'.join(lines).encode())] == OF_UNETS['DiT-XL']


@pytest.mark.slow
@pytest.mark.parametrize('project', [*OF_LATENTS, UNET, 'diffusers-dit'])
def test_converted_models_sample_and_go_back(folder, project, tmp_path):
    converted(folder, project).write(tmp_path / 'run')
    run = vq_jax.load(tmp_path / 'run', overrides={'sampling.steps': 2})
    assert run.sample(2, label=3, seed=1).shape == (2, 8, 8, 3)
    export_run(tmp_path / 'run', project, tmp_path / 'back.safetensors')
    before, back = (
        read_weights([path]).arrays
        for path in (folder / f'{project}.safetensors', tmp_path / 'back.safetensors')
    )
    assert before.keys() == back.keys()
    for name, array in before.items():
        assert back[name].tobytes() == array.tobytes(), name
    other = 'dit' if project == 'sit' else 'sit'
    with pytest.raises(UserError, match=r'cannot be written as a model of .iT: config\.model\.'):
        export_run(tmp_path / 'run', other, tmp_path / 'x.pt')


@pytest.mark.parametrize('project', OF_LATENTS)
@pytest.mark.parametrize(
    'sizes, parameters, names',
    [
        # CRC-32 of the sorted lines 'name (shape)' of the state dicts of the projects' own models.
        (DiTSizes(28, 1152, 4608, 2, 4, 8, 256, 1000), 675_129_632, 3869787426),
        (DiTSizes(12, 384, 1536, 2, 4, 8, 256, 1000), 32_963_360, 3811957093),
    ],
)
def test_tables_are_those_of_published_models(project, sizes, parameters, names):
    rows = PROJECTS[project].table(sizes, {})
    shapes = {row.theirs: row.shape for row in rows} | {'pos_embed': (1, sizes.positions, sizes.width)}
    assert sum(map(math.prod, shapes.values())) == parameters
    lines = sorted(f'{name} {shape}' for name, shape in shapes.items())
    assert zlib.crc32('\n'.join(lines).encode()) == names


def test_the_table_of_the_unet_is_that_of_cin256():
    sizes = UNetSizes(3, 3, 192, (1, 2, 3, 5), 2, (1, 2, 3), depth=1, token=512, classes=1000)
    rows = PROJECTS[UNET].table(sizes, {'unet.sinusoid_endpoint': False})
    shapes = {row.theirs: row.shape for row in rows}
    lines = sorted(f'{name} {shape}' for name, shape in shapes.items())
    count = sum(map(math.prod, shapes.values()))
    assert [count, zlib.crc32('\n'.join(lines).encode())] == OF_UNETS['cin256-v2']
    assert PROJECTS[UNET].known_as(sizes).name == 'cin256-v2'


def test_a_file_of_all_is_of_two_projects(tmp_path):
    rows = PROJECTS['taming'].table(dataclasses.replace(KL, num_codes=16))
    within = {f'first_stage_model.{row.theirs}': np.zeros(1, np.float32) for row in rows}
    write_safetensors(tmp_path / 'cin256.safetensors', unet_weights('classes') | within, {})
    with pytest.raises(UserError, match=r'projects; say which by --from=taming or latent-diffusion-unet\.'):
        convert(tmp_path / 'cin256.safetensors')


@pytest.mark.parametrize(
    'changes, told',
    [
        ({'data.image_size': 16}, 'learns latents of 8x8, and these are 16x16; give its size of images'),
        ({'dit.heads': 7}, 'width is 64, not a multiple of 4 and of 7 heads'),
        ({'model.clock': 'thousandths'}, 'model.clock is as the arrays of'),
        ({'latent.workdir': ''}, 'is a model of the latents of an autoencoder; name the run of that'),
    ],
)
def test_what_does_not_fit_is_told(folder, changes, told):
    with pytest.raises(UserError, match=told):
        converted(folder, 'dit', **changes)


@pytest.mark.parametrize(
    'changes, told',
    [
        (
            {'blocks.1.attn.qkv.bias': None, 'blocks.1.attn.bias': np.zeros(192, np.float32)},
            'is no whole model of DiT; missing: blocks.1.attn.qkv.bias',
        ),
        (
            {'final_layer.linear.bias': np.zeros(8, np.float32)},
            'of another shape: final_layer.linear.bias ((8,) there, (32,) needed)',
        ),
        ({'pos_embed': None}, 'pos_embed, by which the size of a model of DiT is known, there is none'),
        (
            {'x_embedder.proj.weight': np.zeros((0, 4, 2, 2), np.float32)},
            'by which the size of a model of DiT is known, has the shape (0, 4, 2, 2)',
        ),
    ],
)
def test_what_is_no_whole_model_is_told(folder, tmp_path, changes, told):
    (tmp_path / 'kl').symlink_to(folder / 'kl')
    arrays = read_weights([folder / 'dit.safetensors']).arrays | changes
    write_safetensors(
        tmp_path / 'dit.safetensors', {name: x for name, x in arrays.items() if x is not None}, {}
    )
    with pytest.raises(UserError) as raised:
        converted(tmp_path, 'dit')
    assert told in str(raised.value)


def test_other_positions_and_a_file_of_either_project_are_told(folder, tmp_path):
    weights = random_weights('dit') | {'pos_embed': np.zeros((1, 16, 64), np.float32)}
    write_safetensors(tmp_path / 'dit.safetensors', weights, {})
    (tmp_path / 'kl').symlink_to(folder / 'kl')
    with pytest.raises(UserError, match='of other values than the network has: pos_embed'):
        converted(tmp_path, 'dit')
    with pytest.raises(UserError, match='of several projects; say which by --from=dit or sit'):
        convert(folder / 'dit.safetensors')
