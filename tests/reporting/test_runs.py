"""Run directories read, however far the runs have come."""

import pytest

from tests.reporting.recorded import image, record, trained
from vq_jax.errors import UserError
from vq_jax.reporting import read_runs
from vq_jax.training.writers import MetricWriter


def test_the_last_and_the_best_evaluation(tmp_path):
    (run,) = read_runs([trained(tmp_path / 'run')])
    assert (run.last_step, run.last_evaluation, run.best_evaluation) == (40, 40, 20)
    assert run.evaluation(20) == {'loss': 0.2, 'psnr': 40.0, 'examples': 359.0}
    (run,) = read_runs([trained(tmp_path / 'other', best_metric='psnr', best_mode='max')])
    assert run.best_evaluation == 40
    for metric in (None, 'absent'):
        (run,) = read_runs([trained(tmp_path / str(metric), best_metric=metric)])
        assert run.best_evaluation is None


def test_what_is_not_finite_is_never_the_best_and_of_equal_ones_the_newest_is(tmp_path):
    values = [0.5, 0.5, float('nan')]
    log = [(step, 'eval', {'loss': value}) for step, value in enumerate(values, 1)]
    (run,) = read_runs([record(tmp_path / 'run', log)])
    assert (run.last_evaluation, run.best_evaluation) == (3, 2)


def test_a_killed_run(tmp_path):
    workdir = trained(tmp_path / 'run')
    (whole,) = read_runs([workdir])
    with (workdir / 'metrics.jsonl').open('a') as file:
        file.write('{"step": 45, "split": "train", "loss": 0.1')
    (workdir / 'images' / '.samples_0000045.png.x.tmp').write_bytes(b'half')
    (cut,) = read_runs([workdir])
    assert (cut.log, cut.images) == (whole.log, whole.images)


def test_warnings_are_no_numbers(tmp_path):
    warnings = [(5, 'the generator has collapsed'), (9, 'it has not')]
    (run,) = read_runs([record(tmp_path / 'run', [(5, 'train', {'loss': 1.0})], warnings=warnings)])
    assert run.warnings == warnings
    assert list(run.log) == ['train'] and run.last_step == 5


def test_a_run_that_has_just_started(tmp_path):
    workdir = record(tmp_path / 'run')
    (workdir / 'metrics.jsonl').unlink()
    (run,) = read_runs([workdir])
    assert (run.log, run.warnings, run.images, run.logged, run.last_step) == ({}, [], {}, None, 0)
    assert run.last_evaluation is None


LINES = {
    'no JSON': b'nonsense',
    'another type': b'[]',
    'a number': b'7',
    'no split': b'{"step": 1}',
    'text for a number': b'{"step": 1, "split": "train", "loss": "low"}',
    'a list for a number': b'{"step": 1, "split": "train", "loss": [1]}',
    'a truth for a number': b'{"step": 1, "split": "train", "loss": true}',
    'a warning without text': b'{"step": 1, "split": "warning"}',
    'a warning of numbers': b'{"step": 1, "split": "warning", "text": 3}',
    'a step beyond all': b'{"step": 1e400, "split": "train"}',
    'a step that JavaScript cannot count': b'{"step": 9007199254740993, "split": "train"}',
    'half a step': b'{"step": 1.5, "split": "train"}',
    'a step of text': b'{"step": "1", "split": "train"}',
    'a step before the first': b'{"step": -1, "split": "train"}',
    'no UTF-8': b'{"step": 1, "split": "\xff"}',
    'deep nesting': b'[' * 100_000,
}


@pytest.mark.parametrize('damage', LINES.values(), ids=LINES)
def test_a_damaged_line_is_named(tmp_path, damage):
    workdir = trained(tmp_path / 'run')
    (workdir / 'metrics.jsonl').write_bytes(b'{"step": 1, "split": "train"}\n' + damage + b'\n')
    with pytest.raises(UserError, match=r'line 2 of .*metrics\.jsonl .*; mend it or take it out'):
        read_runs([workdir])
    with pytest.raises(UserError, match=r'line 2 of .*; mend it or take it out'):
        MetricWriter(workdir, resume_step=1)


@pytest.mark.parametrize(
    'config', [{'best_metric': ['loss']}, {'steps': '40'}, {'task': {}}, {'best_mode': 3}], ids=str
)
def test_a_config_of_other_types_is_named(tmp_path, config):
    with pytest.raises(UserError, match=r'config\.json does not hold what it should'):
        read_runs([record(tmp_path / 'run', **config)])


def test_images_are_in_the_order_of_steps(tmp_path):
    steps = [9_999_999, 5, 12_000_000]  # the last has a digit more than file names are padded to
    images = [(step, 'top_samples_2', image(step)) for step in steps]
    workdir = record(tmp_path / 'run', images=images)
    (workdir / 'images' / 'mine.png').write_bytes(b'')  # not of the writer
    (run,) = read_runs([workdir])
    assert {name: list(files) for name, files in run.images.items()} == {'top_samples_2': sorted(steps)}


def test_labels_are_as_long_as_they_must_be(tmp_path):
    workdirs = [record(tmp_path / name) for name in ('a/run', 'b/run', 'b/other')]
    assert [run.label for run in read_runs(workdirs)] == ['a/run', 'b/run', 'b/other']
    assert [run.label for run in read_runs(workdirs[1:])] == ['run', 'other']


def test_not_runs(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        read_runs([tmp_path / 'absent'])
    with pytest.raises(UserError, match='not a run directory'):
        read_runs([tmp_path])
    workdir = record(tmp_path / 'run')
    with pytest.raises(UserError, match='given twice'):
        read_runs([workdir, workdir / '..' / 'run'])
