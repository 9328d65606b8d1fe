"""From stored text to the array that the model is given: its tokens, of one length."""

from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from vq_jax.data.config import DataConfig
from vq_jax.data.source import Source
from vq_jax.data.transforms.transform import Around, Transform
from vq_jax.errors import UserError
from vq_jax.files import decode_text, read_file, telling
from vq_jax.spec import Spec
from vq_jax.text_tokenizers import pad_tokens, text_tokenizer


class Piece(NamedTuple):
    """One of the pieces of `num_tokens` tokens that a text is cut into.

    Attributes:
      tokens: Of the whole text, integers [m].
      number: That of the piece in it.
    """

    tokens: np.ndarray
    number: int


class TextTransform(Transform):
    """Cuts texts into pieces of a number of tokens, the last of which is padded with -1.

    Evaluation sees all pieces that a text is cut into, one after the other. A random crop of training begins
    up to half of its length before or after its piece, and no later than the last piece, so that what is
    learned of the ends of texts is what evaluation asks for.
    """

    noun = 'piece of text'
    keys: ClassVar[tuple[str, ...]] = ('text_key', 'num_tokens', 'random_crop')

    def __init__(self, config: DataConfig, source: Source) -> None:
        (length,) = source.shape
        if config.num_tokens not in (None, length):
            raise UserError(
                f'config.data.num_tokens is {config.num_tokens}, and {source.name} gives {length} tokens of '
                'each text; leave it out.'
            )
        self.spec = Spec('text', (length,), tokens=source.tokens)
        self.varied = config.random_crop
        self.uniforms = int(config.random_crop)

    def decode(
        self,
        stored: Piece | np.ndarray,
        name: str,
        told: list[str] | None = None,
        position: float | None = None,
    ) -> np.ndarray | Around:
        """See `Transform`; int32 [n], or around it, of any integers, where there are random crops."""
        if not isinstance(stored, Piece):
            array = np.asarray(stored)
            if array.shape != self.spec.shape or array.dtype != self.spec.dtype:
                raise UserError(
                    f'{name} is {array.dtype} of shape {array.shape}, not int32 of {self.spec.shape} as the '
                    'others: let the source give that.'
                )
            return Around(array, 0) if self.varied else array
        n = self.spec.shape[0]
        first = start = stored.number * n
        stop = first + n
        if self.varied:
            start, stop = max(0, start - n // 2), stop + n // 2
        tokens = stored.tokens[start:stop]
        return Around(tokens, first - start) if self.varied else pad_tokens([tokens], n)[0]

    def augment(self, values: np.ndarray | list[Around], uniforms: np.ndarray) -> np.ndarray:
        """Cuts a piece out of each, int32 [b n]."""
        n = self.spec.shape[0]
        latest = (max(len(x) - n, x.first) for x in values)
        starts = (int(u * (last + 1)) for last, (u,) in zip(latest, uniforms, strict=True))
        return pad_tokens((x.values[start:] for x, start in zip(values, starts, strict=True)), n)

    def centre(self, value: np.ndarray | Around) -> np.ndarray:
        """See `Transform`."""
        if not isinstance(value, Around):
            return value
        return pad_tokens([value.values[value.first :]], self.spec.shape[0])[0]

    @staticmethod
    def prepare(
        file: bytes | str | Path | np.ndarray,
        mask: None,
        spec: Spec,
        config: DataConfig,
        whole: bool = False,
    ) -> tuple[np.ndarray, None]:
        """See `Transform`; a path, the content of a file, or tokens, int32 [m]; a text has no mask."""
        if mask is not None:
            raise UserError('a text has no mask that could be read; continue it, or give inpaint a mask.')
        if isinstance(file, np.ndarray):
            tokens = file
        else:
            if spec.tokens is None:
                raise UserError(
                    'it is not known what the tokens of this model stand for; give arrays of them.'
                )
            tokens = text_tokenizer(spec.tokens).encode(read_text(file))
        if tokens.ndim != 1 or tokens.dtype != np.int32:
            raise UserError(f'the text is {tokens.dtype} {tokens.shape}; give tokens, int32 [m].')
        if whole:
            return tokens, None
        if len(tokens) > spec.shape[0]:
            raise UserError(
                f'the text has {len(tokens):,} tokens, and the model takes {spec.shape[0]:,}; give a shorter '
                'one.'
            )
        return pad_tokens([tokens], spec.shape[0])[0], None


def read_text(file: bytes | str | Path) -> str:
    """The text of a file, of which the path or the content is given; `UserError` if it is none."""
    name = file if isinstance(file, str | Path) else 'the text'
    with telling(f'{name} cannot be read', 'give a text file'):
        content = read_file(Path(file)) if isinstance(file, str | Path) else file
    return decode_text(content, name)
