"""Predicted and interpolated frames against NumPy and scikit-image, beside copies and blends."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from skimage.metrics import structural_similarity

from tests.films import FRAMES, SIZE, Films
from tests.published import lpips_weights
from vq_jax.errors import UserError
from vq_jax.evaluators.video import VideoEvaluator
from vq_jax.models.lpips import LPIPS, params_from_published
from vq_jax.ops.images import to_float
from vq_jax.spec import Spec
from vq_jax.tasks import default_config
from vq_jax.tasks.restore import Restored

RECORDS = Films(None, 'test').read(range(8))
TEST, LABELS = (np.stack([getattr(record, name) for record in RECORDS]) for name in ('stored', 'label'))
OWN = 'tests.films'


@struct.dataclass
class Empty:
    """In place of a state."""

    nothing: jax.Array

    def for_inference(self):
        return self


@dataclasses.dataclass(frozen=True)
class Guesser:
    """In place of a prior: an unknown frame is the mean of those that are known, a level brighter in class 1.

    With noise, it is up to 50 levels brighter, by chance.
    """

    noisy: bool = False
    classes_read = len(Films.class_names)

    def check_dataset(self, dataset):
        pass

    def conditions_of(self, batch):
        return {}

    def inpaint(self, state, keys, images, mask, labels):
        known = jnp.where(mask[..., None], 0, images.astype(jnp.float32)).sum(1, keepdims=True)
        mean = jnp.floor(known / (~mask[..., None]).sum(1, keepdims=True))
        chance = 50 * jax.vmap(jax.random.uniform)(keys) if self.noisy else labels
        guess = jnp.minimum(mean + chance.reshape(-1, 1, 1, 1, 1), 255)
        return jnp.where(mask[..., None], guess, images).astype(jnp.uint8)


def restored(task=None, spec=None):
    config = default_config('prior')
    config.data.name, config.batch_size = f'class:{OWN}:Films', 3  # of 8 videos: the last batch has padding
    spec = spec or Spec('video', (FRAMES, SIZE, SIZE, 3), 8.0)
    names = Films.class_names
    return Restored(config, task or Guesser(), Empty(jnp.zeros(1)), spec, 7, Path('run'), names, (OWN,))


def curves(made, frames):
    """PSNR, SSIM and squared error of frames [b n h w c] for those of the test set, means over videos."""
    real, options = TEST[:, frames], {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False}
    errors = np.square(np.float64(made) - real)
    mean = np.maximum(errors.mean((2, 3, 4)), 1 / (SIZE * SIZE * 3))
    similar = [
        [
            structural_similarity(*pair, data_range=255, channel_axis=-1, **options)
            for pair in zip(*video, strict=True)
        ]
        for video in zip(made, real, strict=True)
    ]
    return {
        'psnr': (10 * np.log10(255**2 / mean)).mean(0),
        'ssim': np.mean(similar, 0),
        'squared_error': errors.sum((2, 3, 4)).mean(0) / 255**2,
    }


@pytest.mark.parametrize('given, frames', [((2,), [2, 3, 4]), ((1, 2), [1, 2])])
def test_frames_are_measured_one_by_one(given, frames):
    found = VideoEvaluator(restored(), 'test', given).run(0)
    first, last = (*given, 0)[:2]
    known = [i for i in range(FRAMES) if i not in frames]
    guess = np.minimum(np.floor(TEST[:, known].mean(1)) + LABELS.reshape(-1, 1, 1, 1), 255)
    expected = {
        'interpolations' if last else 'predictions': np.stack([guess] * len(frames), 1),
        'copies': np.stack([TEST[:, first - 1]] * len(frames), 1),
    }
    if last:
        before, after = (TEST[:, i].astype(float) for i in (0, 3))
        expected['blends'] = np.stack(
            [np.round(before + (after - before) * share) for share in (1 / 3, 2 / 3)], 1
        )
    for kind, made in expected.items():
        for name, curve in curves(made.astype(np.uint8), frames).items():
            np.testing.assert_allclose(
                found[kind]['curves'][name], curve, rtol=2e-4, err_msg=f'{kind} {name}'
            )
            assert found[kind]['metrics'][name] == pytest.approx(curve.mean(), rel=2e-4)
    told = {'run', 'dataset', 'split', 'videos', 'given', 'seed', 'frames'}
    assert set(found) == told | set(expected)
    assert found['videos'] == 8 and found['frames'] == frames and found['given'] == [first, last]
    assert found['run']['step'] == 7


def test_what_is_sampled_depends_on_the_seed_and_the_video_alone():
    def squared_error(seed, batch_size):
        run = restored(Guesser(noisy=True))
        run.config.batch_size = batch_size
        return VideoEvaluator(run, 'test', 4).run(seed)['predictions']['metrics']['squared_error']

    found = squared_error(1, 8)
    assert squared_error(1, 3) == pytest.approx(found, rel=1e-6)
    assert squared_error(2, 8) != pytest.approx(found, rel=1e-3)


@pytest.mark.slow
def test_lpips_is_that_of_each_frame(tmp_path):
    weights, file = lpips_weights(), tmp_path / 'lpips.npz'
    np.savez(file, **weights)
    found = VideoEvaluator(restored(), 'test', 4, [str(file)]).run(0)
    pair = to_float(TEST[:, 3]), to_float(TEST[:, 4])
    expected = jax.jit(LPIPS().apply)({'params': params_from_published(weights)}, *pair)
    assert found['copies']['curves']['lpips'] == pytest.approx([float(expected.mean())], rel=1e-4)
    assert list(found['lpips']['weights']) == [str(file)]


@pytest.mark.parametrize('given', [None, (), (0, 1), 5, (4, 1), (1, -1), (1, 1, 1), ('1',), (1.5,)])
def test_frames_that_cannot_be_given(given):
    with pytest.raises(UserError, match='of videos of 5 frames; give how many of the first, 1 or more, such'):
        VideoEvaluator(restored(), 'test', given)


def test_runs_that_make_no_frames():
    with pytest.raises(UserError, match='task prior on images, and what is measured are frames of videos'):
        VideoEvaluator(restored(spec=Spec('image', (8, 8, 3))), 'test', 1)
    with pytest.raises(UserError, match='give a run that makes some'):
        VideoEvaluator(restored(object()), 'test', 1)
