"""What a page was made with: packages, Python, machine."""

import dataclasses
import importlib.metadata
import os
import platform
import re
from collections import Counter

import jax


@dataclasses.dataclass(frozen=True)
class Environment:
    """The environment of a process.

    Attributes:
        python: its version.
        machine: operating system, processor and number of cores.
        devices: what JAX runs on, or why it cannot say.
        packages: versions by name, of this one and of those that it needs.
    """

    python: str
    machine: str
    devices: str
    packages: dict[str, str]


def find_environment() -> Environment:
    """The environment of this process."""
    return Environment(
        python=f'{platform.python_implementation()} {platform.python_version()}',
        machine=f'{platform.platform()}, {os.cpu_count()} cores',
        devices=_devices(),
        packages=_packages(),
    )


def _devices() -> str:
    try:
        kinds = Counter(f'{device.device_kind} ({device.platform})' for device in jax.devices())
    except RuntimeError as error:  # a training run may hold them all
        return f'not available: {str(error).splitlines()[0]}'
    return ', '.join(f'{number} × {kind}' for kind, number in kinds.items())


def _packages() -> dict[str, str]:
    try:
        needed = importlib.metadata.requires('vq_jax')
    except importlib.metadata.PackageNotFoundError:  # as in a folder of PYTHONPATH
        needed = None
    names = (re.match(r'[\w.-]+', requirement)[0] for requirement in needed or ())
    return {name: _version(name) for name in ('vq_jax', 'jaxlib', *names)}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return 'not installed'
