"""The notebooks run from top to bottom, with a small part of their training."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / 'notebooks').glob('*.ipynb'))


SLOW = ('03_vqgan', '05_diffusion')  # what they call is compiled for other tests too


@pytest.mark.parametrize(
    'path',
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in SLOW else [])
        for path in NOTEBOOKS
    ],
)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
    notebook = nbformat.read(path, as_version=4)
    counts = r'(config\.(?:steps|adversarial\.start|adversarial\.warmup|optimizer\.warmup_steps) = )([\d_]+)'
    for cell in notebook.cells:
        cell.source = re.sub(counts, lambda match: f'{match[1]}{int(match[2]) // 25}', cell.source)
    resources = {'metadata': {'path': str(tmp_path)}}
    NotebookClient(notebook, timeout=240, kernel_name='python3', resources=resources).execute()
    outputs = [o for c in notebook.cells if c.cell_type == 'code' for o in c.outputs]
    pictures = [o for o in outputs if 'image/png' in o.get('data', {})]
    assert len(pictures) >= 4
    assert not any(o.output_type == 'error' for o in outputs)
