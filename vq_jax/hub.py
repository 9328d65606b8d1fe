"""Runs on the Hugging Face Hub: uploaded with a model card, and read from there by `vq_jax.buckets`."""

import contextlib
import importlib.metadata
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from vq_jax import __version__
from vq_jax.buckets import HUB, BucketFolder, address_of, copy_of, is_on_the_hub, lacks_client
from vq_jax.data.open import BUILT_IN, MOVING_MNIST
from vq_jax.errors import UserError, printable
from vq_jax.json_files import read_json
from vq_jax.tasks.restore import Restored, restore, write_copy
from vq_jax.training.metrics_log import METRICS_NAME, read_log
from vq_jax.training.run_dir import BUILT_ON, CHECKPOINTS
from vq_jax.training.state import count_parameters

CARD = 'README.md'
_PREPARED = re.compile(r'(\w+)(/[\w.-]+)?(:[\d.]+)?')  # a name of tensorflow-datasets
_PACKAGES = ('jax', 'jaxlib', 'flax')
_RECORDS = ('metrics', 'samples', 'reconstructions', 'conversions', 'predictions', 'interpolations')


def upload(
    workdir: str | Path,
    address: str,
    step: int | Literal['best'] | None = None,
    evaluations: Sequence[str | Path] = (),
    *,
    private: bool = False,
    allow: Sequence[str] = (),
) -> str:
    """Uploads what inference needs of a run, its log and a model card, in one commit.

    `vq_jax.load(address)` opens it then. What the repository had of another run or step is deleted.

    Args:
        workdir: the directory of the run, or the address of one in a bucket or on the Hub.
        address: `hf://OWNER/NAME`; the repository is made if it is not there.
        step: the checkpoint, as for `vq_jax.load`.
        evaluations: files that `vq_jax.evaluate --output` wrote of this run, for the card.
        private: see to it that the owner alone sees the repository: one that is made is such, and one
            that others see is refused.
        allow: as for `vq_jax.load`.

    Returns:
        The address of the repository, for a browser.

    Raises:
        UserError: huggingface_hub is not installed, the run cannot be opened, an evaluation is of other
            weights, the repository is public and should not be, or the Hub refuses.
    """
    repository = _repository(address)
    with _asking(address):
        from huggingface_hub import HfApi
    restored = restore(workdir, step, allow=allow)
    if place := address_of(restored.workdir):  # of a run in a bucket the log is not needed to open it
        BucketFolder(place).copy_to(restored.workdir, lambda name: name == METRICS_NAME)
    numbers = [_of_log(restored), *(_of_evaluation(Path(path), restored) for path in evaluations)]
    with tempfile.TemporaryDirectory(prefix='vq_jax-') as folder:
        made = Path(folder) / 'run'
        write_copy(restored.for_inference(), made)
        if (restored.workdir / METRICS_NAME).is_file():
            shutil.copyfile(restored.workdir / METRICS_NAME, made / METRICS_NAME)
        (made / CARD).write_text(model_card(restored, address, [one for one in numbers if one]), 'utf-8')
        with _asking(address):
            api = HfApi()
            url = api.create_repo(repository, private=private or None, exist_ok=True)
            seen = private and not api.model_info(repository).private
        if seen:
            raise UserError(
                f'{address} is there already, and others see it; name another repository, make it private, '
                'or leave private out.'
            )
        with _asking(address):
            api.upload_folder(
                repo_id=repository,
                folder_path=made,
                commit_message=f'Step {restored.step:,} of {restored.workdir.absolute().name}, by vq_jax',
                delete_patterns=[f'{CHECKPOINTS}/*', f'{BUILT_ON}/*', METRICS_NAME],
            )
    return str(url)


