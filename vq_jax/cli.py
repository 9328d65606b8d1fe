"""What the commands share: flags, error messages, the compilation cache, several processes."""

import functools
import os
import re
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from vq_jax.errors import UserError


def main(run: Callable[..., None], *, required: tuple[str, ...] = (), words: tuple[str, ...] = ()) -> None:
    """Parses the flags, runs a command, and exits.

    A `UserError` is printed as one sentence, with exit status 2; other errors keep their traceback.

    Args:
        run: the command; it reads its own flags, and is given the words beside them.
        required: flags that must be given.
        words: names of the words that must be given beside flags; where the last ends with '...', one
            or more are given in its place.
    """
    logging.set_verbosity(logging.WARNING)
    try:
        app.run(lambda argv: run(*argv[1:]), flags_parser=functools.partial(_parse, required, words))
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)


def read_config(flag: flags.FlagHolder) -> Any:
    """The config of a `--config` flag, complete and checked (see `vq_jax.tasks.complete_config`)."""
    from ml_collections import ConfigDict

    from vq_jax.tasks import complete_config

    if not isinstance(flag.value, ConfigDict):
        raise UserError('get_config() of the config file must return an ml_collections.ConfigDict.')
    return complete_config(flag.value)


def use_compilation_cache() -> None:
    """Keeps compiled steps for the next start, in JAX_COMPILATION_CACHE_DIR or the user's cache."""
    import jax

    if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
        cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
        jax.config.update('jax_compilation_cache_dir', str(cache / 'vq_jax' / 'compiled'))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def check_output(flag: flags.FlagHolder, *endings: str) -> Path:
    """The file that a flag names, once it is known that it can be written.

    Args:
        flag: such as `--output`.
        *endings: how its name may end, which says what it is to hold; any if there are none.

    Raises:
        UserError: if it ends otherwise, is a directory, or lies where nothing can be written.
    """
    path = Path(flag.value)
    if endings and path.suffix not in endings:
        raise UserError(f'--{flag.name} is {path}; give a name that ends in {" or ".join(endings)}.')
    if path.is_dir():
        raise UserError(f'--{flag.name} {path} is a directory; name a file in it.')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Nothing else tells for certain; root may write where the permissions say no.
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise UserError(
            f'Cannot write {path} ({error.strerror or error}); choose another --{flag.name}.'
        ) from error


def _parse(required: tuple[str, ...], words: tuple[str, ...], argv: list[str]) -> list[str]:
    """Parses flags; mistakes in them, and in config files, become a `UserError`."""
    _check_config_file(argv)
    try:
        rest = flags.FLAGS(argv)
        for name in required:
            if flags.FLAGS[name].value is None:
                raise UserError(f'--{name} is missing; see --help.')
        if len(rest) - 1 > len(words) and not (words and words[-1].endswith('...')):
            raise UserError(f'{rest[-1]!r} is not a flag; flags are written --name=value.')
        for name in words[len(rest) - 1 :]:
            raise UserError(f'{name.removesuffix("...")} is missing; see --help.')
        return rest
    except flags.Error as error:
        # What a config file raises comes as the text of its traceback.
        _, raised, sentence = str(error).rpartition(f'{UserError.__module__}.{UserError.__name__}: ')
        if raised:
            raise UserError(sentence.splitlines()[0]) from error
        raise UserError(f'{error}; see --help.') from error
    except (AttributeError, KeyError) as error:
        if not _raised_in(error.__traceback__, 'ml_collections'):
            raise
        if str(error).endswith("has no attribute 'get_config'"):
            raise UserError('the config file has no function get_config(); see those in configs.') from error
        # A locked ConfigDict says: 'key'\\nDid you mean "near" instead of "key"?
        near = re.search(r'Did you mean "(.+?)" instead of "(.+?)"', str(error))
        if near is None:
            raise UserError(f'the config has no key {error}.') from error
        raise UserError(f'the config has no key {near[2]!r}; did you mean {near[1]!r}?') from error


def _check_config_file(argv: list[str]) -> None:
    for i, word in enumerate(argv):
        name, _, value = word.lstrip('-').partition('=')
        if word.startswith('-') and name == 'config':
            file = (value or ''.join(argv[i + 1 : i + 2])).partition(':')[0]
            if not Path(file).is_file():
                raise UserError(f'there is no config file {file}; see the folder configs.')


def _raised_in(traceback: types.TracebackType | None, package: str) -> bool:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_globals['__name__'].startswith(package)
