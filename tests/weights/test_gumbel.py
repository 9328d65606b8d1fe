"""VQGAN with Gumbel-softmax of taming-transformers, whose linear maps are in its logits and codes here."""

import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

import vq_jax
from tests.weights.models import GUMBEL, images, random_weights
from vq_jax.tasks.conversion import convert, export_run
from vq_jax.weights import PROJECTS, read_weights, write_pytorch
from vq_jax.weights.project import Folded
from vq_jax.weights.vqgan import Sizes

# What the project's own modules give: see `make_published_networks.py`.
PUBLISHED = json.loads(Path(__file__).with_name('published_networks.json').read_text())['taming-gumbel']


def beside(task, variables):
    """Asserts that codes and images are those of the project's own modules."""

    @jax.jit
    def both(variables, x):
        outputs, quantized = task.model.apply(variables, x)
        return outputs, quantized.codes[0]

    decoded, codes = jax.device_get(both(variables, images() / np.float32(127.5) - 1))
    np.testing.assert_array_equal(codes[..., 0], PUBLISHED['codes'])
    np.testing.assert_allclose(decoded[:, ::3, ::3].reshape(-1), PUBLISHED['decoded'], atol=1e-4)


@pytest.mark.slow
def test_codes_and_images_are_theirs_and_come_back_with_the_same_meaning(tmp_path):
    wanted = random_weights('taming-gumbel')
    write_pytorch(tmp_path / 'last.ckpt', {'state_dict': wanted})
    made = convert(tmp_path / 'last.ckpt', None, {'data.image_size': 16, 'discriminator.stages': 1})
    beside(made.task, made.state.eval_variables())
    made.write(tmp_path / 'run')
    assert vq_jax.load(tmp_path / 'run').encode(images()).shape == (2, 8, 8)
    export_run(tmp_path / 'run', 'taming-gumbel', tmp_path / 'back.safetensors')
    back = read_weights([tmp_path / 'back.safetensors']).arrays
    assert back.keys() == wanted.keys()
    folded = [row for row in PROJECTS['taming-gumbel'].table(GUMBEL) if isinstance(row, Folded)]
    assert len(folded) == 3
    others = {name for row in folded for name in row.shapes}
    for name in wanted.keys() - others:
        assert back[name].tobytes() == wanted[name].tobytes(), name
    for row in folded:
        np.testing.assert_allclose(row.read(back), row.read(wanted), rtol=1e-5, atol=1e-6)


def test_maps_before_logits_and_after_codes_are_folded():
    """Beside the maps one after another."""
    weights = random_weights('taming-gumbel')
    folded = [row for row in PROJECTS['taming-gumbel'].table(GUMBEL) if isinstance(row, Folded)]
    found = {row.ours[1:]: row.read(weights) for row in folded}
    z = np.random.RandomState(0).standard_normal((5, GUMBEL.features))
    before = z @ weights['quant_conv.weight'][..., 0, 0].T + weights['quant_conv.bias']
    logits = before @ weights['quantize.proj.weight'][..., 0, 0].T + weights['quantize.proj.bias']
    ours = z @ found['bottleneck', 'to_logits', 'kernel'] + found['bottleneck', 'to_logits', 'bias']
    np.testing.assert_allclose(ours, logits, rtol=1e-4, atol=1e-5)
    after = weights['quantize.embed.weight'] @ weights['post_quant_conv.weight'][..., 0, 0].T
    np.testing.assert_allclose(
        found['bottleneck', 'codebook'], after + weights['post_quant_conv.bias'], rtol=1e-4, atol=1e-5
    )


def test_the_published_model_is_known():
    sizes = Sizes(3, 128, (1, 1, 2, 4), 2, (3,), 256, 256, 8192)
    assert PROJECTS['taming-gumbel'].known_as(sizes).name == 'vqgan_gumbel_f8'
    rows = PROJECTS['taming-gumbel'].table(sizes)
    shapes = {name: shape for row in rows for name, shape in row.shapes.items()}
    coded = {row.theirs: row.shape for row in PROJECTS['taming'].table(sizes)}
    # Those of a VQGAN of these sizes, and a map to logits.
    assert sum(map(math.prod, shapes.values())) == sum(map(math.prod, coded.values())) + 8192 * 257
