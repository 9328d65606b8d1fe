"""The log of a run, written and resumed."""

import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

from vq_jax.errors import UserError
from vq_jax.training.writers import MetricWriter


def lines(workdir):
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def write(workdir, steps, *, resume_step=0):
    writer = MetricWriter(workdir, resume_step=resume_step)
    for step in steps:
        writer.scalars(step, 'train', {'loss': float(np.float32(1 / step))})
        if step % 3 == 0:
            writer.warning(step, f'step {step} is divisible by three')
    writer.close()


def test_numbers_come_back_exactly(tmp_path):
    write(tmp_path, [3])
    assert np.float32(lines(tmp_path)[0]['loss']) == np.float32(1 / 3)


def test_a_resumed_log_equals_one_never_interrupted(tmp_path):
    write(tmp_path / 'whole', range(1, 9))
    write(tmp_path / 'cut', range(1, 7))
    with (tmp_path / 'cut' / 'metrics.jsonl').open('a') as file:
        file.write('{"step": 7, "spl')  # killed here
    write(tmp_path / 'cut', range(5, 9), resume_step=4)
    assert lines(tmp_path / 'cut') == lines(tmp_path / 'whole')


def test_a_damaged_line_is_told(tmp_path):
    write(tmp_path, [1, 2])
    path = tmp_path / 'metrics.jsonl'
    before = path.read_text().replace('{"step": 2', '{"step": , 2')
    path.write_text(before)
    with pytest.raises(UserError, match=r'line 2 of .*metrics\.jsonl is not valid JSON .*; mend it'):
        write(tmp_path, [3], resume_step=2)
    assert path.read_text() == before


def test_what_is_not_finite_is_valid_json(tmp_path):
    writer = MetricWriter(tmp_path, resume_step=0)
    writer.scalars(1, 'train', {'loss': float('nan'), 'norm': float('inf'), 'rate': 0.5})
    writer.close()
    assert lines(tmp_path) == [{'step': 1, 'split': 'train', 'loss': None, 'norm': None, 'rate': 0.5}]


def test_warnings_are_lines_of_the_log(tmp_path):
    write(tmp_path, [2, 3])
    text = 'step 3 is divisible by three'
    assert lines(tmp_path)[-1] == {'step': 3, 'split': 'warning', 'text': text}
    (events,) = (tmp_path / 'tensorboard').iterdir()
    assert text.encode() in events.read_bytes()


def test_pictures(tmp_path):
    picture = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    writer = MetricWriter(tmp_path, resume_step=0)
    writer.image(12, 'samples', picture)
    writer.close()
    read = np.asarray(Image.open(tmp_path / 'images' / 'samples_0000012.png'))
    np.testing.assert_array_equal(read, picture)
    assert [p.name for p in (tmp_path / 'images').iterdir()] == ['samples_0000012.png']


def test_tensorboard_holds_the_numbers(tmp_path):
    write(tmp_path, [1, 2])
    (events,) = (tmp_path / 'tensorboard').iterdir()
    assert events.read_bytes().count(b'train/loss') == 2


def test_an_inactive_writer_writes_nothing(tmp_path):
    writer = MetricWriter(tmp_path / 'run', resume_step=0, active=False)
    writer.scalars(1, 'train', {'loss': 1.0})
    writer.image(1, 'samples', np.zeros((2, 2, 3), np.uint8))
    writer.warning(1, 'too much')
    writer.close()
    assert not (tmp_path / 'run').exists()


def test_weights_and_biases_goes_on_with_its_run(tmp_path, monkeypatch):
    calls = []

    class Run:
        id = 'abc'

        def log(self, values, step):
            calls.append((step, values))

        def finish(self):
            calls.append('finished')

    def init(**options):
        calls.append((options['project'], options['id']))
        return Run()

    fake = types.ModuleType('wandb')
    fake.init = init
    fake.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, 'wandb', fake)
    for _ in range(2):
        writer = MetricWriter(tmp_path, resume_step=0, wandb_project='codes')
        writer.scalars(1, 'train', {'loss': 2.0})
        writer.warning(1, 'too much')
        writer.close()
    once = [(1, {'train/loss': 2.0}), (1, {'warning': 'too much'}), 'finished']
    assert calls == [('codes', None), *once, ('codes', 'abc'), *once]


def test_weights_and_biases_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install wandb'):
        MetricWriter(tmp_path, resume_step=0, wandb_project='codes')
