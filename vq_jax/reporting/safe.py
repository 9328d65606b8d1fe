"""What of a stranger's run may be put into a page: text that is no HTML, and images that are images."""

import base64
import html
import io
import os
import warnings
from pathlib import Path
from typing import Any

from vq_jax.errors import UserError
from vq_jax.json_files import read_file

_MOST_BYTES = 2**25  # of an image


def escape(value: Any) -> str:
    """HTML that shows what `str` makes of a value; bytes of file names that are no text become escapes."""
    return html.escape(str(value).encode('utf-8', 'backslashreplace').decode())


def read_png(path: Path, workdir: Path) -> str:
    """An image of a run, to be put into a page.

    Args:
        path: the file.
        workdir: the run directory, an absolute path without links.

    Returns:
        The content in base64.

    Raises:
        UserError: it is not a PNG, or larger than 32 MiB, is no regular file, lies outside of the run,
            where a link may lead, or cannot be read.
    """
    from PIL import Image

    if not Path(os.path.realpath(path)).is_relative_to(workdir):
        raise UserError(f'{path} is a link out of the run.')
    try:
        data = read_file(path, _MOST_BYTES)
    except OSError as error:
        raise UserError(f'Cannot read {path} ({error.strerror or error}).') from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            Image.open(io.BytesIO(data), formats=['PNG']).verify()
    except Exception as error:  # of which Pillow has many kinds
        raise UserError(f'{path} is not a PNG, or a damaged one.') from error
    return base64.b64encode(data).decode()
