"""Reads JSON files that somebody else may have written, against the types that they should hold.

A file of a run directory, of written codes or of a table may come from a stranger, from another version, or
from a disk that damaged it. Whatever it holds, reading it ends with values of the expected types or with
one sentence, in bounded memory: never with a traceback, and never waiting for a pipe. Nor does its text hold
what a terminal would obey.
"""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from vq_jax.errors import UserError
from vq_jax.files import read_file

T = TypeVar('T')

MOST_BYTES = 2**26  # of a value; what Python makes of it may take thirty times as much
_MOST_BYTES_OF_LINES = 2**30
_DEEPEST = 50  # lists and objects within each other: what walks the values calls itself for each
# Control characters but tabs and ends of lines, and halves of characters; those from U+DC80 to U+DCFF are
# bytes of file names that are not UTF-8, as Python reads and writes them.
_NO_TEXT = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udc7f\udd00-\udfff]')


def read_json(path: Path, kind: type[T] | Any, *, advice: str) -> T:
    """Reads a JSON file and checks it against a type.

    Args:
        path: the file.
        kind: what it should hold: a dataclass, `dict[str, int]`, or any other type that
            `msgspec.convert` knows; `Annotated[int, msgspec.Meta(ge=0)]` gives a range. Keys that a
            dataclass does not name are ignored, so that files of later versions can be read.
        advice: what the user should do about a file that is wrong, such as 'restore it from a copy'.

    Returns:
        The value, an instance of `kind`.

    Raises:
        FileNotFoundError: there is no such file, about which the caller knows what to say.
        UserError: the file cannot be read, is not JSON, or holds something else; one sentence.
    """
    return parse_json(_content(path, MOST_BYTES), kind, where=str(path), advice=advice)


def read_json_lines(path: Path, kind: type[T] | Any, *, advice: str) -> Iterator[tuple[int, T]]:
    """Reads a file of one JSON value a line, as `read_json` reads one value.

    A last line without its end is left out: whoever writes it may not have finished.

    Yields:
        The number of each line, from 1, and its value.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file cannot be read, or a line is wrong, which is named.
    """
    lines = io.BytesIO(_content(path, _MOST_BYTES_OF_LINES))  # of which one line after the other is a copy
    for number, line in enumerate(lines, 1):
        if line.endswith(b'\n'):
            yield number, parse_json(line, kind, where=f'line {number} of {path}', advice=advice)


def parse_json(content: bytes | str, kind: type[T] | Any, *, where: str, advice: str) -> T:
    """Parses JSON and checks it against a type.

    Args:
        content: JSON in UTF-8.
        kind: as for `read_json`.
        where: what the content is called in the message.
        advice: as for `read_json`.

    Raises:
        UserError: it is not JSON, or holds something else; one sentence.
    """
    try:
        value = json.loads(content)  # Python's own reader knows NaN and Infinity, which its writer writes
        _check_values(value)
    except (ValueError, RecursionError) as error:
        reason = 'it is nested too deeply' if isinstance(error, RecursionError) else error
        raise UserError(f'{where} is not valid JSON ({reason}); {advice}.') from error
    return check_type(value, kind, where=where, advice=advice)


def check_type(value: Any, kind: type[T] | Any, *, where: str, advice: str) -> T:
    """Checks dicts, lists, numbers and text that came from JSON against a type, as `parse_json` does."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, UnicodeError) as error:  # the latter of text that it would show
        raise UserError(f'{where} does not hold what it should ({error}); {advice}.') from error


def plain_text(text: str) -> str:
    """A text with U+FFFD in the place of each character that is refused where it is read again."""
    return _NO_TEXT.sub('\ufffd', text)


def _content(path: Path, most_bytes: int) -> bytes:
    try:
        return read_file(path, most_bytes)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f'Cannot read {path} ({error.strerror or error}); check its permissions.') from error


def _check_values(value: Any) -> None:
    """Raises `ValueError` for deep nesting, and for text that is no text."""
    level = [value]
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for part in level:
            if isinstance(part, str) and (found := _NO_TEXT.search(part)):
                raise ValueError(f'it holds the character {found[0]!a}')
            if isinstance(part, dict):
                inner += [*part, *part.values()]
            elif isinstance(part, list):
                inner += part
        if not inner:
            return
        level = inner
    raise ValueError('it is nested too deeply')
