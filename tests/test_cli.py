"""Mistakes in flags, config files and places, told in a sentence."""

import asyncio
import io
import os
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from PIL import Image

from tests.permissions import closed
from tests.runs import finish, start
from vq_jax import cli
from vq_jax.data import DataConfig
from vq_jax.data.sources.folder import FolderSource
from vq_jax.errors import UserError
from vq_jax.spec import Spec
from vq_jax.tasks import TASKS, complete_config, default_config, make_task
from vq_jax.train import train
from vq_jax.training.config import build, explain
from vq_jax.training.optimizer import FORMER_KEYS
from vq_jax.training.run_dir import flatten


@pytest.fixture
def parse(monkeypatch):
    """Parses flags as `vq_jax.train` does."""
    values = flags.FlagValues()
    monkeypatch.setattr(flags, 'FLAGS', values)
    cli.define_config(values)
    flags.DEFINE_string('workdir', None, '', flag_values=values)
    return lambda *words: cli._parse((), (), ['train', *words])


def test_a_flag_that_is_empty_is_missing(parse):
    """As of a variable that a shell does not know; a path that is empty would be the folder one is in."""
    with pytest.raises(UserError, match='--workdir is missing; see --help'):
        cli._parse(('workdir',), (), ['train', '--workdir='])


@pytest.mark.parametrize('terminal', [True, False])
def test_a_terminal_shows_that_a_config_is_being_read(parse, tmp_path, monkeypatch, terminal):
    class Shown(io.StringIO):
        def isatty(self):
            return terminal

    file = tmp_path / '[red].py'
    file.write_text('from vq_jax.tasks import default_config\ndef get_config(): return default_config("vae")')
    monkeypatch.setattr(sys, 'stderr', shown := Shown())
    monkeypatch.setenv('COLUMNS', '500')
    parse(f'--config={file}')
    assert (f'reading {file}' in shown.getvalue()) == terminal == bool(shown.getvalue())


@pytest.mark.parametrize(
    'text, words',
    [
        ('def get_config(:', 'cannot be read, because of its line 1 (SyntaxError: invalid syntax); mend it.'),
        ('\nimport nosuch', "of its line 2 (ModuleNotFoundError: No module named 'nosuch'); mend it."),
        (
            'def get_config():\n    int("x")',
            'of its line 2 (ValueError: invalid literal for int() with base 10',
        ),
        ('def get_config(size): pass', 'needs an argument; give it as --config='),
        ('def get_confg(): pass', 'has no function get_config(); see those in configs.'),
    ],
)
def test_a_config_file_with_mistakes(parse, tmp_path, text, words):
    file = tmp_path / 'config.py'
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        parse(f'--config={file}')
    error = str(caught.value)
    assert error.startswith(f'the config file {file} ') and words in error and '\n' not in error


def test_an_argument_that_a_config_file_does_not_take(parse):
    with pytest.raises(
        UserError, match=r'^the config file configs/image/quickstart.py takes no .*; leave :64 out'
    ):
        parse('--config=configs/image/quickstart.py:64')


def test_an_error_of_this_package_keeps_its_traceback(parse, tmp_path):
    file = tmp_path / 'config.py'
    file.write_text('from vq_jax import errors\n\ndef get_config():\n    errors.check_least(0, None, "x")')
    with pytest.raises(AttributeError, match="no attribute 'x'"):
        parse(f'--config={file}')


@pytest.mark.parametrize(
    'name, meant',
    [
        ('steps', '--config.steps'),
        ('optimizer.name', '--config.optimizer.name'),
        (
            'learning_rate',
            '--config.discriminator_optimizer.learning_rate or --config.optimizer.learning_rate',
        ),
    ],
)
def test_a_key_of_the_config_without_its_prefix(parse, name, meant):
    with pytest.raises(UserError) as caught:
        parse(f'--{name}=1', '--config=configs/image/dcgan_mnist.py')
    assert str(caught.value) == f'there is no flag --{name}; did you mean {meant}?'


@pytest.mark.parametrize(
    'flag, is_not',
    [
        ('config.quantizer.num_codes=many', 'a whole number'),
        ('config.quantizer.num_codes=1e3', 'a whole number'),
        ('config.optimizer.learning_rate=fast', 'a number'),
    ],
)
def test_a_flag_that_is_no_number(parsed, flag, is_not):
    with pytest.raises(UserError) as caught:
        parsed('--config=configs/image/quickstart.py', f'--{flag}')
    assert str(caught.value) == f'flag --{flag} is not {is_not}.'


