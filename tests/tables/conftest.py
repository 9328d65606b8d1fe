"""A table in a folder of its own."""

import pytest

from tests.runs import ROOT


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a table.py that has these rows, and returns its folder."""
    monkeypatch.chdir(ROOT)

    def written(rows, rest='', *, before=''):
        folder = tmp_path / 'experiment'
        folder.mkdir(exist_ok=True)
        text = (
            'from vq_jax.tables import Comparison, FrameByFrame, Plot, Row, Table\n\n'
            f'{before}\n\ndef get_table():\n    return Table("Small", "Nobody 2000", ({rows}), {rest})\n'
        )
        (folder / 'table.py').write_text(text)
        return folder

    return written
