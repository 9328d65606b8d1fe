"""What the loop tells of numbers that go wrong, with a step and an evaluation that only count."""

import math
import types

import pytest

from vq_jax.errors import UserError
from vq_jax.training.loop import LoopConfig, run_loop
from vq_jax.training.progress import Progress


class Counted:
    """A state that is nothing but its step."""

    def __init__(self, step):
        self.step = step

    def replace(self, frozen):
        return self


class Silent:
    """Takes any call; has no checkpoint."""

    def __getattr__(self, name):
        return lambda *arguments: []


def loop(metrics, watch=lambda values: None, **changes):
    """Runs one step for each of `metrics`, and logs all of them."""
    config = LoopConfig(steps=len(metrics), log_every=1, **changes)
    with Progress(0, config.steps) as progress:
        return run_loop(
            config,
            train_step=lambda step: lambda state, batch: (Counted(step + 1), metrics[step]),
            engine=types.SimpleNamespace(put=lambda batch: batch),
            state=Counted(0),
            batches=iter([{}] * len(metrics)),
            evaluate=lambda state: types.SimpleNamespace(numbers={'psnr': 20.0 + state.step}, pictures={}),
            watch=watch,
            checkpoints=Silent(),
            writer=Silent(),
            progress=progress,
        )


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
