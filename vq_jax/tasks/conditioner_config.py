"""What a model is conditioned on beside classes, in an experiment config."""

import dataclasses
import functools

import numpy as np
from ml_collections import ConfigDict

from vq_jax.errors import UserError, check_least, check_share
from vq_jax.extensions import is_own, own_class
from vq_jax.models.context import Conditioner
from vq_jax.models.embedded_text import EmbeddedText, Pool
from vq_jax.models.text_encoder import TextEncoder
from vq_jax.spec import Spec, TextVectors, Tokens
from vq_jax.tasks.text_models import TextModel
from vq_jax.text_tokenizers import text_tokenizer
from vq_jax.training.config import build, defaults

TEXT, EMBEDDED_TEXT = 'text', 'embedded_text'  # kinds


@dataclasses.dataclass(frozen=True)
class ConditionerConfig:
    """What a model is conditioned on beside classes.

    Attributes:
        kind: 'text', which says what an example shows (section 'text_encoder', and the key
            'caption_length' of 'data'); 'embedded_text', the same as vectors that a frozen encoder has made
            (section 'embedded_text', and the key 'text_vectors' of 'data' too); 'module:Class', a conditioner
            of one's own (section 'custom_conditioner'); None for nothing.
        dropout: share of the training examples whose conditions are dropped, which guidance needs (Ho and
            Salimans 2022).
    """

    kind: str | None = None
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_share(self, 'dropout')
        if self.kind not in (None, TEXT, EMBEDDED_TEXT) and not is_own(self.kind):
            raise UserError(
                f'kind is {self.kind!r}; choose {TEXT!r} or {EMBEDDED_TEXT!r}, name a class of your own as '
                "'module:Class', or leave it None."
            )


@dataclasses.dataclass(frozen=True)
class EmbeddedTextConfig:
    """How vectors of texts are read that a frozen encoder has made (`vq_jax.embed`).

    Attributes:
        encoder: the folder of that encoder, for texts that users write; training needs none.
        pool: what stands for a whole text: the 'mean' of its vectors, as is usual for T5, or the 'last' one,
            as CLIP has learned.
        width: of what is made of them.
    """

    encoder: str = ''
    pool: Pool = 'mean'
    width: int = 512

    def __post_init__(self) -> None:
        check_least(1, self, 'width')


def conditioner_sections() -> dict[str, ConfigDict]:
    """The sections of a config of a task that may be conditioned: 'conditioner', and one for each kind."""
    return {
        'conditioner': defaults(ConditionerConfig),
        'text_encoder': defaults(TextEncoder),
        'embedded_text': defaults(EmbeddedTextConfig),
    }


def make_conditioner(config: ConfigDict, spec: Spec) -> tuple[Conditioner | None, float]:
    """The conditioner of a full config, for such examples, and the share of those for which it is dropped.

    None and 0 if the config names none.
    """
    options = build(ConditionerConfig, config.conditioner, 'conditioner')
    if options.kind is None:
        return None, 0.0
    if options.kind == TEXT:
        return make_text_encoder(config, spec), options.dropout
    if options.kind == EMBEDDED_TEXT:
        return _embedded_text(config, spec), options.dropout
    cls = conditioner_class(options.kind)
    return build(cls, config.custom_conditioner, 'custom_conditioner'), options.dropout


def make_text_encoder(config: ConfigDict, spec: Spec) -> TextEncoder:
    """The text encoder of a full config, of texts that have the tokens of the spec, else bytes."""
    texts = caption_spec(config, spec)
    given = {'tokenizer': text_tokenizer(texts.tokens), 'length': texts.shape[0]}
    return build(TextEncoder, config.text_encoder, 'text_encoder', **given)


def caption_spec(config: ConfigDict, spec: Spec) -> Spec:
    """What the texts are that say what such examples show, in the data of a full config."""
    length = config.data.caption_length
    if length is None:
        raise UserError(
            'this model reads text, and config.data.caption_length is not set; set it to how many tokens of '
            'the text of an example are read, such as 64.'
        )
    return Spec('text', (length,), tokens=spec.tokens or Tokens('bytes'))


def _embedded_text(config: ConfigDict, spec: Spec) -> EmbeddedText:
    """What reads the vectors of texts of a full config, of which the spec says what they are."""
    options = build(EmbeddedTextConfig, config.embedded_text, 'embedded_text')
    if spec.text_vectors is None:
        raise UserError(
            f'config.conditioner.kind={EMBEDDED_TEXT} reads vectors of texts, and the data have none; write '
            'them with vq_jax.embed, and set config.data.text_vectors to their folder.'
        )
    texts = caption_spec(config, spec)
    return EmbeddedText(
        tokenizer=text_tokenizer(texts.tokens),
        length=texts.shape[0],
        vectors=spec.text_vectors,
        embed=functools.partial(_vectors_of, options.encoder, spec.text_vectors),
        pool=options.pool,
        width=options.width,
    )


def _vectors_of(folder: str, made: TextVectors, text: str) -> np.ndarray:
    """The vectors of a text [n d], by the encoder in a folder, which must be the one whose were learned."""
    if not folder:
        raise UserError(
            'this model reads vectors of texts, and config.embedded_text.encoder does not name what makes '
            'those of a new one; set it to the folder that vq_jax.embed was given.'
        )
    model = _text_model(folder)
    if model.checksum != made.encoder:
        raise UserError(
            f'{folder} holds another text encoder (checksum {model.checksum[:12]}) than the one whose '
            f'vectors the model was made for ({made.encoder[:12]}); set config.embedded_text.encoder to that.'
        )
    vectors, [n] = model.embed([text], made.length)
    return vectors[0, :n]


@functools.lru_cache(maxsize=1)
def _text_model(folder: str) -> TextModel:
    return TextModel.read(folder)


def conditioner_class(name: str) -> type[Conditioner]:
    """A conditioner of one's own, 'module:Class'; raises `UserError` if there is no such class."""
    found = own_class(name, 'config.conditioner.kind')
    if not issubclass(found, Conditioner):
        raise UserError(
            f'config.conditioner.kind is {name!r}, which is no subclass of vq_jax.models.Conditioner; make '
            'it one.'
        )
    return found
