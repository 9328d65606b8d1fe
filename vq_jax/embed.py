"""Writes the vectors of all texts of a data set, once: `python -m vq_jax.embed --config NAME --encoder DIR`.

The folder that --output names is then `--config.data.text_vectors` of models that read vectors of texts
(`--config.conditioner.kind=embedded_text`). That of the encoder is one of Hugging Face's `transformers`,
with a T5 or CLIP. A folder whose writing was killed may be named again: all of it is written anew.
"""

from absl import flags

from vq_jax import cli

_CONFIG = cli.define_config()
_ENCODER = flags.DEFINE_string('encoder', None, 'The folder of the text encoder (docs/weights.md).')
_OUTPUT = flags.DEFINE_string('output', None, 'The folder to write.')
_LENGTH = flags.DEFINE_integer(
    'length',
    None,
    "Vectors that there is room for, of a text; by default CLIP's 77, and of a T5 those of the longest text.",
    lower_bound=1,
)
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 64, 'Texts that are encoded at once.', lower_bound=1)


def main() -> None:
    """Writes the files, and says what is in them."""
    import dataclasses

    from vq_jax.data import DataConfig, open_dataset
    from vq_jax.data.text_vectors import is_unfinished
    from vq_jax.extensions import allowing, named_modules
    from vq_jax.tasks.text_models import TextModel, write_vectors
    from vq_jax.training.config import build

    config = cli.read_config(_CONFIG)
    output = cli.check_output(_OUTPUT, '', unfinished=is_unfinished)
    model = TextModel.read(_ENCODER.value)
    data = dataclasses.replace(build(DataConfig, config.data, 'data'), text_vectors=None)
    with allowing(named_modules(config)):
        train = open_dataset(data, data.train_split, prepare=True)
        others = open_dataset(data, data.eval_split, prepare=True, tokens=train.spec.tokens)
    cli.use_compilation_cache()
    made = write_vectors(output, (train, others), model, _LENGTH.value, _BATCH_SIZE.value)
    print(f'{output} holds the vectors of {made:,} texts')


if __name__ == '__main__':
    cli.main(main, required=('config', 'encoder', 'output'), save_memory='give a smaller --batch_size')
