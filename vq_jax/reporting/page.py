"""One HTML page of several runs and tables, with everything in it: style, script, numbers and media.

`page.html` is filled with tables made here; `page.js` draws the curves from JSON. Each element of one run
alone carries its index as `data-run`, by which the script hides it. The page forbids itself any connection
(Content-Security-Policy), and any script but its own. All that comes from a run is escaped, numbers too, and
an image, an animation or a sound is in the page only if it is one.
"""

import base64
import datetime
import hashlib
import importlib.resources
import json
import math
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vq_jax.buckets import place_of
from vq_jax.errors import UserError
from vq_jax.reporting.curves import make_charts
from vq_jax.reporting.environment import Environment
from vq_jax.reporting.runs import RecordedRun
from vq_jax.reporting.safe import SafeSound, escape, read_gif, read_png, read_text, read_wav
from vq_jax.tables import Summary
from vq_jax.training.run_dir import show

_FEW_NAMES, _MOST_NAMES = 20, 1000  # of classes: shown at once, and at all
_NONE = '<span class="quiet">–</span>'
_NO_RUN = '<p>There is no run yet.</p>'


def make_page(
    runs: Sequence[RecordedRun],
    environment: Environment,
    command: str,
    *,
    tables: Sequence[tuple[Summary, Path]] = (),
    max_images: int = 50,
    now: datetime.datetime | None = None,
) -> str:
    """Makes the page.

    Args:
        runs: what it shows, in this order; there may be none if there are tables.
        environment: what it is made with.
        command: the command that makes it.
        tables: shown above the runs, each with the folder of its rows' runs.
        max_images: how many images, animations or sounds of a name and run it holds; of more, some evenly
            spread over the steps, with the first and the last.
        now: the time it is made, with a time zone; None for the present.

    Returns:
        HTML that needs no other file.
    """
    files = importlib.resources.files('vq_jax.reporting')
    script = files.joinpath('page.js').read_text(encoding='utf-8')
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    many = len(runs) > 1
    return string.Template(files.joinpath('page.html').read_text(encoding='utf-8')).substitute(
        title=escape(_title(runs, tables)),
        made=_time(now or datetime.datetime.now(datetime.UTC)),
        style=files.joinpath('page.css').read_text(encoding='utf-8'),
        script=script,
        script_hash=f'sha256-{digest}',
        data=_json({'runs': [run.label for run in runs], 'charts': make_charts(runs)}),
        legend=_legend(runs) if many else '',
        tables=_tables(tables, runs),
        runs=_runs(runs) if runs else _NO_RUN,
        config=_config(runs) if runs else _NO_RUN,
        metrics=_metrics(runs),
        heading=_heading(runs),
        images=_media(runs, max_images),
        environment=_environment(environment, command),
    )


def _title(runs: Sequence[RecordedRun], tables: Sequence[tuple[Summary, Path]]) -> str:
    if tables:
        return ', '.join(table.title for table, _ in tables)
    return ', '.join(run.label for run in runs) if len(runs) <= 3 else f'{len(runs)} runs'


def _tables(tables: Sequence[tuple[Summary, Path]], runs: Sequence[RecordedRun]) -> str:
    """A section of HTML for each table, which comes with the folder of its rows' runs.

    Rows whose run is on the page have its colour.
    """
    indices = {run.workdir: i for i, run in enumerate(runs)}
    many = len(tables) > 1
    return ''.join(_section(i, *table, indices, many) for i, table in enumerate(tables))


