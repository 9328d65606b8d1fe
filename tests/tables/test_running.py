"""Rows are run once, after those that they build on; an experiment that was stopped goes on."""

import csv
import json
import os
import signal

import numpy as np
import pytest
from PIL import Image

import vq_jax
from tests.runs import finish, run, start, wait_for
from tests.weights.models import random_weights
from vq_jax.errors import UserError
from vq_jax.spec import Spec
from vq_jax.tables import run_rows, running, write_table
from vq_jax.tasks.restore import restore
from vq_jax.training.run_dir import DataFacts, write_config, write_data_facts
from vq_jax.weights import write_pytorch

FAST = """
fast = {'steps': 2, 'eval_every': 2, 'batch_size': 16, 'model.channels': 8}
one = {'steps': 2, 'eval_every': 2, 'log_every': 1}
padded = {'data.name': 'digits', 'data.channels': 1, 'data.pad': 4, 'data.image_size': 16}
"""
TWO = """
    Row('first', 'First', 'tests/digits.py', {'MSE': 'mse'}, fast, {'MSE': '0.01', 'FID': '7'}),
    Row('second', 'Second', 'tests/digits.py', {'use': 'codebook_usage'}, {**fast, 'seed': SEED}),
    Row('large', 'Large', 'tests/digits.py', {'MSE': 'mse'}, large=True),
"""


def rows_of(folder):
    with (folder / 'table.csv').open() as file:
        return {row['run']: row for row in csv.DictReader(file)}


def logged(workdir, split):
    lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
    return [line for line in lines if line['split'] == split]


def test_rows_are_run_once_and_written_down(write, tmp_path):
    folder, work = write(TWO, before=FAST + 'SEED = 1'), tmp_path / 'runs'
    write_table(folder)
    assert {row['MSE, ours'] for row in rows_of(folder).values()} == {'not run', ''}
    run_rows(folder, work, ['first'])
    mse = logged(work / 'first', 'eval')[-1]['mse']
    table = rows_of(folder)
    assert table['First']['MSE, ours'] == f'{mse:.4g}' and table['First']['MSE, paper'] == '0.01'
    assert table['First']['FID, paper'] == '7' and 'FID, ours' not in table['First']
    assert table['First']['data'] == 'digits test' and table['First']['steps'] == '2'
    assert table['Second']['use, ours'] == 'not run'
    text = (folder / 'table.md').read_text()
    assert '--rows second' in text and '--rows large' in text and '--rows first' not in text

    before = (work / 'first' / 'metrics.jsonl').stat().st_mtime_ns
    output, _ = run([folder, f'--workdir={work}'], module='vq_jax.experiment')
    assert 'Second: python -m vq_jax.train' in output and 'First:' not in output and 'Large:' not in output
    assert (work / 'first' / 'metrics.jsonl').stat().st_mtime_ns == before
    assert float(rows_of(folder)['Second']['use, ours']) > 0

    # A row whose config has changed was not run.
    write_table(write(TWO, before=FAST + 'SEED = 2'))
    assert rows_of(folder)['Second']['use, ours'] == 'not run'
    assert rows_of(folder)['First']['MSE, ours'] == f'{mse:.4g}'


PUBLISHED = """
    Row('theirs', 'Theirs', 'weights:{}', {{'PSNR': 'psnr'}}, overrides, {{'PSNR': '20'}}),
"""
ON = {'data.name': 'photos', 'data.image_size': 64, 'data.eval_split': 'test[:4]', 'batch_size': 4}
OVERRIDES = f'overrides = {ON}'


