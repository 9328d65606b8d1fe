"""Text tokenizers: text to integers and back, for text that is data and for text that is a condition.

`ByteTokenizer` is built in. `BpeTokenizer` is byte-level BPE trained on given texts, or whatever a
tokenizer.json of Hugging Face's `tokenizers` describes; it needs that package (the extra `text`). What a
`Spec` keeps of one is its `Tokens`.
"""

import abc
import functools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from vq_jax.errors import UserError, first_line
from vq_jax.files import read_file
from vq_jax.spec import Tokens
from vq_jax.tokenizer_files import check_steps

PADDING = -1  # what stands where a text has ended; never a token
_BYTES = 256  # how many bytes there are, and tokens that stand for one
_MOST_BYTES_OF_A_TOKENIZER = 2**26
_MOST_TOKENS = 2**22  # of which there are arrays; what is published has a tenth of them


class TextTokenizer(abc.ABC):
    """Splits text into tokens, integers from 0 to `size` - 1, and joins tokens to text.

    Attributes:
        kind: what it is called.
        size: how many tokens there are.
    """

    kind: ClassVar[str]
    size: int

    @abc.abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Text to tokens, int32 [n].

        Raises:
            UserError: if UTF-8 has no bytes for a character, or the tokenizer has no tokens for the text.
        """

    def decode(self, tokens: np.ndarray | Sequence[int]) -> str:
        """Tokens to text.

        Args:
            tokens: integers [n], in any order; padding is left out.

        Returns:
            The text. Bytes that are no UTF-8, as a model may sample them, become U+FFFD.

        Raises:
            UserError: if there is no such token.
        """
        tokens = np.asarray(tokens)
        tokens = tokens[tokens != PADDING]
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.size:
            raise UserError(
                f'Tokens are from {tokens.min()} to {tokens.max()}; those of this tokenizer are from 0 to '
                f'{self.size - 1}.'
            )
        return self._decode(tokens)

    @abc.abstractmethod
    def _decode(self, tokens: np.ndarray) -> str:
        """Tokens [n], all of which there are, to text."""

    @property
    @abc.abstractmethod
    def tokens(self) -> Tokens:
        """What `text_tokenizer` makes the same tokenizer of."""

    @property
    @abc.abstractmethod
    def lengths(self) -> np.ndarray:
        """How many bytes of UTF-8 each token stands for, int32 [size].

        Of a tokenizer that changes texts, such as to lower case, these do not add up to a text's.
        """


class ByteTokenizer(TextTokenizer):
    """The bytes of UTF-8 are the tokens."""

    kind = 'bytes'
    size = _BYTES

    def encode(self, text: str) -> np.ndarray:
        """See `TextTokenizer`."""
        return np.frombuffer(utf8(text), np.uint8).astype(np.int32)

    def _decode(self, tokens: np.ndarray) -> str:
        return tokens.astype(np.uint8).tobytes().decode(errors='replace')

    @property
    def tokens(self) -> Tokens:
        """See `TextTokenizer`."""
        return Tokens(self.kind)

    @property
    def lengths(self) -> np.ndarray:
        """See `TextTokenizer`: one each."""
        return np.ones(self.size, np.int32)


class BpeTokenizer(TextTokenizer):
    """Byte pair encoding (Sennrich et al., 2016) of bytes (Radford et al., 2019).

    `train` and `read` make one, with the package `tokenizers`.
    """

    kind = 'bpe'

    def __init__(self, content: str) -> None:
        """Makes the tokenizer that a tokenizer.json describes.

        Args:
            content: of the file, which `tokens` keeps as it is. What it says of cutting and padding is left
                out, and of special tokens around a text, but for `encode_marked`.

        Raises:
            UserError: if it is no such file, has too many tokens, may make texts much longer or take very
                long, or the package is missing.
        """
        self._content = content
        self._tokenizer = _parse(content)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        ids = self._tokenizer.get_vocab(with_added_tokens=True).values()
        if not ids:
            raise UserError('The text tokenizer has no tokens; give another.')
        self.size = max(ids) + 1  # some numbers below may be left out
        if self.size > _MOST_TOKENS:
            raise UserError(
                f'The text tokenizer numbers its tokens up to {self.size - 1:,}, and there may be '
                f'{_MOST_TOKENS:,} at most; give another.'
            )

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> 'BpeTokenizer':
        """Learns merges of bytes that often occur side by side, within words as GPT-2 splits text.

        Args:
            texts: what to learn from.
            size: how many tokens there may be, of which the 256 bytes are the first; few texts give fewer.
        """
        if size < _BYTES:
            raise UserError(f'A tokenizer over bytes has {_BYTES} tokens or more, and not {size}.')
        package = _package()
        byte_level = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer = package.Tokenizer(package.models.BPE())
        tokenizer.pre_tokenizer = byte_level
        tokenizer.decoder = package.decoders.ByteLevel()
        trainer = package.trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=byte_level.alphabet(), show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(_in_ascii(tokenizer.to_str()))

    @classmethod
    def read(cls, path: str | Path) -> 'BpeTokenizer':
        """Reads a tokenizer.json.

        Raises:
            UserError: if it cannot be read or is no such file, or the package is missing; one sentence.
        """
        try:
            return cls(_in_ascii(read_file(Path(path), _MOST_BYTES_OF_A_TOKENIZER).decode()))
        except OSError as error:
            raise UserError(
                f'Cannot read the text tokenizer {path} ({error.strerror or error}); give the path of a '
                'tokenizer.json.'
            ) from error
        except UnicodeDecodeError as error:
            raise UserError(f'{path} is no text; give the path of a tokenizer.json.') from error
        except _NoTokenizer as error:
            raise UserError(f'{path} is no tokenizer.json ({error.reason}); give one.') from error

    def encode(self, text: str) -> np.ndarray:
        """See `TextTokenizer`."""
        return self._encode(text, False)

    def encode_marked(self, text: str) -> np.ndarray:
        """The same with the special tokens that the file puts around each text, such as a last one."""
        return self._encode(text, True)

    def _encode(self, text: str, marked: bool) -> np.ndarray:
        utf8(text)
        try:
            ids = _call(self._tokenizer.encode, text, add_special_tokens=marked).ids
        except Exception as error:  # the package raises nothing narrower
            raise UserError(
                f'The text tokenizer has no tokens for a text ({first_line(error)}); set '
                'config.data.text_tokenizer to one that takes any text.'
            ) from error
        if max(ids, default=0) >= self.size:  # of a special token, which a file may number as it likes
            raise UserError(
                f'The text tokenizer puts the token {max(ids)} around texts, and has {self.size:,}; get its '
                'tokenizer.json again.'
            )
        return np.asarray(ids, np.int32)

    def _decode(self, tokens: np.ndarray) -> str:
        try:
            return _call(self._tokenizer.decode, tokens.tolist(), skip_special_tokens=False)
        except Exception as error:  # the package raises nothing narrower
            raise UserError(
                f'The text tokenizer makes no text of its tokens ({first_line(error)}); get its '
                'tokenizer.json again.'
            ) from error

    @property
    def tokens(self) -> Tokens:
        """See `TextTokenizer`; the content is what this was made of."""
        # Not what the package would write, which may change with its version: tokens are compared by it.
        return Tokens(self.kind, self._content)

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """See `TextTokenizer`; of byte-level BPE, in whose tokens a character stands for each byte."""
        lengths = np.zeros(self.size, np.int32)
        for token, number in self._tokenizer.get_vocab(with_added_tokens=False).items():
            lengths[number] = len(token)
        for number, token in self._tokenizer.get_added_tokens_decoder().items():
            lengths[number] = len(token.content.encode())
        return lengths


_KINDS = {cls.kind: cls for cls in (ByteTokenizer, BpeTokenizer)}


@functools.lru_cache(maxsize=8)
def text_tokenizer(tokens: Tokens) -> TextTokenizer:
    """The tokenizer of which `TextTokenizer.tokens` are these.

    Raises:
        UserError: if there is no such tokenizer, or a package that it needs is missing.
    """
    if tokens.kind not in _KINDS:
        raise UserError(f'the kind of text tokenizer is {tokens.kind!r}; there are {", ".join(_KINDS)}.')
    return ByteTokenizer() if tokens.kind == ByteTokenizer.kind else BpeTokenizer(tokens.content)


def texts_of(examples: np.ndarray, tokens: Tokens) -> list[str]:
    """The texts of examples, int [b n], with `PADDING` where there is none."""
    tokenizer = text_tokenizer(tokens)
    return [tokenizer.decode(example) for example in np.asarray(examples)]


def pad_tokens(texts: Iterable[np.ndarray], length: int) -> np.ndarray:
    """Cuts texts to a length, and fills the shorter ones with `PADDING`.

    Args:
        texts: tokens int32 [n] of each of b texts.
        length: m, how many tokens each is to have.

    Returns:
        int32 [b m].
    """
    texts = list(texts)
    padded = np.full((len(texts), length), PADDING, np.int32)
    for row, tokens in zip(padded, texts, strict=True):
        row[: len(tokens)] = tokens[:length]
    return padded


def utf8(text: str) -> bytes:
    """The bytes of a text; raises `UserError` for halves of characters, as names of files may hold."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f'A text holds {text[error.start]!a}, for which UTF-8 has no bytes; leave it out.'
        ) from error


