"""What is drawn needs few compilations, and is what the task draws."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests.tasks import test_diffusion, test_prior
from vq_jax.errors import UserError
from vq_jax.spec import Spec
from vq_jax.tasks import make_task
from vq_jax.tasks.batched_sampling import BatchedSampler
from vq_jax.training.state import init_state

LABELS = np.arange(4, dtype=np.int32) % 2


@pytest.fixture
def traced(monkeypatch):
    """Counts how often the sampling of a task is traced, as it is once for each compilation."""

    def calls_of(task):
        kind, calls = type(task), []
        original = kind.sample

        @functools.wraps(original)
        def sample(*args, **kwargs):
            calls.append(kwargs)
            return original(*args, **kwargs)

        monkeypatch.setattr(kind, 'sample', sample)
        return calls

    return calls_of


def config_of(kind):
    if kind == 'unet':
        config = test_diffusion.small(model__class_conditional=True, sampling__steps=2)
    else:
        config = test_prior.small(kind, model__class_conditional=True, tokenizer__levels=4)
    config.batch_size = 4
    return config


NUMBERS = {
    'transformer': {'temperature': 0.9, 'top_p': 0.8, 'guidance': 2.0},
    'maskgit': {'confidence_temperature': 1.0, 'temperature': 2.0},
    'unet': {'eta': 0.5, 'guidance': 2.0, 'rescale': 0.5},
}


@pytest.mark.parametrize(
    'kind', ['transformer', *(pytest.param(kind, marks=pytest.mark.slow) for kind in ('maskgit', 'unet'))]
)
def test_other_numbers_need_no_other_compilation(kind, traced):
    config = config_of(kind)
    task = make_task(config, Spec('image', (4, 4, 1)), num_classes=2)
    state = init_state(task.init, jax.random.key(0), Spec('image', (4, 4, 1)))
    # Zero-initialised last layers would draw alike, whatever is asked for.
    state = state.replace(
        params=jax.tree.map(lambda x: x + 0.1 * np.random.default_rng(0).normal(size=x.shape), state.params),
        frozen=task.pretrained(),
    )
    changes = NUMBERS[kind]
    sampling = dataclasses.replace(task.sampling, **changes)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(1), i))(np.arange(4))
    wanted = jax.jit(functools.partial(task.sample, sampling=sampling))(state, keys, LABELS)
    calls = traced(task)
    sampler = BatchedSampler(task, state, config)
    drawn = next(sampler.batches(task.sample, 4, LABELS, 1, changes))[:4]
    np.testing.assert_allclose(drawn.astype(int), np.asarray(wanted), atol=1)  # of 255, by rounding
    others = {name: 0.7 * value for name, value in changes.items()}
    others = next(sampler.batches(task.sample, 4, LABELS, 1, others))[:4]
    assert (others != drawn).any()
    assert len(calls) == 1
    changes = {'eta': 0.0} if kind == 'unet' else {'temperature': 0.0}
    next(sampler.batches(task.sample, 4, LABELS, 1, changes))
    assert len(calls) == 2  # where there is less to compute


@pytest.mark.parametrize('method', ['inpaint', 'denoise'])
def test_a_super_resolution_model_sees_the_whole_image(method):
    config = config_of('unet')
    config.model.upscale = 2
    task = make_task(config, Spec('image', (4, 4, 1)), num_classes=2)
    images = np.zeros((1, 4, 4, 1), np.uint8)
    given = {'inpaint': {'mask': np.ones((1, 4, 4), bool)}, 'denoise': {'sigma': 3.0}}[method]
    with pytest.raises(UserError, match='a super-resolution model cannot'):
        getattr(task, method)(None, None, images=images, labels=LABELS[:1], **given)
