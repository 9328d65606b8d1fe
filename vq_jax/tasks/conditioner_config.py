"""What a model is conditioned on beside classes, in an experiment config."""

import dataclasses

from ml_collections import ConfigDict

from vq_jax.errors import UserError, check_share
from vq_jax.extensions import is_own, own_class
from vq_jax.models.context import Conditioner
from vq_jax.models.text_encoder import TextEncoder
from vq_jax.spec import Spec, Tokens
from vq_jax.text_tokenizers import text_tokenizer
from vq_jax.training.config import build, defaults

TEXT = 'text'  # a kind


@dataclasses.dataclass(frozen=True)
class ConditionerConfig:
    """What a model is conditioned on beside classes.

    Attributes:
        kind: 'text', which says what an example shows (section 'text_encoder', and the key
            'caption_length' of 'data'); 'module:Class', a conditioner of one's own (section
            'custom_conditioner'); None for nothing.
        dropout: share of the training examples whose conditions are dropped, which guidance needs (Ho and
            Salimans 2022).
    """

    kind: str | None = None
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_share(self, 'dropout')
        if self.kind not in (None, TEXT) and not is_own(self.kind):
            raise UserError(
                f"kind is {self.kind!r}; choose {TEXT!r}, name a class of your own as 'module:Class', or "
                'leave it None.'
            )


def conditioner_sections() -> dict[str, ConfigDict]:
    """The sections of a config of a task that may be conditioned: 'conditioner' and 'text_encoder'."""
    return {'conditioner': defaults(ConditionerConfig), 'text_encoder': defaults(TextEncoder)}


def make_conditioner(config: ConfigDict, spec: Spec) -> tuple[Conditioner | None, float]:
    """The conditioner of a full config, for such examples, and the share of those for which it is dropped.

    None and 0 if the config names none.
    """
    options = build(ConditionerConfig, config.conditioner, 'conditioner')
    if options.kind is None:
        return None, 0.0
    if options.kind == TEXT:
        return make_text_encoder(config, spec), options.dropout
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


def conditioner_class(name: str) -> type[Conditioner]:
    """A conditioner of one's own, 'module:Class'; raises `UserError` if there is no such class."""
    found = own_class(name, 'config.conditioner.kind')
    if not issubclass(found, Conditioner):
        raise UserError(
            f'config.conditioner.kind is {name!r}, which is no subclass of vq_jax.models.Conditioner; make '
            'it one.'
        )
    return found
