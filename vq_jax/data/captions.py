"""Texts that say what examples show, which batches have as the condition `text`."""

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from vq_jax.data.config import DataConfig
from vq_jax.data.transforms.transform import Undecodable
from vq_jax.errors import UserError
from vq_jax.files import decode_text, read_file
from vq_jax.json_files import parse_json, plain_text
from vq_jax.spec import ConditionSpec
from vq_jax.text_tokenizers import PADDING, TextTokenizer, pad_tokens

TEXT = 'text'  # what the condition is called
_LIST = 'captions.jsonl'  # the captions of files beside and below it
_LISTS = ('metadata.jsonl', _LIST)  # the former is what `datasets` of Hugging Face reads; the last one wins
_MOST_BYTES = 2**20  # of the captions of one example


class Captions:
    """Turns texts into the condition `text`.

    Attributes:
      tokenizer: Of the texts.
      spec: Of the condition, int32 [m].
    """

    def __init__(self, config: DataConfig, tokenizer: TextTokenizer) -> None:
        """Takes the length m from a config that has a `caption_length`."""
        self.tokenizer = tokenizer
        self.spec = ConditionSpec((config.caption_length,), 'int32')
        self._length, self._cut = config.caption_length, config.cut_captions

    def tokens(self, texts: Sequence[str], name: str) -> np.ndarray:
        """Returns the tokens of all captions of an example, int32 [k m], padded with -1.

        Args:
          texts: The captions; empty ones do not count.
          name: What to call the example in messages.

        Raises:
          Undecodable: If there are none.
          UserError: If one is too long, and is not to be cut.
        """
        tokens = [self.tokenizer.encode(text) for text in map(str.strip, texts) if text]
        if not tokens:
            raise Undecodable('it has no text')
        longest = max(map(len, tokens))
        if longest > self._length and not self._cut:
            raise UserError(
                f'a text of {name} has {longest:,} tokens, and config.data.caption_length is {self._length}; '
                'raise it, or set config.data.cut_captions to true.'
            )
        return pad_tokens(tokens, self._length)

    def choose(self, tokens: Sequence[np.ndarray | None], shares: np.ndarray | None) -> np.ndarray:
        """Takes one caption of each example, int32 [b m].

        Args:
          tokens: As `tokens` returns them, of each example [b]; None where it is undecodable.
          shares: Random numbers in [0, 1) that choose [b]; None takes the first of each.
        """
        chosen = np.full((len(tokens), self._length), PADDING, np.int32)
        for row, captions in enumerate(tokens):
            if captions is not None:
                chosen[row] = captions[0 if shares is None else int(shares[row] * len(captions))]
        return chosen


@dataclasses.dataclass(frozen=True)
class _Line:
    """A line of a list of captions."""

    file_name: str
    text: str | list[str]


class CaptionFiles:
    """The captions of files in a folder: those of lists above them, and of text files beside them.

    Lists are `captions.jsonl` and `metadata.jsonl`; where both in a folder name a file, the former counts.
    Several lines that name one file give it several captions, in their order.
    """

    def __init__(self, root: Path, paths: Sequence[str]) -> None:
        """Reads the lists.

        Args:
          root: The folder.
          paths: Of the files, or of folders of frames, with `/` and relative to it, which may be itself, ''.

        Raises:
          UserError: If a list cannot be read, or no file has a caption.
        """
        self._root = root
        folders = {'.', *(str(parent) for path in paths for parent in PurePosixPath(path).parents)}
        self._listed: dict[str, tuple[str, ...]] = {}
        for folder in sorted(folders):
            for name in _LISTS:
                self._listed |= _read_list(root / folder / name, folder)
        if not any(_named(path) in self._listed or os.path.isfile(self._beside(path)) for path in paths):
            raise UserError(
                f'config.data.caption_length is set, and of what the folder {str(root)!r} holds for this '
                f'split nothing has a caption: write them into {_LIST}, a line such as {{"file_name": '
                f'"{_named(paths[0])}", "text": "a red apple"}} for each, or into a .txt file of the same '
                'name beside each.'
            )

    def texts(self, path: str) -> tuple[str, ...]:
        """Returns the captions of a file; raises `OSError` or `UserError` where they cannot be read."""
        if _named(path) in self._listed:
            return self._listed[_named(path)]
        beside = self._beside(path)
        try:
            return tuple(decode_text(read_file(beside, _MOST_BYTES), beside).splitlines())
        except FileNotFoundError:
            return ()

    def _beside(self, path: str) -> Path:
        return Path(f'{os.path.splitext(self._root / path)[0]}.txt')


def _named(path: str) -> str:
    """A path as lists name it."""
    return path or '.'


def caption_lines(captions: Iterable[tuple[str, str]]) -> str:
    """The content of a list of captions, of names of files and a text for each.

    Characters of a text that lists cannot hold, as a model may sample them, become U+FFFD.

    Raises:
      UserError: If a name holds such a character.
    """
    captions = list(captions)
    check_listable(name for name, _ in captions)
    lines = ({'file_name': name, 'text': plain_text(text)} for name, text in captions)
    return ''.join(f'{json.dumps(line)}\n' for line in lines)


def check_listable(names: Iterable[str]) -> None:
    """Raises `UserError` if a list of captions cannot hold the name of a file."""
    for name in names:
        if plain_text(name) != name:
            raise UserError(f'{name!r} is a name that {_LIST} cannot hold; give the file another.')


def _read_list(path: Path, folder: str) -> dict[str, tuple[str, ...]]:
    """Reads the captions of the files of a folder by their paths; nothing where there is no such list."""
    try:
        lines = read_file(path).splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f'Cannot read {path} ({error.strerror or error}); check its permissions.') from error
    found: dict[str, list[str]] = {}
    for number, content in enumerate(lines, 1):
        if content.strip():
            advice = 'write {"file_name": "0001.png", "text": "a red apple"}, or a list of texts'
            line = parse_json(content, _Line, where=f'line {number} of {path}', advice=advice)
            texts = [line.text] if isinstance(line.text, str) else line.text
            found.setdefault(os.path.normpath(os.path.join(folder, line.file_name)), []).extend(texts)
    return {name: tuple(texts) for name, texts in found.items()}
