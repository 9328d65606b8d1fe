"""U-Nets of other projects beside their own modules and samplers."""

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
from tests.weights.models import OF_PIXELS, SAMPLED, STEPS, pixels, unet_weights
from vq_jax.errors import UserError
from vq_jax.sampling.diffusion import SAMPLERS, Move, Options, clipped, time_grid
from vq_jax.tasks.conversion import convert, export_run
from vq_jax.weights import PROJECTS, read_weights, write_safetensors
from vq_jax.weights.diffusers import FILE
from vq_jax.weights.unet import UNetSizes

# What the projects' own modules give: see `make_published_unets.py`.
PUBLISHED = json.loads(Path(__file__).with_name('published_unets.json').read_text())


def write_model(folder, kind, **changes):
    """A folder as diffusers has it."""
    _, settings = OF_PIXELS[kind]
    settings = {'_class_name': 'UNet2DModel', 'sample_size': 8, **settings, **changes}
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps(settings))
    write_safetensors(folder / FILE, unet_weights(kind), {})


def of_ours(made):
    """The network of a converted model, of noisy examples and times."""

    @jax.jit
    def network(variables, x, t):
        return made.task.network(variables, made.task.context(variables, np.zeros(2, 'int32')))(x, t)

    return functools.partial(network, made.state.eval_variables())


def beside(x, wanted):
    """Asserts that examples are those of the project."""
    np.testing.assert_allclose(np.asarray(x)[:, ::2, ::3].reshape(-1), wanted, atol=1e-4)


def test_ddpm_and_its_samples_are_those_of_diffusers(tmp_path):
    write_model(tmp_path / 'ddpm', 'added')
    made = convert(tmp_path / 'ddpm')
    network, wanted = of_ours(made), PUBLISHED['added']
    x, *noise = pixels()
    beside(network(x, (jnp.array(STEPS) + 1) / 1000), wanted['outputs'])
    process, denoise = made.task.process, clipped(made.task.denoiser(network))
    assert made.config.sampling.sampler == 'ddpm' and made.config.data.image_size == 8
    grids = {'ddpm': jnp.array((*SAMPLED, 0)) / 1000, 'ddim': time_grid('uniform', process, len(noise))}
    for name, times in grids.items():
        at = jnp.asarray(x)
        for t, s, drawn in zip(times[:-1], times[1:], noise, strict=True):
            move = Move(t=t, s=s, t_before=t, x0_before=at, last=s == 0, noise=drawn)
            at, x0 = SAMPLERS[name](denoise, process, at, move, Options(variance='forward'))
        beside(x0, wanted[name])


def test_sizes_of_images_that_are_not_said(tmp_path):
    for size in ([8, 64], None):
        folder = tmp_path / str(size)
        write_model(folder, 'added', sample_size=size)
        with pytest.raises(
            UserError, match=r'what data\.image_size of the model was; give it, by --override='
        ):
            convert(folder)


@pytest.mark.slow
def test_a_network_that_time_scales_is_that_of_diffusers(tmp_path):
    """With learned variance, small heads, zeros at both ends and a large epsilon."""
    write_model(tmp_path / 'adm', 'scaled')
    made = convert(tmp_path / 'adm')
    assert made.config.model.learned_variance and made.config.unet.head_channels == 32
    beside(of_ours(made)(pixels()[0], (jnp.array(STEPS) + 1) / 1000), PUBLISHED['scaled']['outputs'])


@pytest.mark.slow
@pytest.mark.parametrize('kind', OF_PIXELS)
def test_converted_models_sample_and_go_back(tmp_path, kind):
    write_model(tmp_path / 'theirs', kind)
    convert(tmp_path / 'theirs').write(tmp_path / 'run')
    run = vq_jax.load(tmp_path / 'run', overrides={'sampling.steps': 2})
    assert run.sample(2, seed=1).shape == (2, 8, 8, 3)
    export_run(tmp_path / 'run', 'diffusers-unet', tmp_path / 'back')
    before, back = (read_weights([tmp_path / folder / FILE]).arrays for folder in ('theirs', 'back'))
    assert before.keys() == back.keys()
    for name, array in before.items():
        assert back[name].tobytes() == array.tobytes(), name
    before, back = (
        json.loads((tmp_path / folder / 'config.json').read_text()) for folder in ('theirs', 'back')
    )
    assert back['layers_per_block'] == 1 and before.items() <= back.items()


