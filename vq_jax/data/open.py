"""From a config to the data set that it names."""

from vq_jax.buckets import by_address
from vq_jax.data.captions import Captions
from vq_jax.data.config import DataConfig
from vq_jax.data.dataset import Dataset
from vq_jax.data.source import Source
from vq_jax.data.sources.codes import PREFIX, CodeDataset
from vq_jax.data.sources.excerpts import ExcerptSource
from vq_jax.data.sources.folder import FolderSource
from vq_jax.data.sources.moving_mnist import NAME as MOVING_MNIST
from vq_jax.data.sources.moving_mnist import MovingMnistSource
from vq_jax.data.sources.text import PREFIX as TEXT_PREFIX
from vq_jax.data.sources.text import PieceSource, TextFileSource, all_texts, make_tokenizer
from vq_jax.data.sources.tfds import TfdsSource, data_dir, find, missing
from vq_jax.errors import UserError
from vq_jax.extensions import SOURCE_PREFIX, own_class
from vq_jax.spec import Tokens
from vq_jax.text_tokenizers import TextTokenizer, text_tokenizer

BUILT_IN = ('digits', 'glyphs', 'photos')  # which are prepared; moving MNIST is made when it is read


def open_dataset(
    config: DataConfig, split: str, *, prepare: bool = False, tokens: Tokens | None = None
) -> Dataset:
    """Opens one split of a data set.

    Args:
      config: Which data set, where it is, and how its examples are preprocessed.
      split: Split in the syntax of tensorflow-datasets, for example `config.train_split`; of written
        codes, one of those that were written.
      prepare: Whether a built-in set that is not there yet is written to the folder that the config names.
        Only of a config of the user's own: that of a run may be a stranger's.
      tokens: Of text, and of captions, what is to be made of it, as by a model that has learned; None is what
        the config says.

    Returns:
      The split, ready for `train_batches` and `eval_batches`.

    Raises:
      UserError: If the data set or the split is not there or cannot be read, or a key of the config is
        not for this kind of data.
    """
    with by_address():
        return _open(config, split, prepare=prepare, tokens=tokens)


def _open(config: DataConfig, split: str, *, prepare: bool, tokens: Tokens | None) -> Dataset:
    if config.name.startswith(PREFIX):
        return CodeDataset(config, split)
    source = open_source(config, split, prepare=prepare)
    if config.whole_recordings and source.kind == 'audio':  # of others, the data set refuses the key
        source = ExcerptSource(source, config)
    captioned, pieces = config.caption_length is not None, source.kind == 'text' and source.shape == (None,)
    if pieces and config.num_tokens is None:
        raise UserError(
            f'{config.name} holds text: set config.data.num_tokens to the length of the pieces to learn, '
            'such as 256.'
        )
    tokenizer = _tokenizer(config, tokens, prepare) if captioned or pieces else None
    source = PieceSource(source, config, tokenizer) if pieces else source
    return Dataset(config, source, Captions(config, tokenizer) if captioned else None)


def open_source(config: DataConfig, split: str, *, prepare: bool = False) -> Source:
    """Opens one split of what a config names, still encoded, as `open_dataset` does."""
    name = config.name
    if name.startswith(SOURCE_PREFIX):
        return _own(name.removeprefix(SOURCE_PREFIX), config, split)
    if name.startswith('folder:'):
        return FolderSource(
            name.removeprefix('folder:'),
            split,
            config.split_key(split),
            config.name_pattern,
            as_video=config.frames is not None,
            captioned=config.caption_length is not None,
        )
    if name.startswith(TEXT_PREFIX):
        return TextFileSource(name.removeprefix(TEXT_PREFIX), split, config.split_key(split))
    if name == MOVING_MNIST:
        return MovingMnistSource(config, split)
    if name in BUILT_IN:
        # Imported here because tensorflow-datasets takes half a second.
        from vq_jax.data.sources import builtin

        home = builtin.home(config.data_dir)
        folder = builtin.prepare(name, home) if prepare else builtin.find(name, home)
    else:
        folder = find(name, data_dir(config.data_dir))
        if folder is None:
            raise missing(name, data_dir(config.data_dir), (*BUILT_IN, MOVING_MNIST))
    return TfdsSource(folder, split, config)


def _tokenizer(config: DataConfig, tokens: Tokens | None, prepare: bool) -> TextTokenizer:
    """The tokenizer of texts; one that a config has learn does so from the texts to train on."""
    if tokens is not None:
        return text_tokenizer(tokens)
    learns = config.text_tokenizer.startswith('bpe:')
    texts = all_texts(open_source(config, config.train_split, prepare=prepare)) if learns else iter(())
    return make_tokenizer(config.text_tokenizer, texts)


def _own(name: str, config: DataConfig, split: str) -> Source:
    """A split of a source of one's own, 'module:Class'; raises `UserError` if there is no such source."""
    found = own_class(name, 'config.data.name')
    if not issubclass(found, Source):
        raise UserError(
            f'config.data.name is {SOURCE_PREFIX}{name}, which is no subclass of vq_jax.data.Source; make it '
            'one.'
        )
    return found(config, split)