def test_help_may_be_read_in_part():
    """As by `| head`, which closes the pipe while more is written."""
    process = start(['--config=quickstart', '--help'])
    assert process.stdout.readline().startswith('Trains the model')
    process.stdout.close()
    assert process.stderr.read() == ''
    assert process.wait() in (0, -signal.SIGPIPE)  # 0 where all of it fitted into the pipe


@pytest.mark.parametrize('section', ['optimizer', 'discriminator_optimizer'])
def test_a_former_key_is_answered_with_what_stands_for_it(parsed, section):
    with pytest.raises(UserError) as caught:
        parsed('--config=configs/image/dcgan_mnist.py', f'--config.{section}.accumulate=4')
    assert str(caught.value) == (
        f"the config has no key 'accumulate' in an optimizer; {FORMER_KEYS['accumulate']}."
    )


@pytest.mark.parametrize('key, now', [('level', 'config.model.scale'), ('top_workdir', 'coarser_workdir')])
def test_so_is_one_of_a_prior(parsed, key, now):
    with pytest.raises(UserError, match=f"^the config has no key '{key}'.*{now}"):
        parsed('--config=configs/image/prior_mnist.py', f'--config.model.{key}=top')


@pytest.mark.parametrize('place', ['hdfs://bucket/run', Path('az://bucket/run')])
def test_a_run_is_kept_on_this_machine_or_in_a_bucket(parse, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r'^--workdir is .*; give a path on this machine'):
        parse(f'--workdir={place}')
    with pytest.raises(UserError, match=r'^workdir is .*; give a path on this machine'):
        train(default_config('vqvae'), place)
    assert not list(tmp_path.iterdir())


PRESS = 'import gc, os, signal, time\n\ndef press():\n    os.kill(os.getpid(), signal.SIGINT)\n\n'
PRESSED = {
    'in a config file': 'def get_config():\n    press()',
    'where it cannot be raised': """
class Deleted:
    def __del__(self):
        press()

def get_config():
    Deleted()
    time.sleep(60)
""",
}


@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN, reason='the tests were started in the background'
)
@pytest.mark.parametrize('text', ['', *PRESSED.values()], ids=['while it is imported', *PRESSED])
def test_ctrl_c_while_starting_is_one_word(text, tmp_path, monkeypatch):
    config = tmp_path / 'config.py'
    config.write_text(PRESS + text)
    if not text:
        (tmp_path / 'ml_collections.py').write_text(PRESS + 'press()')
        monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')]))
    _, errors = finish(start([f'--config={config}', f'--workdir={tmp_path}/run']), status=None)
    assert errors == 'stopped.\n'


def test_what_the_system_says_of_a_file_is_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli.app, 'run', lambda *_, **__: os.listdir(tmp_path))
    with closed(tmp_path), pytest.raises(SystemExit) as ended:
        cli.main(print)
    assert ended.value.code == 2
    words = f'error: cannot use {tmp_path} (Permission denied); check that it is there and its permissions.\n'
    assert capsys.readouterr().err == words


@pytest.mark.parametrize(
    'environment, given',
    [
        ({}, None),
        ({'XLA_FLAGS': '--xla_force_host_platform_device_count=1'}, None),
        ({'XLA_FLAGS': '--xla_dump_to=x --xla_force_host_platform_device_count=40'}, '640'),
        ({'JAX_NUM_CPU_DEVICES': '50'}, '800'),
        ({'JAX_NUM_CPU_DEVICES': '50', 'NPROC': '7'}, '7'),
    ],
)
def test_several_devices_of_a_cpu_have_threads_for_sums_that_wait_at_once(environment, given, monkeypatch):
    monkeypatch.setattr(os, 'environ', {**environment})
    monkeypatch.setattr(os, 'cpu_count', lambda: 2)
    monkeypatch.setattr(cli.app, 'run', lambda *_, **__: None)
    cli.main(print)
    assert os.environ.get('NPROC') == given


def raise_(error):
    raise error