@pytest.mark.parametrize(
    'name, sizes',
    [
        ('ddpm-cifar10-32', UNetSizes(3, 3, 128, (1, 2, 2, 2), 2, (1,))),
        ('DDPM at 256 pixels', UNetSizes(3, 3, 128, (1, 1, 2, 2, 4, 4), 2, (4,))),
    ],
)
def test_tables_are_those_of_published_models(name, sizes):
    """How many numbers they have, and the CRC-32 of the sorted lines 'name (shape)' of their arrays."""
    project = PROJECTS['diffusers-unet']
    shapes = {row.theirs: row.shape for row in project.table(sizes, {'unet.sinusoid_endpoint': True})}
    lines = sorted(f'{array} {shape}' for array, shape in shapes.items())
    count = sum(map(math.prod, shapes.values()))
    assert [count, zlib.crc32('\n'.join(lines).encode())] == PUBLISHED[name]
    assert project.known_as(sizes).name == name


def test_arrays_are_known_by_the_names_that_they_had_first():
    former = {'.to_q.': '.query.', '.to_k.': '.key.', '.to_v.': '.value.', '.to_out.0.': '.proj_attn.'}
    now = dict.fromkeys(unet_weights('added'), np.zeros(1))
    old = list(now)
    for new, before in former.items():
        old = [name.replace(new, before) for name in old]
    assert len({*old} - now.keys()) == 32  # a weight and a bias each, of four layers
    project = PROJECTS['diffusers-unet']
    renamed = project.renamed(dict.fromkeys(old, np.zeros(1)))
    assert renamed.keys() == now.keys() and project.root(renamed) == ''


@pytest.mark.parametrize(
    'changes, told',
    [
        ({'act_fn': 'mish'}, 'says that act_fn is mish, and the U-Net of vq_jax has only silu or swish'),
        ({'norm_num_groups': 16}, 'norm_num_groups is 16, and the U-Net of vq_jax has only 32'),
        ({'flip_sin_to_cos': True}, 'says that freq_shift is 1 and flip_sin_to_cos True'),
        ({'norm_eps': 'small'}, r'config\.json does not hold what it should'),
        ({'attention_head_dim': 7}, 'the 256 channels of resolution 1 cannot be divided into heads of 7'),
    ],
)
def test_what_config_json_says_and_does_not_fit_is_told(tmp_path, changes, told):
    write_model(tmp_path / 'model', 'added', **changes)
    with pytest.raises(UserError, match=told):
        convert(tmp_path / 'model')


@pytest.mark.parametrize(
    'project, sizes, wanted',
    [
        ('diffusers-unet', {'depth': 1, 'token': 8, 'classes': 10}, (False, 0, 0)),
        ('latent-diffusion-unet', {}, (True, 1, 1)),
        ('latent-diffusion-unet', {'depth': 2, 'token': 8, 'classes': 10}, (True, 2, 8)),
    ],
)
def test_a_project_has_transformers_and_tokens_of_classes_or_none(project, sizes, wanted):
    """So that a run of ours with others is refused, and not written without them."""
    config = PROJECTS[project].config(UNetSizes(3, 3, 128, (1,), 1, (0,), **sizes))
    keys = 'model.class_conditional', 'unet.transformer_depth', 'unet.vector_token'
    assert tuple(config[key] for key in keys) == wanted


def test_what_no_file_says_is_to_be_given(tmp_path):
    write_safetensors(tmp_path / 'a.safetensors', unet_weights('added'), {})
    with pytest.raises(UserError, match=r'what unet\.heads was, and no config\.json beside it does, and no'):
        convert(tmp_path / 'a.safetensors')
    write_model(tmp_path / 'model', 'added')
    with pytest.raises(UserError, match=r'unet\.heads is as .*config\.json says, and cannot be overridden'):
        convert(tmp_path / 'model', overrides={'unet.heads': 2})
