"""launch_tpu.sh: its dry run, and its calls of a gcloud that only writes them down."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

BASH = shutil.which('bash')
ROOT = Path(__file__).parent.parent
GIVEN = ['--name', 'vq', '--zone', 'us-central2-b', '--type', 'v4-32']
TRAIN = ['--', '--config', 'configs/image/vqvae_imagenet.py', '--workdir', "/mnt/it's here"]

GCLOUD = """#!/usr/bin/env bash
printf '%s\\0' "$@" >> "$CALLS"
printf '\\n' >> "$CALLS"
[[ $4 == describe && $TPU_EXISTS != 1 ]] && exit 1
exit 0
"""


def launch(*arguments, **environment):
    return subprocess.run(
        [BASH, ROOT / 'launch_tpu.sh', *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def with_gcloud(tmp_path, *arguments, exists):
    """The calls of gcloud, each a list of words."""
    gcloud = tmp_path / 'gcloud'
    gcloud.write_text(GCLOUD)
    gcloud.chmod(0o755)
    calls = tmp_path / 'calls'
    path = f'{tmp_path}:{os.environ["PATH"]}'
    result = launch(*arguments, CALLS=str(calls), TPU_EXISTS=str(exists), PATH=path)
    assert result.returncode == 0, result.stderr
    return [call.split('\0') for call in calls.read_text().split('\0\n')[:-1]]


def trained_with(command):
    """The words that the workers' shell passes to env, for a command line of theirs."""
    words = shlex.split(command)
    return words[words.index('env') + 1 : words.index('2>&1')]


def test_the_dry_run_prints_every_command_and_needs_no_gcloud():
    result = launch('--dry-run', *GIVEN, '--env', 'TFDS_DATA_DIR=/mnt/a b', *TRAIN)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith('gcloud')]
    commands = [shlex.split(line) for line in lines]
    assert [c[4] for c in commands] == ['create', 'scp', 'ssh', 'ssh']
    assert commands[0][commands[0].index('--accelerator-type') + 1] == 'v4-32'
    assert all('--worker=all' in c for c in commands[1:])
    assert trained_with(commands[3][-1]) == [
        'TFDS_DATA_DIR=/mnt/a b',
        '.venv/bin/python',
        '-m',
        'vq_jax.train',
        '--distributed',
        *TRAIN[1:],
    ]


def test_the_dry_run_names_the_slices_that_a_config_was_found_to_fit(tmp_path):
    def record(name, topology, accelerator_type, fits):
        names = [name, name.partition(':')[0]]  # it is what the config is without an argument
        return {'names': names, 'topology': topology, 'accelerator_type': accelerator_type, 'fits': fits}

    shutil.copy(ROOT / 'launch_tpu.sh', tmp_path)
    subprocess.run(['git', 'init', '--quiet', tmp_path], check=True)
    records = [record('a:b', 'v5e:2x2', 'v5litepod-4', False), record('a:b', 'v4:2x2x1', 'v4-8', True)]
    (tmp_path / 'benchmarks').mkdir()
    (tmp_path / 'benchmarks' / 'topologies.json').write_text(json.dumps(records))

    def found(*train):
        command = [BASH, tmp_path / 'launch_tpu.sh', '--dry-run', *GIVEN, '--', *train]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [line for line in printed.splitlines() if ' fits ' in line]

    for words in (['--config', 'configs/image/a.py:b'], ['--config=a', '--config.batch_size=8']):
        (line,) = found('--workdir', 'x', *words)
        assert 'v4:2x2x1 (v4-8)' in line and 'v5e' not in line
    assert not found('--config', 'c.py')
    assert not found('--workdir', 'configs/image/a.py', '--config=a:c')


def test_the_dry_run_equals_what_is_run(tmp_path):
    ran = with_gcloud(tmp_path, *GIVEN, '--spot', *TRAIN, exists=0)
    assert ran[0][3] == 'describe'
    printed = launch('--dry-run', *GIVEN, '--spot', *TRAIN).stdout.splitlines()
    printed = [shlex.split(line)[1:] for line in printed if line.startswith('gcloud')]
    ran[2] = [w.rsplit('/', 1)[-1] if w.endswith('.tar.gz') else w for w in ran[2]]
    assert ran[1:] == printed


def test_a_slice_that_is_there_is_used(tmp_path):
    ran = with_gcloud(tmp_path, *GIVEN, *TRAIN, exists=1)
    assert [call[3] for call in ran] == ['describe', 'scp', 'ssh', 'ssh']


@pytest.mark.parametrize(
    'arguments, words',
    [
        (TRAIN, '--name'),
        (['--name', 'vq', *TRAIN], '--zone'),
        (GIVEN, 'vq_jax.train'),
        ([*GIVEN, '--frobnicate', *TRAIN], '--frobnicate'),
        ([*GIVEN, '--env', 'NOVALUE', *TRAIN], 'NAME=VALUE'),
        (['--name'], 'needs a value'),
    ],
)
def test_a_mistake_is_one_sentence(arguments, words):
    result = launch(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith('error: ') and result.stderr.count('\n') == 1
    assert words in result.stderr


def test_without_gcloud(tmp_path):
    for tool in ('bash', 'dirname'):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    result = launch(*GIVEN, *TRAIN, PATH=str(tmp_path))
    assert result.returncode == 2 and 'gcloud is not installed' in result.stderr
