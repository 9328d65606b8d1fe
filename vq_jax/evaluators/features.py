"""Samples and reconstructions of a run against reference examples, in the features of a frozen network."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vq_jax.data import Dataset, eval_batches
from vq_jax.data.transforms import TRANSFORMS
from vq_jax.errors import UserError
from vq_jax.evaluators.opening import make_eval_engine, open_split
from vq_jax.evaluators.reference import ADVICE, MOST_KEPT, Reference, content_of
from vq_jax.evaluators.sources import FeatureSource
from vq_jax.files import WriteError
from vq_jax.ops.frechet import frechet_distance
from vq_jax.ops.images import to_float
from vq_jax.ops.inception_score import inception_score
from vq_jax.ops.kernel_distance import kernel_distance
from vq_jax.ops.metrics import reconstruction_metrics
from vq_jax.ops.moments import Moments
from vq_jax.ops.neighbourhoods import density_and_coverage, precision_and_recall
from vq_jax.ops.similarity import WINDOW, ms_ssim, ssim
from vq_jax.spec import Kind, blank_conditions
from vq_jax.tasks.autoencoder import AutoencoderTask
from vq_jax.tasks.batched_sampling import BatchedSampler
from vq_jax.tasks.classes import check_class_names, difference
from vq_jax.tasks.perceptual import Perceptual, lpips_for
from vq_jax.tasks.restore import Restored
from vq_jax.tasks.task import Samples, check_same_spec
from vq_jax.training.config import to_json
from vq_jax.training.parallel import Batch, this_process


def preprocessing(data: ConfigDict, kind: Kind) -> dict[str, Any]:
    """What evaluation does to examples of a kind, by a config's section 'data', in JSON values."""
    section = to_json(data)
    return {name: section[name] for name in TRANSFORMS[kind].keys if name not in ('random_crop', 'flip')}


