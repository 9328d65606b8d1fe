"""What the user sees of a run, on a terminal and elsewhere."""

import io
import sys
import types

import jax
import pytest

from vq_jax.training.progress import Progress, make_console, peak_memory, print_table


class Terminal(io.StringIO):
    def isatty(self):
        return True


SPEED = {'examples_per_second': 50.0, 'seconds_per_step': 2.0, 'peak_memory_gib': 1.25}


def test_on_a_terminal_the_bar_moves_with_every_step(monkeypatch):
    monkeypatch.setattr(sys, 'stdout', terminal := Terminal())
    monkeypatch.setenv('COLUMNS', '150')
    for steps_done in (3, 4):
        with Progress() as progress:
            progress.doing('reading [red]data')  # a name is no markup
            progress.line('data: [b]digits, :smile:')
            progress.begin(2, 10)
            progress.update(3, {'loss': 0.5}, SPEED)
            progress.step(steps_done)
        shown = terminal.getvalue().splitlines()
        assert 'data: [b]digits, :smile:' in shown[-4]
        assert 'training ' in shown[-2] and f' {steps_done}/10 ' in shown[-2]
        assert 'loss 0.5  50 examples/s  1.2 GiB at most' in shown[-2]


def test_elsewhere_everything_is_a_plain_line(capsys):
    with Progress() as progress:
        for _ in range(2):  # said once
            progress.doing('reading [red]data')
        progress.line('data: [b]digits, :smile: ' + 'x' * 200)
        progress.begin(2, 10)
        for step in range(3, 7):
            progress.step(step)
        progress.update(6, {'loss': 0.5}, SPEED)
        progress.update(7, {'loss': 0.25}, {})
    assert capsys.readouterr().out.splitlines() == [
        'reading [red]data',
        'data: [b]digits, :smile: ' + 'x' * 200,
        'step 6/10  loss 0.5  50 examples/s  1.2 GiB at most  0:00:08 left',
        'step 7/10  loss 0.25',
    ]


def test_the_title_of_a_table_is_one_line(capsys):
    title = 'data:[of a long name] test after 1,000 steps'
    print_table(make_console(), title, {'mse': 0.25})
    first, *table = capsys.readouterr().out.splitlines()
    assert first == title
    assert max(map(len, table)) < len(title)  # narrower than what stands above it


def test_output_that_cannot_be_written_ends_nothing(monkeypatch, caplog):
    """As on a full disk, or in a pipe whose reader is gone."""
    with open('/dev/full', 'w') as full:
        monkeypatch.setattr(sys, 'stdout', full)
        with Progress() as progress:
            for _ in range(3):
                progress.line('x' * 10_000)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == 'the output cannot be written (No space left on device); the run goes on.'


@pytest.mark.parametrize('stats, peak', [({'peak_bytes_in_use': 3 * 2**29}, 1.5), ({}, None), (None, None)])
def test_the_memory_of_a_device_is_shown_where_it_tells_it(monkeypatch, stats, peak):
    device = types.SimpleNamespace(memory_stats=lambda: stats)
    monkeypatch.setattr(jax, 'local_devices', lambda: [device])
    assert peak_memory() == ({} if peak is None else {'peak_memory_gib': peak})
