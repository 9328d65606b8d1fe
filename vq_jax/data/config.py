"""What can be said about the input in an experiment config."""

import dataclasses
import math

from vq_jax.errors import UserError

FITS = ('crop', 'pad', 'stretch')
MOST_PIXELS = 2**26  # of an image that is padded or resized; Pillow itself bounds what is decoded
_LONGEST = math.isqrt(MOST_PIXELS)  # the side of a square of as many

# Keys that say how pictures are read and not which: nothing that is made of pictures depends on them.
READING = ('data_dir', 'workers', 'prefetch', 'cache_gib', 'max_undecodable')


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the pictures come from and how they reach the model.

    The steps happen in this order: decode, convert to `channels`, add `pad` border pixels, `fit` to
    `image_size`, and in training the random crop and the flip.

    Attributes:
      name: A built-in set (`digits`, `photos`), the name of a data set prepared by
        tensorflow-datasets (`mnist`, `imagenette/160px-v2`, `mnist:3.0.1`), `folder:/path` for any
        folder of pictures, or `codes:/path` for what `vq_jax.tokenize` wrote, which only priors learn
        from; of the other attributes, codes need the splits, `cache_gib`, `workers` and `prefetch`.
      data_dir: Folder that holds the prepared data sets. None means the environment variable
        `TFDS_DATA_DIR`, else `~/tensorflow_datasets`; the built-in sets, which training
        prepares, are kept in `$XDG_CACHE_HOME/vq_jax/datasets` (`~/.cache/vq_jax/datasets`) instead. Not
        used by a folder of pictures.
      train_split: Split to train on, in the syntax of tensorflow-datasets (`train`, `train[:90%]`).
      eval_split: Split to evaluate on (`test`, `validation`, `train[90%:]`). Where a set has no
        `validation` but a `val`, `valid` or `dev`, that is meant, and the other way round.
      image_key: Name of the picture among the features of a tensorflow-datasets record.
      label_key: Name of the class label among those features; a set that has no `label` gives no
        labels.
      channels: 1 for grey, 3 for RGB, None for as many as the data set declares (3 for a folder).
      pad: Black pixels added on every side before anything is resized (2 makes MNIST's 28x28
        32x32).
      image_size: Side in pixels of the square pictures given to the model; None leaves them as they
        are stored, and then all must have one size.
      fit: How a picture becomes square. `crop`: resize the shorter side to `resize`, then cut out
        the centre; `pad`: resize the longer side to `image_size`, then add black borders;
        `stretch`: resize both sides.
      resize: Length in pixels of the shorter side before cropping; None means `image_size`.
      random_crop: Cut out a random place instead of the centre while training.
      flip: Mirror half of the training pictures left to right.
      cache_gib: A set that needs no more than this much memory, in GiB, once decoded is kept there
        after it was first read; 0 always reads from disk.
      workers: Processes that read and decode a set that is too large to keep; 0 uses threads.
      prefetch: Batches made ahead of need (by each worker, if there are any); 0 makes a batch when
        it is asked for.
      max_undecodable: Share of the set, 0 to 1, that may be undecodable before the run stops. A
        share of 0 tolerates none, any other at least one picture.
    """

    name: str = 'digits'
    data_dir: str | None = None
    train_split: str = 'train'
    eval_split: str = 'test'
    image_key: str = 'image'
    label_key: str = 'label'
    channels: int | None = None
    pad: int = 0
    image_size: int | None = None
    fit: str = 'crop'
    resize: int | None = None
    random_crop: bool = False
    flip: bool = False
    cache_gib: float = 1.0
    workers: int = 0
    prefetch: int = 4
    max_undecodable: float = 0.01

    def __post_init__(self) -> None:
        """Raises `UserError` for a value that makes no sense by itself or beside another."""
        if not self.name:
            raise UserError("config.data.name is empty: give a data set, for example 'digits' or 'mnist'.")
        if self.name in ('folder:', 'codes:'):
            config = (
                ' or, for the config of that name, --config=folder:PATH' if self.name == 'folder:' else ''
            )
            raise UserError(
                f'config.data.name is {self.name!r}, which names no folder: give --config.data.name='
                f'{self.name}PATH{config}.'
            )
        if '\0' in self.name:
            raise UserError(f'config.data.name is {self.name!r}, which no data set can be called.')
        if self.channels not in (None, 1, 3):
            raise UserError(f'config.data.channels is {self.channels}: use 1 (grey), 3 (RGB) or None.')
        if self.fit not in FITS:
            raise UserError(f'config.data.fit is {self.fit!r}: use one of {", ".join(FITS)}.')
        for key in ('pad', 'workers', 'prefetch', 'cache_gib'):
            if not getattr(self, key) >= 0:
                raise UserError(f'config.data.{key} is {getattr(self, key)}: use zero or more.')
        if not 0 <= self.max_undecodable <= 1:
            raise UserError(
                f'config.data.max_undecodable is {self.max_undecodable}: it is a share, from 0 to 1.'
            )
        for key in ('pad', 'image_size', 'resize'):
            if (getattr(self, key) or 0) > _LONGEST:
                raise UserError(
                    f'config.data.{key} is {getattr(self, key)}: use {_LONGEST} pixels or less, or images '
                    'would not fit into memory.'
                )
        if self.image_size is not None and self.image_size < 1:
            raise UserError(f'config.data.image_size is {self.image_size}: use one pixel or more.')
        needs_crop = [key for key in ('resize', 'random_crop') if getattr(self, key)]
        if needs_crop and (self.image_size is None or self.fit != 'crop'):
            raise UserError(
                f"config.data.{needs_crop[0]} has an effect only with config.data.fit='crop' and a "
                'config.data.image_size: set both, or leave it out.'
            )
        if self.resize is not None and self.image_size is not None and self.resize < self.image_size:
            raise UserError(
                f'config.data.resize is {self.resize}, too small to cut {self.image_size} pixels '
                '(config.data.image_size) out of: raise it, or leave it out.'
            )

    def split_key(self, split: str) -> str:
        """Returns what to call a split in a message: the key that names it, if one does."""
        keys = (key for key in ('eval_split', 'train_split') if getattr(self, key) == split)
        return next((f'config.data.{key}' for key in keys), 'the split')