# What batches have of each example beside what data sets give, by names that no condition has: the class that
# the classifier should find, and that which an example is decoded as.
_RIGHT, _DECODED_AS = 'the right class', 'the class decoded as'


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What the network saw in many examples: `features` and `logits` are of those that are kept."""

    moments: Moments
    features: np.ndarray
    logits: np.ndarray
    means: dict[str, float]


class FeatureEvaluator:
    """Compares what a run makes with a split of its data set."""

    def __init__(
        self,
        run: Restored,
        source: FeatureSource,
        split: str,
        reference: Path | None = None,
        lpips: Sequence[str] | None = None,
        real: str | None = None,
    ) -> None:
        """Checks that run and network fit each other; computes nothing yet.

        The features are those of `source`; the other arguments, and errors, are as for `vq_jax.Run.compare`.
        """
        source.check_spec(run)
        self.samples = isinstance(run.task, Samples)
        self.rebuilds = isinstance(run.task, AutoencoderTask)
        if not (self.samples or self.rebuilds):
            raise UserError(
                f'a run of the task {run.config.task} makes no {run.spec.plural}; evaluate it without '
                'features.'
            )
        self._run, self._source, self._split, self._file, self._real = run, source, split, reference, real
        self._engine, self._batch_size = make_eval_engine(run.config)
        self._weights = self._engine.put_state(source.weights)
        self._lpips, self._of_lpips = (None, {}) if lpips is None else self._read_lpips(lpips)
        # Kept, as what was read of a small set is, for the next time.
        self._opened, self._opened_with_other_classes = map(
            functools.cache, (self._open, self._open_with_other_classes)
        )
        # Coverage asks for the fifth neighbour of each image, and a split for an image.
        self._least = max(6, source.splits)
        # Classes are counted alike in one data set; those of another mean other things. But there may be two
        # kinds of them in one, such as who speaks and what is said.
        data = run.config.data
        of_data = source.trained_on == data.name
        changed = difference(source.class_names, run.class_names) if of_data else None
        self._other_classes = bool(changed) and any(data[k] != v for k, v in source.labelling.items())
        self._same_classes = of_data and not changed
        if changed and not self._other_classes:
            raise UserError(
                f'{run.workdir} was trained on other classes than the classifier: {changed}; give features '
                'of a classifier of the same classes in the same order.'
            )

    def _read_lpips(self, files: Sequence[str]) -> tuple[Any, dict[str, Any]]:
        """The parameters of LPIPS, placed, and what the record says of them."""
        if not self.rebuilds:
            raise UserError(
                f'a run of the task {self._run.config.task} rebuilds no {self._run.spec.plural}; leave lpips '
                'out.'
            )
        params, of_lpips = lpips_for(self._run.spec, files)
        return self._engine.put_state(params), {'lpips': of_lpips}

    def run(self, num: int, seed: int) -> dict[str, Any]:
        """Everything that can be said of the run.

        Args:
            num: how many samples to make, of all classes in turn if the run is conditioned on them.
            seed: of the samples.

        Returns:
            'run', 'features' and 'reference', which say how the metrics were made, and, as far as the
            run makes them, 'samples', 'reconstructions' and 'conversions', each with its 'metrics'; so has
            'real', of examples of another split, if one was given. Samples also have 'seconds_per_sample',
            the time of sampling alone, without that of the first batch, which compiles; None if there was
            only one. Conversions are decoded from the codes of each example as another class than its own,
            if the decoder is conditioned on classes.
        """
        if self.samples and num < self._least:
            raise UserError(f'{num} samples are too few to compare; ask for {self._least} or more.')
        if self.samples:
            self._check_sampling()
        reference = self._reference()
        real = None if self._real is None else self._real_examples(reference, self._real)
        result = {
            'run': self._run.identity(),
            'features': self._source.record,
            'reference': {
                **{k: value for k, value in reference.made.items() if k not in self._source.identity},
                'images': reference.moments.count,
                'images_of_kernel_and_neighbours': len(reference.features),
            },
        }
        if self.samples:
            result['samples'] = self._samples(reference, num, seed)
        if self.rebuilds:
            result['reconstructions'] = self._reconstructions(reference)
        if self.rebuilds and self._run.task.num_labels > 1:
            result['conversions'] = self._conversions(reference)
        if real:
            result['real'] = real
        return result

    def _check_sampling(self) -> None:
        """Raises what sampling does, before the reference is computed for nothing: it is only traced."""
        task = self._run.task

        def sample(state: Any, labels: jax.Array, given: Any) -> jax.Array:
            return task.sample(state, jax.random.split(jax.random.key(0), 1), labels, **given)

        labels, blank = jax.ShapeDtypeStruct((1,), jnp.int32), blank_conditions(task.condition_specs, 1)
        jax.eval_shape(sample, self._run.state, labels, {'conditions': blank} if blank else {})

    def _samples(self, reference: Reference, num: int, seed: int) -> dict[str, Any]:
        run = self._run
        k = run.task.num_labels
        labels, given, right = self._asked(num)
        sampler = BatchedSampler(run.task, run.state, run.config)
        seconds = []  # of each batch, an image

        def batches() -> Iterator[Batch]:
            first = 0
            samples = sampler.batches(run.task.sample, num, labels, seed, {}, given, progress=True)
            started = time.perf_counter()
            for images in samples:
                seconds.append((time.perf_counter() - started) / len(images))
                number = first + np.arange(len(images))
                known = {} if right is None else {_RIGHT: right[number % num]}
                yield {'x': images, 'mask': number < num, **known}
                first += len(images)
                started = time.perf_counter()

        seen = self._see(batches(), num, self._look, self._weights)
        sampling = to_json(run.config.sampling) if 'sampling' in run.config else {}
        made = {
            'images': num,
            'seed': seed,
            'classes': ('those of the split' if given else 'all in turn') if k else None,
            'sampling': sampling,
            'seconds_per_sample': float(np.mean(seconds[1:])) if len(seconds) > 1 else None,
        }
        return {**made, 'metrics': self._metrics(reference, seen)}

    def _asked(self, num: int) -> tuple[np.ndarray, dict[str, Any], np.ndarray | None]:
        """The classes that samples are to be of, int32 [n], and the further arguments of the task.

        Of a run that is conditioned on classes alone, all in turn; of others, what the examples of the split
        are of. Third is what the classifier should see in the samples, int32 [n], where that is known.
        """
        task, k = self._run.task, self._run.task.num_labels
        if not task.condition_specs:
            labels = (np.arange(num) % k if k else np.zeros(num)).astype(np.int32)
            return labels, {}, labels if k and self._same_classes else None
        task.check_conditions(self._dataset)
        kept: list[dict[str, np.ndarray]] = []
        for batch in self._labelled_batches():
            names = [name for name in ('label', _RIGHT, *task.condition_specs) if name in batch]
            kept.append({name: batch[name][batch['mask']] for name in names})
            if sum(len(part['label']) for part in kept) >= num:
                break
        rows = jax.tree.map(lambda *parts: np.concatenate(parts), *kept)
        rows = {name: values[np.arange(num) % len(values)] for name, values in rows.items()}
        labels, right = rows.pop('label'), rows.pop(_RIGHT, None)
        return labels, {'conditions': rows}, right

    def _reconstructions(self, reference: Reference) -> dict[str, Any]:
        task = self._run.task

        def rebuild(states: tuple[Any, Any, Any], batch: Batch) -> dict[str, jax.Array]:
            state, weights, lpips = states
            images = batch['x']
            rebuilt = task.decode(state, task.encode(state, images), batch['label'])
            pair = to_float(rebuilt), to_float(images)
            measured = reconstruction_metrics(rebuilt, images, self._run.spec)
            if self._run.spec.kind == 'image' and min(images.shape[1:3]) >= WINDOW:
                measured |= {'ssim': ssim(*pair), 'ms_ssim': ms_ssim(*pair)}
            if lpips is not None:
                # As in `InceptionV3`.
                with jax.default_matmul_precision('highest'):
                    measured['lpips'] = Perceptual('lpips').distance(lpips, *pair, 'float32')
            return self._look(weights, {**batch, 'x': rebuilt}) | measured

        dataset = self._dataset
        if task.classes_read:
            check_class_names(self._run.class_names, dataset, f'the run {self._run.workdir}')
        task.check_classes(dataset)
        states = self._engine.put_state(self._run.state), self._weights, self._lpips
        seen = self._see(self._labelled_batches(), len(dataset), rebuild, states)
        metrics = self._metrics(reference, seen)
        return {'images': seen.moments.count, **self._of_lpips, 'metrics': metrics}

    def _conversions(self, reference: Reference) -> dict[str, Any]:
        """Examples of the split, each decoded as another class than its own: all others in turn.

        The classifier should find that class, or, if it tells other classes apart, what the example was.
        """
        task, k = self._run.task, self._run.task.num_labels

        def convert(states: tuple[Any, Any], batch: Batch) -> dict[str, jax.Array]:
            state, weights = states
            converted = task.decode(state, task.encode(state, batch['x']), batch[_DECODED_AS])
            return self._look(weights, {**batch, 'x': converted})

        def batches() -> Iterator[Batch]:
            first = 0
            for batch in self._labelled_batches():
                number = first + np.arange(len(batch['label']))
                first += len(number)
                other = ((batch['label'] + 1 + number % (k - 1)) % k).astype(np.int32)
                yield {**batch, _DECODED_AS: other, **({_RIGHT: other} if self._same_classes else {})}

        states = self._engine.put_state(self._run.state), self._weights
        seen = self._see(batches(), len(self._dataset), convert, states)
        return {'images': seen.moments.count, 'metrics': self._metrics(reference, seen)}

    def _real_examples(self, reference: Reference, split: str) -> dict[str, Any]:
        """Examples of another split: what those would be given that are as good as real ones."""
        batches = self._labelled_batches(split)
        seen = self._see(batches, len(self._opened(split)), self._look, self._weights)
        self._check_enough(seen, self._opened(split))
        return {'split': split, 'images': seen.moments.count, 'metrics': self._metrics(reference, seen)}

    def _metrics(self, reference: Reference, seen: _Seen) -> dict[str, float]:
        real, made = reference.features, seen.features
        if real.shape[1] != made.shape[1]:
            raise UserError(
                f'the reference statistics have {real.shape[1]} features, and the network {made.shape[1]}; '
                f'{ADVICE}.'
            )
        precision, recall = precision_and_recall(real, made)
        density, coverage = density_and_coverage(real, made)
        # Splits are to be alike, and images of a folder come class by class.
        order = np.random.default_rng(0).permutation(len(seen.logits))
        scores = inception_score(seen.logits[order], self._source.splits)
        a, b = reference.moments, seen.moments
        found = {
            'frechet': frechet_distance(a.mean, a.covariance, b.mean, b.covariance),
            'kernel': kernel_distance(real, made),
            'precision': precision,
            'recall': recall,
            'density': density,
            'coverage': coverage,
            'score': float(scores.mean()),
        }
        if len(scores) > 1:
            found['score_std'] = float(scores.std())
        means = dict(seen.means)
        accuracy = means.pop('right', None)
        if accuracy is not None:
            found['accuracy'] = accuracy
        prefix, names = self._source.prefix, self._source.names
        return {prefix + names.get(name, name): value for name, value in found.items()} | means

    def _reference(self) -> Reference:
        """From the file, or from the images."""
        data = self._run.config.data
        made = {
            'dataset': data.name,
            'split': self._split,
            'preprocessing': preprocessing(data, self._run.spec.kind),
            'content': content_of(self._dataset),
            **self._source.identity,
        }
        if self._file is not None and self._file.is_file():
            return Reference.read(self._file, made, least=self._least)
        dataset = self._dataset
        seen = self._see(self._batches(), len(dataset), self._look, self._weights)
        self._check_enough(seen, dataset)
        reference = Reference(seen.moments, seen.features, made)
        if self._file is not None:
            try:
                reference.save(self._file)
            except WriteError as error:  # what it cost is not lost: the comparison goes on
                logging.warning('%s The reference statistics are not kept.', error)
        return reference

    def _check_enough(self, seen: _Seen, dataset: Dataset) -> None:
        if seen.moments.count < self._least:
            raise UserError(
                f'{dataset.name} has too few {self._run.spec.plural} to compare with; use {self._least} or '
                'more.'
            )

    def _look(self, weights: Any, batch: Batch) -> dict[str, jax.Array]:
        seen = self._source.look(weights, batch['x'])
        found = {'features': seen.features, 'logits': seen.logits}
        if _RIGHT in batch:
            found['right'] = jnp.argmax(seen.logits, -1) == batch[_RIGHT]
        return found

    def _see(
        self, batches: Iterable[Batch], n: int, look: Callable[[Any, Batch], dict[str, jax.Array]], state: Any
    ) -> _Seen:
        """Looks at n examples, batch by batch; features and logits are all that is held of them."""
        compiled = self._engine.per_example(lambda state, batch: look(state, batch) | {'mask': batch['mask']})
        chosen = np.unique(np.linspace(0, n - 1, min(n, MOST_KEPT)).round().astype(int))
        first, moments, unmerged, kept, sums = 0, None, [], [], {}
        for batch in batches:
            found = compiled(state, batch)
            mask = found.pop('mask')
            number = first + np.arange(len(mask))
            first += len(mask)
            unmerged.append(found['features'][mask])
            # The scatter has as many rows as features: of fewer images, adding it would take longest.
            if sum(map(len, unmerged)) >= unmerged[0].shape[1]:
                moments, unmerged = _merged(moments, unmerged), []
            keep = mask & np.isin(number, chosen)
            kept.append((found.pop('features')[keep], found.pop('logits')[keep]))
            for name, values in found.items():
                sums[name] = sums.get(name, 0.0) + np.sum(np.float64(values[mask]))
        if unmerged:
            moments = _merged(moments, unmerged)
        features, logits = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        means = {name: float(total / max(1, moments.count)) for name, total in sums.items()}
        return _Seen(moments=moments, features=features, logits=logits, means=means)

    @property
    def _dataset(self) -> Dataset:
        return self._opened(self._split)

    def _open(self, split: str) -> Dataset:
        dataset = open_split(self._run, split)
        check_same_spec(dataset.spec, self._run.spec)
        if self._same_classes:
            check_class_names(self._source.class_names, dataset, 'the classifier was trained on')
        return dataset

    def _open_with_other_classes(self, split: str) -> Dataset:
        """The same examples, whose classes are those that the classifier tells apart."""
        dataset = open_split(self._run, split, **self._source.labelling)
        check_class_names(self._source.class_names, dataset, 'the classifier was trained on')
        if content_of(dataset) != content_of(self._opened(split)):
            raise UserError(
                f'{dataset.name} has other examples with the config.data.name_pattern of the classifier than '
                'with that of the run; let both find the same splits.'
            )
        return dataset

    def _batches(self, dataset: Dataset | None = None) -> Iterator[Batch]:
        dataset = self._dataset if dataset is None else dataset
        return eval_batches(dataset, batch_size=self._batch_size, **this_process(), pad=True)

    def _labelled_batches(self, split: str | None = None) -> Iterator[Batch]:
        """The batches of a split, with the class that the classifier should find where that is known."""
        split = self._split if split is None else split
        dataset = self._opened(split)
        if not self._other_classes:
            known = self._same_classes and dataset.num_classes
            for batch in self._batches(dataset):
                yield {**batch, _RIGHT: batch['label']} if known else batch
            return
        others = self._batches(self._opened_with_other_classes(split))
        for batch, other in zip(self._batches(dataset), others, strict=True):
            yield {**batch, _RIGHT: other['label']}


def _merged(moments: Moments | None, features: list[np.ndarray]) -> Moments:
    of_these = Moments.of(np.concatenate(features))
    return of_these if moments is None else moments.merge(of_these)
