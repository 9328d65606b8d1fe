"""How well a run codes sound: distances, what listeners would say, bit rates and speed, over a split."""

import importlib
import math
import time
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import numpy as np
from absl import logging

from vq_jax.data import eval_batches
from vq_jax.data.transforms.resampling import Resampling
from vq_jax.errors import UserError
from vq_jax.evaluators.opening import make_eval_engine, open_split
from vq_jax.ops.images import to_float
from vq_jax.ops.losses import mean_absolute
from vq_jax.ops.metrics import sound_metrics
from vq_jax.ops.usage import CodeCounts
from vq_jax.tasks.arguments import check_depths
from vq_jax.tasks.autoencoder import AutoencoderTask
from vq_jax.tasks.classes import check_class_names
from vq_jax.tasks.restore import Restored
from vq_jax.tasks.task import check_same_kind
from vq_jax.training.parallel import Batch, this_process
from vq_jax.training.progress import track

_NARROW, _WIDE = 8000, 16000  # the rates of PESQ
_LEAST_STOI = 0.4  # seconds, of which it needs as many that are not silent
_TIMED = 5  # passes whose time is measured

Metric = Callable[[np.ndarray, np.ndarray], float | None]  # of an original and what stands for it, int16 [t]


class SoundEvaluator:
    """Encodes and decodes the sounds of a split, and compares them with themselves."""

    def __init__(self, run: Restored, split: str, depths: int | None = None) -> None:
        """Checks that the run codes sound; computes nothing yet.

        Arguments and errors are as for `vq_jax.Run.measure_sound`.
        """
        task = run.task
        if not isinstance(task, AutoencoderTask) or run.spec.kind != 'audio':
            raise UserError(
                f'{run.workdir} is a run of the task {run.config.task} on {run.spec.plural}, and what is '
                'measured are reconstructions of sounds; give a run that makes some.'
            )
        if depths is not None:
            check_depths(depths, task.decodable)
        self._run, self._split, self._depths = run, split, depths
        self._engine, self._batch_size = make_eval_engine(run.config)

    def run(self, *, progress: bool = False) -> dict[str, Any]:
        """Everything that can be said of the run, as for `vq_jax.Run.measure_sound`."""
        run, task = self._run, self._run.task
        dataset = open_split(run, self._split)
        check_same_kind(dataset.spec, run.spec)
        if task.classes_read:
            check_class_names(run.class_names, dataset, f'the run {run.workdir}')
        task.check_dataset(dataset)

        def rebuild(state: Any, batch: Batch) -> dict[str, Any]:
            codes, x = self._cut(task.encode(state, batch['x'])), batch['x']
            rebuilt = task.decode(state, codes, batch['label'])
            measured = sound_metrics(rebuilt, x, run.spec.rate)
            measured['l1'] = mean_absolute(to_float(rebuilt), to_float(x))
            return {
                'mask': batch['mask'],
                'sounds': (x, rebuilt),
                'codes': codes if task.vocabularies else (),
                'measured': measured,
            }

        compiled, state = self._engine.per_example(rebuild), self._engine.put_state(run.state)
        heard = listeners(run.spec.rate)
        values: dict[str, list[float]] = {}
        counts: dict[tuple[int, int], CodeCounts] = {}
        first, sounds, positions = None, 0, ()
        batches = eval_batches(dataset, batch_size=self._batch_size, **this_process(), pad=True)
        numbers = track(range(-(-len(dataset) // self._batch_size)), 'batches', shown=progress)
        for _, batch in zip(numbers, batches, strict=False):
            found = compiled(state, batch)
            first, mask = batch if first is None else first, found['mask']
            sounds += int(mask.sum())
            for name, each in found['measured'].items():
                values.setdefault(name, []).extend(each[mask].tolist())
            positions = tuple(math.prod(codes.shape[1:-1]) for codes in found['codes'])
            for scale, codes in enumerate(found['codes']):
                for depth in range(codes.shape[-1]):
                    of_batch = CodeCounts.of(codes[mask, ..., depth])
                    before = counts.get((scale, depth))
                    counts[scale, depth] = of_batch if before is None else before + of_batch
            for original, rebuilt in zip(*(x[mask] for x in found['sounds']), strict=True):
                for name, metric in heard.items():
                    value = metric(mono(original), mono(rebuilt))
                    values.setdefault(name, []).extend([] if value is None else [value])
        if not sounds:
            raise UserError(f'no example of {dataset.name} could be decoded; check the data.')
        metrics = {name: float(np.mean(each)) for name, each in values.items() if each}
        seconds = None if run.spec.rate is None else run.spec.shape[0] / run.spec.rate
        if seconds:
            metrics |= self._bit_rates(counts, positions, seconds) if counts else {}
            metrics |= self._speed(first, seconds)
        return {
            'run': run.identity(),
            'dataset': run.config.data.name,
            'split': self._split,
            'depths': self._depths,
            'sounds': sounds,
            'without_score': {name: sounds - len(values.get(name, ())) for name in heard},
            'metrics': metrics,
        }

    def _cut(self, codes: Any) -> Any:
        """The first of the codes of each position, if not all are asked for; of latents, these."""
        if self._depths is None:
            return codes
        return tuple(scale[..., : self._depths] for scale in codes)

    def _bit_rates(
        self, counts: dict[tuple[int, int], CodeCounts], positions: tuple[int, ...], seconds: float
    ) -> dict[str, float]:
        """Kilobits a second if all codes cost alike, and by the entropy of each depth over the split."""
        nominal = entropy = 0.0
        for (scale, depth), counted in counts.items():
            vocabulary = self._run.task.vocabularies[scale][depth]
            nominal += positions[scale] * math.log2(vocabulary)
            entropy += positions[scale] * counted.usage(vocabulary)['code_entropy_bits']
        return {'bit_rate': nominal / seconds / 1000, 'bit_rate_entropy': entropy / seconds / 1000}

    def _speed(self, batch: Batch, seconds: float) -> dict[str, float]:
        """Seconds of sound that are encoded, and decoded, in one, in batches on one device."""
        task, state = self._run.task, self._run.state
        x, labels = (jax.device_put(batch[name]) for name in ('x', 'label'))
        encode = jax.jit(lambda state, x: self._cut(task.encode(state, x)))
        codes = encode(state, x)
        steps = {'encode': (encode, (x,)), 'decode': (jax.jit(task.decode), (codes, labels))}
        speeds = {}
        for name, (function, inputs) in steps.items():
            jax.block_until_ready(function(state, *inputs))
            started = time.perf_counter()
            for _ in range(_TIMED):
                jax.block_until_ready(function(state, *inputs))
            passed = time.perf_counter() - started
            speeds[f'{name}_real_time_factor'] = _TIMED * len(x) * seconds / passed
        return speeds


def listeners(rate: float | None) -> dict[str, Metric]:
    """Models of what listeners would say of sounds of a rate, by name; none if it is not known.

    'pesq_wb' of 16,000 samples a second or more and 'pesq_nb' of fewer, at 16 or 8 kHz, from about 1 to 4.5
    (ITU-T P.862; the package pesq); and 'stoi', from 0 to 1 (Taal et al. 2011; the package pystoi). Where one
    of these has no score, as of silence or of very short sounds, it gives None. Where the packages are
    missing, a warning says so.
    """
    if rate is None:
        return {}
    try:
        pesq, pystoi = (importlib.import_module(name) for name in ('pesq', 'pystoi'))
    except ImportError as error:
        logging.warning(
            'PESQ and STOI are left out, as %s is not installed: pip install "vq_jax[speech]".', error.name
        )
        return {}
    mode, wanted = ('wb', _WIDE) if rate >= _WIDE else ('nb', _NARROW)
    return {
        f'pesq_{mode}': lambda x, y: _pesq(pesq, *(resampled(one, rate, wanted) for one in (x, y)), mode),
        'stoi': lambda x, y: _stoi(pystoi, x, y, rate),
    }


def mono(samples: np.ndarray) -> np.ndarray:
    """The mean over the channels of int16 [t c], float64 [t]."""
    return samples.mean(axis=1)


def resampled(samples: np.ndarray, rate: float, wanted: float) -> np.ndarray:
    """Sound [t] at another rate, float64 [t']."""
    change = Resampling.of(rate, wanted)
    if change.up == change.down:
        return samples
    return change(samples[:, None], 0, change.length(len(samples)))[:, 0]


def _pesq(pesq: ModuleType, original: np.ndarray, rebuilt: np.ndarray, mode: str) -> float | None:
    rate = {'wb': _WIDE, 'nb': _NARROW}[mode]
    if not (original.any() and rebuilt.any()):  # by whose loudness is divided
        return None
    try:
        return float(pesq.pesq(rate, original / 2**15, rebuilt / 2**15, mode))
    except (pesq.NoUtterancesError, pesq.BufferTooShortError):
        return None


def _stoi(pystoi: ModuleType, original: np.ndarray, rebuilt: np.ndarray, rate: float) -> float | None:
    if len(original) < _LEAST_STOI * rate or not original.any():
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings('error', 'Not enough STFT frames', RuntimeWarning)
        try:
            return float(pystoi.stoi(original / 2**15, rebuilt / 2**15, int(rate), extended=False))
        except RuntimeWarning:
            return None
