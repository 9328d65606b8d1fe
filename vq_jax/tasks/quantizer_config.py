"""Which quantizer a model has, in an experiment config."""

import dataclasses
from typing import Any, Literal

from ml_collections import ConfigDict

from vq_jax.models.quantizers import Quantizer, VectorQuantizer
from vq_jax.models.scalar_quantizers import FiniteScalarQuantizer, LookupFreeQuantizer
from vq_jax.training.config import build, defaults


@dataclasses.dataclass(frozen=True)
class QuantizerConfig:
    """Which quantizer.

    Attributes:
        kind: 'vq' has a codebook, and the other keys of the section 'quantizer' are its; 'fsq' (section
            'fsq') and 'lfq' (section 'lfq') have none, and read no other key of that section but `dim`.
    """

    kind: Literal['vq', 'fsq', 'lfq'] = 'vq'


def quantizer_sections(*, without: tuple[str, ...] = ()) -> dict[str, ConfigDict]:
    """Sections 'quantizer', 'fsq' and 'lfq'.

    Args:
        without: attributes of `VectorQuantizer` that code provides.
    """
    section = defaults(VectorQuantizer, without=without)
    with section.unlocked():
        section.update(defaults(QuantizerConfig))
    return {
        'quantizer': section,
        'fsq': defaults(FiniteScalarQuantizer, without=('dim',)),
        'lfq': defaults(LookupFreeQuantizer, without=('dim',)),
    }


def make_quantizer(config: ConfigDict, **given: Any) -> Quantizer:
    """The quantizer of a full config.

    Args:
        config: has the sections of `quantizer_sections`.
        **given: the attributes that were left out there.

    Raises:
        UserError: for a value that does not fit.
    """
    keys = dict(config.quantizer.items())
    kind = build(QuantizerConfig, {'kind': keys.pop('kind')}, 'quantizer').kind
    vq = build(VectorQuantizer, keys, 'quantizer', **given)
    fsq = build(FiniteScalarQuantizer, config.fsq, 'fsq', dim=vq.dim)
    lfq = build(LookupFreeQuantizer, config.lfq, 'lfq', dim=vq.dim)
    return {'vq': vq, 'fsq': fsq, 'lfq': lfq}[kind]
