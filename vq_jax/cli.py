"""What the commands share: flags, error messages, the compilation cache, several processes."""

import ast
import contextlib
import errno
import functools
import logging as python_logging
import os
import re
import signal
import sys
import tempfile
import textwrap
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

from absl import app, flags, logging

from vq_jax.buckets import in_addresses, is_address
from vq_jax.config_files import find_config, get_config, split_config
from vq_jax.errors import UserError, printable
from vq_jax.files import WriteError, cache_folder, telling, write_atomically

# What a disk says that is full, or may not or cannot be written.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_SUMS_AT_ONCE = 16  # over devices, that a program waits in, at most
_HELP = ('--help', '-help', '-?', '--?', '--helpshort', '-helpshort')
flags.disclaim_key_flags()  # those defined here are of the command that asks for them
_PLACES = ('workdir', 'output', 'reference', 'init_from')  # flags that name something on this machine
_WORDS = {'true': True, 'false': False}
_RUNS = ('workdir', 'init_from')  # those among them that may name a run in a bucket
# What Python says of text that is no number, and what that means.
_NOT_NUMBERS = {
    'invalid literal for int()': 'a whole number',
    'could not convert string to float': 'a number',
}


def main(
    run: Callable[..., None],
    *,
    required: tuple[str, ...] = (),
    words: tuple[str, ...] = (),
    save_memory: str = 'ask for less at once, or close what else needs it',
) -> None:
    """Parses the flags, runs a command, and exits.

    A `UserError`, a disk that cannot be written, what else the system says of a file, such as that this
    user may not read it, and that memory does not suffice are reported in one sentence, with exit status 2.
    Ctrl-C ends the command with status 130. Other errors keep their traceback.

    Args:
        run: the command; it reads its own flags, and is given the words beside them.
        required: flags that must be given.
        words: names of the words that must be given beside flags; where the last ends with '...', one
            or more are given in its place, and where it is '[NAME...]', any number.
        save_memory: what to do where the memory does not suffice, the end of a sentence.
    """
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as of what a shell starts in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.unraisablehook = _unraisable
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_logger().addFilter(_make_printable)
    # What a terminal has no characters for is shown by others, instead of ending the command.
    sys.stdout.reconfigure(errors='backslashreplace')
    _give_threads()
    try:
        app.run(lambda argv: run(*argv[1:]), flags_parser=functools.partial(_parse, required, words))
    except UserError as error:
        _fail(in_addresses(str(error)))
    except OSError as error:
        if error.errno in _DISK:
            where = f' {error.filename}' if error.filename else ''
            _fail(f'Cannot write{where} ({error.strerror}); make room, or mend the disk.')
        if error.filename is None:
            raise
        _fail(f'cannot use {error.filename} ({error.strerror}); check that it is there and its permissions.')
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        first, *_ = [*str(error).splitlines(), '']
        reason = f' ({first[:200].rstrip(".")})' if first else ''
        _fail(f'there is not enough memory{reason}; {save_memory}.')
    except KeyboardInterrupt:
        print('stopped.', file=sys.stderr)
        sys.exit(130)


def _out_of_memory(error: Exception) -> bool:
    """Whether Python, or XLA when it compiled or ran something, found too little memory."""
    # A command that computes nothing does not import JAX, and then this is no error of it.
    jax = sys.modules.get('jax')
    of_jax = jax is not None and isinstance(error, jax.errors.JaxRuntimeError)
    told = 'RESOURCE_EXHAUSTED' in str(error) or 'out of memory' in str(error).lower()
    return isinstance(error, MemoryError) or (of_jax and told)


def _unraisable(unraisable: Any) -> None:
    """Repeats a Ctrl-C that came where Python can raise nothing, such as while it collects garbage.

    Of arrays whose writing goes on after that of another one failed, which is reported, it says nothing.
    """
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        main_thread = threading.main_thread().ident
        threading.Timer(0.1, signal.pthread_kill, [main_thread, signal.SIGINT]).start()
    elif unraisable.object is not None or str(unraisable.exc_value) != 'Event loop is closed':
        sys.__unraisablehook__(unraisable)


def _fail(message: str) -> NoReturn:
    print(f'error: {printable(message)}', file=sys.stderr)
    sys.exit(2)


def _make_printable(record: python_logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), ()
    return True