def model_card(restored: Restored, address: str, numbers: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """The `README.md` of a repository, with what is known of the run alone.

    Args:
        restored: the run.
        address: of the repository, `hf://OWNER/NAME`.
        numbers: what metrics are of, in words, and these by name.
    """
    from huggingface_hub import ModelCardData

    config, origin = restored.config, restored.origin
    data = config.data.name
    # Folders are nobody else's, and of what others trained on nothing is known.
    known = None if origin or data in (*BUILT_IN, MOVING_MNIST) else _PREPARED.fullmatch(data)
    front = ModelCardData(
        library_name='vq_jax',
        tags=['jax', config.task, restored.spec.kind],
        datasets=[known[1]] if known else None,
    )
    parameters = count_parameters(restored.state.for_inference().params)
    versions = [
        f'vq_jax {__version__}',
        *(f'{name} {importlib.metadata.version(name)}' for name in _PACKAGES),
    ]
    lines = [
        '---',
        front.to_yaml(),
        '---',
        f'# {address.rpartition("/")[2]}',
        '',
        f'A run of vq_jax: the task `{_cell(config.task)}`, {parameters:,} parameters, of '
        f'{restored.spec.plural} of {restored.spec.size_in_words}. All keys are in '
        '[config.json](config.json).',
        '',
        '```python',
        'import vq_jax',
        '',
        f"run = vq_jax.load('{address}')",
        '```',
        '',
        '| | |',
        '| --- | --- |',
    ]
    if origin:
        lines += [
            f'| weights | converted from {_cell(origin["file"])} of a model of {_cell(origin["project"])} |',
            f'| SHA-256 of that file | `{_cell(origin["sha256"])}` |',
            f'| code of that project | {_cell(origin["source"])}, under {_cell(origin["licence"])}; of the '
            'weights the licence may be another |',
        ]
    else:
        kind = data.partition(':')[0] if ':' in data else data  # and not where somebody keeps it
        lines += [f'| data | `{_cell(kind)}` |', f'| steps | {restored.step:,} of {config.steps:,} |']
    lines += [
        f'| checksum of the weights | `{restored.identity()["checksum"]}` |',
        f'| uploaded with | {", ".join(versions)} |',
    ]
    for title, metrics in numbers:
        lines += ['', f'## {_cell(title)}', '', '| metric | value |', '| --- | --- |']
        lines += [f'| {_cell(name)} | {value:.6g} |' for name, value in metrics.items()]
    return '\n'.join(lines) + '\n'


def _of_log(restored: Restored) -> tuple[str, dict[str, float]] | None:
    """The evaluation that the log of a run has of its step, if it has one."""
    path = restored.workdir / METRICS_NAME
    lines = read_log(path) if path.is_file() else ()
    found = [line.metrics for line in lines if (line.split, line.step) == ('eval', restored.step)]
    split = f'Evaluation in training, of {restored.config.data.eval_split}'
    return (split, found[-1]) if found else None


def _of_evaluation(path: Path, restored: Restored) -> tuple[str, dict[str, float]]:
    """The metrics that a file of `vq_jax.evaluate` has of a run."""
    advice = 'give a file that vq_jax.evaluate --output wrote'
    try:
        record = read_json(path, dict[str, Any], advice=advice)
    except FileNotFoundError as error:
        raise UserError(f'there is no file {path}; {advice}.') from error
    run = record.get('run')
    if not isinstance(run, dict) or run.get('checksum') != restored.identity()['checksum']:
        raise UserError(f'{path} is no evaluation of these weights; evaluate {restored.workdir} anew.')
    parts = {kind: record[kind] for kind in _RECORDS if isinstance(record.get(kind), dict)}
    flat = {name: x for name, x in record.items() if name != 'step'}
    for kind, part in parts.items():
        inner = part.get('metrics', part)
        flat |= {name if kind == 'metrics' else f'{kind}: {name}': x for name, x in inner.items()}
    metrics = {name: x for name, x in flat.items() if isinstance(x, int | float) and not isinstance(x, bool)}
    return f'Evaluation of {record.get("split")}', metrics


def _cell(text: str) -> str:
    """A text as a cell of a table, which is no Markdown or HTML of its own."""
    marks = {'&': '&amp;', '<': '&lt;', '|': '&#124;', '`': ''}
    return printable(text).translate(str.maketrans(marks)).replace('](', ']&#40;')  # no link, no image


def _repository(address: str) -> str:
    """OWNER/NAME of an address of the Hub, which names no revision and no folder."""
    parts = copy_of(address).parts[-2:] if is_on_the_hub(address) else ()
    repository = '/'.join(parts)
    if f'{HUB}://{repository}' != address or '@' in repository:
        raise UserError(f'{address!r} is no repository to upload to; give it as hf://OWNER/NAME.')
    return repository


@contextlib.contextmanager
def _asking(address: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise lacks_client(HUB) from error
    except Exception as error:  # of kinds of the client, and of what it is built on
        reason = printable(' '.join(str(error).split()))[:300]
        raise UserError(
            f'{address} cannot be written ({type(error).__name__}: {reason}); check its '
            'name, the network, and that you are logged in (as by hf auth login) and may write there.'
        ) from error
