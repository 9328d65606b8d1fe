"""Whether samples are of the texts that they were made of, by how well a dual encoder finds each text."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from vq_jax.data import eval_batches
from vq_jax.errors import UserError
from vq_jax.evaluators.opening import make_eval_engine, open_split
from vq_jax.ops.contrast import ranks
from vq_jax.tasks.batched_sampling import BatchedSampler
from vq_jax.tasks.classes import check_class_names
from vq_jax.tasks.dual_encoder import DualEncoderTask
from vq_jax.tasks.restore import Restored
from vq_jax.tasks.task import Samples
from vq_jax.training.config import to_json
from vq_jax.training.parallel import Batch, this_process

CANDIDATES = 100  # texts, among which the right one is to be found
_FIRST = (1, 5)  # of which recall is told


class RetrievalEvaluator:
    """Looks for the text of examples of a split, and of samples made of these texts, among others."""

    def __init__(self, run: Restored, encoder: Restored, split: str) -> None:
        """Checks that the run and the dual encoder fit each other; computes nothing yet.

        Arguments and errors are as for `vq_jax.Run.retrieve`.
        """
        if not isinstance(encoder.task, DualEncoderTask):
            raise UserError(
                f'{encoder.workdir} is a run of the task {encoder.config.task}; give retrieval the directory '
                'of one of dual_encoder.'
            )
        if (encoder.spec.kind, encoder.spec.shape) != (run.spec.kind, run.spec.shape):
            raise UserError(
                f'{encoder.workdir} was trained on {encoder.spec.plural} of {encoder.spec.shape}, and '
                f'{run.workdir} on {run.spec.plural} of {run.spec.shape}; train a dual encoder with the '
                'config.data of that run.'
            )
        self.samples = isinstance(run.task, Samples)
        of_texts = self.samples or isinstance(run.task, DualEncoderTask)
        if 'text' not in run.task.condition_specs or not of_texts:
            raise UserError(
                f'{run.workdir} makes no {run.spec.plural} of texts; give a run that is conditioned on text, '
                'or the dual encoder itself.'
            )
        self._run, self._encoder, self._split = run, encoder, split
        self._engine, self._batch_size = make_eval_engine(run.config)
        self._weights = self._engine.put_state(encoder.state.for_inference())

    def run(self, num: int, seed: int) -> dict[str, Any]:
        """The recall of the first examples of the split, of other texts than theirs, and of samples.

        Args:
            num: of how many examples, and how many samples to make, one of the text of each.
            seed: of the samples, and of the texts among which each is looked for.
        """
        dataset, task = open_split(self._run, self._split), self._run.task
        self._encoder.task.check_dataset(dataset)
        task.check_dataset(dataset)
        if task.classes_read:
            check_class_names(self._run.class_names, dataset, f'the run {self._run.workdir}')
        encoder, names = self._encoder.task, ('label', 'mask', *task.condition_specs)

        def look(state: Any, batch: Batch) -> dict[str, jax.Array]:
            known = {name: batch[name] for name in names}
            vectors = {
                'examples': encoder.embed(state, batch['x']),
                'texts': encoder.embed_texts(state, batch['text']),
            }
            return known | vectors

        seen, kept = self._engine.per_example(look), []
        for batch in eval_batches(dataset, batch_size=self._batch_size, **this_process(), pad=True):
            found = seen(self._weights, batch)
            kept.append({name: x[found['mask']] for name, x in found.items()})
            if sum(len(part['label']) for part in kept) >= num:
                break
        rows = {name: np.concatenate([part[name] for part in kept])[:num] for name in kept[0]}
        others = _others(rows['text'], seed, dataset.name)
        n = len(others)
        own, wrong, candidates = np.arange(n), others[:, 0], others[:, 1:]

        def recall(examples: np.ndarray, own: np.ndarray) -> dict[str, float]:
            found = ranks(examples, rows['texts'], own, candidates)
            return {f'recall_at_{k}': float((found <= k).mean()) for k in _FIRST}

        made = {
            'run': self._run.identity(),
            'retrieval': self._encoder.identity(),
            'dataset': self._run.config.data.name,
            'split': self._split,
            'examples': n,
            'candidates': CANDIDATES,
            'seed': seed,
            'real': recall(rows['examples'], own),
            'shuffled': recall(rows['examples'], wrong),
        }
        if self.samples:
            embed = self._engine.per_example(lambda state, batch: encoder.embed(state, batch['x']))
            samples = [embed(self._weights, batch) for batch in self._sampled(rows, seed)]
            made['samples'] = recall(np.concatenate(samples)[:n], own)
            made['sampling'] = to_json(self._run.config.sampling)
        return made

    def _sampled(self, rows: dict[str, np.ndarray], seed: int) -> Iterator[Batch]:
        """Samples of the classes and conditions of rows, in batches."""
        run = self._run
        labels, conditions = rows['label'], {name: rows[name] for name in run.task.condition_specs}
        sampler = BatchedSampler(run.task, run.state, run.config)
        options = {'changes': {}, 'given': {'conditions': conditions}, 'progress': True}
        for images in sampler.batches(run.task.sample, len(labels), labels, seed, **options):
            yield {'x': images}


def _others(texts: np.ndarray, seed: int, name: str) -> np.ndarray:
    """For each text, int32 [n m], the numbers of 100 that differ from it and from each other, int [n 100]."""
    _, first, kinds = np.unique(texts, axis=0, return_index=True, return_inverse=True)
    if len(first) <= CANDIDATES:
        raise UserError(
            f'{name} has {len(first)} different texts among its first {len(texts)} examples, and more than '
            f'{CANDIDATES} are needed; name a larger split, or evaluate more examples.'
        )
    rng = np.random.default_rng(seed)
    chosen = np.stack([rng.choice(len(first) - 1, CANDIDATES, replace=False) for _ in texts])
    return first[chosen + (chosen >= kinds.reshape(-1, 1))]