def define_config(flag_values: flags.FlagValues = flags.FLAGS) -> flags.FlagHolder:
    """The flag --config, which names a config file, and with it the flags --config.KEY of all its keys.

    The value None is written as in Python, for keys that may be it.

    Args:
        flag_values: where the flag is defined.
    """
    from ml_collections import config_flags

    for kind, parser in (
        (int, flags.IntegerParser()),
        (float, flags.FloatParser()),
        (str, flags.ArgumentParser()),
    ):
        config_flags.register_flag_parser_for_type(kind, _OrNone(parser))
    holder = config_flags.DEFINE_config_file(
        'config',
        None,
        'The experiment: a config file, such as configs/image/quickstart.py, or the name of one that comes '
        'with the package, such as quickstart. With --help, its keys are listed.',
        flag_values=flag_values,
    )
    flag_values['config'].parser = _ConfigFile()
    return holder


class _ConfigFile(flags.ArgumentParser):
    """Runs a config file, as ml_collections does, whose paths end at their first colon.

    Attributes:
        path: of the file that was named last, and its argument; empty before.
    """

    path = ''

    def parse(self, argument: str) -> Any:
        self.path = find_config(argument)
        with _busy(f'reading {self.path}'):
            config = get_config(self.path)
        if hasattr(config, 'lock'):  # else `read_config` says what it must be
            config.lock()
        return config

    def flag_type(self) -> str:
        return 'config object'


class _OrNone(flags.ArgumentParser):
    """Parses None as Python writes it, and all else as another parser does."""

    def __init__(self, parser: flags.ArgumentParser) -> None:
        self._parser = parser
        self.syntactic_help = parser.syntactic_help

    def parse(self, argument: Any) -> Any:
        return None if argument == 'None' else self._parser.parse(argument)

    def flag_type(self) -> str:
        return self._parser.flag_type()


def define_allow_import() -> flags.FlagHolder:
    """The flag that lets run directories name code of the user's own; its value is a list of modules."""
    return flags.DEFINE_list(
        'allow_import',
        [],
        'Modules that runs which are opened may import, for tasks and quantizers that are not of vq_jax. '
        'Importing runs their code; name what you trust.',
    )


def read_config(flag: flags.FlagHolder | flags.Flag) -> Any:
    """The config of a `--config` flag, complete and checked (see `vq_jax.tasks.complete_config`)."""
    from ml_collections import ConfigDict

    from vq_jax.extensions import allowing, named_modules
    from vq_jax.tasks import complete_config

    config = flag.value
    if not isinstance(config, ConfigDict):
        raise UserError('get_config() of the config file must return an ml_collections.ConfigDict.')
    with allowing(named_modules(config)):
        return complete_config(config)


def _give_threads() -> None:
    """Gives XLA threads enough, where several devices are to be made of one CPU (and JAX has not begun).

    It has as many as devices. Each sum over devices holds one on every device until all are there, and a
    program may wait in several sums at once: then the last device finds no thread, and all wait for ever.
    """
    options = os.environ.get('XLA_FLAGS', ''), os.environ.get('JAX_NUM_CPU_DEVICES', '')
    asked = re.findall(r'--xla_force_host_platform_device_count=(\d+)|^(\d+)$', '\n'.join(options), re.M)
    devices = max((int(flag or variable) for flag, variable in asked), default=1)
    if devices > 1:
        os.environ.setdefault('NPROC', str(max(os.cpu_count() or 1, _SUMS_AT_ONCE * devices)))


