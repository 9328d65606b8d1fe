"""Which quantizer a model has, in an experiment config."""

import dataclasses
from typing import Any

from flax import linen as nn
from ml_collections import ConfigDict

from vq_jax.errors import UserError, check_least, nearest
from vq_jax.extensions import is_own, own_class
from vq_jax.quantizers import (
    BinarySphericalQuantizer,
    FiniteScalarQuantizer,
    GroupedQuantizer,
    GumbelQuantizer,
    IndexBackpropagationQuantizer,
    LookupFreeQuantizer,
    MultiScaleQuantizer,
    Quantizer,
    ResidualQuantizer,
    SimVectorQuantizer,
    VectorQuantizer,
)
from vq_jax.quantizers.quantizer import Multiscale
from vq_jax.tasks.task import check_parts
from vq_jax.training.config import build, defaults

# The kinds with a section of their own, named after them, that holds all of their attributes but the width.
_SECTIONS = {
    'simvq': SimVectorQuantizer,
    'fsq': FiniteScalarQuantizer,
    'lfq': LookupFreeQuantizer,
    'bsq': BinarySphericalQuantizer,
    'ibq': IndexBackpropagationQuantizer,
    'gumbel': GumbelQuantizer,
}
_OF_VQ = ('vq', 'residual', 'multi_scale')  # the kinds that read the section 'quantizer'
_KINDS = (*_OF_VQ, *_SECTIONS)


@dataclasses.dataclass(frozen=True)
class QuantizerConfig:
    """Which quantizer.

    Attributes:
        kind: 'vq' has a codebook, and the other keys of the section 'quantizer' are its; 'residual' (section
            'residual') has one of these at each depth, 'multi_scale' (section 'multi_scale') one for grids of
            several sizes. The others read a section of the same name, and of
            'quantizer' nothing but `dim` and `groups`: 'simvq' moves a random codebook by a linear map,
            'fsq', 'lfq' and 'bsq' have no codebook, 'ibq' and 'gumbel' have one of their own. A quantizer
            of one's own, 'module:Class', reads the section 'custom_quantizer'.
        groups: vectors are split into so many, each with a quantizer of its own (product quantization): a
            position has `groups` times as many codes.
    """

    kind: str = 'vq'
    groups: int = 1

    def __post_init__(self) -> None:
        check_least(1, self, 'groups')
        if self.kind not in _KINDS and not is_own(self.kind):
            near = nearest(self.kind, _KINDS)
            hint = f' (did you mean {near[0]!r}?)' if near else ''
            raise UserError(
                f'kind is {self.kind!r}; choose one of {", ".join(_KINDS)}{hint}, or name a class of your '
                "own as 'module:Class'."
            )


def quantizer_sections(*, without: tuple[str, ...] = ()) -> dict[str, ConfigDict]:
    """Sections 'quantizer', 'residual' and 'multi_scale', and one for each kind that does not read the first.

    Args:
        without: attributes of `VectorQuantizer` that code provides.
    """
    return {
        'quantizer': defaults(VectorQuantizer, QuantizerConfig, without=without),
        'residual': defaults(ResidualQuantizer, without=('quantizer',)),
        'multi_scale': defaults(MultiScaleQuantizer, without=('quantizer', 'grid')),
        **{kind: defaults(cls, without=('dim',)) for kind, cls in _SECTIONS.items()},
    }


