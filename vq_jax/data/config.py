"""What can be said about the input in an experiment config."""

import dataclasses
import math
import re

from vq_jax.buckets import refuse_address
from vq_jax.data.names import compiled
from vq_jax.errors import UserError, check_least, check_share
from vq_jax.media.wav import HIGHEST_RATE

FITS = ('crop', 'pad', 'stretch')
MOST_PIXELS = 2**26  # of an image that is padded or resized; Pillow itself bounds what is decoded
_LONGEST = math.isqrt(MOST_PIXELS)  # the side of a square of as many
MOST_SAMPLES = 2**26  # of a recording, in each channel
MOST_FRAMES_A_SECOND = 1000
MOST_TOKENS = 2**20  # of a piece of text
LEAST_LOUD = -70.0  # LUFS; what is quieter counts as silence

# Keys that say how examples are read and not which: nothing that is made of examples depends on them. What
# the vectors of texts are, wherever they lie, the spec says.
READING = ('data_dir', 'workers', 'prefetch', 'cache_gib', 'max_undecodable', 'text_vectors')


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the examples come from and how they reach the model.

    Images take these steps, in this order: decode, convert to `channels`, add `pad` border pixels, `fit` to
    `image_size`, and in training the random crop and the flip. Video: a clip of `frames`, to each of which
    the same is done as to an image. Sound: decode, mix into `channels`, resample to `sample_rate`, bring to
    `loudness`, crop to `num_samples` (at random in training, with `random_crop`) or add silence. A key that
    is not for the kind of the data is refused where it is set.

    Attributes:
      name: A built-in set (`digits`, `glyphs`, `photos`, and `moving_mnist`, which is made of a prepared
        `mnist`), the name of a data set prepared by tensorflow-datasets (`mnist`,
        `imagenette/160px-v2`, `mnist:3.0.1`, `spoken_digit`),
        `folder:/path` for any folder of images, videos or recordings, `text:/path` for a text file or for all
        .txt files below a folder (the first 90% are `train`, the rest `test`), or `codes:/path` for what
        `vq_jax.tokenize` wrote (`codes:gs://bucket/path` where it is in a bucket), which priors and
        captioners learn from, or `class:module:Class` for a source of one's own (docs/extending.md); of the
        other attributes, codes need the splits, `caption_length` if they were written with texts,
        `cache_gib`, `workers` and `prefetch`.
      data_dir: Folder that holds the prepared data sets. None means the environment variable
        `TFDS_DATA_DIR`, else `~/tensorflow_datasets`; the built-in sets, which training prepares, are
        kept in `$XDG_CACHE_HOME/vq_jax/datasets` (`~/.cache/vq_jax/datasets`) instead. Of a folder in a
        bucket, `gs://bucket/path`, what is read is copied first (docs/pods.md). Not used by `folder:`.
      train_split: Split to train on, in the syntax of tensorflow-datasets (`train`, `train[:90%]`).
      eval_split: Split to evaluate on (`test`, `validation`, `train[90%:]`). Where a set has no
        `validation` but a `val`, `valid` or `dev`, that is meant, and the other way round.
      image_key: Name of the image among the features of a tensorflow-datasets record.
      audio_key: Name of the sound among those features, where there are no images.
      video_key: Name of the video among those features, where there are no images and no sound.
      text_key: Name of the text among those features, which is what is learned where `num_tokens` is set.
      label_key: Name of the class label among those features; a set that has no `label` gives no
        labels.
      name_pattern: Regular expression that is searched in the name of each example: the path of a file below
        the folder, or the text `name_key` of a record. It has named groups: what `(?P<label>...)` finds is
        the class of the example (`none` where that is the empty text, as `(?P<label>red|green|$)` finds in
        what is of neither colour), what `(?P<split>...)` finds the name of its split (`train` where it finds
        nothing), and what another finds, such as `(?P<speaker>...)`, a condition of that name: a number,
        int32, counted from 0 in the sorted order of all that it finds in the set. Without such a group, class
        and split are those of folders and records.
      name_key: Name of the text that `name_pattern` is searched in, among the features of a record.
      caption_length: Tokens, of the `text_tokenizer`, that there is room for in the condition `text` of each
        example, which says what it shows and is read by `config.conditioner.kind=text`; None leaves it out.
        Of a record it is the text, or texts, `caption_key`. Of a file it is what `captions.jsonl` in a folder
        above it says, in lines such as `{"file_name": "0001.png", "text": "a red apple"}`, else the lines of
        the .txt file of the same name beside it. Of several texts, training takes one at random in each
        epoch, and evaluation the first.
      cut_captions: Cut texts that are longer, which are refused otherwise.
      text_vectors: Folder, of a disk or a bucket, of the vectors of these texts that `vq_jax.embed` wrote,
        which batches then have too and `config.conditioner.kind=embedded_text` reads.
      caption_key: Name of the text among the features of a record.
      channels: Of images and video, 1 for grey, 3 for RGB, None for as many as the data set declares (3 for a
        folder).
        Of sound, 1 (which None means too) for the mean of all channels, or 2, of which a mono recording has
        twice the same, and one of more than two is undecodable.
      num_tokens: Length of the pieces of text given to the model. Every text is as many examples as it has
        such pieces, the last one padded, so that evaluation is of all of it. None where the data are no text.
      text_tokenizer: What text is split into: `bytes` of UTF-8, `bpe:SIZE` for so many tokens of byte pair
        encoding, which are learned from `train_split` when a run begins (of captions, from those of its first
        16,384 examples), or the path of a tokenizer.json; the latter two need `pip install 'vq_jax[text]'`.
      pad: Black pixels added on every side before anything is resized (2 makes MNIST's 28x28
        32x32).
      image_size: Side in pixels of the square images, or frames of video, given to the model; None leaves
        them as they are stored, and then all must have one size.
      fit: How an image becomes square. `crop`: resize the shorter side to `resize`, then cut out
        the centre; `pad`: resize the longer side to `image_size`, then add black borders;
        `stretch`: resize both sides.
      resize: Length in pixels of the shorter side before cropping; None means `image_size`.
      random_crop: Cut at a random position instead of the centre while training: of images and video in
        height and width, of video and sound in time. Pieces of text begin up to half of their length earlier
        or later.
      flip: Mirror half of the training images, or videos, left to right.
      frames: Length of the clips of video given to the model; None leaves videos as they are, and then all
        must have one length. Where it is set, a folder of images is one of video (docs/own-data.md).
      frame_stride: How many frames of a video it is from one frame of a clip to the next.
      frame_rate: Frames in a second at which videos are seen, for which frames are left out or repeated; the
        stride counts these. None leaves their rates as they are.
      num_samples: Length of the sound given to the model; None leaves recordings as they are, and then
        all must have one length.
      whole_recordings: Make as many examples of a recording as it has excerpts of `num_samples`, the last one
        filled up with silence, and read no more of it than an excerpt at a time. Evaluation then is of all
        that was recorded, and longer recordings are more of the training. Otherwise each is one example, of
        which evaluation sees the middle.
      sample_rate: Samples in a second of the sound given to the model; None leaves the rate as it is, and
        then all recordings must have one.
      loudness: Integrated loudness, in LUFS (ITU-R BS.1770-4), to which each recording as a whole is brought,
        as -23; less where it would clip. Silence stays silent. None leaves it as it is.
      cache_gib: A set that needs no more than this much memory, in GiB, once decoded is kept there
        after it was first read; 0 always reads from disk.
      workers: Processes that read and decode a set that is too large to keep; 0 uses threads.
      prefetch: Batches made ahead of need (by each worker, if there are any); 0 makes a batch when
        it is asked for.
      max_undecodable: Share of the set, 0 to 1, that may be undecodable before the run stops. A
        share of 0 tolerates none, any other at least one example.
    """

    name: str = 'digits'
    data_dir: str | None = None
    train_split: str = 'train'
    eval_split: str = 'test'
    image_key: str = 'image'
    audio_key: str = 'audio'
    video_key: str = 'video'
    text_key: str = 'text'
    label_key: str = 'label'
    name_pattern: str | None = None
    name_key: str = 'audio/filename'
    caption_length: int | None = None
    cut_captions: bool = False
    text_vectors: str | None = None
    caption_key: str = 'text'
    channels: int | None = None
    pad: int = 0
    image_size: int | None = None
    fit: str = 'crop'
    resize: int | None = None
    random_crop: bool = False
    flip: bool = False
    frames: int | None = None
    frame_stride: int = 1
    frame_rate: float | None = None
    num_samples: int | None = None
    whole_recordings: bool = False
    sample_rate: int | None = None
    loudness: float | None = None
    num_tokens: int | None = None
    text_tokenizer: str = 'bytes'
    cache_gib: float = 1.0
    workers: int = 0
    prefetch: int = 4
    max_undecodable: float = 0.01

    def __post_init__(self) -> None:
        """Raises `UserError` for a value that makes no sense by itself or beside another."""
        if not self.name:
            raise UserError("name is empty: give a data set, for example 'digits' or 'mnist'.")
        if self.name in ('folder:', 'text:', 'codes:'):
            config = (
                ' or, for the config of that name, --config=folder:PATH' if self.name == 'folder:' else ''
            )
            raise UserError(
                f'name is {self.name!r}, which names no folder: give --config.data.name={self.name}PATH'
                f'{config}.'
            )
        refuse_address('name', self.name.removeprefix('folder:').removeprefix('text:'))
        if '\0' in self.name:
            raise UserError(f'name is {self.name!r}, which no data set can be called.')
        if self.name_pattern is not None:
            compiled(self.name_pattern)
        if self.channels not in (None, 1, 2, 3):
            raise UserError(f'channels is {self.channels}: use 1 (grey, mono), 2 (stereo), 3 (RGB) or None.')
        if self.fit not in FITS:
            raise UserError(f'fit is {self.fit!r}: use one of {", ".join(FITS)}.')
        check_least(0, self, 'pad', 'workers', 'prefetch', 'cache_gib')
        check_share(self, 'max_undecodable')
        check_least(1, self, 'image_size', 'frames', 'frame_stride', 'caption_length')
        if self.cut_captions and not self.caption_length:
            raise UserError('cut_captions is true and caption_length is not set: set both, or neither.')
        if self.text_vectors is not None and not self.caption_length:
            raise UserError(
                'text_vectors is given, of texts that are not read: set caption_length to what it was when '
                'they were written.'
            )
        if self.frame_rate is not None and not 0 < self.frame_rate <= MOST_FRAMES_A_SECOND:
            raise UserError(
                f'frame_rate is {self.frame_rate}: use more than 0 and up to {MOST_FRAMES_A_SECOND}, or None.'
            )
        for key in ('pad', 'image_size', 'resize'):
            if (getattr(self, key) or 0) > _LONGEST:
                raise UserError(
                    f'{key} is {getattr(self, key)}: use {_LONGEST} pixels or less, or images would not fit '
                    'into memory.'
                )
        for key, most in ('num_samples', MOST_SAMPLES), ('sample_rate', HIGHEST_RATE):
            value = getattr(self, key)
            if value is not None and not 1 <= value <= most:
                raise UserError(f'{key} is {value}: use 1 to {most:,}, or None.')
        if not re.fullmatch(r'bytes|bpe:[1-9][0-9]{0,6}|.+\.json', self.text_tokenizer):
            raise UserError(
                f"text_tokenizer is {self.text_tokenizer!r}: use 'bytes', 'bpe:SIZE' such as 'bpe:1024', or "
                'the path of a tokenizer.json.'
            )
        kind, _, size = self.text_tokenizer.partition(':')
        if kind == 'bpe' and int(size) < 256:
            raise UserError(
                f'text_tokenizer is bpe:{size}: use bpe:256 or more, since the bytes are 256 tokens.'
            )
        if self.text_tokenizer != 'bytes' and not (self.num_tokens or self.caption_length):
            raise UserError(
                f'text_tokenizer is {self.text_tokenizer!r}, and neither num_tokens nor caption_length is '
                'set: set one of them, or leave it out.'
            )
        if self.num_tokens is not None and not 1 <= self.num_tokens <= MOST_TOKENS:
            raise UserError(f'num_tokens is {self.num_tokens}: use 1 to {MOST_TOKENS:,}, or None.')
        if self.loudness is not None and not LEAST_LOUD <= self.loudness <= 0:
            raise UserError(f'loudness is {self.loudness}: use {LEAST_LOUD:g} to 0 LUFS, or None.')
        if self.whole_recordings and not self.num_samples:
            raise UserError(
                'whole_recordings is true and num_samples is not set: set it to the length of an excerpt.'
            )
        needs_crop = [key for key in ('resize', 'random_crop') if getattr(self, key)]
        in_time = self.num_samples or self.frames or self.num_tokens
        cropped = (self.image_size and self.fit == 'crop') or (in_time and not self.resize)
        if needs_crop and not cropped:
            raise UserError(
                f"{needs_crop[0]} has an effect only with fit='crop' and an image_size (of sound, with "
                'num_samples; of text, with num_tokens; of video, also with frames): set them, or leave it '
                'out.'
            )
        if self.resize is not None and self.image_size is not None and self.resize < self.image_size:
            raise UserError(
                f'resize is {self.resize}, too small to cut {self.image_size} pixels (image_size) out of: '
                'raise it, or leave it out.'
            )

    def split_key(self, split: str) -> str:
        """Returns what to call a split in a message: the key that names it, if one does."""
        keys = (key for key in ('eval_split', 'train_split') if getattr(self, key) == split)
        return next((f'config.data.{key}' for key in keys), 'the split')