def _section(number: int, table: Summary, workdir: Path, indices: dict[Path, int], many: bool) -> str:
    heads = ''.join(f'<th scope="col">{escape(head)}</th>' for head in table.heads)
    rows = ''.join(
        f'<tr><th scope="row">{_swatch(indices.get((workdir / row.name).resolve()))}{escape(cells[0])}</th>'
        + ''.join(f'<td class="{_class(cell)}">{escape(cell)}</td>' for cell in cells[1:])
        + '</tr>'
        for cells, row in zip(table.cells, table.rows, strict=True)
    )
    plots = ''.join(
        f'<figure><img src="data:image/svg+xml;base64,{base64.b64encode(plot.svg.encode()).decode()}" '
        f'alt="{escape(plot.title)}"><figcaption>{escape(plot.title)}</figcaption></figure>'
        for plot in table.figures
    )
    commands = '\n'.join(table.commands)
    return (
        f'<section class="experiment" aria-labelledby="table-{number}">'
        f'<h2 id="table-{number}">{escape(table.title if many else "Table")}</h2><p>{escape(table.about)}</p>'
        + _scrolling(
            f'<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>', escape(table.title)
        )
        + (f'<div class="plots">{plots}</div>' if plots else '')
        + (
            f'<details><summary>Rows that were not run ({len(table.commands)})</summary>'
            f'<pre><code>{escape(commands)}</code></pre></details>'
            if commands
            else ''
        )
        + '</section>'
    )


def _class(cell: str) -> str:
    return 'quiet' if cell in ('not run', 'not measured') else 'number'


def _legend(runs: Sequence[RecordedRun]) -> str:
    buttons = ''.join(
        f'<button type="button" data-toggle="{i}" aria-pressed="true" title="Show or hide this run">'
        f'{_swatch(i)}{escape(run.label)}</button>'
        for i, run in enumerate(runs)
    )
    return f'<div class="legend" role="group" aria-label="Runs to show">{buttons}</div>'


def _runs(runs: Sequence[RecordedRun]) -> str:
    facts: dict[str, list[str | None]] = {
        'directory': [escape(place_of(run.workdir)) for run in runs],
        'task': [escape(run.config.get('task', '')) for run in runs],
        'data': [escape(run.config.get('data.name', '')) for run in runs],
        ' and '.join({run.facts.spec.plural: None for run in runs}): [_examples(run) for run in runs],
        'classes': [_classes(run) for run in runs],
        'progress': [_progress(run) for run in runs],
        'last logged': [None if run.logged is None else _time(run.logged) for run in runs],
    }
    for part in sorted({part for run in runs for part in run.facts.built_on}):
        facts[f'built on ({escape(part)})'] = [_built_on(run, part) for run in runs]
    if any(run.warnings for run in runs):
        facts['warnings'] = [_warnings(run) for run in runs]
    return _table(runs, facts)


def _examples(run: RecordedRun) -> str:
    """Their shape, and of sound or video the rate."""
    spec = run.facts.spec
    rate = f', {spec.rate:,g} a second' if spec.rate else ''
    return escape(' × '.join(map(str, spec.shape)) + rate)


def _classes(run: RecordedRun) -> str:
    """How many there are, and their names, in quotes and in the order of the labels."""
    number, names = f'{run.facts.num_classes:,}', run.facts.class_names
    if not names:
        return number
    rest = len(names) - _MOST_NAMES
    listed = escape(', '.join(map(repr, names[:_MOST_NAMES]))) + (f' and {rest:,} more' if rest > 0 else '')
    if len(names) <= _FEW_NAMES:
        return f'{number}: {listed}'
    return f'<details><summary>{number}</summary>{listed}</details>'


def _progress(run: RecordedRun) -> str:
    steps = run.config.get('steps')
    if not isinstance(steps, int):
        return f'step {run.last_step:,}'
    if run.last_step >= steps:
        return f'finished, {steps:,} steps'
    return f'step {run.last_step:,} of {steps:,}: going on, or stopped'


def _built_on(run: RecordedRun, part: str) -> str | None:
    other = run.facts.built_on.get(part)
    return other and f'step {other["step"]:,} of {escape(other["workdir"])}'


