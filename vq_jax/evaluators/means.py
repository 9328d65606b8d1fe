"""The mean of a task's per-example values over a data set, each example counted exactly once."""

import dataclasses
import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from vq_jax.data import Dataset, eval_batches
from vq_jax.errors import UserError
from vq_jax.media import Media, Sheet
from vq_jax.ops.usage import CodeCounts
from vq_jax.tasks.task import EvaluatesFirst, EvaluatesTogether, ShowsCodebook, Task
from vq_jax.training.parallel import Engine, this_process
from vq_jax.training.progress import track


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluator found.

    Attributes:
        metrics: by name, for the log and the table.
        media: what people look at and listen to, by name.
    """

    metrics: dict[str, float]
    media: dict[str, Media]

    @property
    def images(self) -> dict[str, np.ndarray]:
        """The images of sheets without their captions, by name, uint8 [h w 3]."""
        return {name: sheet.image for name, sheet in self.media.items() if isinstance(sheet, Sheet)}

    def __repr__(self) -> str:
        """The metrics, and of the images their names: their pixels fill screens."""
        metrics = ', '.join(f'{name}={value:.6g}' for name, value in self.metrics.items())
        return f'Evaluation({metrics}; images: {", ".join(self.images) or "none"})'


class MeanEvaluator:
    """Evaluates a state on a data set.

    Attributes:
        task: gives `eval_step`, `summarize`, `predict` and `media`.
        engine: runs them.
        dataset: the examples.
        batch_size: of all devices and processes together.
        num_shown: how many of the first examples are shown.
    """

    def __init__(self, task: Task, engine: Engine, dataset: Dataset, batch_size: int, num_shown: int) -> None:
        self.task = task
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_shown = num_shown
        together = isinstance(task, EvaluatesTogether)
        self._step = engine.eval_step(
            functools.partial(task.eval_together, axis_name=engine.axis_name) if together else task.eval_step
        )
        first_step = task.eval_first_step if isinstance(task, EvaluatesFirst) else None
        self._first_step = first_step and engine.eval_step(first_step)
        known = ('label', *task.condition_specs)
        self._predict = engine.per_example(
            lambda state, batch: (
                task.predict(state, batch),
                {name: batch[name] for name in known},
                batch['mask'],
            )
        )

    def run(self, state: Any, *, progress: bool = False) -> Evaluation:
        """Evaluates the state.

        Floats that `eval_step` returns are averaged: their sums stay on the devices until the last batch, and
        are added in float64. Integers are codes [b ... depth], and are counted: `summarize` and `media` are
        given a `CodeCounts` for each depth. The state has its frozen weights; `progress` shows a bar.
        """
        first, sums, counts = None, [], {}
        batches = eval_batches(self.dataset, batch_size=self.batch_size, **this_process(), pad=True)
        numbers = range(-(-len(self.dataset) // self.batch_size))
        shown = track(numbers, 'evaluating batches', shown=progress)
        for _, batch in zip(shown, batches, strict=False):
            first = first or batch
            floats, integers = self._step(state, batch)
            sums.append(floats)
            for name, codes in integers.items():
                found = tuple(CodeCounts.of(codes[..., i]) for i in range(codes.shape[-1]))
                before = counts.get(name)
                counts[name] = found if before is None else tuple(map(operator.add, before, found))
        means, examples = means_of(sums)
        if not examples:
            raise UserError(f'no example of {self.dataset.name} could be decoded; check the data.')
        means |= counts
        if self._first_step:
            means |= means_of([self._first_step(state, first)[0]])[0]
        # An example does not depend on its batch, and sampling one can take a thousand passes. The first
        # examples are those of process 0, and all processes must bring equally many.
        devices, batch_size = jax.local_device_count(), len(first['mask'])
        n = min(-(-self.num_shown // devices) * devices, batch_size)
        has_codebook = isinstance(self.task, ShowsCodebook) and self.task.vocabularies
        starts = range(0, batch_size - n + 1, n) if has_codebook else [0]
        found = [self._predict(state, {name: x[i : i + n] for name, x in first.items()}) for i in starts]
        predictions, known, real = jax.tree.map(lambda *x: np.concatenate(x), *found)
        predictions = {name: x[real] for name, x in predictions.items()}
        shown = {name: x[: self.num_shown] for name, x in predictions.items()}
        media = self.task.media(shown, means) if real.any() else {}
        if real.any() and has_codebook:
            media |= self.task.codebook(predictions, means)
        known = {name: x[real][: self.num_shown] for name, x in known.items()}
        if names := self._named(**known):
            media = {name: shown.of_columns(names) for name, shown in media.items()}
        return Evaluation({**self.task.summarize(means), 'examples': int(examples)}, media)

    def _named(self, label: np.ndarray, **conditions: np.ndarray) -> list[str]:
        """What examples of these classes and conditions [b ...] are of, in words, if that is known."""
        task = self.task
        classes = [self.dataset.class_names[i] for i in label] if task.classes_read else []
        texts = task.conditioner.describe(**conditions) if task.conditioner else []
        known = [names for names in (classes, texts) if len(names)]
        return [': '.join(names) for names in zip(*known, strict=True)]


def means_of(sums: Sequence[dict[str, jax.Array]]) -> tuple[dict[str, np.ndarray], float]:
    """The means over the examples of batches, of whose values there are the sums; and how many there are.

    Of no examples, nothing.
    """
    totals = jax.tree.map(lambda *x: np.sum(np.float64(x), axis=0), *jax.device_get(sums))
    examples = totals.pop('examples')
    return {name: total / examples for name, total in totals.items() if examples}, examples