def use_compilation_cache() -> None:
    """Keeps compiled steps for the next start, in JAX_COMPILATION_CACHE_DIR or the user's cache."""
    import jax

    if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
        jax.config.update('jax_compilation_cache_dir', str(cache_folder('compiled')))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def literal(text: str) -> Any:
    """A value that is written as in Python, or after `--config.`; anything else is a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _WORDS.get(text.lower(), text)


def overrides(flag: flags.FlagHolder) -> dict[str, Any]:
    """The values by key of a flag such as `--override`; they are written key=value, as after `--config.`."""
    parsed = {}
    for override in flag.value:
        key, equals, value = override.partition('=')
        if not equals:
            raise UserError(f'--{flag.name} is {override!r}; write it as key=value.')
        parsed[key] = literal(value)
    return parsed


def check_output(
    flag: flags.FlagHolder, *endings: str, unfinished: Callable[[Path], bool] = lambda path: False
) -> Path:
    """The file or new folder that a flag names, once it is known that it can be written.

    Args:
        flag: such as `--output`.
        *endings: how its name may end, which says what it is to hold; '' is a folder.
        unfinished: whether what a folder holds was left by this command, killed, and will be replaced.

    Raises:
        UserError: if it ends otherwise, is a directory (with something in it), or lies where nothing can be
            written.
    """
    path, of_files = Path(flag.value), ' or '.join(filter(None, endings))
    if path.suffix not in endings:
        ways = [f'a name that ends in {of_files}'] if of_files else []
        ways += ['one without an ending for a folder'] if '' in endings else []
        raise UserError(f'--{flag.name} is {path}; give {", or ".join(ways)}.')
    if path.is_dir() and (path.suffix or (any(path.iterdir()) and not unfinished(path))):
        another = 'it is not empty: name another' + (', or a file in it' if of_files else '')
        told = 'name a file in it' if path.suffix else another
        raise UserError(f'--{flag.name} {path} is a directory; {told}.')
    if not path.suffix and path.exists() and not path.is_dir():
        raise UserError(f'--{flag.name} {path} is a file; name a folder, which is made.')
    with telling(f'Cannot write {path}', f'choose another --{flag.name}'):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Nothing else tells for certain; root may write where the permissions say no, and an empty file fits
        # on a full disk.
        with tempfile.TemporaryFile(dir=path.parent, buffering=0) as file:
            file.write(bytes(4096))
    return path


def write_output(path: Path, content: str | bytes | Mapping[str, bytes], what: str) -> None:
    """Writes what a flag names, or something else if that cannot be: it may have taken hours to make.

    Args:
        path: as `check_output` returns it.
        content: text or bytes; of a folder, those of its files by name.
        what: it is, for the message, such as '64 images'.

    Raises:
        WriteError: it was not written there; the message says where it is instead, if anywhere.
    """
    try:
        _write(path, content)
    except WriteError as error:
        try:
            instead = Path(tempfile.mkdtemp(prefix='vq_jax-')) / path.name
            _write(instead, content)
        except (OSError, WriteError):  # there is no room anywhere
            raise error from None
        raise WriteError(f'{error} Meanwhile, {what} are in {instead}.') from error


def _write(path: Path, content: str | bytes | Mapping[str, bytes]) -> None:
    files = (
        {path / name: x for name, x in content.items()} if isinstance(content, Mapping) else {path: content}
    )
    for file, x in files.items():
        write_atomically(file, x)


def checkpoint_step(flag: flags.FlagHolder) -> int | Literal['best'] | None:
    """The checkpoint that a flag names, such as `--step`: its number, or 'best'."""
    step = flag.value
    if step is None or step == 'best':
        return step
    if not step.isdecimal():
        raise UserError(f'--{flag.name} is {step}; give the number of a checkpoint, or best.')
    return int(step)


def check_local(name: str, place: str | Path) -> Path:
    """A path where something can be on this machine, and no address.

    Args:
        name: what it is, such as '--workdir'.
        place: what was given. A `Path` of an address has lost one of its slashes.

    Raises:
        UserError: if it begins as an address does, such as 'gs://bucket', or nothing can be there: it is too
            long, or below a file or a directory that may not be entered.
    """
    if re.match(r'[A-Za-z][A-Za-z0-9+.-]+:/', str(place)):
        raise UserError(f'{name} is {place}; give a path on this machine, where a bucket may be mounted.')
    try:
        os.stat(place)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # the latter of a name that no file can have
        reason = getattr(error, 'strerror', None) or error
        raise UserError(
            f'{name} is {str(place)!r}, where nothing can be ({reason}); choose another {name}.'
        ) from error
    return Path(place)


def _parse(required: tuple[str, ...], words: tuple[str, ...], argv: list[str]) -> list[str]:
    """Parses flags; mistakes in them, and in config files, become a `UserError`."""
    named = 'config' in flags.FLAGS and any(re.match('--?config(=|$)', word) for word in argv)
    explained = [word for word in argv if named and word in _HELP]
    try:
        rest = flags.FLAGS([word for word in argv if word not in explained])
    except Exception as error:
        mistake = _mistake(error)
        if mistake is None:
            raise
        raise UserError(mistake) from error
    if explained:
        # A reader such as `head` may close the pipe before the end, which is no error.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        app.usage(shorthelp=True, writeto_stdout=True)
        _print_keys(flags.FLAGS['config'])
        sys.exit()
    for name in required:
        if flags.FLAGS[name].value in (None, ''):  # the latter as of a variable that a shell does not know
            raise UserError(f'--{name} is missing; see --help.')
    for name in _PLACES:
        place = flags.FLAGS[name].value if name in flags.FLAGS else None
        if place and not (name in _RUNS and is_address(place)):
            check_local(f'--{name}', place)
    if len(rest) - 1 > len(words) and not (words and '...' in words[-1]):
        raise UserError(f'{rest[-1]!r} is not a flag; flags are written --name=value.')
    for name in words[len(rest) - 1 :]:
        if name.startswith('['):
            break
        raise UserError(f'{name.removesuffix("...")} is missing; see --help.')
    return rest


def _busy(what: str) -> contextlib.AbstractContextManager[Any]:
    """Shows on a terminal what takes a while: a config reads all libraries."""
    if not sys.stderr.isatty():
        return contextlib.nullcontext()
    from rich.console import Console
    from rich.text import Text

    return Console(stderr=True).status(Text(what))


def _print_keys(flag: flags.Flag) -> None:
    """Lists the keys of a config: what each is in it, what it may be, and what it means."""
    from vq_jax.training.config import explain
    from vq_jax.training.run_dir import flatten

    full = read_config(flag)
    values = flatten(full.to_dict())
    print(f'\nkeys of {flag.parser.path}:')
    for key in explain(full):
        print(f'  --config.{key.path}={values[key.path]}')
        about = f'{key.meaning} ({key.kind}; {key.default!r} by default)'
        print(textwrap.fill(about, 100, initial_indent=' ' * 6, subsequent_indent=' ' * 6))


def _mistake(error: Exception) -> str | None:
    """What is wrong with the flags or the config file, in a sentence; None if the mistake is elsewhere."""
    if isinstance(error, AttributeError | KeyError) and _raised_in(error, 'ml_collections'):
        from vq_jax.tasks.prior_config import FORMER_KEYS as OF_A_PRIOR
        from vq_jax.training.optimizer import FORMER_KEYS

        # A locked ConfigDict says: 'key'\nDid you mean "near" instead of "key"?
        near = re.search(r'Did you mean "(.+?)" instead of "(.+?)"', str(error))
        if near:
            return f'the config has no key {near[2]!r}; did you mean {near[1]!r}?'
        key = re.search(r'Key "(\w+)"|\w+', str(error))
        name = (key[1] or key[0]) if key else str(error)
        former = (('an optimizer', FORMER_KEYS), ('a prior', OF_A_PRIOR))
        advice = [f' in {where}; {instead[name]}' for where, instead in former if name in instead]
        return f'the config has no key {name!r}{"".join(advice)}.'
    # What a config file raises comes inside of others, even of its own kind, with its traceback as text.
    chain: list[BaseException] = [error]
    while inner := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(inner)
    if told := [str(part) for part in chain if isinstance(part, UserError)]:
        return told[-1]
    if of_config := [mistake for part in chain if (mistake := _mistake_in_config(part))]:
        return of_config[0]
    if isinstance(error, flags.UnrecognizedFlagError) and (keys := _config_keys(error.flagname)):
        return f'there is no flag --{error.flagname}; did you mean {" or ".join(keys)}?'
    if not isinstance(error, flags.Error):
        return None
    for of_python, instead in _NOT_NUMBERS.items():
        if of_python in str(error):
            return f'{str(error).partition(": " + of_python)[0]} is not {instead}.'
    return f'{error}; see --help.'


def _mistake_in_config(error: BaseException) -> str | None:
    """What is wrong with a config file, where that is what raised the error."""
    path = flags.FLAGS['config'].parser.path if 'config' in flags.FLAGS else ''
    if not path:
        return None
    file, argument = split_config(path)
    stack = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in stack if frame.f_code.co_filename == file]
    if isinstance(error, TypeError) and not lines and str(error).startswith('get_config() '):
        if argument is not None:
            return f'the config file {file} takes no argument; leave :{argument} out.'
        return f'the config file {file} needs an argument; give it as --config={file}:ARGUMENT.'
    what = str(error)
    if isinstance(error, SyntaxError) and Path(error.filename or '').resolve() == Path(file).resolve():
        lines, what = [error.lineno], error.msg
    if not lines or _raised_in(error, 'vq_jax'):
        return None
    said = f'{type(error).__name__}: {" ".join(what.split())}'
    return f'the config file {file} cannot be read, because of its line {lines[-1]} ({said}); mend it.'


def _config_keys(name: str) -> list[str]:
    """The flags that change a key of the config that is called so, as far as a config was read."""
    from vq_jax.training.run_dir import flatten

    config = flags.FLAGS['config'].value if 'config' in flags.FLAGS else None
    paths = flatten(config.to_dict()) if hasattr(config, 'to_dict') else {}
    return [f'--config.{path}' for path in paths if f'.{path}'.endswith(f'.{name}')]


def _raised_in(error: BaseException, package: str) -> bool:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_globals['__name__'].partition('.')[0] == package