def _warnings(run: RecordedRun) -> str | None:
    """The last warning of each kind, and at which steps there were such.

    What is before a colon is the kind; the numbers behind it differ from step to step.
    """
    kinds: dict[str, list[tuple[int, str]]] = {}
    for step, text in run.warnings:
        kinds.setdefault(text.partition(':')[0], []).append((step, text))
    lines = []
    for warnings in kinds.values():
        (first, _), (last, text) = warnings[0], warnings[-1]
        when = (
            f'{len(warnings):,} times from step {first:,} to {last:,}' if first < last else f'step {last:,}'
        )
        lines.append(f'<span class="quiet">{when}:</span> {escape(text)}')
    return '<br>'.join(lines) or None


def _config(runs: Sequence[RecordedRun]) -> str:
    keys = sorted({key for run in runs for key in run.config})
    values = {
        escape(key): [
            f'<code>{escape(show(run.config[key]))}</code>' if key in run.config else None for run in runs
        ]
        for key in keys
    }
    whole = f'All keys ({len(keys)})'
    if len(runs) == 1:
        return f'<details><summary>{whole}</summary>{_table(runs, values)}</details>'
    # Of several tasks, keys of one alone would hide what the runs have in common and differ in.
    one_task = len({run.config.get('task') for run in runs}) == 1
    differing = {
        key: row for key, row in values.items() if len(set(row)) > 1 and (one_task or None not in row)
    }
    first = (
        f'<h3>Keys that differ</h3>{_table(runs, differing)}'
        if differing
        else '<p>The configs do not differ.</p>'
    )
    return f'{first}<details><summary>{whole}</summary>{_table(runs, values)}</details>'


def _metrics(runs: Sequence[RecordedRun]) -> str:
    """The table of evaluated numbers; a run has a second column where its best is not its last."""
    columns: list[tuple[int, str, dict[str, float]]] = []
    for i, run in enumerate(runs):
        last, best = run.last_evaluation, run.best_evaluation
        if last is None:
            columns.append((i, 'none yet', {}))
            continue
        same = ' = best' if best == last else ''
        columns.append((i, f'last{same}<br>step {last:,}', run.evaluation(last)))
        if best is not None and best != last:
            columns.append((i, f'best<br>step {best:,}', run.evaluation(best)))
    names = list(dict.fromkeys(name for _, _, metrics in columns for name in metrics))
    if not names:
        return '<p>Nothing was evaluated yet.</p>'
    chosen = {run.config.get('best_metric') for run in runs}
    rows = ''.join(
        ('<tr class="chosen">' if name in chosen else '<tr>')
        + f'<th scope="row">{escape(name)}</th>'
        + ''.join(
            f'<td class="number" data-run="{i}"{_exactly(value)}>{_number(value)}</td>'
            for i, value in ((i, metrics.get(name)) for i, _, metrics in columns)
        )
        + '</tr>'
        for name in names
    )
    spans = [sum(i == column[0] for column in columns) for i in range(len(runs))]
    head = ''.join(
        f'<th scope="colgroup" colspan="{span}" data-run="{i}">{_named(i, runs)}</th>'
        for i, span in enumerate(spans)
    )
    which = ''.join(f'<th scope="col" class="number" data-run="{i}">{text}</th>' for i, text, _ in columns)
    note = ''.join(
        f'<p class="quiet">Best is the evaluation with the '
        f'{"smallest" if mode == "min" else "largest"} <b>{escape(metric)}</b>{of}.</p>'
        for metric, mode, of in _choices(runs)
    )
    table = f'<thead><tr><td></td>{head}</tr><tr><td></td>{which}</tr></thead><tbody>{rows}</tbody>'
    return f'{_scrolling(f"<table>{table}</table>", "Evaluated numbers")}{note}'


