"""Child processes that end with their parent, however it ends: `python -m vq_jax.processes MODULE ...`.

A killed parent stops nothing. Linux could signal its children (`PR_SET_PDEATHSIG`), but does so when the
thread that started them ends, and libraries start processes from threads that come and go. So each child
watches the end of a pipe that its parent holds open for as long as it lives.
"""

import os
import runpy
import sys
import threading
from multiprocessing import connection


def end_with(descriptor: int) -> None:
    """Ends this process at once, as a kill would, when whoever holds the other end of a pipe has ended.

    Args:
        descriptor: the end to read from, into which nothing is ever written.
    """

    def watch() -> None:
        connection.wait([descriptor])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def command(*arguments: str) -> list[str]:
    """A command that runs `python -m` with these arguments, and ends when its standard input is closed."""
    return [sys.executable, '-m', 'vq_jax.processes', *arguments]


if __name__ == '__main__':
    end_with(sys.stdin.fileno())
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
