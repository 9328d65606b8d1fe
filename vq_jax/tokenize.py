"""Writes the codes of a whole data set, once: `python -m vq_jax.tokenize --workdir TOKENIZER --output DIR`.

A prior then learns from them with `--config.data.name=codes:DIR`, and no longer encodes examples in each
step. Labels are written with the codes, and beside both, which tokenizer made them. Starting the same
command again goes on with what is missing.
"""

from absl import flags

from vq_jax import cli, run_flags
from vq_jax.errors import UserError

flags.adopt_module_key_flags(run_flags)  # for --help
_OUTPUT = flags.DEFINE_string('output', None, 'The folder to write.')
_SPLITS = flags.DEFINE_list('splits', None, "Splits of its data; the config's two if none are given.")
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 64, 'Examples that are encoded at once, on all devices.')
_BATCHES = flags.DEFINE_integer('shard_batches', 256, 'Batches of examples whose codes go into one file.')


def main() -> None:
    """Writes the files, and says what is in them."""
    from vq_jax.extensions import allowing, is_own
    from vq_jax.tasks.codes import write_codes
    from vq_jax.tasks.restore import config_of
    from vq_jax.training.bucket_runs import local_run
    from vq_jax.training.run_dir import read_data_facts

    opened = run_flags.opened()
    workdir = local_run(opened['workdir'])
    with allowing(opened['allow']):
        config = config_of(workdir)
    own = is_own(config.task)  # which is looked at when it is opened
    if (config.task not in ('vqvae', 'vqgan') and not own) or config.get('variant', {}).get(
        'bottleneck'
    ) == 'gaussian':
        raise UserError(
            f'{opened["workdir"]} is a run of the task {config.task} without codes; give --workdir one of '
            'vqvae, or one of vqgan with a quantizer.'
        )
    cli.use_compilation_cache()
    written = write_codes(
        output=_OUTPUT.value,
        splits=_SPLITS.value,
        batch_size=_BATCH_SIZE.value,
        shard_batches=_BATCHES.value,
        **opened,
    )
    plural = read_data_facts(workdir).spec.plural
    for split, examples in written.items():
        print(f'{split}: codes of {examples:,} {plural} in {_OUTPUT.value}')


if __name__ == '__main__':
    cli.main(main, required=('workdir', 'output'), save_memory='give a smaller --batch_size')
