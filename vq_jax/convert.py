"""Converts other people's weights: `python -m vq_jax.convert last.ckpt --workdir DIR`.

SOURCE is a file of weights of another project (docs/weights.md lists them), of which --workdir becomes a run
of ours; or, with --to, the directory of a run of ours, which is written as a file of that project:

    python -m vq_jax.convert runs/vqgan --to taming --output vqgan.ckpt

A file may also lie in a bucket or on the Hugging Face Hub, hf://OWNER/NAME/FILE, where --upload puts a run
as it is, with a model card:

    python -m vq_jax.convert runs/vqgan --upload hf://OWNER/NAME --evaluation fid.json
"""

from pathlib import Path

from absl import flags

from vq_jax import cli
from vq_jax.errors import UserError, plural

_WORKDIR = flags.DEFINE_string('workdir', None, 'The directory to make a run in, of a file of weights.')
_FROM = flags.DEFINE_string('from', None, 'Whose weights they are, such as taming; found out if not given.')
_OVERRIDE = flags.DEFINE_multi_string(
    'override', [], 'With --workdir: another value for a key of the config, such as data.image_size=512.'
)
_TO = flags.DEFINE_string('to', None, 'Whose file a run is to become, such as taming.')
_OUTPUT = flags.DEFINE_string(
    'output',
    None,
    'With --to: a .safetensors, .ckpt, .pt, .pth or .msgpack file to write; of diffusers, also a folder.',
)
_UPLOAD = flags.DEFINE_string('upload', None, 'The repository to upload a run to, hf://OWNER/NAME.')
_EVALUATION = flags.DEFINE_multi_string(
    'evaluation', [], 'With --upload: a file of vq_jax.evaluate --output, whose metrics the model card tells.'
)
_PRIVATE = flags.DEFINE_bool('private', False, 'With --upload: to a repository that only you see.')
_STEP = flags.DEFINE_string(
    'step', None, 'With --to or --upload: the checkpoint, or best; the newest if none is given.'
)


def main(source: str) -> None:
    """Converts in one of the two directions, or uploads, and says what was made."""
    if [_WORKDIR.value, _TO.value, _UPLOAD.value].count(None) != 2:
        raise UserError(
            'give --workdir for the run to be made, or --to and --output for the file to be made, or '
            '--upload for the repository of the run.'
        )
    if (_OUTPUT.value is None) != (_TO.value is None):
        raise UserError('--to and --output belong together; give both, or leave both out.')
    for flag in (_FROM, _OVERRIDE):
        if flag.value and _WORKDIR.value is None:
            of_runs = '--to' if _TO.value else '--upload'
            raise UserError(
                f'--{flag.name} is for files of weights, and {of_runs} for runs; give one of them.'
            )
    if _STEP.value and _WORKDIR.value:
        raise UserError('--step is given without --to or --upload; leave it out.')
    if (_EVALUATION.value or _PRIVATE.value) and not _UPLOAD.value:
        name = _EVALUATION.name if _EVALUATION.value else _PRIVATE.name
        raise UserError(f'--{name} is given without --upload; give both, or leave it out.')
    if _UPLOAD.value:
        _upload(source)
    elif _TO.value:
        _export(source)
    else:
        _import(source, cli.check_local('--workdir', _WORKDIR.value))


def _import(source: str, workdir: Path) -> None:
    from vq_jax.tasks.conversion import check_new, convert, origin_in_words
    from vq_jax.training.state import count_parameters

    check_new(workdir)
    made = convert(source, _FROM.value, cli.overrides(_OVERRIDE))
    made.write(workdir)
    print(origin_in_words(made.facts.origin))
    if made.left_out:
        print(f'left out, which inference does not need: {plural(len(made.left_out), "array")}')
    print(f'{count_parameters(made.state.params):,} parameters in {workdir}')


def _export(source: str) -> None:
    from vq_jax.tasks.conversion import WRITTEN, export_run

    cli.check_output(_OUTPUT, *WRITTEN, '')
    export_run(source, _TO.value, _OUTPUT.value, cli.checkpoint_step(_STEP))
    print(f'{_OUTPUT.value} holds the weights of {source} as {_TO.value} has them')


def _upload(source: str) -> None:
    from vq_jax.hub import upload

    step, evaluations = cli.checkpoint_step(_STEP), _EVALUATION.value
    url = upload(source, _UPLOAD.value, step, evaluations, private=_PRIVATE.value)
    print(f"{source} is at {url}; vq_jax.load('{_UPLOAD.value}') opens it")


if __name__ == '__main__':
    cli.main(main, words=('SOURCE',))
