"""Samples and reconstructions of a run against reference pictures, in the features of a classifier.

The names of all such numbers begin with 'classifier_', because they depend on it: they compare only with
numbers of the same classifier, whose checksum stands beside them, and never with those of Inception-v3.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.data import AnyDataset, DataConfig, eval_batches, open_dataset
from vq_jax.errors import UserError
from vq_jax.evaluators.reference import MOST_KEPT, Reference
from vq_jax.ops.frechet import frechet_distance
from vq_jax.ops.images import to_float
from vq_jax.ops.inception_score import inception_score
from vq_jax.ops.kernel_distance import kernel_distance
from vq_jax.ops.metrics import psnr
from vq_jax.ops.moments import Moments
from vq_jax.ops.neighbourhoods import density_and_coverage, precision_and_recall
from vq_jax.ops.similarity import WINDOW, ms_ssim, ssim
from vq_jax.tasks.autoencoding import AutoencodingTask
from vq_jax.tasks.classifier import ClassifierTask
from vq_jax.tasks.drawing import Drawer
from vq_jax.tasks.restore import Restored
from vq_jax.training.config import build, to_json
from vq_jax.training.parallel import Batch, ParallelConfig, make_engine

_LEAST = 6  # pictures: coverage asks for the fifth neighbour of each
_PREPROCESSING = ('channels', 'pad', 'image_size', 'fit', 'resize', 'image_key')


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What the classifier saw in many pictures: `features` and `logits` are of those that are kept."""

    moments: Moments
    features: np.ndarray
    logits: np.ndarray
    means: dict[str, float]


