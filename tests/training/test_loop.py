"""What the loop tells of numbers that go wrong, with a step and an evaluation that only count."""

import math
import types
from typing import Any

import jax.numpy as jnp
import pytest
from flax import struct

from vq_jax.errors import UserError
from vq_jax.training.loop import LoopConfig, run_loop
from vq_jax.training.progress import Progress

evaluated = types.SimpleNamespace


@struct.dataclass
class Counted:
    """A state that is its step, and what was learned by it."""

    step: int
    learned: Any = 0.0
    frozen: Any = None


class Saved:
    """Takes any call, and keeps what was saved and written."""

    def __init__(self):
        self.saved, self.written = {}, []

    def save(self, step, state, position, numbers):
        self.saved[step] = state

    def steps(self):
        return sorted(self.saved)

    def scalars(self, step, split, values):
        self.written.append((step, split, values))

    def __getattr__(self, name):
        return lambda *arguments: None


def loop(
    metrics,
    watch=lambda values: None,
    *,
    watch_evaluation=lambda values: None,
    learned=(),
    saved=None,
    evaluation=None,
    batches=None,
    **changes,
):
    """Runs one step for each of `metrics`, and logs all of them.

    Args:
        metrics: of each step.
        watch: as in `run_loop`.
        watch_evaluation: as in `run_loop`.
        learned: what is learned after each step, and before the first.
        saved: keeps what is saved and written.
        batches: in place of as many as there are steps.
        evaluation: what each gives, or a function that does; None for one number that grows.
        **changes: to the config.
    """
    config = LoopConfig(**{'steps': len(metrics), 'log_every': 1, **changes})
    saved, learned = saved or Saved(), learned or [0.0] * (config.steps + 1)

    def take_step(state, batch):
        return Counted(state.step + 1, learned[state.step + 1]), metrics[state.step]

    with Progress() as progress:
        return run_loop(
            config,
            train_step=lambda step: take_step,
            engine=types.SimpleNamespace(put_batch=lambda batch: batch),
            state=Counted(0, learned[0]),
            batches=batches or iter([{}] * config.steps),
            evaluate=evaluation
            if callable(evaluation)
            else lambda state: evaluation or evaluated(metrics={'psnr': 20.0 + state.step}, media={}),
            watch=watch,
            watch_evaluation=watch_evaluation,
            checkpoints=saved,
            writer=saved,
            progress=progress,
        )


def test_an_evaluation_can_warn(capsys):
    loop([{'loss': 1.0}], watch_evaluation=lambda values: f'too dark: {values["psnr"]}. Do something.')
    assert 'step 1/1  warning: too dark: 21.0. Do something.' in capsys.readouterr().out


def test_a_warning_is_shown_once_for_as_long_as_it_holds(capsys):
    """Its numbers change; evaluations, which warn of something else, stand between."""

    def watch(values):
        x = values['loss']
        return None if x == 0 else f'too {"much" if x > 0 else "little"}: {x:.1f}. Do something.'

    loop([{'loss': x} for x in (1.0, 2.0, 3.0, 0.0, 4.0, -1.0)], watch, eval_every=1, best_metric='nosuch')
    shown = [line for line in capsys.readouterr().out.splitlines() if 'warning' in line]
    assert [line.split('. ')[0] for line in shown] == [
        'step 1/6  warning: too much: 1.0',
        'step 1/6  warning: config.best_metric is nosuch, which this evaluation does not give; it gives psnr',
        'step 5/6  warning: too much: 4.0',
        'step 6/6  warning: too little: -1.0',
    ]


@pytest.mark.parametrize(
    'last, section',
    [
        ({'loss': math.nan}, 'optimizer'),
        ({'reconstruction_loss': 1.0, 'discriminator_loss': math.inf}, 'discriminator_optimizer'),
        ({'discriminator_loss': 1.0, 'discriminator_gradient_norm': math.inf}, 'discriminator_optimizer'),
        ({'discriminator_loss': 1.0, 'gradient_norm': math.inf}, 'optimizer'),
        # What the discriminator was shown was broken.
        ({'reconstruction_loss': math.nan, 'discriminator_loss': math.nan}, 'optimizer'),
    ],
)
def test_numbers_that_are_not_finite_name_the_optimizer_to_mend(last, section):
    with pytest.raises(UserError, match=rf'at step 2 .* Lower config\.{section}\.learning_rate'):
        loop([{'loss': 1.0}, {'loss': 1.0, **last}])