def test_a_row_of_published_weights_is_converted_and_evaluated(write, tmp_path, monkeypatch):
    weights, work, commands = tmp_path / 'last.ckpt', tmp_path / 'runs', []

    def do(self, arguments, slot, lock):
        commands.append(arguments[0])
        if arguments[0] == 'vq_jax.convert':
            assert arguments[1:] == [str(weights), f'--workdir={work / "theirs"}']
            origin = {'project': 'taming', 'model': None, 'source': '', 'licence': 'MIT', 'facts': {}}
            origin |= {'file': 'last.ckpt', 'sha256': '12'}
            (work / 'theirs').mkdir()
            write_data_facts(work / 'theirs', DataFacts(Spec('image', (16, 16, 3)), 0, origin=origin))
            write_config(work / 'theirs', {'steps': 9, 'data': {'name': 'photos', 'eval_split': 'test'}})
        else:
            assert arguments[1] == f'--workdir={work / "theirs"}' and '--override=batch_size=4' in arguments
            record = {'dataset': 'photos', 'split': 'test[:4]', 'step': 0, 'psnr': 12.5}
            (work / 'theirs' / 'evaluation.json').write_text(json.dumps(record))

    monkeypatch.setattr(running._Measurement, '_do', do)
    folder = write(PUBLISHED.format(weights), before=OVERRIDES)
    write_table(folder)
    assert rows_of(folder)['Theirs']['PSNR, ours'] == 'not run'
    run_rows(folder, work)
    assert commands == ['vq_jax.convert', 'vq_jax.evaluate']
    assert rows_of(folder)['Theirs']['PSNR, ours'] == '12.5'
    assert rows_of(folder)['Theirs']['PSNR, paper'] == '20'

    moved = PUBLISHED.format('hf://owner/name/last.ckpt@main')  # the same file
    write_table(write(moved, before=OVERRIDES))
    assert rows_of(folder)['Theirs']['PSNR, ours'] == '12.5'
    folder = write(PUBLISHED.format(tmp_path / 'other.ckpt'), before=OVERRIDES)
    write_table(folder)
    assert rows_of(folder)['Theirs']['PSNR, ours'] == 'not run'
    with pytest.raises(UserError, match=r'theirs holds another run than that of .*other.ckpt; give another'):
        run_rows(folder, work)


@pytest.mark.slow
def test_published_weights_on_a_folder_of_ones_own(write, tmp_path):
    write_pytorch(tmp_path / 'last.ckpt', {'state_dict': random_weights('taming')})
    (tmp_path / 'images').mkdir()
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)):
        Image.fromarray(image).save(tmp_path / 'images' / f'{i}.png')
    on = {**ON, 'data.name': f'folder:{tmp_path / "images"}', 'data.eval_split': 'all'}
    folder, work = (
        write(PUBLISHED.format(tmp_path / 'last.ckpt'), before=f'overrides = {on}'),
        tmp_path / 'runs',
    )
    run_rows(folder, work)
    psnr = vq_jax.load(work / 'theirs', overrides=on).evaluate().metrics['psnr']
    assert rows_of(folder)['Theirs']['PSNR, ours'] == f'{psnr:.4g}'


@pytest.mark.slow
def test_numbers_of_comparisons_and_of_further_evaluations(write, tmp_path):
    rows = """
        Row('classifier', 'Classifier', 'configs/image/classifier.py', {'accuracy': 'accuracy'},
            {**one, **padded, 'model.channels': 8}),
        Row('vae', 'VAE', 'configs/image/vae_mnist.py', {'bound': 'elbo', **drawn},
            {**one, **padded, 'model.importance_samples': 2}, comparison=Comparison('classifier', 20)),
        Row('more', 'More', '{vae}', {'IWAE': 'iwae'}, {'model.importance_samples': 8},
            facts={'samples': 8, 'of': 'vae'}),
    """
    drawn = "drawn = {'distance': 'samples.classifier_frechet', 'PSNR': 'reconstructions.psnr'}"
    plots = "plots=(Plot('iwae', 'samples', 'IWAE', 'of'), Plot('none', 'samples', 'bound'))"
    folder, work = write(rows, plots, before=FAST + drawn), tmp_path / 'runs'
    run_rows(folder, work, ['more'])  # and the classifier and the VAE, on which it builds
    table = rows_of(folder)
    record = json.loads((work / 'vae' / 'evaluation.json').read_text())
    assert record['features']['checksum'] == restore(work / 'classifier').identity()['checksum']
    assert record['run']['checksum'] == restore(work / 'vae').identity()['checksum']
    assert record['samples']['images'] == 20
    frechet = record['samples']['metrics']['classifier_frechet']
    assert table['VAE']['distance, ours'] == f'{frechet:.4g}'
    assert table['VAE']['PSNR, ours'] == f'{record["reconstructions"]["metrics"]["psnr"]:.4g}'
    assert table['VAE']['bound, ours'] == f'{logged(work / "vae", "eval")[-1]["elbo"]:.4g}'
    evaluated = vq_jax.load(work / 'vae', overrides={'model.importance_samples': 8}).evaluate('test')
    assert table['More']['IWAE, ours'] == f'{evaluated.metrics["iwae"]:.4g}'
    assert table['More']['data'] == 'digits test' and table['More']['steps'] == '2'
    assert 'plot_iwae.svg' in (folder / 'table.md').read_text() and (folder / 'plot_iwae.svg').is_file()
    assert not (folder / 'plot_none.svg').exists()


