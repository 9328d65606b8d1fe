"""Statistics of the features of reference images, which can be saved, shared and checked."""

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from vq_jax.data import Dataset
from vq_jax.errors import UserError
from vq_jax.files import write_atomically
from vq_jax.json_files import parse_json
from vq_jax.npz_files import read_npz
from vq_jax.ops.moments import Moments

# Kernel and neighbours compare this many images at the most, evenly spread over the data set.
MOST_KEPT = 50_000
ADVICE = 'name another file in --reference, which is written if it is not there'
_HASHED = 16  # images that stand for all of a data set


@dataclasses.dataclass(frozen=True)
class Reference:
    """What samples are compared with.

    Attributes:
        moments: of the features of all reference images.
        features: of all of them, or of `MOST_KEPT` evenly spread ones, float32 [n d].
        made: how it was made, in JSON values: 'dataset', 'split', 'preprocessing', 'content' (see
            `content_of`) and the identity of the network (see `vq_jax.evaluators.sources.FeatureSource`).
    """

    moments: Moments
    features: np.ndarray
    made: dict[str, Any]

    def save(self, path: Path) -> None:
        """Writes an .npz file."""
        file = io.BytesIO()
        np.savez(
            file,
            count=self.moments.count,
            mean=self.moments.mean,
            scatter=self.moments.scatter,
            features=self.features,
            made=json.dumps(self.made),
        )
        write_atomically(path, file.getvalue())

    @classmethod
    def read(cls, path: Path, made: dict[str, Any], *, least: int = 1) -> 'Reference':
        """Reads a file.

        Args:
            path: what `save` wrote.
            made: how it must have been made; of a folder of images, which may have been moved or copied,
                the content tells more than the path.
            least: of how many images it must be.

        Raises:
            UserError: if it was made otherwise, or is no such file.
        """
        try:
            read = cls._of(read_npz(path), least)
        except (UserError, KeyError, ValueError, OSError) as error:
            told = f'lacks {error}' if isinstance(error, KeyError) else str(error).removesuffix('.')
            raise UserError(f'{path} cannot be read as reference statistics ({told}); {ADVICE}.') from error
        differing = [
            f'{name} (there {read.made.get(name)!r}, here {value!r})'
            for name, value in made.items()
            if read.made.get(name) != value and not _both_folders(read.made.get(name), value)
        ]
        if differing:
            others = ' and of another '.join(differing)
            raise UserError(f'the reference statistics {path} are of another {others}; {ADVICE}.')
        return read

    @classmethod
    def _of(cls, arrays: dict[str, np.ndarray], least: int) -> 'Reference':
        """What a file holds; `KeyError` or `ValueError` if that is not what `save` writes."""
        count, mean, scatter, features, made = (
            arrays[name] for name in ('count', 'mean', 'scatter', 'features', 'made')
        )
        n, d = features.shape if features.ndim == 2 else (0, 0)
        for name, array, shape, kind in (
            ('count', count, (), np.integer),
            ('mean', mean, (d,), np.float64),
            ('scatter', scatter, (d, d), np.float64),
            ('features', features, (n, d), np.float32),
            ('made', made, (), np.str_),
        ):
            if array.shape != shape or not np.issubdtype(array.dtype, kind):
                raise ValueError(f'{name} is {array.dtype}{list(array.shape)}')
            if kind is not np.str_ and not np.isfinite(array).all():
                raise ValueError(f'{name} is not finite')
        if not max(2, least) <= n <= int(count):  # two have a covariance
            raise ValueError(f'it has features of {n} of {count} images')
        moments = Moments(int(count), mean, scatter)
        made = parse_json(str(made), dict[str, Any], where='made', advice=ADVICE)
        return cls(moments, features, made)


def content_of(dataset: Dataset) -> str:
    """What tells the images of a data set from others: how many, and a checksum of a few of them.

    These are evenly spread, and hashed as evaluation sees them.
    """
    some = np.unique(np.linspace(0, len(dataset) - 1, _HASHED).astype(int))
    found = dataset.fetch(some)
    digest = hashlib.sha256(np.asarray(found.values)[found.good].tobytes()).hexdigest()
    return f'{len(dataset):,} images, {len(some)} of which have the SHA-256 {digest[:16]}'


def _both_folders(*names: Any) -> bool:
    return all(str(name).startswith('folder:') for name in names)
