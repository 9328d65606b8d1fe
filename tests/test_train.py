"""Whole runs, as a user starts them: resume, kill, signals, wrong input, several devices."""

import json
import shutil
import signal
import socket

import jax
import numpy as np
import pytest
from PIL import Image

import vq_jax
from tests.runs import (
    DESCENT,
    arrays,
    assert_equal_runs,
    assert_same_descent,
    finish,
    logged,
    refused,
    run,
    start,
)
from vq_jax.locks import only_writer
from vq_jax.tasks.restore import restore

SMALL = [
    '--config=tests/digits.py',
    '--config.steps=60',
    '--config.batch_size=32',
    '--config.log_every=5',
    '--config.eval_every=20',
    '--config.checkpoint_every=10',
    '--config.model.channels=8',
    '--config.model.residual_channels=8',
    '--config.quantizer.num_codes=32',
]


def train(workdir, *changes, **options):
    return run([*SMALL, f'--workdir={workdir}', *changes], **options)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A run that nothing interrupted, and what it printed.

    Its name holds what means something in patterns, markup, formats, addresses and a shell.
    """
    workdir = tmp_path_factory.mktemp('runs') / r"whole [x]lr[0.1]m[/y] *?\t{0}%s%20#&;$HOME'"
    return workdir, train(workdir)[0]


def test_a_run_leaves_what_it_promises(whole):
    workdir, output = whole
    assert 'psnr' in output and str(workdir / 'images') in output.replace('\n', '')
    names = {p.name for p in (workdir / 'images').iterdir()}
    assert {'reconstructions_0000060.png', 'code_usage_0000060.png'} <= names
    assert list((workdir / 'tensorboard').iterdir())
    last = {line['split']: line for line in logged(workdir)}
    assert last['train']['step'] == last['eval']['step'] == 60
    assert last['eval']['examples'] == 359
    assert {'loss', 'gradient_norm', 'learning_rate', 'perplexity', 'codebook_usage'} <= set(last['train'])
    losses = [line['loss'] for line in logged(workdir) if line['split'] == 'train']
    assert losses[-1] < 0.75 * losses[0]


def test_a_finished_run_prints_its_table_again(whole, tmp_path):
    """And so does one that was started before a key was there, or with keys that change nothing learned."""
    workdir, first = tmp_path / 'run', whole[1]
    shutil.copytree(whole[0], workdir)
    config = json.loads((workdir / 'config.json').read_text())
    del config['quantizer']['kind'], config['fsq']
    (workdir / 'config.json').write_text(json.dumps(config))
    again = train(workdir, '--config.data.cache_gib=0', '--config.data.max_undecodable=0.5')[0]
    assert [x for x in again.splitlines() if '│' in x] == [x for x in first.splitlines() if '│' in x]
    assert logged(workdir) == logged(whole[0])


@pytest.fixture(scope='module')
def interrupted(tmp_path_factory):
    """The same, stopped by a signal, gone on with, and killed."""
    workdir = tmp_path_factory.mktemp('runs') / 'interrupted'
    checkpoints = workdir / 'checkpoints'
    output, _ = train(workdir, signalled=(checkpoints / '10', signal.SIGTERM))
    assert 'run the same command again' in output
    train(workdir, signalled=(checkpoints / '40', signal.SIGKILL), status=-signal.SIGKILL)
    return workdir


def test_stopped_killed_and_resumed_equals_never_interrupted(whole, interrupted, tmp_path):
    workdir = tmp_path / 'run'
    shutil.copytree(interrupted, workdir)
    output = train(workdir)[0]
    assert 'resumed at step' in output
    assert_equal_runs(whole[0], workdir)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(whole, interrupted, tmp_path):
    workdir = tmp_path / 'run'
    shutil.copytree(interrupted, workdir)
    newest = max((int(p.name), p) for p in (workdir / 'checkpoints').iterdir() if p.name.isdigit())
    largest = max((p for p in newest[1].rglob('*') if p.is_file()), key=lambda p: p.stat().st_size)
    damaged = bytearray(largest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    largest.write_bytes(damaged)
    output, errors = train(workdir)
    assert str(newest[0]) in errors and 'resumed at step' in output
    assert f'resumed at step {newest[0]}\n' not in output
    assert_equal_runs(whole[0], workdir)


SHORT = [*DESCENT, '--config.model.channels=64', '--config.quantizer.revive_below=0.5']


@pytest.fixture(scope='module')
def one_device(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('runs') / 'one'
    train(workdir, *SHORT)
    assert logged(workdir)[0]['codes_revived'] > 0
    return workdir


@pytest.mark.slow
def test_eight_devices_equal_one(one_device, tmp_path):
    train(tmp_path / 'eight', *SHORT, devices=8)
    assert_same_descent(one_device, tmp_path / 'eight')


@pytest.mark.slow
@pytest.mark.parametrize(
    'learning, engine', [('moving_average', 'jit'), ('gradient', 'pmap'), ('gradient', 'jit')]
)
def test_eight_devices_equal_one_however_codes_are_learned(learning, engine, tmp_path):
    options = [*SHORT, f'--config.quantizer.learning={learning}']
    train(tmp_path / 'one', *options)
    train(tmp_path / 'eight', *options, f'--config.parallel.engine={engine}', devices=8)
    assert_same_descent(tmp_path / 'one', tmp_path / 'eight')


SHARDED = ['--config.parallel.engine=jit', '--config.parallel.shard_parameters=true']


@pytest.mark.slow
def test_sharded_parameters_train_the_same(one_device, tmp_path):
    train(tmp_path / 'eight', *SHORT, *SHARDED, '--config.parallel.replicas=2', devices=8)
    assert_same_descent(one_device, tmp_path / 'eight')


@pytest.mark.slow
def test_a_sharded_run_goes_on_on_another_mesh(one_device, tmp_path):
    workdir = tmp_path / 'run'
    train(workdir, *SHORT, *SHARDED, devices=8)
    assert_same_descent(one_device, workdir)
    for step in (3, 4):
        shutil.rmtree(workdir / 'checkpoints' / str(step))
    output, _ = train(workdir, *SHORT, *SHARDED, '--config.parallel.replicas=2', devices=4)
    assert 'resumed at step 2' in output  # and the checksums of all arrays were right
    assert_same_descent(one_device, workdir)


@pytest.mark.slow
@pytest.mark.parametrize(
    'engine',
    [
        ['--config.parallel.engine=pmap'],
        ['--config.parallel.engine=jit'],
        SHARDED,
    ],
    ids=['pmap', 'jit', 'sharded'],
)
def test_two_processes_with_two_devices_equal_one_with_one(engine, one_device, tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    two = tmp_path / 'two'
    processes = [
        start(
            [
                *SMALL,
                *SHORT,
                *engine,
                f'--workdir={two}',
                '--distributed',
                f'--coordinator=127.0.0.1:{port}',
                '--num_processes=2',
                f'--process_id={i}',
            ],
            devices=2,
        )
        for i in range(2)
    ]
    for process in processes:
        finish(process)
    assert_same_descent(two, one_device)
    counted = [[x['examples'] for x in logged(d) if x['split'] == 'eval'] for d in (one_device, two)]
    assert counted[0] == counted[1] == [359]
    for path in (one_device / 'images').iterdir():  # of the same first examples
        images = (np.asarray(Image.open(d / 'images' / path.name), int) for d in (one_device, two))
        assert np.abs(np.subtract(*images)).mean() < 1


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path):
    workdir = tmp_path / 'run'
    # The rate rises until the numbers overflow.
    changes = ['--config.optimizer.name=sgd', '--config.optimizer.learning_rate=1e12']
    changes += ['--config.optimizer.schedule=constant', '--config.optimizer.warmup_steps=1000000']
    changes += ['--config.checkpoint_every=1', '--config.log_every=50']
    _, errors = train(workdir, *changes, status=2)
    assert 'not finite at step' in errors and 'reconstruction_loss' in errors
    assert 'Lower config.optimizer.learning_rate or set' in errors
    assert 'Traceback' not in errors
    state = arrays(workdir)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))


ERRORS = [
    (['--config.optimizer.learning_rat=1'], 'learning_rate'),
    (['--config.data.name=nosuchset', '--config.data.data_dir=/nonexistent'], 'vq_jax.prepare'),
    (['--config.data.name=folder:/nonexistent'], '/nonexistent'),
    (
        ['--config.data.name=folder:'],
        'names no folder: give --config.data.name=folder:PATH or, for the config of',
    ),
    (['--config.model.stages=4'], 'multiple of 16'),
    (['--config.quantizer.num_codes=100000'], 'config.quantizer: k-means cannot place 100000 codes'),
    (['--config.quantizer.learning=gradien'], "did you mean 'gradient'"),
    (['--config.batch_size=0'], 'config.batch_size'),
    (['--config.accumulate=0'], 'config.accumulate is 0; give 1 or more'),
    (['--config.optimizer.accumulate=4'], 'set config.accumulate instead'),
    (['--config.data.eval_split=tset'], 'tset'),
    (['--config=configs/nosuch.py'], 'configs/nosuch.py'),
    (['--config=configs/image/vqvae_imagenette.py:65'], 'choose :64 or :128'),
    (['--confg=tests/digits.py'], 'confg'),
    (['--config.wandb_project=mine'], 'pip install wandb'),
    (['--distributed'], 'give each --coordinator=HOST:PORT, --num_processes and --process_id'),
]


def test_a_mistake_is_one_sentence_and_leaves_nothing(tmp_path):
    commands = [[*SMALL, f'--workdir={tmp_path / str(i)}', *ERRORS[i][0]] for i in range(len(ERRORS))]
    for errors, (changes, words) in zip(refused('vq_jax.train', *commands, shows=True), ERRORS, strict=True):
        assert errors.startswith('error: ') and errors.count('\n') == 1, (changes, errors)
        assert words in errors
    assert not list(tmp_path.glob('*/config.json'))


def test_a_config_file_without_a_config(tmp_path):
    _, errors = run(['--config=vq_jax/errors.py', f'--workdir={tmp_path / "run"}'], status=2)
    assert errors.startswith('error: ') and 'no function get_config()' in errors


def test_a_batch_that_devices_cannot_share(tmp_path):
    _, errors = train(tmp_path / 'run', '--config.batch_size=30', devices=8, status=2)
    assert '8 devices' in errors


def test_two_do_not_write_to_one_directory(whole):
    before = logged(whole[0])
    with only_writer(whole[0]):
        _, errors = train(whole[0], status=2)
    assert 'another process is training in' in errors
    assert logged(whole[0]) == before
    with only_writer(whole[0]):  # it ends with who held it
        pass


def test_another_config_in_the_same_directory_is_refused(whole):
    before = logged(whole[0])
    _, errors = train(whole[0], '--config.optimizer.learning_rate=0.5', status=2)
    assert 'optimizer.learning_rate' in errors and '0.5' in errors
    assert logged(whole[0]) == before


def test_evaluate_gives_the_numbers_of_the_log(whole, tmp_path):
    output = tmp_path / 'new' / 'numbers.json'
    options = ['--step=best', '--override=data.flip=false', f'--output={output}']
    run([f'--workdir={whole[0]}', *options], module='vq_jax.evaluate')
    metrics = json.loads(output.read_text())
    evaluated = [line for line in logged(whole[0]) if line['split'] == 'eval']
    assert len(evaluated) > 1
    for name, value in min(evaluated, key=lambda line: line['loss']).items():
        if name not in ('step', 'split'):
            assert metrics[name] == pytest.approx(value, rel=1e-5)
    # And says of what they are.
    assert metrics['run'] == restore(whole[0], 'best').identity()
    data = vq_jax.load(whole[0]).config.data
    assert metrics['preprocessing'] == {
        name: data[name] for name in ('channels', 'pad', 'image_size', 'fit', 'resize', 'image_key')
    }


def test_the_best_is_the_one_by_the_metric_that_is_asked_for(whole):
    assert vq_jax.load(whole[0], 'best').step in (20, 40, 60)
    with pytest.raises(vq_jax.UserError, match="'beauty'"):
        vq_jax.load(whole[0], 'best', {'best_metric': 'beauty'})


def test_help_lists_the_flags_of_a_command():
    output, _ = run(['--help'], module='vq_jax.sample', status=1)
    for flag in ('--workdir', '--step', '--override', '--num', '--top_p', '--eta'):
        assert f'{flag}: ' in output


def test_evaluate_a_directory_without_a_run(tmp_path):
    _, errors = run([f'--workdir={tmp_path}'], module='vq_jax.evaluate', status=2)
    assert errors.startswith('error: ') and str(tmp_path) in errors


def test_summary_ends_with_the_number_of_parameters(whole):
    output, _ = run(['--config=tests/digits.py'], module='vq_jax.summary')
    params = vq_jax.load(whole[0]).state.params
    assert output.rstrip().splitlines()[-1].endswith('131,665')
    assert '…' not in output  # names of modules are whole, whatever the width
    small = [a for a in SMALL if 'model' in a or 'quantizer' in a or a.startswith('--config=')]
    output, _ = run(small, module='vq_jax.summary')
    total = sum(x.size for x in jax.tree.leaves(params))
    assert output.rstrip().splitlines()[-1].endswith(f'{total:,}')


def test_a_summary_of_images_that_cannot_be():
    words = {
        '--shape=0,0,0': '--shape is 0,0,0; give three whole numbers from 1',
        '--shape=8,x,1': '--shape is 8,x,1; give three whole numbers from 1',
        '--num_classes=-1': '--num_classes is -1; give 0 or more.',
    }
    commands = [['--config=tests/digits.py', '--shape=8,8,1', flag] for flag in words]
    words['--shape='] = (
        'the config leaves the size of the examples to the data set; give --shape=h,w,c (of sound'
    )
    commands.append(['--config=configs/audio/vqvae_speech.py', '--config.data.num_samples=None'])
    for errors, expected in zip(refused('vq_jax.summary', *commands), words.values(), strict=True):
        assert errors.startswith(f'error: {expected}') and errors.count('\n') == 1
