"""Text encoders of others, frozen: texts to vectors, of the folders in which they were published."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from vq_jax.data import Dataset
from vq_jax.data.text_vectors import write_text_vectors
from vq_jax.errors import UserError
from vq_jax.files import telling
from vq_jax.locks import opened_folder, try_lock
from vq_jax.models.clip_text import CLIPTextEncoder
from vq_jax.models.t5 import T5Encoder
from vq_jax.spec import TextVectors
from vq_jax.text_tokenizers import BpeTokenizer, pad_tokens, text_tokenizer
from vq_jax.training.manifest import fingerprint
from vq_jax.weights.text_encoders import TOKENIZER, read_text_encoder

_MODULES = {'t5': T5Encoder, 'clip': CLIPTextEncoder}


@dataclasses.dataclass(frozen=True, eq=False)
class TextModel:
    """A published text encoder with its tokenizer.

    Attributes:
        folder: that it was read from.
        module: tokens int32 [b m], -1 after the end, to vectors [b m width].
        params: of the module.
        tokenizer: text to tokens, with the marks that the encoder has learned with.
    """

    folder: Path
    module: nn.Module
    params: Any
    tokenizer: BpeTokenizer

    @classmethod
    def read(cls, folder: str | Path) -> 'TextModel':
        """Reads a folder of Hugging Face's `transformers` (see `vq_jax.weights.text_encoders`).

        Raises:
            UserError: something is missing or cannot be read, or the network is not known here.
        """
        folder = Path(folder).expanduser()
        files = read_text_encoder(folder)
        # Asked for within a conditioner, it would be taken for a part of that.
        module = _MODULES[files.kind](**files.sizes, parent=None)
        tokenizer = BpeTokenizer.read(folder / TOKENIZER)
        if tokenizer.size > module.vocabulary:
            raise UserError(
                f'{folder / TOKENIZER} has {tokenizer.size:,} tokens, and the text encoder beside it '
                f'{module.vocabulary:,}; put its own there.'
            )
        return cls(folder, module, unflatten_dict(files.params), tokenizer)

    @property
    def width(self) -> int:
        """Of the vectors."""
        return self.module.width

    @property
    def longest(self) -> int | None:
        """The most tokens of a text; None if there is no bound."""
        return getattr(self.module, 'positions', None)

    def check_length(self, length: int) -> None:
        """Raises `UserError` if there is to be room for more tokens than the encoder takes."""
        if self.longest is not None and length > self.longest:
            raise UserError(
                f'the text encoder takes {self.longest} tokens, and length is {length}; lower it.'
            )

    @functools.cached_property
    def checksum(self) -> str:
        """Of the weights and of the tokenizer: other vectors have another."""
        return hashlib.sha256(
            f'{fingerprint(self.params)} {self.tokenizer.tokens.content}'.encode()
        ).hexdigest()

    def tokens(self, texts: Sequence[str], length: int) -> np.ndarray:
        """The tokens of texts, with their marks, int32 [b length], -1 after the end.

        Raises:
            UserError: a text has more tokens, or the encoder takes fewer.
        """
        self.check_length(length)
        found = [self.tokenizer.encode_marked(text) for text in texts]
        if long := [len(one) for one in found if len(one) > length]:
            raise UserError(
                f'a text has {max(long):,} tokens of the text encoder {self.folder}, and there is room for '
                f'{length:,}; give shorter ones.'
            )
        return pad_tokens(found, length)

    def embed(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        """The vectors of the tokens of texts.

        Args:
            texts: b of them.
            length: how many tokens there is room for, marks included.

        Returns:
            Float32 [b length width], zeros after the end; and how many vectors each text has, int32 [b].

        Raises:
            UserError: a text has more tokens, or the encoder takes fewer.
        """
        tokens = self.tokens(texts, length)
        there = tokens >= 0
        vectors = np.asarray(self._apply(self.params, tokens))
        return np.where(there[..., None], vectors, 0), there.sum(1, dtype=np.int32)

    @functools.cached_property
    def _apply(self) -> Any:
        return jax.jit(lambda params, tokens: self.module.apply({'params': params}, tokens))


def write_vectors(
    folder: str | Path,
    datasets: Sequence[Dataset],
    model: TextModel,
    length: int | None = None,
    batch_size: int = 64,
) -> int:
    """Writes the vectors of all captions of data sets of the same tokens (see `vq_jax.data.text_vectors`).

    Args:
        folder: where to.
        datasets: splits that have captions.
        model: what makes the vectors.
        length: how many of a text there is room for; None is the most that the model takes, or if it has no
            bound, those of the longest text.
        batch_size: texts that are encoded at once.

    Returns:
        Of how many different texts they are.

    Raises:
        UserError: if texts are not read, one has more tokens than there is room for, or another process
            writes to the folder.
    """
    rows = {row.tobytes(): row for data in datasets for captions in data.texts() for row in captions}
    if not rows:
        named = ' or '.join(data.name for data in datasets)
        raise UserError(f'no example of {named} has a text; write one for each (docs/text.md).')
    tokens = np.stack(list(rows.values()))
    tokenizer = text_tokenizer(datasets[0].spec.tokens)
    texts = [tokenizer.decode(row) for row in tokens]
    lengths = [len(model.tokenizer.encode_marked(text)) for text in texts]
    if not all(lengths):
        raise UserError(
            f'the text {texts[lengths.index(0)][:60]!r} has no tokens of the text encoder; change it, or '
            'leave it out.'
        )
    length, most = length or model.longest or max(lengths), max(lengths)
    if most > length:
        raise UserError(
            f'the text {texts[lengths.index(most)][:60]!r} has {most:,} tokens of the text encoder, and '
            f'there is room for {length:,}; give a larger --length if the encoder takes it, or set '
            'config.data.cut_captions, with a smaller config.data.caption_length.'
        )
    model.check_length(length)

    def vectors() -> Iterator[np.ndarray]:
        for start in range(0, len(texts), batch_size):
            some = texts[start : start + batch_size]
            found, there = model.embed(some + [''] * (batch_size - len(some)), length)
            yield from (one[:n] for one, n, _ in zip(found, there, some, strict=False))

    made = TextVectors(length, model.width, model.checksum)
    with telling(f'Cannot write to {folder}', 'make room, or name another folder'):
        Path(folder).mkdir(parents=True, exist_ok=True)
    with opened_folder(Path(folder)) as held:
        if not try_lock(held):
            raise UserError(f'another process writes to {folder}; wait for its end, or name another folder.')
        write_text_vectors(folder, tokens, lengths, vectors(), made)
    return len(texts)