def params(value, other=0.0):
    return {
        'kernel': jnp.array([0.0, value]),
        'codebook': jnp.array([other], jnp.bfloat16),
        'count': jnp.array(3),
    }


@pytest.mark.parametrize('value', [math.nan, math.inf])
@pytest.mark.parametrize('best_metric', ['psnr', None])
def test_what_was_learned_is_not_saved_if_it_is_not_finite(value, best_metric):
    """Though no loss says so: the last update spoilt it, or nothing of it was used."""
    saved = Saved()
    learned = [params(0.0), params(1.0), params(2.0), params(value, value)]
    changes = {'checkpoint_every': 1, 'eval_every': 1, 'best_metric': best_metric}
    with pytest.raises(UserError) as caught:
        loop([{'loss': 1.0}] * 3, learned=learned, saved=saved, **changes)
    assert str(caught.value) == (
        "what was learned is not finite after step 3 (.learned['codebook'], .learned['kernel']); the "
        'checkpoint of step 2 is from before. Lower config.optimizer.learning_rate or set '
        'config.optimizer.clip_norm, in a new directory.'
    )
    assert sorted(saved.saved) == [1, 2]
    assert not [line for line in saved.written if line[:2] == (3, 'eval')]


def test_what_begins_spoilt_is_told_before_the_first_step():
    """As where codes were placed by vectors that were not finite."""
    saved = Saved()
    with pytest.raises(UserError, match=r"\.learned\['kernel'\] of the state at step 0 is not finite"):
        loop([{'loss': 1.0}], learned=[params(math.nan), params(0.0)], saved=saved)
    assert not saved.written and not saved.saved


def test_an_evaluation_that_is_not_finite_is_told(capsys):
    evaluation = evaluated(metrics={'psnr': math.nan}, media={})
    loop([{'loss': 1.0}], evaluation=evaluation, best_metric='psnr')
    assert 'warning: config.best_metric is psnr, which is not finite: nan' in capsys.readouterr().out


def test_the_speed_is_that_of_steps_that_were_not_compiled():
    """The first step of each function is compiled, and of a run of such steps no speed is known."""
    saved = Saved()
    loop([{'loss': 1.0}] * 4, saved=saved, log_every=2)
    speeds = {step: values for step, split, values in saved.written if split == 'speed'}
    assert sorted(speeds) == [2, 4]
    saved = Saved()
    loop([{'loss': 1.0}], saved=saved)
    assert [split for _, split, _ in saved.written] == ['train', 'eval']


def test_the_devices_are_never_far_behind_and_never_waited_for():
    """The bar and a signal to stop would mean little, or the devices would have nothing to do."""
    handed, waited = 0, []

    class Metric(float):
        def block_until_ready(self):
            waited.append((self, handed))
            return self

    class Counting(list):
        def __getitem__(self, step):
            nonlocal handed
            handed = step + 1
            return {'loss': Metric(step + 1)}

    loop(Counting([None] * 20), log_every=20, eval_every=20, checkpoint_every=20)
    assert waited == [(1.0, 1)] + [(float(step - 4), step) for step in range(5, 21)]


@pytest.mark.parametrize('checkpoint_every', [100, 4])
def test_what_was_learned_is_saved_where_the_data_end(checkpoint_every):
    def batches():
        yield from [{}] * 6  # of which two are always fetched ahead
        raise UserError('a worker died.')

    saved = Saved()
    with pytest.raises(UserError, match='a worker died'):
        changes = {'eval_every': 100, 'checkpoint_every': checkpoint_every}
        loop([{'loss': 1.0}] * 9, saved=saved, batches=batches(), learned=range(10), **changes)
    assert saved.saved[4] == Counted(4, 4) and saved.steps() == [4]


def test_what_was_learned_is_saved_where_the_data_of_an_evaluation_end():
    def evaluate(state):
        raise UserError('a worker died.')

    saved = Saved()
    with pytest.raises(UserError, match=r'a worker died\. What was learned until step 5 is saved'):
        loop([{'loss': 1.0}] * 9, saved=saved, evaluation=evaluate, eval_every=5, learned=range(10))
    assert saved.saved[5] == Counted(5, 5) and saved.steps() == [5]