def _choices(runs: Sequence[RecordedRun]) -> list[tuple[str, str, str]]:
    """Number and mode by which runs chose their best, and which runs where they differ in it."""
    by: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        if run.best_evaluation is not None:
            key = run.config['best_metric'], str(run.config.get('best_mode'))
            by.setdefault(key, []).append(escape(run.label))
    return [(*key, f' ({", ".join(names)})' if len(by) > 1 else '') for key, names in by.items()]


def _heading(runs: Sequence[RecordedRun]) -> str:
    """Names the kinds of media that there are; of none, images."""
    kinds = ('images', 'animations', 'sounds', 'texts')
    *most, last = [kind for kind in kinds if any(getattr(run, kind) for run in runs)] or ['images']
    return (f'{", ".join(most)} and {last}' if most else last).capitalize()


def _media(runs: Sequence[RecordedRun], limit: int) -> str:
    """The images of each name, and beside them the animations, the sounds and the texts of it."""
    names = [
        name
        for run in runs
        for name in (*run.images, *map(_sheet_of, (*run.animations, *run.sounds)), *run.texts)
    ]
    if not names:
        return '<p>No images were written yet.</p>'
    parts: list[str] = []
    left_out: list[str] = []
    thinned = False
    for name in dict.fromkeys(names):
        figures = []
        for i, run in enumerate(runs):
            sounds = [(of, files) for of, files in run.sounds.items() if _sheet_of(of) == name]
            moving = [(of, files) for of, files in run.animations.items() if _sheet_of(of) == name]
            found = [(name, run.images.get(name, {}), read_png, _image)]
            found += [(of, files, read_gif, _animation) for of, files in moving]
            found += [(of, files, read_wav, _sound) for of, files in sounds]
            texts = run.texts.get(name, {})
            found.append((name, texts, read_text, _text))
            for of, files, read, element in found:
                shown = _spread(list(files.items()), limit)
                thinned |= len(shown) < len(files)
                contents, reasons = _read(shown, run.workdir, read)
                left_out += reasons
                if contents:
                    figures.append(_figure(runs, i, of, contents, element, wide=bool(sounds or texts)))
        if figures:
            parts.append(f'<h3>{escape(name)}</h3><div class="images">{"".join(figures)}</div>')
    notes = f'<p class="quiet">Of each, {limit} steps are shown, evenly spread.</p>' if thinned else ''
    if left_out:
        more = f' And {len(left_out) - 3:,} more.' if len(left_out) > 3 else ''
        notes += f'<p class="quiet">Not shown: {escape(" ".join(left_out[:3]) + more)}</p>'
    stepper = (
        '<div class="controls stepper" id="stepper" hidden><label>Step <input type="range" id="step" min="0" '
        'max="0" value="0"></label><output id="at" for="step"></output></div>'
    )
    return f'{stepper}{notes}{"".join(parts)}'


def _sheet_of(media: str) -> str:
    """The name of the sheet that an animation or a sound belongs to (see `vq_jax.media.show`)."""
    return media.removesuffix('_video').removesuffix('_sound')


def _read(
    files: Sequence[tuple[int, Path]], workdir: Path, read: Callable[[Path, Path], Any]
) -> tuple[dict[int, Any], list[str]]:
    """What files hold by step, and why the others are not among them."""
    contents, reasons = {}, []
    for step, path in files:
        try:
            contents[step] = read(path, workdir)
        except UserError as error:
            reasons.append(str(error))
    return contents, reasons


def _image(content: str, what: str, step: str) -> str:
    return f'<img src="data:image/png;base64,{content}" alt="{what}" {step}>'


def _animation(content: str, what: str, step: str) -> str:
    return f'<img src="data:image/gif;base64,{content}" alt="{what}" {step}>'


def _sound(sound: SafeSound, what: str, step: str) -> str:
    """A player; of its cue points the script makes buttons."""
    cues = f' data-cues="{escape(json.dumps(sound.cues))}"' if sound.cues else ''
    return (
        f'<audio controls preload="metadata" src="data:audio/wav;base64,{sound.content}" '
        f'aria-label="{what}" {step}{cues}></audio>'
    )