XLA = jax.errors.JaxRuntimeError
TOO_LARGE = {
    'running': (lambda: jnp.zeros((2**20, 2**24)), r'RESOURCE_EXHAUSTED: Out of memory allocating \d+ bytes'),
    'compiling': (
        lambda: raise_(XLA('RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm.\nUsed 20G of 16G.')),
        'RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm',
    ),
    'dispatching': (
        lambda: raise_(XLA('INTERNAL: Error dispatching computation: Out of memory allocating 9 bytes.')),
        'INTERNAL: Error dispatching computation: Out of memory allocating 9 bytes',
    ),
    'cuda': (
        lambda: raise_(XLA('INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory')),
        'INTERNAL: CUDA.* memory',
    ),
    'numpy': (lambda: np.empty((2**20, 2**25)), 'Unable to allocate .*'),
    'Python': (lambda: raise_(MemoryError()), None),
}


@pytest.mark.parametrize('kind', TOO_LARGE)
def test_too_little_memory_is_a_sentence_that_says_what_to_do(monkeypatch, capsys, kind):
    compute, reason = TOO_LARGE[kind]
    monkeypatch.setattr(cli.app, 'run', lambda *_, **__: compute())
    with pytest.raises(SystemExit) as ended:
        cli.main(print, save_memory='give less')
    assert ended.value.code == 2
    words = f'error: there is not enough memory{f" .{reason}." if reason else ""}; give less.\n'
    assert re.fullmatch(words, capsys.readouterr().err)


@pytest.mark.parametrize('error', [XLA('INTERNAL: Failed to launch a kernel'), RuntimeError('out of memory')])
def test_another_error_of_a_computation_keeps_its_traceback(monkeypatch, error):
    monkeypatch.setattr(cli.app, 'run', lambda *_, **__: raise_(error))
    with pytest.raises(RuntimeError) as raised:
        cli.main(print)
    assert raised.value is error


@pytest.fixture
def parsed(parse, monkeypatch):
    """The config that flags make."""

    def parsed(*words):
        monkeypatch.setattr('sys.argv', ['train', *words])  # where ml_collections looks for keys
        parse(*words)
        return complete_config(flags.FLAGS['config'].value)

    return parsed


@pytest.mark.parametrize(
    'key, before, text, value',
    [
        ('optimizer.clip_norm', '2.5', 'None', None),
        ('data.image_size', '32', 'None', None),
        ('best_metric', 'psnr', 'None', None),
        ('data.data_dir', 'None', '/none', '/none'),
        ('quantizer.code_dim', 'None', '8', 8),
        ('wandb_project', 'None', 'none', 'none'),
    ],
)
def test_an_optional_key_is_set_to_none_and_from_it(parsed, key, before, text, value):
    flag = f'--config.{key}'
    config = parsed('--config=configs/image/vqvae_mnist.py', f'{flag}={before}', f'{flag}={text}')
    assert flatten(config.to_dict())[key] == value


@pytest.mark.parametrize('key', ['steps', 'optimizer.learning_rate', 'data.name'])
def test_other_keys_are_never_none(parsed, key):
    with pytest.raises(UserError, match=f'config.{key} is None, which is not of type'):
        config = parsed('--config', 'configs/image/vqvae_mnist.py', f'--config.{key}=None')
        make_task(config, Spec('image', (32, 32, 1)))
        build(DataConfig, config.data, 'data')


def test_a_word_that_a_key_knows_is_no_none(parsed):
    config = parsed('--config=configs/image/ddpm_mnist.py', '--config.sampling.threshold=none')
    assert config.sampling.threshold == 'none'
    given = ['a.threshold=none', 'b=None', 'c=3', 'd=true', 'e={[]:1}']
    values = cli.overrides(SimpleNamespace(name='override', value=given))
    assert repr(values) == "{'a.threshold': 'none', 'b': None, 'c': 3, 'd': True, 'e': '{[]:1}'}"
    with pytest.raises(UserError, match="--override is 'f'; write it as key=value"):
        cli.overrides(SimpleNamespace(name='override', value=['f']))


