"""Executes notebooks and keeps them with their outputs (`make notebooks`).

Their training is that of the texts, some minutes each on two cores. Images are kept in 128 colours, so that
a file stays small enough for a repository.
"""

import base64
import io
import sys
import tempfile

import nbformat
from nbclient import NotebookClient
from PIL import Image


def execute(path: str) -> None:
    """Runs a notebook from top to bottom in an empty folder, and writes it back."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {'metadata': {'path': folder}}
        client = NotebookClient(
            notebook, timeout=None, kernel_name='python3', record_timing=False, resources=resources
        )
        client.execute()
    for output in (output for cell in notebook.cells for output in cell.get('outputs', ())):
        data = output.get('data', {})
        if 'image/png' in data:
            data.pop('image/jpeg', None)  # IPython shows an image in both
            data['image/png'] = base64.b64encode(_small(base64.b64decode(data['image/png']))).decode()
    nbformat.write(notebook, path)


def _small(png: bytes) -> bytes:
    reduced = io.BytesIO()
    image = Image.open(io.BytesIO(png), formats=['PNG']).convert('RGB')
    image.quantize(128, dither=Image.Dither.NONE).save(reduced, 'png', optimize=True)
    return min(png, reduced.getvalue(), key=len)


if __name__ == '__main__':
    for path in sys.argv[1:]:
        execute(path)
