"""What a model is conditioned on beside classes, in an experiment config."""

import dataclasses

from ml_collections import ConfigDict

from vq_jax.errors import UserError, check_share
from vq_jax.extensions import is_own, own_class
from vq_jax.models.context import Conditioner
from vq_jax.training.config import build


@dataclasses.dataclass(frozen=True)
class ConditionerConfig:
    """What a model is conditioned on beside classes.

    Attributes:
        kind: 'module:Class', a conditioner of one's own (section 'custom_conditioner'); None for nothing.
        dropout: share of the training examples whose conditions are dropped, which guidance needs (Ho and
            Salimans 2022).
    """

    kind: str | None = None
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_share(self, 'dropout')
        if self.kind is not None and not is_own(self.kind):
            raise UserError(
                f"kind is {self.kind!r}; name a class of your own as 'module:Class', or leave it None."
            )


def make_conditioner(config: ConfigDict) -> tuple[Conditioner | None, float]:
    """The conditioner of a full config, and the share of the examples for which it is dropped.

    None and 0 if the config names none.
    """
    options = build(ConditionerConfig, config.conditioner, 'conditioner')
    if options.kind is None:
        return None, 0.0
    cls = conditioner_class(options.kind)
    return build(cls, config.custom_conditioner, 'custom_conditioner'), options.dropout


def conditioner_class(name: str) -> type[Conditioner]:
    """A conditioner of one's own, 'module:Class'; raises `UserError` if there is no such class."""
    found = own_class(name, 'config.conditioner.kind')
    if not issubclass(found, Conditioner):
        raise UserError(
            f'config.conditioner.kind is {name!r}, which is no subclass of vq_jax.models.Conditioner; make '
            'it one.'
        )
    return found