def _text(content: str, what: str, step: str) -> str:
    return f'<pre aria-label="{what}" {step}>{escape(content)}</pre>'


def _figure(
    runs: Sequence[RecordedRun],
    index: int,
    name: str,
    contents: dict[int, Any],
    element: Callable[[Any, str, str], str],
    *,
    wide: bool,
) -> str:
    """Media of one name and run; without the script the last one shows."""
    label, last = escape(runs[index].label), max(contents)
    shown = ''.join(
        element(
            content,
            f'{escape(name)} of {label}, step {step:,}',
            f'data-step="{step}"{"" if step == last else " hidden"}',
        )
        for step, content in contents.items()
    )
    run = f'{_swatch(index)}{label} ' if len(runs) > 1 else ''
    caption = f'<figcaption>{run}<span class="at">step {last:,}</span></figcaption>'
    return f'<figure data-run="{index}"{" class=wide" if wide else ""}>{caption}{shown}</figure>'


def _spread(items: list[Any], limit: int) -> list[Any]:
    """At most `limit` items, evenly spread, the first and the last among them."""
    if len(items) <= limit:
        return items
    if limit == 1:
        return items[-1:]
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]


def _environment(environment: Environment, command: str) -> str:
    rows = {
        'Python': environment.python,
        'machine': environment.machine,
        'devices of JAX': environment.devices,
    }
    body = ''.join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in rows.items())
    packages = ''.join(
        f'<li><span class="quiet">{escape(name)}</span> {escape(version)}</li>'
        for name, version in environment.packages.items()
    )
    machine = _scrolling(f'<table><tbody>{body}</tbody></table>', 'Machine')
    return (
        '<p>Of the machine that this page was made on, when it was made; the runs may have been trained '
        f'elsewhere, or before. The command:</p><pre><code>{escape(command)}</code></pre>'
        f'{machine}<ul class="packages">{packages}</ul>'
    )


def _table(runs: Sequence[RecordedRun], rows: Mapping[str, Sequence[str | None]]) -> str:
    """A table of HTML cells with a column for each run; a head where there are several."""
    head = ''.join(f'<th scope="col" data-run="{i}">{_named(i, runs)}</th>' for i in range(len(runs)))
    body = ''.join(
        f'<tr><th scope="row">{name}</th>'
        + ''.join(f'<td data-run="{i}">{_NONE if cell is None else cell}</td>' for i, cell in enumerate(row))
        + '</tr>'
        for name, row in rows.items()
    )
    thead = f'<thead><tr><td></td>{head}</tr></thead>' if len(runs) > 1 else ''
    return _scrolling(f'<table>{thead}<tbody>{body}</tbody></table>', 'Table of runs')


def _scrolling(table: str, label: str) -> str:
    """A wide table scrolls by itself, also by keys."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">{table}</div>'


def _named(index: int, runs: Sequence[RecordedRun]) -> str:
    return f'{_swatch(index if len(runs) > 1 else None)}{escape(runs[index].label)}'


def _swatch(index: int | None) -> str:
    return '' if index is None else f'<span class="swatch" data-colour="{index}"></span>'


def _number(value: float | None) -> str:
    if value is None:
        return _NONE
    if not math.isfinite(value):
        return 'not finite'
    return f'{int(value):,}' if value == int(value) and abs(value) < 1e15 else f'{value:.5g}'


def _exactly(value: float | None) -> str:
    return '' if value is None or not math.isfinite(value) else f' title="{escape(repr(value))}"'


def _time(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime('%Y-%m-%d %H:%M UTC')


def _json(value: Any) -> str:
    """JSON that stays within its script element whatever the names in it."""
    text = json.dumps(value, allow_nan=False, separators=(',', ':'))
    return text.replace('&', '\\u0026').replace('<', '\\u003c').replace('>', '\\u003e')
