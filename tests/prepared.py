"""Real data sets of tensorflow-datasets, of those who have them."""

import os
from pathlib import Path

import pytest


def prepared(name: str) -> str:
    """The folder that TFDS_DATA_DIR names; skips the test where that has no such data set."""
    folder = os.environ.get('TFDS_DATA_DIR')
    if not folder or not Path(folder, name).is_dir():
        pytest.skip(f'TFDS_DATA_DIR does not point to a folder with a prepared {name}')
    return folder
