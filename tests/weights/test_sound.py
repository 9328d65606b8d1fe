"""Codecs of sound of other projects beside their own modules."""

import json
import math
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest

import vq_jax
from tests.weights.models import OF_SOUND, random_weights, sounds
from vq_jax.errors import UserError
from vq_jax.tasks.conversion import convert, export_run
from vq_jax.weights import PROJECTS, read_weights, write_pytorch
from vq_jax.weights.project import Folded
from vq_jax.weights.sound import CodecSizes

# What the projects' own modules give: see `make_published_networks.py`.
PUBLISHED = json.loads(Path(__file__).with_name('published_networks.json').read_text())


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A checkpoint of each project, by its name; EnCodec's has what its codebooks learned of their use."""
    folder, found = tmp_path_factory.mktemp('sound'), {}
    for project, sizes in OF_SOUND.items():
        weights, section = random_weights(project), PROJECTS[project].section
        others = {name: array + 1 for name, array in PROJECTS[project].constants(sizes, {}).items()}
        found[project] = folder / f'{project}.th'
        write_pytorch(found[project], {section: weights | others} if section else weights | others)
    return found


def converted(source, **changes):
    return convert(source, None, {'data.sample_rate': 8000, 'data.num_samples': 256, **changes})


@pytest.mark.parametrize('project', [pytest.param('dac', marks=pytest.mark.slow), 'encodec'])
def test_codecs_equal_those_of_other_projects(files, project):
    made = converted(files[project])

    @jax.jit
    def both(variables, x):
        outputs, quantized = made.task.model.apply(variables, x)
        return outputs, quantized.codes[0]

    decoded, codes = jax.device_get(both(made.state.eval_variables(), sounds()))
    np.testing.assert_array_equal(codes, PUBLISHED[project]['codes'])
    np.testing.assert_allclose(decoded[:, ::3, 0].reshape(-1), PUBLISHED[project]['decoded'], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('project', OF_SOUND)
def test_converted_codecs_are_used_and_go_back(files, project, tmp_path):
    converted(files[project]).write(tmp_path / 'run')
    run = vq_jax.load(tmp_path / 'run')
    assert run.encode(np.zeros((1, 256, 1), np.int16)).shape == (1, 32, 3)
    export_run(tmp_path / 'run', project, tmp_path / 'back.safetensors')
    back, wanted = read_weights([tmp_path / 'back.safetensors']).arrays, random_weights(project)
    fixed = PROJECTS[project].constants(OF_SOUND[project], {})
    assert back.keys() == wanted.keys() | fixed.keys()
    folded = [row for row in PROJECTS[project].table(OF_SOUND[project], {}) if isinstance(row, Folded)]
    others = {name for row in folded for name in row.shapes}
    assert len(folded) == {'dac': 6, 'encodec': 4}[project]  # in and out of codes; biases of LSTMs
    for name in wanted.keys() - others:
        assert back[name].tobytes() == wanted[name].tobytes(), name
    for row in folded:
        np.testing.assert_allclose(row.read(back), row.read(wanted), rtol=1e-6, atol=1e-7)
    with pytest.raises(UserError, match=r'cannot be written as a model of taming-transformers: config\.var'):
        export_run(tmp_path / 'run', 'taming', tmp_path / 'x.ckpt')


@pytest.mark.parametrize(
    'project, sizes, parameters, names',
    [
        # CRC-32 of the sorted lines 'name (shape)' of the state dicts of the projects' own models, of EnCodec
        # without what codebooks learn of their use.
        ('dac', CodecSizes(64, 96, (2, 4, 8, 8), 3, 1024, 9, 1024, 8), 76_651_890, 3309570646),
        ('dac', CodecSizes(64, 96, (2, 4, 5, 8), 3, 1024, 32, 1024, 8), 74_708_706, 541255708),
        ('encodec', CodecSizes(32, 32, (2, 4, 5, 8), 1, 128, 32, 1024, None), 19_046_114, 4162719293),
    ],
)
def test_tables_are_those_of_published_codecs(project, sizes, parameters, names):
    assert PROJECTS[project].known_as(sizes)
    shapes = {name: shape for row in PROJECTS[project].table(sizes, {}) for name, shape in row.shapes.items()}
    assert sum(map(math.prod, shapes.values())) == parameters
    lines = sorted(f'{name} {shape}' for name, shape in shapes.items())
    assert zlib.crc32('\n'.join(lines).encode()) == names


def test_what_arrays_do_not_say_is_asked_for(files):
    with pytest.raises(UserError, match=r'do not say what data\.sample_rate was, and no model of these'):
        convert(files['dac'])
    with pytest.raises(UserError, match=r'data\.channels is as the arrays of'):
        converted(files['dac'], **{'data.channels': 2})
