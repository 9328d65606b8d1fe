"""Files are written whole, and never through a link that a stranger put in their place."""

import os

import numpy as np
import pytest

from vq_jax.data.sources.codes import CodeFacts, write_facts, write_shard
from vq_jax.errors import UserError, printable
from vq_jax.files import AppendedFile, write_atomically
from vq_jax.spec import CodeSpec, Spec
from vq_jax.training.writers import MetricWriter


@pytest.mark.parametrize('there', [True, False])
def test_no_link_is_written_through(there, tmp_path):
    other, link = tmp_path / 'other', tmp_path / 'link'
    if there:
        other.write_text('precious')
    link.symlink_to(other)
    with pytest.raises(UserError, match=r'link is a link, which could lead to any file; put a file'):
        AppendedFile(link)
    write_atomically(link, 'new')
    assert link.read_text() == 'new' and not link.is_symlink()
    assert other.read_text() == 'precious' if there else not other.exists()


def test_the_log_of_a_run_is_not_written_through_a_link(tmp_path):
    (tmp_path / 'metrics.jsonl').symlink_to(tmp_path / 'other')
    with pytest.raises(UserError, match='is a link'):
        MetricWriter(tmp_path, resume_step=0)
    assert not (tmp_path / 'other').exists()


def test_codes_are_not_written_through_a_link_nor_where_they_cannot_be_read(tmp_path):
    tokenizer = {'workdir': 'run', 'step': 1, 'checksum': 'a' * 64, 'config': {}}
    facts = CodeFacts(
        tokenizer, {}, Spec('image', (2, 2, 1)), (), CodeSpec(((1, 1),), ((4,),)), {'test': 1}, 1
    )
    write_facts(tmp_path, facts)
    (shard,) = facts.shard_paths(tmp_path, 'test')
    (tmp_path / 'other').write_text('precious')
    shard.with_suffix('.partial').symlink_to(tmp_path / 'other')
    write_shard(shard, facts, [(0, np.array([3]), {})])
    assert (tmp_path / 'other').read_text() == 'precious' and not shard.is_symlink()
    with pytest.raises(UserError, match=r"udcff' is no text in UTF-8, and ArrayRecord takes no other path"):
        write_facts(tmp_path / os.fsdecode(b'\xff'), facts)


def test_names_that_are_no_text_are_written_with_escapes(tmp_path):
    write_atomically(tmp_path / 'file', os.fsdecode(b'a\xffb'))
    assert (tmp_path / 'file').read_bytes() == rb'a\udcffb'


def test_what_a_terminal_would_obey_is_shown():
    name = 'a\nb\x1b]0;c\x07\u2028' + os.fsdecode(b'\xff')
    assert printable(f'\u00fc {name} \U0001f600') == r'ü a\nb\x1b]0;c\x07\u2028\udcff 😀'
