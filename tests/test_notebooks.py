"""The notebooks run from top to bottom, with a small part of their training."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from tests.prepared import prepared

NOTEBOOKS = sorted((Path(__file__).parent.parent / 'notebooks').glob('*.ipynb'))


NO_EMPTY_AXES = """
assert not [a for n in plt.get_fignums() for a in plt.figure(n).axes if a.axison and not a.has_data()]
"""

# What they call is compiled for other tests too.
SPEECH = '07_sound'  # its data are those of a prepared set, and its sounds are kept as they are


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    if path.stem == SPEECH:
        prepared('spoken_digit')
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
    notebook = nbformat.read(path, as_version=4)
    counts = r'(config\.(?:steps|adversarial\.start|adversarial\.warmup|optimizer\.warmup_steps) = )([\d_]+)'
    for cell in notebook.cells:
        cell.source = re.sub(counts, lambda match: f'{match[1]}{int(match[2]) // 25}', cell.source)
        if 'show(' in cell.source or 'plt.' in cell.source:
            cell.source += NO_EMPTY_AXES
    resources = {'metadata': {'path': str(tmp_path)}}
    NotebookClient(notebook, timeout=None, kernel_name='python3', resources=resources).execute()
    outputs = [o for c in notebook.cells if c.cell_type == 'code' for o in c.outputs]
    images = [o for o in outputs if 'image/png' in o.get('data', {})]
    assert len(images) >= 4
    assert not any(o.output_type == 'error' for o in outputs)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_as_it_ran(path):
    """From top to bottom, with what it printed and drew."""
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == 'code']
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert sum('image/png' in output.get('data', {}) for output in outputs) >= 4
    assert not any(output.output_type == 'error' for output in outputs)
    assert path.stat().st_size < (1_500_000 if path.stem == SPEECH else 300_000)
    assert not re.search(r'/(tmp|home|root|Users)/', path.read_text())  # where it ran is nobody's concern


def first_code(path):
    return next(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == 'code')


def test_the_first_cell_installs_what_is_not_there(monkeypatch):
    (install,) = {first_code(path) for path in NOTEBOOKS}
    asked = []
    shell = SimpleNamespace(run_line_magic=lambda name, line: asked.append((name, line)))

    def execute():
        # The kernel fills in what is in braces; without one, the line is as it was written.
        exec(TransformerManager().transform_cell(install), {'get_ipython': lambda: shell})

    monkeypatch.delenv('VQ_JAX_URL', raising=False)
    execute()
    assert not asked
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(RuntimeError, match='set VQ_JAX_URL'):
        execute()
    assert not asked
    monkeypatch.setenv('VQ_JAX_URL', 'git+https://example.org/vq_jax')
    execute()
    assert asked == [('pip', 'install --quiet {VQ_JAX_URL}')]
