"""Tables of papers: which runs their rows are, what was seen, and the paper's number beside ours.

A folder in `experiments/` holds `table.py`, whose `get_table()` returns a `Table`; `results.json`, what
was seen of each row, and `configs.json`, with which config; and `table.md`, `table.csv` and
`plot_*.svg`, which are made of the former two.
"""

from vq_jax.tables.definition import Comparison, FrameByFrame, Plot, Row, Table, read_table
from vq_jax.tables.running import run_rows
from vq_jax.tables.writing import Summary, summarize, write_table

__all__ = [
    'Comparison',
    'FrameByFrame',
    'Plot',
    'Row',
    'Summary',
    'Table',
    'read_table',
    'run_rows',
    'summarize',
    'write_table',
]