def make_quantizer(config: ConfigDict, grid: tuple[int, ...] | None, **given: Any) -> Quantizer | Multiscale:
    """The quantizer of a full config.

    Args:
        config: has the sections of `quantizer_sections`.
        grid: of the vectors of an example; None for one of several quantizers, each of a scale.
        **given: the attributes that were left out there.

    Raises:
        UserError: for a value that does not fit, and for a step in parts with a quantizer whose loss is of
            the whole batch.
    """
    keys = dict(config.quantizer.items())
    chosen = build(QuantizerConfig, {name: keys.pop(name) for name in ('kind', 'groups')}, 'quantizer')
    kind, groups = chosen.kind, chosen.groups
    vq = build(VectorQuantizer, keys, 'quantizer', **given)
    if kind not in _OF_VQ:
        _check_unread(vq, kind)
    if vq.dim % groups:
        raise UserError(
            f'config.quantizer.groups is {groups}, and vectors of {vq.dim} numbers cannot be split into so '
            f'many; give a divisor of {vq.dim}.'
        )
    vq = vq.clone(dim=vq.dim // groups)
    others = {other: build(cls, config[other], other, dim=vq.dim) for other, cls in _SECTIONS.items()}
    if is_own(kind):
        quantizer = build(quantizer_class(kind), config.custom_quantizer, 'custom_quantizer', dim=vq.dim)
    elif kind == 'residual':
        quantizer = build(ResidualQuantizer, config.residual, 'residual', quantizer=vq)
    elif kind == 'multi_scale':
        if groups > 1:
            raise UserError(
                f'config.quantizer.groups is {groups}, and the quantizer multi_scale takes vectors as a '
                'whole; set it to 1.'
            )
        if grid is None:
            raise UserError(
                'config.quantizer.kind is multi_scale, which has scales of its own; set '
                'config.model.top_stages to 0.'
            )
        quantizer = build(MultiScaleQuantizer, config.multi_scale, 'multi_scale', quantizer=vq, grid=grid)
    else:
        quantizer = {'vq': vq, **others}[kind]
    if getattr(quantizer, 'depends_on_batch', False):
        if kind in _SECTIONS:  # by the term of this name, and no other
            key = f'config.{kind}.diversity'
            check_parts(config, f'the entropy of the mean ({key})', f'{key}=0')
        check_parts(config, "the quantizer's loss", 'another config.quantizer.kind')
    return quantizer if groups == 1 else GroupedQuantizer(quantizer, groups)


def _check_unread(vq: VectorQuantizer, kind: str) -> None:
    """Raises `UserError` for what is asked of a codebook where the kind has none that could do it.

    Other keys, such as the number of codes, are left over where a config is given another kind.
    """
    for name in ('cosine', 'estimator', 'orthogonality'):
        value, default = getattr(vq, name), getattr(VectorQuantizer, name)
        if value == default:
            continue
        has = name in getattr(_SECTIONS.get(kind), '__annotations__', {})
        instead = f', and give config.{kind}.{name}' if has else ', or another config.quantizer.kind'
        raise UserError(
            f'config.quantizer.{name} is {value}, which config.quantizer.kind={kind} does not read; set it '
            f'to {default}{instead}.'
        )


def more_codes(config: ConfigDict) -> str:
    """What a user can do where few of the codes are in use, in one sentence, by the keys of a full config."""
    kind = config.quantizer.kind
    if kind == 'fsq':
        first = '' if config.fsq.normalise else 'Set config.fsq.normalise=true, or give '
        return f'{first or "Give "}fewer config.fsq.levels.'
    if kind == 'gumbel':
        return 'Raise config.gumbel.kl, lower config.optimizer.learning_rate, or give fewer codes.'
    if hasattr(_SECTIONS.get(kind), 'diversity'):
        return f'Raise config.{kind}.diversity or entropy, or config.{kind}.temperature.'
    if kind in _OF_VQ:
        fewer = 'quantizer.code_dim' if kind != 'multi_scale' else _width_key(config)
        unset = [
            f'config.quantizer.{key}={value}'
            for key, value, there in (
                ('revive_below', 0.1, config.quantizer.revive_below > 0),
                ('codebook_init', 'kmeans', config.quantizer.codebook_init == 'kmeans'),
            )
            if not there
        ]
        begin = f'Set {" and ".join(unset)} in a new run, compare' if unset else 'Compare'
        return f'{begin} in fewer dimensions (config.{fewer}), or lower config.quantizer.num_codes.'
    return 'Give fewer codes, or lower config.optimizer.learning_rate.'


def _width_key(config: ConfigDict) -> str:
    """The key of how many numbers vectors have."""
    return 'quantizer.dim' if 'dim' in config.quantizer else 'model.features'


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
