"""What an example is, and what its codes are: shapes and types, without a word of models."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from vq_jax.errors import UserError

Kind = Literal['image', 'video', 'audio', 'text']

_AXES = {'image': 'h w c', 'video': 't h w c', 'audio': 't c', 'text': 'n'}
_PLURALS = {'image': 'images', 'video': 'videos', 'audio': 'sounds', 'text': 'texts'}
_MOST_VALUES = 2**31 - 1  # positions are counted in 32 bits
_MOST_OF_A_CONDITION = 2**24  # values
_DTYPES = {'image': np.uint8, 'video': np.uint8, 'audio': np.int16, 'text': np.int32}


@dataclasses.dataclass(frozen=True)
class Tokens:
    """What the tokens of text stand for (see `vq_jax.text_tokenizers`), as files keep it.

    Attributes:
        kind: of text tokenizer, such as 'bytes'.
        content: what else makes it; of 'bpe', that of a tokenizer.json.
    """

    kind: str
    content: str = dataclasses.field(default='', repr=False)


@dataclasses.dataclass(frozen=True)
class TextVectors:
    """What the vectors are that a frozen encoder has made of the condition `text` (see `data.text_vectors`).

    Attributes:
        length: how many there is room for, of one text.
        width: of each.
        encoder: what made them: the checksum of a `vq_jax.tasks.text_models.TextModel`, or any other name.
    """

    length: Annotated[int, Meta(ge=1, le=2**31)]
    width: Annotated[int, Meta(ge=1, le=2**31)]
    encoder: str


@dataclasses.dataclass(frozen=True)
class Spec:
    """What each example of a data set is, as it travels to the devices.

    Attributes:
        kind: 'image' is uint8 [h w c], 'video' uint8 [t h w c], 'audio' int16 [t c], 'text' int32 [n].
        shape: of one example; all but the last axis are its grid, and the last its channels. Text has a
            grid alone.
        rate: of sound, samples in a second; of video, frames in a second; None where time has no axis or
            the data set does not say.
        tokens: what the integers of text stand for, of text itself, or of the condition `text` that says what
            an example shows; -1 stands where the text has ended. None where there is none, or that is not
            known.
        text_vectors: what the vectors of that condition are; None where there are none.
    """

    kind: Kind
    shape: tuple[Annotated[int, Meta(ge=1, le=2**31)], ...]
    rate: Annotated[float, Meta(gt=0)] | None = None
    tokens: Tokens | None = None
    text_vectors: TextVectors | None = None

    def __post_init__(self) -> None:
        if self.rate is not None:
            object.__setattr__(self, 'rate', float(self.rate))  # as it comes back from files
        if self.kind not in _AXES:
            raise UserError(f'kind is {self.kind!r}; choose one of {", ".join(_AXES)}.')
        axes = _AXES[self.kind].split()
        if len(self.shape) != len(axes) or min(self.shape) < 1:
            raise UserError(
                f'an example of the kind {self.kind} has a shape [{_AXES[self.kind]}], and this has '
                f'{self.shape}; give such ones, of 1 or more.'
            )
        most = _MOST_VALUES
        if math.prod(self.shape) > most or (self.kind in ('image', 'video') and self.channels not in (1, 3)):
            raise UserError(
                f'an example of the shape {self.shape} has more than {most:,} values, or neither 1 nor 3 '
                'channels of colour; give smaller ones, grey or RGB.'
            )

    @property
    def dtype(self) -> type[np.generic]:
        """The type in which examples travel."""
        return _DTYPES[self.kind]

    @property
    def axes(self) -> str:
        """What the axes of an example are called, such as 'h w c'."""
        return _AXES[self.kind]

    @property
    def plural(self) -> str:
        """What several examples are called, such as 'sounds'."""
        return _PLURALS[self.kind]

    @property
    def grid(self) -> tuple[int, ...]:
        """The sizes of the axes along which models convolve and attend."""
        return self.shape if self.kind == 'text' else self.shape[:-1]

    @property
    def rank(self) -> int:
        """How many axes the grid has."""
        return len(self.grid)

    @property
    def channels(self) -> int:
        """Values at each position of the grid."""
        return 1 if self.kind == 'text' else self.shape[-1]

    @property
    def size(self) -> int:
        """Values of an example."""
        return math.prod(self.shape)

    @property
    def size_in_words(self) -> str:
        """The sizes of the grid, as people write them, such as '32x32'."""
        return 'x'.join(map(str, self.grid))

    def __str__(self) -> str:
        """Kind and shape, such as 'image of 32x32x3'."""
        return f'{self.kind} of {"x".join(map(str, self.shape))}'


@dataclasses.dataclass(frozen=True)
class ConditionSpec:
    """What an array is that a data set gives of each example beside the example and its class.

    Such as the tokens of its text, or the angle from which it is seen.

    Attributes:
        shape: of one example's; empty for a number.
        dtype: its type, in a batch and on the devices.
    """

    shape: tuple[Annotated[int, Meta(ge=1, le=2**31)], ...]
    dtype: Literal['float32', 'float16', 'int32', 'bool'] = 'float32'

    def __post_init__(self) -> None:
        possible = self.dtype in ('float32', 'float16', 'int32', 'bool') and min(self.shape, default=1) >= 1
        if not possible or math.prod(self.shape) > _MOST_OF_A_CONDITION:
            raise UserError(
                f'a condition of the type {self.dtype!r} and the shape {self.shape} cannot be given; let it '
                f'be float32, float16, int32 or bool, of 1 to {_MOST_OF_A_CONDITION:,} values.'
            )

    def array(self, value: Any, what: str) -> np.ndarray:
        """One example's, of what a data set or a user gives; `UserError` for what cannot be such.

        In the message it is called `what`.
        """
        try:
            array = np.asarray(value)
        except ValueError:  # of parts that differ in shape
            array = np.asarray(value, object)
        if array.shape != self.shape or not np.can_cast(array.dtype, self.dtype, 'same_kind'):
            raise UserError(f'{what} is {array.dtype} [{" ".join(map(str, array.shape))}]; give {self}.')
        return array.astype(self.dtype)

    def __str__(self) -> str:
        """Type and shape, such as 'int32 [16]'."""
        return f'{self.dtype} [{" ".join(map(str, self.shape))}]'


def blank_conditions(specs: Mapping[str, ConditionSpec], n: int) -> dict[str, np.ndarray]:
    """Zeros [n ...] for each condition, by name."""
    return {name: np.zeros((n, *spec.shape), spec.dtype) for name, spec in specs.items()}


@dataclasses.dataclass(frozen=True)
class CodeSpec:
    """What the codes of an example are: for each scale, from coarse to fine, int32 [*grid depth].

    A plain VQ-VAE has one scale of depth 1, residual and product quantizers one of depth D, a VQ-VAE-2 two
    scales.

    Attributes:
        grids: of each scale, the sizes of its axes.
        vocabularies: of each scale, how many codes there are at each depth.
    """

    grids: tuple[tuple[Annotated[int, Meta(ge=1, le=2**31)], ...], ...]
    vocabularies: tuple[tuple[Annotated[int, Meta(ge=1, le=2**31)], ...], ...]

    def __post_init__(self) -> None:
        if not self.grids or len(self.grids) != len(self.vocabularies) or not all(self.vocabularies):
            raise UserError(
                f'codes of the grids {self.grids} and vocabularies {self.vocabularies} are none; give one '
                'scale or more, with the same number of both, and a depth or more to each.'
            )

    @property
    def num_scales(self) -> int:
        """How many scales there are."""
        return len(self.grids)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of an example's codes, [*grid depth] for each scale."""
        scales = zip(self.grids, self.vocabularies, strict=True)
        return tuple((*grid, len(vocabulary)) for grid, vocabulary in scales)

    @property
    def length(self) -> int:
        """How many codes an example has."""
        return sum(map(math.prod, self.shapes))

    @property
    def largest(self) -> int:
        """The size of the largest vocabulary."""
        return max(map(max, self.vocabularies))

    def first(self, depths: int) -> 'CodeSpec':
        """What the first so many codes of each position are, of one scale or more."""
        return CodeSpec(self.grids, tuple(vocabulary[:depths] for vocabulary in self.vocabularies))

    def split(self, codes: Any) -> tuple[Any, ...]:
        """Splits the codes of examples in a row, [b length], into scales [b *grid depth]."""
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])
        parts = zip(ends, self.shapes, strict=True)
        return tuple(codes[:, end - math.prod(shape) : end].reshape(-1, *shape) for end, shape in parts)

    def cut(self, codes: tuple[Any, ...]) -> tuple[Any, ...]:
        """Cuts the codes [b *grid depth] of scales down to the first depths, where they have more."""
        return tuple(
            scale[..., : len(vocabulary)] for scale, vocabulary in zip(codes, self.vocabularies, strict=True)
        )

    def __str__(self) -> str:
        """Grids and vocabularies, such as '8x8 of 512'; of several depths '8x8 of (512, 512)'."""
        scales = zip(self.grids, self.vocabularies, strict=True)
        return ' and '.join(
            f'{"x".join(map(str, grid))} of {vocabulary if len(vocabulary) > 1 else vocabulary[0]}'
            for grid, vocabulary in scales
        )
