"""Numbers are checked as devices will hold them: in single precision, and in 32 bits."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from vq_jax.errors import UserError, check_least, check_share, on_device
from vq_jax.ops.diffusion import Process
from vq_jax.sampling.autoregressive import Choice
from vq_jax.sampling.diffusion import Options, check_steps
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.batched_sampling import check_guidance, check_number
from vq_jax.tasks.diffusion_config import Sampling
from vq_jax.training.config import build
from vq_jax.training.optimizer import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class Section:
    """Numbers of all kinds."""

    share: float = 0.5
    count: int = 3
    limit: float | None = None
    several: tuple[float, ...] = ()


@pytest.mark.parametrize('value', [0, 1, -(2**31), 2**31 - 1, np.int64(5), 0.0, 0.1, 1.2e-38, -3.4e38])
def test_what_devices_hold(value):
    assert on_device('it', value) == np.asarray(value, 'f4' if isinstance(value, float) else 'i4')


@pytest.mark.parametrize(
    'value, advice',
    [
        (2**31, 'up to 2147483647'),
        (-(2**40), 'up to 2147483647'),
        (1e39, 'up to 3.4'),
        (-1e39, 'up to 3.4'),
        (1e-50, 'is 0 in single precision; give 0, or 1.17'),
        (1e-39, 'is 0 in single precision'),  # devices take denormal numbers for 0
        (math.inf, 'give a finite number'),
        (math.nan, 'give a finite number'),
    ],
)
@pytest.mark.filterwarnings('error')
def test_what_devices_do_not_hold(value, advice):
    with pytest.raises(UserError, match=f'^it is .*{advice}'):
        on_device('it', value)
    keys = ('share', 'limit') if isinstance(value, float) else ('count',)
    for key in keys:
        with pytest.raises(UserError, match=rf'^config\.part\.{key} is .*{advice}'):
            build(Section, {key: value}, 'part')
        for check, words in ((check_least, '0 or more'), (check_share, 'a number from 0 to 1')):
            arguments = (0,) if check is check_least else ()
            with pytest.raises(UserError, match=f'{advice}|give {words}'):
                check(*arguments, Section(**{key: value}), key)
    if isinstance(value, float):
        with pytest.raises(UserError, match=advice):
            build(Section, {'several': (1.0, value)}, 'part')


def test_tuples_hold_one_number_or_more_and_none_passes():
    check_least(1, Section(limit=None, several=(1.0, 2.0)), 'limit', 'several')
    for several in ((), (1.0, 0.5)):
        with pytest.raises(UserError, match=r'^several is \(.*\); give 1 or more\.$'):
            check_least(1, Section(several=several), 'several')


def test_a_share_that_rounds_to_one():
    with pytest.raises(UserError, match=r'is 0.99999999, which is 1 in single precision; .* below 1\.'):
        check_share(Section(share=0.99999999), 'share', one=False)
    check_share(Section(share=0.9999), 'share', one=False)
    with pytest.raises(UserError, match='b2 is 0'):
        OptimizerConfig(b2=0.99999999)


def test_nothing_is_divided_by_an_eps_of_zero():
    for name in ('adam', 'adamw'):
        with pytest.raises(UserError, match='eps is 0'):
            OptimizerConfig(name=name, eps=0.0)
    OptimizerConfig(name='sgd', eps=0.0)


@pytest.mark.parametrize(
    'make',
    [
        lambda value: Choice(temperature=value),
        lambda value: Choice(top_p=value),
        lambda value: Options(eta=value),
        lambda value: Process(shift=value),
        lambda value: OptimizerConfig(clip_norm=value),
        lambda value: OptimizerConfig(learning_rate=value),
        lambda value: check_guidance(value, 10, 0.1),
    ],
)
def test_numbers_given_in_code(make):
    for value in (1e-50, 1e39):
        with pytest.raises(UserError, match=r'single precision|from 0 to 1'):
            make(value)


def test_whole_numbers_given_in_code():
    for n in (0, 10**9, 2**31, 1.5):
        with pytest.raises(UserError, match='images cannot be sampled'):
            check_number(n)
    with pytest.raises(UserError, match='more than single precision tells apart'):
        Process(timesteps=10**8)
    with pytest.raises(UserError, match='cannot make 2147483647 steps; give 1 to 1048576'):
        check_steps(2**31 - 1, Process())
    with pytest.raises(UserError, match=r'steps times that of repeats is 5000000000; give .* of 32 bits'):
        Sampling(steps=50, repeats=10**8)


@pytest.mark.parametrize('guidance', [1e38, -1e38, 2.0**21])
def test_guidance_that_leaves_nothing_of_what_is_guided(guidance):
    with pytest.raises(UserError, match=r'^guidance is .*single precision .* give a number from -1048576'):
        check_guidance(guidance, 10, 0.1)
    check_guidance(2.0**20, 10, 0.1)


@pytest.mark.parametrize(
    'task, key',
    [('vqvae', 'quantizer.commitment'), ('vae', 'loss.beta'), ('diffusion', 'sampling.percentile')],
)
def test_numbers_given_in_a_config(task, key):
    config = default_config(task)
    config.update_from_flattened_dict({key: 1e-50})
    with pytest.raises(UserError, match=rf'^config\.{key} is 1e-50, which is 0 in single precision'):
        make_task(config, Spec('image', (16, 16, 1)))


@pytest.mark.parametrize('temperature', [0.0, 1.2e-38, 1e-30, 1e-6])
def test_a_low_temperature_takes_the_most_likely_token(temperature):
    logits = np.float32([[3.0, 5.0, 4.9, -2.0], [-7.0, -3.0, -3.5, -90.0]])
    filtered = jax.jit(Choice(temperature=temperature).filtered)(logits)
    np.testing.assert_array_equal(jax.nn.softmax(filtered), [[0, 1, 0, 0]] * 2)
