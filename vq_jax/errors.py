"""The one exception for a mistake that a user can mend, checks of numbers that raise it, and names shown."""

import difflib
import math
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np


class UserError(ValueError):
    """Something in the config, the data or the command line is wrong.

    The message is one clear sentence that says what is wrong and what to do. Commands print it
    without a traceback and exit with status 2.
    """


def printable(text: str) -> str:
    """Text on one line that every terminal shows and none obeys, with escapes as Python writes them.

    Names of files and labels may hold any character: ends of lines, commands to a terminal, bytes that are no
    text.
    """
    return ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def plural(number: int, noun: str) -> str:
    """Returns for example '1 image' or '1,234 images'."""
    return f'{number:,} {noun}' + ('' if number == 1 else 's')


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(name: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """The names that one which there is not may stand for, the nearest first; upper case is as lower case.

    Args:
        name: which there is not.
        known: those there are.
        most: how many to give.
        cutoff: how near they must be, from 0 to 1.
    """
    by_lower = {other.lower(): other for other in known}
    return [by_lower[near] for near in difflib.get_close_matches(name.lower(), by_lower, most, cutoff)]


def on_device(name: str, value: float) -> float:
    """A number as devices hold it: a whole one in 32 bits, any other rounded to single precision.

    What is allowed of a number is asked of this, and not of what was given: 1e-50 would be a temperature
    of 0, and 0.99999999 a decay of 1.

    Args:
        name: what to call it in the message.
        value: an integer, or a float.

    Raises:
        UserError: if it is not finite, or too large, or, without being 0, too small.
    """
    if isinstance(value, Integral):
        if not -(2**31) <= value < 2**31:
            raise UserError(f'{name} is {value}; give a whole number of 32 bits, up to {2**31 - 1}.')
        return value
    limits = np.finfo(np.float32)
    if not math.isfinite(value):
        raise UserError(f'{name} is {value}; give a finite number.')
    if abs(value) > float(limits.max):
        raise UserError(f'{name} is {value}; give a number of single precision, up to {limits.max}.')
    if 0 < abs(value) < limits.tiny:
        raise UserError(
            f'{name} is {value}, which is 0 in single precision; give 0, or {limits.tiny} or more.'
        )
    return float(np.float32(value))


def check_least(least: float, owner: Any, *names: str) -> None:
    """Raises `UserError` for the first attribute that is, on devices, smaller than the least possible.

    Args:
        least: how small they may be.
        owner: the object whose attributes they are.
        *names: of numbers, of tuples that hold one or more, or of None, which passes.
    """
    for name in names:
        value = getattr(owner, name)
        if value is None:
            continue
        numbers = value if isinstance(value, tuple) else (value,)
        if not numbers or any(not n >= least or on_device(name, n) < least for n in numbers):
            raise UserError(f'{name} is {value}; give {least} or more.')


def check_positive(owner: Any, *names: str) -> None:
    """Raises `UserError` for the first attribute that is, on devices, not above 0."""
    for name in names:
        value = getattr(owner, name)
        if not on_device(name, value) > 0:
            raise UserError(f'{name} is {value}; give a number above 0.')


def check_share(owner: Any, *names: str, one: bool = True) -> None:
    """Raises `UserError` for the first attribute that is, on devices, not from 0 to 1.

    Args:
        owner: as for `check_least`.
        *names: as for `check_least`.
        one: whether they may be 1.
    """
    for name in names:
        value = getattr(owner, name)
        held = on_device(name, value) if 0 <= value <= 1 else value
        if not 0 <= value <= 1 or (held == 1 and not one):
            rounded = ', which is 1 in single precision' if held == 1 != value else ''
            limit = '1' if one else 'below 1'
            raise UserError(f'{name} is {value}{rounded}; give a number from 0 to {limit}.')
