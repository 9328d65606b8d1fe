"""What is read from JSON that a stranger, a disk or another version may have written."""

import dataclasses
import os
from typing import Annotated

import msgspec
import pytest

from vq_jax.errors import UserError
from vq_jax.json_files import read_file, read_json, read_json_lines


@dataclasses.dataclass(frozen=True)
class Facts:
    shape: tuple[int, int]
    count: Annotated[int, msgspec.Meta(ge=0)] = 0


WRONG = {
    'another type': b'[1, 2]',
    'a missing key': b'{}',
    'too few numbers': b'{"shape": [1]}',
    'text for a number': b'{"shape": [1, "2"]}',
    'a number beyond all': b'{"shape": [1, 1e400]}',
    'a truth for a number': b'{"shape": [1, true]}',
    'a number out of range': b'{"shape": [1, 2], "count": -1}',
    'no number': b'{"shape": [1, 2], "count": NaN}',
    'thousands of digits': b'{"shape": [1, ' + b'1' * 5000 + b']}',
    'half of it': b'{"shape": [1, ',
    'nothing': b'',
    'no UTF-8': b'{"shape": "\xff"}',
    'deep nesting': b'[' * 100_000,
    'closed nesting': b'{"shape": [1, 2], "later": ' + b'[' * 200 + b']' * 200 + b'}',
    'a command to the terminal': b'{"shape": [1, 2], "later": "\\u001b[2J"}',
    'such a key': b'{"shape": [1, 2], "\\u009b2J": 0}',
    'the end of a path': b'{"shape": [1, 2], "later": ["runs/a\\u0000"]}',
    'half a character': b'{"shape": [1, 2], "later": "\\ud83d"}',
}


@pytest.mark.parametrize('content', WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_told_in_one_sentence(tmp_path, content):
    path = tmp_path / 'facts.json'
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'facts\.json .*; restore it\.') as told:
        read_json(path, Facts, advice='restore it')
    assert '\n' not in str(told.value)


def test_a_right_file_gives_the_type_and_ignores_keys_of_later_versions(tmp_path):
    path = tmp_path / 'facts.json'
    path.write_text('{"shape": [1, 2], "later": {}}')
    assert read_json(path, Facts, advice='restore it') == Facts((1, 2), 0)


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'large').write_bytes(b'12345')
    (tmp_path / 'link').symlink_to('/dev/zero')
    for name in ('pipe', 'link', '.'):
        with pytest.raises(UserError, match='not a regular file'):
            read_file(tmp_path / name)
    with pytest.raises(UserError, match='5 bytes; at most 4'):
        read_file(tmp_path / 'large', 4)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / 'absent', Facts, advice='restore it')


def test_lines_are_told_by_their_number_and_an_unfinished_last_one_is_left_out(tmp_path):
    path = tmp_path / 'log.jsonl'
    path.write_bytes(b'{"shape": [1, 2]}\n{"shape": [3, 4]}\n{"sha')
    lines = list(read_json_lines(path, Facts, advice='take it out'))
    assert lines == [(1, Facts((1, 2))), (2, Facts((3, 4)))]
    path.write_bytes(b'{"shape": [1, 2]}\n7\n')
    with pytest.raises(UserError, match=r'line 2 of .*; take it out'):
        list(read_json_lines(path, Facts, advice='take it out'))
