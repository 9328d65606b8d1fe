"""The command that converts: flags that do not go together, told in a sentence."""

import json
import subprocess
import sys

from tests.runs import ROOT

MISTAKES = {
    ('a.ckpt',): 'give --workdir for the run to be made, or --to and --output',
    ('a.ckpt', '--workdir=a', '--to=taming'): 'give --workdir for the run to be made, or --to and',
    ('a', '--to=taming'): '--to and --output belong together',
    ('a', '--to=taming', '--output=b.ckpt', '--from=taming'): '--from is for files of weights',
    ('a', '--to=taming', '--output=b.ckpt', '--override=batch_size=1'): '--override is for files of weights',
    ('a.ckpt', '--workdir=a', '--step=3'): '--step is given without --to',
    ('a', '--workdir=b', '--upload=hf://a/b'): 'give --workdir for the run to be made, or --to',
    ('a', '--upload=hf://a/b', '--override=batch_size=1'): '--override is for files of weights, and --upload',
    ('a', '--workdir=b', '--evaluation=c.json'): '--evaluation is given without --upload',
    ('a', '--to=taming', '--output=b.ckpt', '--private'): '--private is given without --upload',
    ('a', '--upload=runs/b'): "'runs/b' is no repository to upload to; give it as hf://OWNER/NAME",
    ('a.ckpt', '--workdir=gs:/b'): 'give a path on this machine',
}
CODE = """
import json, sys
from absl import flags
from absl.testing import flagsaver
from vq_jax import UserError, convert
for words in json.load(sys.stdin):
    with flagsaver.flagsaver():
        rest = flags.FLAGS(['convert', *words])
        try:
            convert.main(*rest[1:])
        except UserError as error:
            print(error)
"""


def test_flags_that_do_not_go_together():
    """In one process of their own, whose flags are those of no other command."""
    process = subprocess.run(
        [sys.executable, '-c', CODE],
        cwd=ROOT,
        input=json.dumps(list(MISTAKES)),
        capture_output=True,
        text=True,
        check=True,
    )
    printed = process.stdout.splitlines()
    assert len(printed) == len(MISTAKES), process.stdout
    for line, told in zip(printed, MISTAKES.values(), strict=True):
        assert told in line
