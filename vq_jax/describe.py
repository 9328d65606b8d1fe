"""Says what examples show: `python -m vq_jax.describe --workdir DIR --input FOLDER --output captions.jsonl`.

The run is one of the task captioner, and `--input` a file of the kind that it was trained on, such as an
image, or a folder of them. Files are brought to the model's size as its data were. With `--output` there is a
line of JSON for each, with its path below the folder, as data sets read it: where it is `captions.jsonl` in
that folder, `config.data.caption_length` finds the texts there. A file that is there already is replaced
with `--replace` alone. Without `--output`, the texts are shown.
"""

from absl import flags

from vq_jax import cli, run_flags
from vq_jax.errors import UserError, plural

flags.adopt_module_key_flags(run_flags)  # for --help
_INPUT = flags.DEFINE_string(
    'input', None, 'The file of an image, a recording or a video, or a folder of such files.'
)
_OUTPUT = flags.DEFINE_string(
    'output', None, 'A .jsonl file for the texts, which are shown if none is given.'
)
_REPLACE = flags.DEFINE_bool(
    'replace', False, 'Replace the file of --output, and all texts in it, if it is there.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'The same seed gives the same texts.')
_SAMPLING = {
    name: define(name, None, meaning)
    for name, define, meaning in (
        ('temperature', flags.DEFINE_float, 'Logits are divided by it; 0 takes the likeliest.'),
        ('top_k', flags.DEFINE_integer, 'Sample from the k likeliest tokens.'),
        ('top_p', flags.DEFINE_float, 'Sample from the fewest tokens whose probabilities reach this sum.'),
        ('guidance', flags.DEFINE_float, 'Scale of classifier-free guidance: 1 is the model itself.'),
        ('steps', flags.DEFINE_integer, 'Of a masked captioner: the number of sampling steps.'),
    )
}


def main() -> None:
    """Writes or prints the texts."""
    from vq_jax.data.captions import caption_lines, check_listable
    from vq_jax.data.sources.folder import example_paths
    from vq_jax.media.texts import readable
    from vq_jax.run import load
    from vq_jax.tasks.arguments import check_can

    output = None if _OUTPUT.value is None else cli.check_output(_OUTPUT, '.jsonl')
    if output is not None and output.exists() and not _REPLACE.value:
        raise UserError(
            f'--output {output} is there already, with texts that may be nowhere else; name another file, or '
            'give --replace.'
        )
    if output is None and _REPLACE.value:
        raise UserError('--replace is given without --output; give both, or leave it out.')
    given = cli.check_local('--input', _INPUT.value)
    if not given.exists():
        raise UserError(f'--input is {given}, which is not there; give a file or a folder.')
    cli.use_compilation_cache()
    run = load(**run_flags.opened())
    check_can(run.config.task, run.task, run.spec, 'describe')  # before all files are read
    files = {given.name: given}
    if given.is_dir():
        kind, paths = example_paths(given, as_video=run.spec.kind == 'video')
        if kind != run.spec.kind:
            raise UserError(
                f'the files in {given} are of the kind {kind}, and this run is of {run.spec.plural}; give a '
                'folder of those.'
            )
        files = {path or '.': given / path for path in sorted(paths)}
    if output is not None:
        check_listable(files)
    sampling = {name: flag.value for name, flag in _SAMPLING.items() if flag.value is not None}
    texts = run.describe_files(list(files.values()), _SEED.value, progress=output is not None, **sampling)
    if output is None:
        for name, text in zip(files, texts, strict=True):
            print(f'{readable(name)}: {readable(text)}')
        return
    pairs = zip(files, texts, strict=True)
    cli.write_output(output, caption_lines(pairs), plural(len(texts), 'text'))
    print(f'{plural(len(texts), "text")} written to {output}')


if __name__ == '__main__':
    cli.main(main, required=('workdir', 'input'))
