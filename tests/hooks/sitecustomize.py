"""Lets a command signal itself at a point of its work that no clock decides (see `tests.runs.start`).

Whatever is written as a whole is renamed when it is complete; Python imports this module as it starts.
"""

import os


def _signalling(rename):
    def renamed(source, target, *arguments, **options):
        rename(source, target, *arguments, **options)
        if os.fspath(target) == os.environ['SIGNAL_AT']:
            os.kill(os.getpid(), int(os.environ['SIGNAL']))

    return renamed


os.rename, os.replace = map(_signalling, (os.rename, os.replace))
