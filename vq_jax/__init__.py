"""VAE, VQ-VAE, GAN, VQGAN, diffusion, and priors over codes or pixels, in JAX and Flax.

    run = vq_jax.load('runs/quickstart')
    codes = run.encode(images)      # uint8 [b h w c] -> int32 [b h' w']
    images = run.decode(codes)      # -> uint8 [b h w c]
    images = vq_jax.load('runs/prior').sample(16, label=3)
    metrics = vq_jax.fit(vq_jax.Experiment.build(config), 'runs/mine')

The public packages are `ops` (pure functions), `quantizers` and `models` (Flax modules), `data`, `media`,
`sampling`, `training`, `tasks`, `evaluators` and `weights`; each is imported on first use. Import what they
contain from its own file, or by name from a package that lists it: `from vq_jax.quantizers import
VectorQuantizer`.
"""

import importlib
import os
import signal
import sys
from typing import Any

# Python looks for modules in the current directory first. Those that lie in a run directory, which may be a
# stranger's, are not ours.
if os.path.isfile('config.json') and sys.path[0] in ('', os.getcwd()):
    del sys.path[0]

from vq_jax.errors import UserError

__version__ = '0.1.0'

__all__ = [
    'Experiment',
    'Run',
    'UserError',
    'data',
    'evaluators',
    'fit',
    'load',
    'media',
    'models',
    'ops',
    'quantizers',
    'sampling',
    'tasks',
    'training',
    'weights',
]


def _stop(*_: Any) -> None:
    os.write(2, b'stopped.\n')
    os._exit(130)


# While `python -m` looks for a command of this package and imports what it needs, Ctrl-C ends it at once:
# there is nothing to be saved, and a traceback out of the middle of imports tells nobody anything. `cli.main`
# goes on from here.
if sys.argv[:1] == ['-m'] and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, _stop)

_FROM = {'Run': 'run', 'load': 'run', 'Experiment': 'fitting', 'fit': 'fitting'}


def __getattr__(name: str) -> Any:
    # On first use, so that a command does not wait for what it does not need.
    if name in _FROM:
        return getattr(importlib.import_module(f'vq_jax.{_FROM[name]}'), name)
    if name in __all__:
        return importlib.import_module(f'vq_jax.{name}')
    raise AttributeError(f'module vq_jax has no attribute {name!r}')


def __dir__() -> list[str]:
    return __all__
