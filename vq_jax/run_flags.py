"""What the commands that open a trained run share: --workdir, --step, --override and --allow_import."""

from typing import Any

from absl import flags

from vq_jax import cli

_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'The directory of the run, or gs://BUCKET/FOLDER or hf://OWNER/NAME.'
)
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
        'overrides': cli.overrides(_OVERRIDE),
        'allow': _ALLOW_IMPORT.value,
    }
