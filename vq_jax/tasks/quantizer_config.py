"""Which quantizer a model has, in an experiment config."""

import dataclasses
from typing import Any

from flax import linen as nn
from ml_collections import ConfigDict

from vq_jax.errors import UserError, nearest
from vq_jax.quantizers import (
    FiniteScalarQuantizer,
    LookupFreeQuantizer,
    Quantizer,
    ResidualQuantizer,
    VectorQuantizer,
)
from vq_jax.tasks.task import check_parts
from vq_jax.training.config import build, defaults
from vq_jax.training.extensions import is_own, own_class

_KINDS = ('vq', 'residual', 'fsq', 'lfq')


@dataclasses.dataclass(frozen=True)
class QuantizerConfig:
    """Which quantizer.

    Attributes:
        kind: 'vq' has a codebook, and the other keys of the section 'quantizer' are its; 'residual' (section
            'residual') has one of these at each depth; 'fsq' (section
            'fsq') and 'lfq' (section 'lfq') have none, and read no other key of that section but `dim`; nor
            does 'module:Class', a quantizer of one's own (section 'custom_quantizer').
    """

    kind: str = 'vq'

    def __post_init__(self) -> None:
        if self.kind not in _KINDS and not is_own(self.kind):
            near = nearest(self.kind, _KINDS)
            hint = f' (did you mean {near[0]!r}?)' if near else ''
            raise UserError(
                f'kind is {self.kind!r}; choose one of {", ".join(_KINDS)}{hint}, or name a class of your '
                "own as 'module:Class'."
            )


def quantizer_sections(*, without: tuple[str, ...] = ()) -> dict[str, ConfigDict]:
    """Sections 'quantizer', 'residual', 'fsq' and 'lfq'.

    Args:
        without: attributes of `VectorQuantizer` that code provides.
    """
    return {
        'quantizer': defaults(VectorQuantizer, QuantizerConfig, without=without),
        'residual': defaults(ResidualQuantizer, without=('quantizer',)),
        'fsq': defaults(FiniteScalarQuantizer, without=('dim',)),
        'lfq': defaults(LookupFreeQuantizer, without=('dim',)),
    }


def make_quantizer(config: ConfigDict, **given: Any) -> Quantizer:
    """The quantizer of a full config.

    Args:
        config: has the sections of `quantizer_sections`.
        **given: the attributes that were left out there.

    Raises:
        UserError: for a value that does not fit, and for a step in parts with a quantizer whose loss is of
            the whole batch.
    """
    keys = dict(config.quantizer.items())
    kind = build(QuantizerConfig, {'kind': keys.pop('kind')}, 'quantizer').kind
    vq = build(VectorQuantizer, keys, 'quantizer', **given)
    fsq = build(FiniteScalarQuantizer, config.fsq, 'fsq', dim=vq.dim)
    lfq = build(LookupFreeQuantizer, config.lfq, 'lfq', dim=vq.dim)
    if is_own(kind):
        quantizer = build(quantizer_class(kind), config.custom_quantizer, 'custom_quantizer', dim=vq.dim)
    elif kind == 'residual':
        quantizer = build(ResidualQuantizer, config.residual, 'residual', quantizer=vq)
    else:
        quantizer = {'vq': vq, 'fsq': fsq, 'lfq': lfq}[kind]
    if getattr(quantizer, 'depends_on_batch', False):
        if kind == 'lfq':
            check_parts(config, 'the entropy of the mean (config.lfq.diversity)', 'config.lfq.diversity=0')
        check_parts(config, "the quantizer's loss", 'another config.quantizer.kind')
    return quantizer


def quantizer_class(name: str) -> type[Quantizer]:
    """A quantizer of one's own.

    Args:
        name: 'module:Class', a Flax module that does what `Quantizer` says and has the attribute `dim`.

    Raises:
        UserError: if it is not there, or is no such module.
    """
    found = own_class(name, 'config.quantizer.kind')
    wanted = ('vocabulary', 'dim', 'lookup', 'project', 'nearest')
    lacks = [what for what in wanted if not _has(found, what)]
    if not issubclass(found, nn.Module) or lacks:
        what = f'has no {", no ".join(lacks)}' if issubclass(found, nn.Module) else 'is no Flax module'
        raise UserError(
            f'config.quantizer.kind is {name!r}, which {what}; do as vq_jax.quantizers.Quantizer says.'
        )
    return found


def _has(cls: type, name: str) -> bool:
    return hasattr(cls, name) or name in getattr(cls, '__annotations__', {})
