"""Makes `docs/keys.md`, the reference of keys, from the docstrings of classes: `python docs/keys.py`."""

from pathlib import Path

from vq_jax.tasks import TASKS, default_config
from vq_jax.training.config import Key, explain
from vq_jax.training.run_dir import flatten

FILE = Path(__file__).with_name('keys.md')
_INTRODUCTION = """# Keys of configs

A config is a tree of sections. A section holds the attributes of the class that is named below its heading.

- A flag sets a key: `--config.SECTION.KEY=VALUE`, or `--config.SECTION.KEY=None` where it may be None.
- So does Python, in a config file or a notebook: `config.SECTION.KEY = value`.
- `python -m vq_jax.train --config NAME --help` lists the keys of one config with its values.

`config.task` is one of {tasks}, or [a task of your own](extending.md#a-task).

This page is made from the docstrings by `python docs/keys.py`.
"""

# What the name of a section and the classes of its keys have in common: its rows, and which tasks have each.
_Rows = dict[str, list[str]]


def page() -> str:
    """The text of the page."""
    tables: dict[tuple[str, tuple[type, ...]], _Rows] = {}
    for task in TASKS:
        config = default_config(task)
        values = flatten(config.to_dict())
        sections: dict[str, list[Key]] = {}
        for key in explain(config):
            if key.cls is not None:
                sections.setdefault(key.path.rpartition('.')[0], []).append(key)
        for name, keys in sections.items():
            classes = tuple(dict.fromkeys(key.cls for key in keys))
            rows = tables.setdefault((name, classes), {})
            for key in keys:
                rows.setdefault(_row(key, values[key.path]), []).append(task)

    shared, others = [], []
    for (name, classes), rows in tables.items():
        tasks = list(dict.fromkeys(task for found in rows.values() for task in found))
        (shared if tasks == list(TASKS) else others).append((name, _section(name, classes, rows, tasks)))
    parts = [_INTRODUCTION.format(tasks=', '.join(map(_code, TASKS))), '## Every task\n']
    parts += [text for _, text in shared] + ['## Some tasks\n'] + [text for _, text in sorted(others)]
    return '\n'.join(parts)


def _section(name: str, classes: tuple[type, ...], rows: _Rows, tasks: list[str]) -> str:
    title = _code(name) if name else 'Top level'
    of = '' if tasks == list(TASKS) else f' of {", ".join(map(_code, tasks))}'
    paths = ' and '.join(_code(f'{cls.__module__}.{cls.__qualname__}') for cls in classes)
    lines = [
        f'### {title}{of}',
        '',
        paths,
        '',
        '| key | type | default | meaning |',
        '| --- | --- | --- | --- |',
    ]
    for row, found in sorted(rows.items()):
        alone = '' if found == tasks else f' (Only in {", ".join(map(_code, found))}.)'
        lines.append(f'{row}{alone} |')
    return '\n'.join(lines) + '\n'


def _row(key: Key, value: object) -> str:
    """A row without its end."""
    cells = _code(key.path.rpartition('.')[2]), key.kind, _code(repr(value)), key.meaning
    return f'| {" | ".join(cell.replace("|", chr(92) + "|") for cell in cells)}'


def _code(text: str) -> str:
    return f'`{text}`'


if __name__ == '__main__':
    FILE.write_text(page(), encoding='utf-8')
