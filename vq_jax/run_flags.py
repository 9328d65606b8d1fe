"""What the commands that open a trained run share: --workdir, --step, --override and --allow_import."""

from collections.abc import Sequence
from typing import Any

from absl import flags

from vq_jax import cli
from vq_jax.errors import UserError

_WORKDIR = flags.DEFINE_string('workdir', None, 'The directory of the run, or gs://BUCKET/FOLDER.')
_STEP = flags.DEFINE_string('step', None, 'The checkpoint, or best; the newest if none is given.')
_OVERRIDE = flags.DEFINE_multi_string(
    'override', [], "Another value for a key of the run's config, such as model.coarser_workdir=runs/coarse."
)
_ALLOW_IMPORT = cli.define_allow_import()


def opened() -> dict[str, Any]:
    """The arguments of `vq_jax.load` that the flags give."""
    return {
        'workdir': _WORKDIR.value,
        'step': cli.checkpoint_step(_STEP),
        'overrides': _overrides(_OVERRIDE.value),
        'allow': _ALLOW_IMPORT.value,
    }


def _overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Their values by key; they are written key=value, as after `--config.`."""
    parsed = {}
    for override in overrides:
        key, equals, value = override.partition('=')
        if not equals:
            raise UserError(f'--override is {override!r}; write it as key=value.')
        parsed[key] = cli.literal(value)
    return parsed
