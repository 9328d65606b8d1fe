"""Methods of runs as files of `jax.export`, which give what the methods do, without vq_jax."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest

from tests.initialised import initialised
from tests.runs import CPU
from vq_jax import exporting
from vq_jax.errors import UserError
from vq_jax.run import Run
from vq_jax.spec import Spec
from vq_jax.tasks import complete_config, default_config, make_task
from vq_jax.tasks.restore import Restored
from vq_jax.training.state import abstract_batch

IMAGES = Spec('image', (8, 8, 1))
VQVAE = {'model.stages': 1, 'model.channels': 8, 'model.residual_channels': 8, 'quantizer.dim': 8}
VQVAE |= {'quantizer.num_codes': 16}
GAN = {'generator.channels': 2, 'discriminator.channels': 2, 'model.class_conditional': True}
PRIOR = {'transformer.depth': 1, 'transformer.width': 8, 'transformer.heads': 1, 'tokenizer.levels': 4}


def opened(task, spec=IMAGES, classes=0, **changes):
    """A run of random weights."""
    config = default_config(task)
    config.update_from_flattened_dict(changes)
    config = complete_config(config)
    task = make_task(config, spec, classes)
    batch = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract_batch(1, spec, task.condition_specs))
    state = initialised(task.init, jax.random.key(0), batch).replace(frozen=task.pretrained())
    return Run(Restored(config, task, state, spec, 0, Path('run')))


def exported(run, method, path, **options):
    pytest.importorskip('flatbuffers', reason="pip install 'vq_jax[export]'")
    run.export(method, path, **options)
    return jax.export.deserialize(path.read_bytes()).call


def examples(n, spec=IMAGES):
    return np.random.default_rng(n).integers(0, 256, (n, *spec.shape), np.uint8)


def assert_same(found, wanted):
    """But for a step of rounding, as of other compilations."""
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    assert np.abs(np.float64(found) - np.float64(wanted)).max() <= 1


ALONE = """
import importlib.util, sys
from pathlib import Path

sys.path[:] = [folder for folder in sys.path if not (Path(folder) / 'vq_jax').exists()]
sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in str(finder)]
assert importlib.util.find_spec('vq_jax') is None

import jax.export
import numpy as np

exported = jax.export.deserialize(Path('decode').read_bytes())
assert exported.platforms == ('cpu', 'cuda', 'tpu')
for name in ('1', '3'):
    np.save(f'made{name}.npy', exported.call(np.load(f'codes{name}.npy')))
assert not [name for name in sys.modules if name.startswith(('vq_jax', 'flax'))]
"""


def test_decode_needs_no_vq_jax(tmp_path):
    run = opened('vqvae', **VQVAE)
    exported(run, 'decode', tmp_path / 'decode')
    codes = {n: np.random.default_rng(n).integers(0, 16, (n, 4, 4), np.int32) for n in (1, 3)}
    for n, some in codes.items():
        np.save(tmp_path / f'codes{n}.npy', some)
    subprocess.run([sys.executable, '-c', ALONE], cwd=tmp_path, env=os.environ | CPU, check=True)
    for n, some in codes.items():
        made = np.load(tmp_path / f'made{n}.npy')
        assert_same(made, run.decode(some))
        assert made.std() > 0


def test_encode_to_several_codes_at_a_position(tmp_path):
    run = opened('vqvae', **VQVAE, **{'quantizer.kind': 'residual', 'residual.depth': 2})
    images = examples(3)
    codes = exported(run, 'encode', tmp_path / 'encode', platforms=['cpu'])(images)
    np.testing.assert_array_equal(codes, run.encode(images))
    assert codes.shape == (3, 4, 4, 2) and codes.dtype == np.int32


@pytest.mark.slow
def test_scales_are_a_tuple(tmp_path):
    run = opened('vqvae', **VQVAE, **{'model.top_stages': 1})
    images = examples(3)
    codes = exported(run, 'encode', tmp_path / 'encode')(images)
    assert isinstance(codes, tuple)
    jax.tree.map(np.testing.assert_array_equal, codes, run.encode(images))
    assert_same(exported(run, 'decode', tmp_path / 'decode')(codes), run.decode(codes))
    assert_same(exported(run, 'reconstruct', tmp_path / 'reconstruct')(images), run.reconstruct(images))


def test_samples_are_those_of_their_seed_numbers_and_classes(tmp_path):
    run = opened('gan', classes=3, **GAN)
    call = exported(run, 'sample', tmp_path / 'sample')
    labels = np.arange(4, dtype=np.int32) % 3
    made = call(np.int32(5), np.arange(4, dtype=np.int32), labels)
    assert_same(made, run.sample(4, labels, seed=5))
    assert_same(call(np.int32(5), np.int32([2]), labels[2:3]), made[2:3])
    assert np.abs(np.float64(made[0]) - made[3]).max() > 1  # of one class


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['transformer', 'maskgit', 'pixelcnn'])
def test_samples_of_a_prior_are_sampled_as_is_asked(kind, tmp_path):
    small = {'pixelcnn.depth': 1, 'pixelcnn.channels': 8, 'pixelcnn.first_kernel': 3}
    run = opened('prior', Spec('image', (4, 4, 1)), **PRIOR, **small, **{'model.kind': kind})
    call = exported(run, 'sample', tmp_path / 'sample', temperature=0.0)
    made = call(np.int32(0), np.arange(2, dtype=np.int32))
    np.testing.assert_array_equal(made, run.sample(2, temperature=0.0))


@pytest.mark.slow
def test_samples_of_a_diffusion_model(tmp_path):
    small = {'unet.channels': 16, 'unet.multipliers': (1,), 'unet.residual_blocks': 1}
    small |= {'unet.attention_resolutions': (), 'unet.head_channels': 16}
    run = opened('diffusion', **small)
    made = exported(run, 'sample', tmp_path / 'sample', steps=2)(np.int32(1), np.arange(3, dtype=np.int32))
    assert_same(made, run.sample(3, seed=1, steps=2))


def test_what_is_not_exported(tmp_path, monkeypatch):
    run, path = opened('vqvae', **VQVAE), tmp_path / 'file'
    mistakes = {
        'stream': ({}, "'stream' cannot be exported; give one of encode, decode, reconstruct, sample"),
        'sample': ({}, 'a run of the task vqvae cannot sample images'),
        'decode': ({'temperature': 2.0}, 'temperature is for sample; leave it out to export decode'),
        'encode': ({'platforms': 'cpu'}, "platforms is 'cpu'; give some of"),
        'reconstruct': ({'platforms': ('cpu', 'abacus')}, 'abacus'),
    }
    monkeypatch.setattr(exporting, 'find_spec', lambda name: True)
    for method, (options, words) in mistakes.items():
        with pytest.raises(UserError, match=words):
            run.export(method, path, **options)
    with pytest.raises(UserError, match='the path is gs://a/b, and files are exported to a disk'):
        run.export('decode', 'gs://a/b')
    monkeypatch.setattr(exporting, '_MOST_BYTES', 100)
    with pytest.raises(UserError, match=r'the weights have .* GiB'):
        run.export('decode', path)
    monkeypatch.setattr(exporting, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'vq_jax\[export\]'"):
        run.export('decode', path)
    assert not path.exists()