class FeatureEvaluator:
    """Compares what a run makes with a split of its data set."""

    def __init__(
        self, run: Restored, classifier: Restored, split: str, reference: Path | None = None
    ) -> None:
        """Checks that the two runs fit each other; reads and computes nothing yet.

        Args:
            run: of a task that samples, or encodes and decodes.
            classifier: a run of the task classifier, for pictures of the same shape.
            split: of the run's data set.
            reference: a file of statistics, read if it is there and else written.

        Raises:
            UserError: if they do not fit.
        """
        name = classifier.workdir
        if not isinstance(classifier.task, ClassifierTask):
            raise UserError(
                f'{name} is a run of the task {classifier.config.task}; give --features the directory of one '
                'of classifier.'
            )
        if classifier.image_shape != run.image_shape:
            raise UserError(
                f'{name} was trained on pictures of shape {classifier.image_shape}, and {run.workdir} on '
                f'{run.image_shape}; train a classifier with the config.data of that run.'
            )
        self.draws = hasattr(run.task, 'sample')
        self.rebuilds = isinstance(run.task, AutoencodingTask)
        if not (self.draws or self.rebuilds):
            raise UserError(
                f'a run of the task {run.config.task} makes no pictures to evaluate; leave --features out.'
            )
        self._run, self._classifier, self._split, self._file = run, classifier, split, reference
        devices = jax.device_count()
        self._batch_size = -(-run.config.batch_size // devices) * devices
        self._engine = make_engine(build(ParallelConfig, run.config.parallel, 'parallel'), self._batch_size)
        self._weights = self._engine.place(classifier.state.for_inference())
        # Classes are counted alike in one data set; those of another mean other things.
        self._same_classes = classifier.config.data.name == run.config.data.name

    def run(self, num: int, seed: int) -> dict[str, Any]:
        """Everything that can be said of the run.

        Args:
            num: how many samples to draw, of all classes in turn if the run is conditioned on them.
            seed: of the samples.

        Returns:
            'run', 'features' and 'reference', which say how the numbers were made, and, as far as the
            run makes them, 'samples' and 'reconstructions', each with its 'numbers'.
        """
        if self.draws and num < _LEAST:
            raise UserError(f'{num} samples are too few to compare; ask for {_LEAST} or more.')
        reference = self._reference()
        result = {
            'run': self._run.identity(),
            'features': {
                'kind': 'penultimate layer of a classifier',
                'dimensions': reference.features.shape[1],
                'trained_on': self._classifier.config.data.name,
                **self._classifier.identity(),
            },
            'reference': {
                **{name: value for name, value in reference.made.items() if name != 'classifier'},
                'pictures': reference.moments.count,
                'pictures_of_kernel_and_neighbours': len(reference.features),
            },
        }
        if self.draws:
            result['samples'] = self._samples(reference, num, seed)
        if self.rebuilds:
            result['reconstructions'] = self._reconstructions(reference)
        return result

    def _samples(self, reference: Reference, num: int, seed: int) -> dict[str, Any]:
        run = self._run
        k = run.task.num_labels
        labels = (np.arange(num) % k if k else np.zeros(num)).astype(np.int32)
        drawer = Drawer(run.task, run.state, run.config)

        def batches() -> Iterator[Batch]:
            first = 0
            for images in drawer.batches('sample', num, labels, seed, {}, progress=True):
                number = first + np.arange(len(images))
                yield {'image': images, 'label': labels[number % num], 'mask': number < num}
                first += len(images)

        seen = self._see(batches(), num, self._classify, self._weights)
        sampling = to_json(run.config.sampling) if 'sampling' in run.config else {}
        made = {'pictures': num, 'seed': seed, 'classes': 'all in turn' if k else None, 'sampling': sampling}
        return {**made, 'numbers': self._numbers(reference, seen, labelled=k > 0)}

    def _reconstructions(self, reference: Reference) -> dict[str, Any]:
        task = self._run.task

        def rebuild(states: tuple[Any, Any], batch: Batch) -> dict[str, jax.Array]:
            state, weights = states
            images = batch['image']
            rebuilt = task.decode(state, task.encode(state, images), batch['label'])
            measured = {'psnr': psnr(rebuilt, images)}
            if min(images.shape[1:3]) >= WINDOW:
                pair = to_float(rebuilt), to_float(images)
                measured |= {'ssim': ssim(*pair), 'ms_ssim': ms_ssim(*pair)}
            return self._classify(weights, {**batch, 'image': rebuilt}) | measured

        dataset = self._dataset()
        states = self._engine.place(self._run.state), self._weights
        seen = self._see(self._batches(dataset), len(dataset), rebuild, states)
        numbers = self._numbers(reference, seen, labelled=dataset.num_classes > 0)
        return {'pictures': seen.moments.count, 'numbers': numbers}

    def _numbers(self, reference: Reference, seen: _Seen, *, labelled: bool) -> dict[str, float]:
        real, made = reference.features, seen.features
        precision, recall = precision_and_recall(real, made)
        density, coverage = density_and_coverage(real, made)
        numbers = {
            'classifier_frechet': frechet_distance(
                reference.moments.mean,
                reference.moments.covariance,
                seen.moments.mean,
                seen.moments.covariance,
            ),
            'classifier_kernel': kernel_distance(real, made),
            'classifier_precision': precision,
            'classifier_recall': recall,
            'classifier_density': density,
            'classifier_coverage': coverage,
            'classifier_score': float(inception_score(seen.logits)[0]),
        }
        means = dict(seen.means)
        accuracy = means.pop('right')
        if labelled and self._same_classes:
            numbers['classifier_accuracy'] = accuracy
        return numbers | means

    def _reference(self) -> Reference:
        """From the file, or from the pictures."""
        data = self._run.config.data
        made = {
            'dataset': data.name,
            'split': self._split,
            'preprocessing': {name: to_json(data)[name] for name in _PREPROCESSING},
            'classifier': self._classifier.identity()['checksum'],
        }
        if self._file is not None and self._file.is_file():
            return Reference.read(self._file, made)
        dataset = self._dataset()
        seen = self._see(self._batches(dataset), len(dataset), self._classify, self._weights)
        if seen.moments.count < _LEAST:
            raise UserError(f'{dataset.name} has too few pictures to compare with; use {_LEAST} or more.')
        reference = Reference(seen.moments, seen.features, made)
        if self._file is not None:
            reference.save(self._file)
        return reference

    def _classify(self, weights: Any, batch: Batch) -> dict[str, jax.Array]:
        classified = self._classifier.task.classify(weights, batch['image'])
        right = jnp.argmax(classified.logits, -1) == batch['label']
        return {'features': classified.features, 'logits': classified.logits, 'right': right}

    def _see(
        self, batches: Iterable[Batch], n: int, look: Callable[[Any, Batch], dict[str, jax.Array]], state: Any
    ) -> _Seen:
        """Looks at n pictures, batch by batch; features and logits are all that is held of them."""
        compiled = self._engine.per_example(lambda state, batch: look(state, batch) | {'mask': batch['mask']})
        chosen = np.unique(np.linspace(0, n - 1, min(n, MOST_KEPT)).round().astype(int))
        first, moments, kept, sums = 0, None, [], {}
        for batch in batches:
            found = compiled(state, batch)
            mask = found.pop('mask')
            number = first + np.arange(len(mask))
            first += len(mask)
            features = found['features'][mask]
            moments = Moments.of(features) if moments is None else moments.merge(Moments.of(features))
            keep = mask & np.isin(number, chosen)
            kept.append((found.pop('features')[keep], found.pop('logits')[keep]))
            for name, values in found.items():
                sums[name] = sums.get(name, 0.0) + np.sum(np.float64(values[mask]))
        features, logits = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        means = {name: float(total / max(1, moments.count)) for name, total in sums.items()}
        return _Seen(moments=moments, features=features, logits=logits, means=means)

    def _dataset(self) -> AnyDataset:
        dataset = open_dataset(build(DataConfig, self._run.config.data, 'data'), self._split)
        self._classifier.task.check_dataset(dataset)
        return dataset

    def _batches(self, dataset: AnyDataset) -> Iterator[Batch]:
        return eval_batches(
            dataset,
            batch_size=self._batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