class _NoTokenizer(UserError):
    """A content is no tokenizer.json, for a reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(f'the text tokenizer is no tokenizer.json ({reason}); restore it from a copy.')
        self.reason = reason


def _in_ascii(content: str) -> str:
    """The same JSON in ASCII and on one line, as files that `vq_jax.json_files` reads may hold it."""
    try:
        return json.dumps(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise _NoTokenizer(first_line(error)) from error


def _parse(content: str) -> Any:
    """The `tokenizers.Tokenizer` of a tokenizer.json."""
    package = _package()
    try:
        said = json.loads(content)
        model = said.get('model') if isinstance(said, dict) else None
        if isinstance(model, dict) and model.get('merges') and model.get('continuing_subword_prefix'):
            # The package cuts so many bytes off, whatever they are; half a character ends the process.
            raise ValueError('its merges have a continuing_subword_prefix')
        tokenizer = _call(package.Tokenizer.from_str, content)
    except Exception as error:  # the package raises nothing narrower
        raise _NoTokenizer(first_line(error)) from error
    check_steps(said)
    return tokenizer


def _call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Calls a function of the package; where it panics, at what it did not check, raises `RuntimeError`."""
    try:
        return function(*arguments, **options)
    except BaseException as error:
        if type(error).__name__ != 'PanicException':  # which is no `Exception`, and nowhere to be imported
            raise
        raise RuntimeError(first_line(error)) from error


def _package() -> ModuleType:
    try:
        import tokenizers
    except ImportError as error:
        raise UserError(
            "A text tokenizer of the kind 'bpe' needs the package tokenizers; install it by "
            "pip install 'vq_jax[text]', or choose the kind 'bytes'."
        ) from error
    return tokenizers