@pytest.mark.slow
def test_a_row_that_fails_takes_only_those_that_build_on_it_with_it(write, tmp_path):
    rows = """
        Row('broken', 'Broken', 'tests/digits.py', {}, {**fast, 'batch_size': 0}),
        Row('on_it', 'On it', '{broken}', {'MSE': 'mse'}),
        Row('fine', 'Fine', 'tests/digits.py', {'MSE': 'mse'}, fast),
        Row('asks', 'Asks', '{fine}', {'MSE': 'mean_square'}),
    """
    folder, work = write(rows, before=FAST), tmp_path / 'runs'
    _, errors = run([folder, f'--workdir={work}', '--jobs=2'], module='vq_jax.experiment', status=2)
    (error,) = errors.splitlines()
    assert error.startswith('error: not run to the end: ') and error.endswith('the same command goes on.')
    assert f'broken (vq_jax.train ended with status 2, see {work}/broken.log)' in error
    assert 'on_it (it builds on broken)' in error
    assert (
        "asks (its table asks for 'mean_square', and there is code_entropy_bits, codebook_usage, dead_codes, "
        in error
    )
    assert 'config.batch_size is 0' in (work / 'broken.log').read_text()
    table = rows_of(folder)
    assert float(table['Fine']['MSE, ours']) > 0 and table['On it']['MSE, ours'] == 'not run'
    assert table['Fine']['hardware'].endswith(', shared by 2 rows')


@pytest.mark.slow
def test_an_experiment_that_was_killed_goes_on(write, tmp_path):
    long = "{**fast, 'steps': 60, 'eval_every': 60, 'checkpoint_every': 20, 'log_every': 20}"
    row = "Row('{}', '{}', 'tests/digits.py', {{'MSE': 'mse'}}, {}),"
    rows = row.format('first', 'First', 'fast') + row.format('second', 'Second', long)
    folder, work = write(rows, before=FAST), tmp_path / 'runs'
    whole = tmp_path / 'whole'
    run_rows(folder, whole)
    (folder / 'results.json').unlink()

    saved = work / 'second' / 'checkpoints' / '20'
    options = {'module': 'vq_jax.experiment', 'signalled': (saved, signal.SIGSTOP)}
    experiment = start([folder, f'--workdir={work}'], **options)
    wait_for(saved, experiment)
    (training,) = children(experiment)
    experiment.kill()
    os.kill(training, signal.SIGKILL)
    finish(experiment, status=-signal.SIGKILL)
    table = rows_of(folder)
    assert float(table['First']['MSE, ours']) > 0 and table['Second']['MSE, ours'] == 'not run'

    output, _ = run([folder, f'--workdir={work}'], module='vq_jax.experiment')
    assert 'First:' not in output and 'resumed at step' in output
    for split in ('train', 'eval'):
        assert logged(work / 'second', split) == logged(whole / 'second', split)
    assert rows_of(folder)['Second']['MSE, ours'] != 'not run'


@pytest.mark.slow
def test_an_experiment_that_is_told_to_stop_saves_and_goes_on(write, tmp_path):
    rows = """
        Row('first', 'First', 'tests/digits.py', {'MSE': 'mse'},
            {**fast, 'steps': 1_000_000, 'checkpoint_every': 1_000_000, 'eval_every': 1_000_000,
             'log_every': 1}),
        Row('second', 'Second', 'tests/digits.py', {'MSE': 'mse'}, fast),
    """
    folder, work = write(rows, before=FAST), tmp_path / 'runs'
    experiment = start([folder, f'--workdir={work}'], module='vq_jax.experiment')
    wait_for(work / 'first' / 'metrics.jsonl', experiment, size=1)  # a line: it is between two steps
    experiment.send_signal(signal.SIGINT)
    _, errors = finish(experiment, status=2)
    assert errors.splitlines()[-1] == 'error: stopped; the same command goes on where it was.'
    assert len(list((work / 'first' / 'checkpoints').glob('[0-9]*'))) == 1
    assert not (work / 'second').exists()


def children(process):
    path = f'/proc/{process.pid}/task'
    return [int(child) for thread in os.listdir(path) for child in read(f'{path}/{thread}/children').split()]


def read(path):
    with open(path) as file:
        return file.read()


def test_mistakes(write, tmp_path):
    folder = write(TWO, before=FAST + 'SEED = 1')
    with pytest.raises(UserError, match="no row 'thrid'; it has first, second, large"):
        run_rows(folder, tmp_path, ['thrid'])
    _, errors = run([tmp_path / 'nosuch'], module='vq_jax.experiment', status=2)
    assert errors.splitlines()[-1].startswith(f'error: {tmp_path}/nosuch holds no table.py')