def test_config_files_of_the_package_are_named(parsed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parsed('--config=quickstart').data.name == 'glyphs'
    assert parsed('--config', 'vqvae_imagenet', '--config.steps=7').steps == 7
    with pytest.raises(UserError, match=r'^there is no config file foldr:a:b; did you mean folder:a:b\?$'):
        parsed('--config=foldr:a:b')
    with pytest.raises(UserError, match=r'^there is no config file quikstart; did you mean quickstart\?$'):
        parsed('--config=quikstart')


def test_paths_and_arguments_may_have_colons(parsed, tmp_path):
    """What is a file is that file; else the file is the longest there is before a colon."""
    folder = tmp_path / 'a:b'
    folder.mkdir()
    text = (
        'from vq_jax.tasks import default_config\ndef get_config({}):\n    config = default_config("vae")\n'
    )
    for name, argument in (('c.py', 'size="0"'), ('c.py:1', 'size="7"')):
        (folder / name).write_text(text.format(argument) + '    config.seed = int(size)\n    return config')
    for name, seed in (('c.py', 0), ('c.py:1', 7), ('c.py:2', 2), ('c.py:1:3', 3)):
        assert parsed(f'--config={folder}/{name}').seed == seed
    assert parsed('--config=folder:/photos/2024:05').data.name == 'folder:/photos/2024:05'
    with pytest.raises(
        UserError, match=f'^the config file {folder}/c.py cannot be read, because of its line 4'
    ):
        parsed(f'--config={folder}/c.py:x')
    with pytest.raises(UserError, match=f'^there is no config file {folder}/d.py:3; '):
        parsed(f'--config={folder}/d.py:3')


@pytest.mark.parametrize(
    ('folders', 'split'),
    [
        (['cat', 'dog'], 'test'),
        (['train', 'test'], 'test'),
        (['train', 'val', 'test'], 'test'),
        (['train', 'val'], 'validation'),
        (['Train', 'Valid'], 'validation'),
    ],
)
def test_the_folder_config_evaluates_on_the_split_that_is_there(parsed, tmp_path, folders, split):
    for name in folders:
        (tmp_path / name).mkdir()
        Image.new('RGB', (64, 64)).save(tmp_path / name / '0.png')
        Image.new('RGB', (64, 64)).save(tmp_path / name / '1.png')
    config = parsed(f'--config=folder:{tmp_path}')
    assert config.data.eval_split == split
    assert parsed('--config=folder').data.name == 'folder:'  # until a flag names one
    assert len(FolderSource(str(tmp_path), config.data.eval_split))


@pytest.mark.parametrize('word', ['--help', '-help', '--helpshort', '-?'])
def test_help_lists_the_keys_of_a_config(parsed, capsys, word):
    with pytest.raises(SystemExit) as ended:
        parsed('--config=quickstart', '--config.quantizer.num_codes=7', word)
    assert not ended.value.code
    said = ' '.join(capsys.readouterr().out.split())
    assert '--config.quantizer.num_codes=7 the number of codes, k. (int; 512 by default)' in said
    assert '--config.optimizer.clip_norm=None gradients whose global norm is greater' in said
    assert '(float or None; None by default)' in said
    assert '(one of gradient, moving_average; ' in said
    assert '--config.steps=1000' in said


def test_every_key_of_every_task_has_a_meaning():
    for task in TASKS:
        keys = explain(default_config(task))
        assert [key.path for key in keys if not key.meaning] == ['task']
        assert {key.path for key in keys} == set(flatten(default_config(task).to_dict()))


def test_arrays_that_are_written_too_late_are_not_told_one_by_one(monkeypatch):
    """Tensorstore asks Orbax's loop for each, after the first that a full disk refuses has ended it."""
    told = []
    monkeypatch.setattr(sys, '__unraisablehook__', told.append)
    loop = asyncio.new_event_loop()
    loop.close()
    for late in (lambda: loop.call_soon_threadsafe(print), lambda: 1 / 0):
        with pytest.raises((RuntimeError, ZeroDivisionError)) as raised:
            late()
        cli._unraisable(SimpleNamespace(exc_type=raised.type, exc_value=raised.value, object=None))
    assert [args.exc_type for args in told] == [ZeroDivisionError]


def test_a_flag_that_names_a_folder_says_so(tmp_path):
    flag = SimpleNamespace(name='output', value=str(tmp_path / 'vectors.t5'))
    with pytest.raises(
        UserError, match=r'--output is .*vectors\.t5; give one without an ending for a folder\.'
    ):
        cli.check_output(flag, '')
    (tmp_path / 'vectors').mkdir()
    flag.value = str(tmp_path / 'vectors')
    assert cli.check_output(flag, '') == tmp_path / 'vectors'
    (tmp_path / 'vectors' / 'a').write_text('')
    with pytest.raises(UserError, match=r'vectors is a directory; it is not empty: name another\.'):
        cli.check_output(flag, '')
    with pytest.raises(UserError, match=r'it is not empty: name another, or a file in it\.'):
        cli.check_output(flag, '.png', '')
