"""How well a run rebuilds, predicts or interpolates the frames of videos, frame by frame, over a split."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.data import eval_batches
from vq_jax.errors import UserError
from vq_jax.evaluators.means import means_of
from vq_jax.evaluators.opening import make_eval_engine, open_split
from vq_jax.ops.frames import each_frame
from vq_jax.ops.images import to_float, to_uint8
from vq_jax.ops.keys import content_keys, fold_in
from vq_jax.ops.metrics import frame_metrics, squared_error
from vq_jax.tasks.autoencoder import AutoencoderTask
from vq_jax.tasks.classes import check_class_names
from vq_jax.tasks.perceptual import Perceptual, lpips_for
from vq_jax.tasks.restore import Restored
from vq_jax.tasks.task import Encodes, Inpaints
from vq_jax.training.parallel import Batch, this_process
from vq_jax.training.progress import track


class VideoEvaluator:
    """Compares frames that a run makes with those of the videos of a split."""

    def __init__(
        self,
        run: Restored,
        split: str,
        given: int | Sequence[int] | None = None,
        lpips: Sequence[str] | None = None,
    ) -> None:
        """Checks that the run makes such frames; computes nothing yet.

        Arguments and errors are as for `vq_jax.Run.measure_video`.
        """
        task, name = run.task, run.config.task
        self._rebuilds = isinstance(task, AutoencoderTask)
        if run.spec.kind != 'video' or not (self._rebuilds or isinstance(task, Inpaints)):
            raise UserError(
                f'{run.workdir} is a run of the task {name} on {run.spec.plural}, and what is measured are '
                'frames of videos that an autoencoder rebuilds, or a prior or a diffusion model predicts; '
                'give a run that makes some.'
            )
        length = run.spec.shape[0]
        if self._rebuilds and given is not None:
            raise UserError(f'a run of the task {name} predicts no frames; leave given out.')
        self._given = None if self._rebuilds else _checked(given, length)
        first, last = self._given or (0, 0)
        self._run, self._split, self._frames = run, split, np.arange(first, length - last)
        self._engine, self._batch_size = make_eval_engine(run.config)
        self._lpips, self._of_lpips = None, {}
        if lpips is not None:
            params, of_lpips = lpips_for(run.spec, lpips)
            self._lpips, self._of_lpips = self._engine.put_state(params), {'lpips': of_lpips}

    def run(self, seed: int, *, progress: bool = False) -> dict[str, Any]:
        """Everything that can be said of the run, as for `vq_jax.Run.measure_video`."""
        run, task = self._run, self._run.task
        dataset = open_split(run, self._split)
        if task.classes_read:
            check_class_names(run.class_names, dataset, f'the run {run.workdir}')
        task.check_dataset(dataset)

        def measure(states: tuple[Any, Any], batch: Batch) -> dict[str, jax.Array]:
            state, lpips = states
            x = batch['x'][:, self._frames]
            return {
                f'{kind}.{name}': values
                for kind, made in self._made(state, batch, seed).items()
                for name, values in measured(made, x, lpips).items()
            }

        compiled, states = self._engine.eval_step(measure), (self._engine.put_state(run.state), self._lpips)
        batches = eval_batches(dataset, batch_size=self._batch_size, **this_process(), pad=True)
        numbers = track(range(-(-len(dataset) // self._batch_size)), 'batches', shown=progress)
        sums = [compiled(states, batch)[0] for _, batch in zip(numbers, batches, strict=False)]
        means, videos = means_of(sums)
        if not videos:
            raise UserError(f'no example of {dataset.name} could be decoded; check the data.')
        record = {
            'run': run.identity(),
            'dataset': run.config.data.name,
            'split': self._split,
            'videos': int(videos),
            **({} if self._given is None else {'given': list(self._given), 'seed': seed}),
            'frames': self._frames.tolist(),
            **self._of_lpips,
        }
        for name, curve in means.items():
            kind, _, metric = name.partition('.')
            of_kind = record.setdefault(kind, {'metrics': {}, 'curves': {}})
            of_kind['metrics'][metric] = float(curve.mean())
            of_kind['curves'][metric] = curve.tolist()
        return record

    def _made(self, state: Any, batch: Batch, seed: int) -> dict[str, jax.Array]:
        """What stands for the frames that are measured, uint8 [b n h w c], by what it is called."""
        task, x = self._run.task, batch['x']
        made = {}
        if isinstance(task, Encodes):
            rebuilt = task.decode(state, task.encode(state, x), batch['label'])
            made['reconstructions'] = rebuilt[:, self._frames]
        if self._given is None:
            return made
        first, last = self._given
        unknown = np.zeros(x.shape[1], bool)
        unknown[self._frames] = True
        conditions = task.conditions_of(batch)
        sampled = task.inpaint(
            state,
            fold_in(content_keys(x), seed),
            x,
            jnp.broadcast_to(unknown[:, None, None], x.shape[:-1]),
            batch['label'],
            **({'conditions': conditions} if conditions else {}),
        )
        made['interpolations' if last else 'predictions'] = sampled[:, self._frames]
        before, n = x[:, first - 1 : first], len(self._frames)
        made['copies'] = jnp.repeat(before, n, axis=1)
        if last:
            after = x[:, x.shape[1] - last :][:, :1]
            share = (jnp.arange(1, n + 1) / (n + 1)).reshape(-1, 1, 1, 1)
            made['blends'] = to_uint8((1 - share) * to_float(before) + share * to_float(after))
        return made


def _checked(given: int | Sequence[int] | None, length: int) -> tuple[int, int]:
    """How many of the first and of the last frames are given, of so many."""
    numbers = (given,) if isinstance(given, int) else tuple(given or ())
    whole = 1 <= len(numbers) <= 2 and all(isinstance(n, int) for n in numbers)
    first, last = (*numbers, 0)[:2] if whole else (0, 0)
    if first < 1 or last < 0 or first + last >= length:
        raise UserError(
            f'given is {given!r}, of videos of {length} frames; give how many of the first, 1 or more, '
            'such as 4, or of the first and of the last, such as 1,1, and leave others to be made.'
        )
    return first, last


def measured(x: jax.Array, y: jax.Array, lpips: Any = None) -> dict[str, jax.Array]:
    """How well frames of videos x stand for those of y, uint8 [b t h w c], each float32 [b t].

    Returns:
        As of `frame_metrics`, 'squared_error' (see `vq_jax.ops.metrics`), and with the parameters of LPIPS
        'lpips'.
    """
    found = {**frame_metrics(x, y), 'squared_error': each_frame(squared_error, x, y)}
    if lpips is not None:
        # As in `vq_jax.models.inception.InceptionV3`.
        with jax.default_matmul_precision('highest'):
            distance = Perceptual('lpips').distance
            found['lpips'] = each_frame(lambda *pair: distance(lpips, *map(to_float, pair), 'float32'), x, y)
    return found
