"""What priors and diffusion models learn: codes or latents of a trained run, or the examples themselves."""

import dataclasses
import functools
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.data import CodeDataset, Dataset
from vq_jax.errors import UserError
from vq_jax.models.autoencoder import Codes
from vq_jax.ops.images import to_float, to_integers
from vq_jax.ops.keys import content_keys
from vq_jax.ops.texts import after_end, up_to_end, with_ends
from vq_jax.spec import CodeSpec, Spec
from vq_jax.tasks.arguments import check_depths
from vq_jax.tasks.autoencoder import AutoencoderTask
from vq_jax.tasks.classes import ClassNames
from vq_jax.tasks.restore import Restored, restore_part
from vq_jax.tasks.values import end_of, known_tokens
from vq_jax.training.parallel import Batch
from vq_jax.training.state import abstract_examples

_MOST_CODES = 2**22  # of each there is an embedding, and where it is predicted a logit at each position


@dataclasses.dataclass(frozen=True)
class CodecConfig:
    """Whose codes or latents are learned.

    Attributes:
        section: of the config.
        workdir: a run; empty takes the values of examples.
        step: the checkpoint of that run; None is its newest.
    """

    section: ClassVar[str]

    workdir: str = ''
    step: int | None = None

    def __post_init__(self) -> None:
        if self.step is not None and not self.workdir:
            raise UserError('step is of the run in workdir; give that too.')


@dataclasses.dataclass(frozen=True)
class TokenizerConfig(CodecConfig):
    """What the tokens are.

    Attributes:
        workdir: a run of the task vqvae or vqgan, whose codes they are; empty takes the values of the
            pixels themselves, red, green and blue one after the other, or the tokens of text.
        depths: take the first so many codes of each position alone, of a tokenizer that decodes them without
            the others, as residual quantization with dropout of depths does; None takes all.
        levels: how many values of a pixel are told apart, if `workdir` is empty; 2 is black and white.
        dither: sample one of the two levels around a value, so that their mean is the value, instead of
            parting the values evenly; of each image always the same. Of 2 levels that is the
            binarisation of Salakhutdinov and Murray 2008, which published likelihoods of MNIST have; which
            pixels come out white is another sample than theirs.
    """

    section: ClassVar[str] = 'tokenizer'

    depths: int | None = None
    levels: int = 256
    dither: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depths is not None and not self.workdir:
            raise UserError('depths is of the codes of the run in workdir; give that too.')
        if not 2 <= self.levels <= 256:
            raise UserError(f'levels is {self.levels}; give a number from 2 to 256.')


@dataclasses.dataclass(frozen=True)
class LatentConfig(CodecConfig):
    """What is learned.

    Attributes:
        workdir: a run of the task vqvae, vqgan or vae whose latents are a grid; empty learns pixels.
    """

    section: ClassVar[str] = 'latent'


class Codec(Protocol):
    """Examples to codes or latents, and back.

    Attributes:
        code_spec: what the codes of an example are; None if there are none.
        written_spec: what those are that `vq_jax.tokenize` writes: of all depths.
        latent_shape: of the latents of an example [*grid d]; None if there are several scales.
        num_labels: classes that decoders are conditioned on; 0 for none.
        class_names: of these classes; None if they are not known.
        has_likelihood: whether there is `log_likelihood`.
        first_apart: whether the first position along the first axis has codes or latents of its own (see
            `AutoencoderTask`).
        run: the trained run that it is, as far as inference needs it; None if nothing is learned.
    """

    code_spec: CodeSpec | None
    written_spec: CodeSpec | None
    latent_shape: tuple[int, ...] | None
    num_labels: int
    class_names: ClassNames
    has_likelihood: bool
    first_apart: bool
    run: Restored | None

    def state(self) -> Any:
        """What the other methods are given as their first argument."""

    def encode(self, state: Any, x: jax.Array) -> Codes:
        """Examples [b ...], as the spec says, to codes."""

    def decode(
        self, state: Any, codes: Codes, labels: jax.Array, goes_on: jax.Array | None = None
    ) -> jax.Array:
        """Codes, of classes int32 [b], to examples.

        Where texts are known to go on, bool [b n], they have no end (see `vq_jax.ops.texts`).
        """

    def certain(self, codes: Codes) -> jax.Array | None:
        """Which codes of the finest scale follow from those before them, bool [b n]; None if none do."""

    def latents(self, state: Any, x: jax.Array) -> jax.Array:
        """Examples to latents, float32 [b *grid d]."""

    def decode_latents(self, state: Any, z: jax.Array, labels: jax.Array) -> jax.Array:
        """Latents, of classes int32 [b], to examples."""

    def log_likelihood(self, state: Any, x: jax.Array, codes: Codes, labels: jax.Array) -> jax.Array:
        """`log p(x | codes)`, of classes int32 [b], in nats [b]; only if `has_likelihood`."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """The values of examples: as codes, bytes with a depth of their channels; as latents, in [-1, 1].

    Attributes:
        spec: of the examples.
        levels: codes of a byte.
        dither: see `TokenizerConfig`.
    """

    num_labels: ClassVar[int] = 0
    class_names: ClassVar[ClassNames] = None
    has_likelihood: ClassVar[bool] = False
    first_apart: ClassVar[bool] = False
    run: ClassVar[None] = None

    spec: Spec
    levels: int = 256
    dither: bool = False

    @property
    def code_spec(self) -> CodeSpec:
        """Of each position the levels of its channels."""
        return CodeSpec((self.spec.grid,), ((self.levels,) * self.spec.channels,))

    @property
    def written_spec(self) -> CodeSpec:
        """The same."""
        return self.code_spec

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """That of examples."""
        return self.spec.shape

    def state(self) -> None:
        """None: nothing is learned."""

    def encode(self, state: Any, x: jax.Array) -> Codes:
        """Without dither, each level is as many bytes wide as the others, to within one."""
        if not self.dither:
            return (x.astype(jnp.int32) * self.levels // 256,)
        sample = jax.vmap(lambda key: jax.random.randint(key, x.shape[1:], 0, 255))
        level, rest = jnp.divmod(x.astype(jnp.int32) * (self.levels - 1), 255)
        return (level + (sample(content_keys(x)) < rest),)

    def decode(
        self, state: Any, codes: Codes, labels: jax.Array, goes_on: jax.Array | None = None
    ) -> jax.Array:
        """The first level is 0 and the last one 255; without dither, `encode` gives the same codes."""
        (level,), k = codes, self.levels
        values = jnp.round(level * (255 / (k - 1))).astype(jnp.int32)
        if not self.dither:  # into the bytes that are of the level
            values = jnp.clip(values, -(-256 * level // k), -(-256 * (level + 1) // k) - 1)
        return values.astype(jnp.uint8)

    def certain(self, codes: Codes) -> None:
        """None."""

    def latents(self, state: Any, x: jax.Array) -> jax.Array:
        """Integers as numbers in [-1, 1]."""
        return to_float(x)

    def decode_latents(self, state: Any, z: jax.Array, labels: jax.Array) -> jax.Array:
        """And back, rounded and clipped."""
        return to_integers(z, self.spec.dtype)


@dataclasses.dataclass(frozen=True)
class Text:
    """The tokens of text as codes, and one code more, which stands wherever the text has ended.

    That a text ends is predicted once, after its last token; what follows is certain. A text that fills an
    example ends where the example does, or goes on in the next one, of which nothing is said.

    Attributes:
        spec: of the examples.
    """

    num_labels: ClassVar[int] = 0
    class_names: ClassVar[ClassNames] = None
    has_likelihood: ClassVar[bool] = False
    first_apart: ClassVar[bool] = False
    run: ClassVar[None] = None
    latent_shape: ClassVar[None] = None

    spec: Spec

    @functools.cached_property
    def end(self) -> int:
        """The code where there is no text."""
        return end_of(self.spec)

    @property
    def code_spec(self) -> CodeSpec:
        """Of each token one."""
        return CodeSpec((self.spec.grid,), ((self.end + 1,),))

    @property
    def written_spec(self) -> CodeSpec:
        """The same."""
        return self.code_spec

    def state(self) -> None:
        """None: nothing is learned."""

    def encode(self, state: Any, x: jax.Array) -> Codes:
        """See `Codec.encode`."""
        return (with_ends(x, self.end)[..., None],)

    def decode(
        self, state: Any, codes: Codes, labels: jax.Array, goes_on: jax.Array | None = None
    ) -> jax.Array:
        """Tokens up to the first end."""
        return up_to_end(codes[0][..., 0], self.end, goes_on)

    def certain(self, codes: Codes) -> jax.Array:
        """What comes after an end."""
        return after_end(codes[0][..., 0], self.end)


@dataclasses.dataclass(frozen=True)
class FrozenRun:
    """The codes and latents of a trained run; its state is on the host.

    Latents of a VAE or KL autoencoder are the means. Of a VQ-VAE or VQGAN they are the vectors that are
    compared with the codes, and decoding begins with the nearest codes: the quantizer belongs to the
    decoder (Rombach et al. 2022, arXiv:2112.10752, section 3.1).

    Attributes:
        run: of an autoencoder.
        spec: of the examples.
        depths: codes of a position, the first so many; None for all.
    """

    run: Restored
    spec: Spec
    depths: int | None = None

    @functools.cached_property
    def code_spec(self) -> CodeSpec | None:
        """None for a run of continuous latents."""
        return self.written_spec if self.depths is None else self.written_spec.first(self.depths)

    @functools.cached_property
    def written_spec(self) -> CodeSpec | None:
        """See `Codec`; None as well."""
        if not self.run.task.vocabularies:
            return None
        scales = jax.eval_shape(self.run.task.encode, self.run.state, abstract_examples(1, self.spec))
        return CodeSpec(tuple(codes.shape[1:-1] for codes in scales), self.run.task.vocabularies)

    @functools.cached_property
    def latent_shape(self) -> tuple[int, ...] | None:
        """None for a run with several scales of codes."""
        if len(self.run.task.vocabularies) > 1:
            return None
        return jax.eval_shape(self.latents, self.run.state, abstract_examples(1, self.spec)).shape[1:]

    @property
    def num_labels(self) -> int:
        """Classes that the run is conditioned on."""
        return self.run.task.num_labels

    @property
    def class_names(self) -> ClassNames:
        """Those of the run."""
        return self.run.class_names

    @property
    def has_likelihood(self) -> bool:
        """Whether the decoder of the run is a likelihood."""
        return self.run.task.has_likelihood

    @property
    def first_apart(self) -> bool:
        """That of the run."""
        return self.run.task.first_apart

    def state(self) -> Any:
        """What the run learned."""
        return self.run.state

    def encode(self, state: Any, x: jax.Array) -> Codes:
        """See `Codec.encode`."""
        codes = self.run.task.encode(state, x)
        return codes if self.depths is None else self.code_spec.cut(codes)

    def decode(
        self, state: Any, codes: Codes, labels: jax.Array, goes_on: jax.Array | None = None
    ) -> jax.Array:
        """See `Codec.decode`."""
        texts = {} if goes_on is None else {'goes_on': goes_on}  # which tasks of one's own may not know
        return self.run.task.decode(state, codes, labels, **texts)

    def certain(self, codes: Codes) -> None:
        """None."""

    def latents(self, state: Any, x: jax.Array) -> jax.Array:
        """See `Codec.latents`."""
        if self.run.task.vocabularies:
            return self.run.task.project(state, x)
        (means,) = self.run.task.encode(state, x)
        return means

    def decode_latents(self, state: Any, z: jax.Array, labels: jax.Array) -> jax.Array:
        """See `Codec.decode_latents`."""
        task = self.run.task
        return task.decode(state, task.nearest(state, z) if task.vocabularies else (z,), labels)

    def log_likelihood(self, state: Any, x: jax.Array, codes: Codes, labels: jax.Array) -> jax.Array:
        """See `Codec.log_likelihood`."""
        return self.run.task.log_likelihood(state, x, codes, labels)


def make_codec(config: TokenizerConfig | LatentConfig, spec: Spec) -> Codec:
    """The codec of a section of a config, with codes or with a grid of latents as the section needs.

    Raises:
        UserError: if the run cannot be read or takes other examples, or there are no such codes or latents.
    """
    workdir, key = config.workdir, f'config.{config.section}.workdir'
    of_codes = isinstance(config, TokenizerConfig)
    if not workdir and spec.kind == 'text':
        return _text(config, spec)
    if not workdir:
        if of_codes and spec.dtype != np.uint8:
            raise UserError(
                f'{key} is empty, and a prior learns the values of bytes alone, not of {spec.kind}; set it '
                'to a run of vqvae or vqgan.'
            )
        return Identity(spec, config.levels, config.dither) if of_codes else Identity(spec)
    run = restore_part(f'{config.section}.workdir', workdir, config.step)
    if not isinstance(run.task, AutoencoderTask) or (of_codes and not run.task.vocabularies):
        lacks, tasks = ('codes', 'vqvae or vqgan') if of_codes else ('latents', 'vae, vqvae or vqgan')
        raise UserError(
            f'{workdir} is a run of the task {run.config.task}, which has no {lacks}; set {key} to one of '
            f'{tasks}.'
        )
    run.check_spec(spec)
    depths = config.depths if of_codes else None
    if depths is not None:
        check_depths(depths, run.task.decodable, 'config.tokenizer.depths', workdir)
    codec = FrozenRun(run, spec, depths)
    if not of_codes and codec.latent_shape is None:
        raise UserError(
            f'{workdir} has several scales of codes, which cannot be learned as one image; set {key} to a '
            'run with one.'
        )
    if not of_codes and len(codec.latent_shape) == 1:
        raise UserError(
            f'the latent of {workdir} is a vector, which cannot be learned as an image; use a run whose '
            'latents are a grid.'
        )
    return codec


def _text(config: TokenizerConfig | LatentConfig, spec: Spec) -> Text:
    """The codec of text itself."""
    if isinstance(config, LatentConfig):
        raise UserError(
            'config.latent.workdir is empty, and tokens of text are no numbers that noise could be added to; '
            'set config.task=prior.'
        )
    known_tokens(spec)
    for name, value in ('levels', config.levels), ('dither', config.dither):
        if value != getattr(TokenizerConfig, name):
            raise UserError(f'config.tokenizer.{name} is {value}, and text has no levels; leave it out.')
    return Text(spec)


def codes_of(codec: Codec, state: Any, batch: Batch) -> Codes:
    """All codes of a batch, written or made now with the state of the codec, without a gradient."""
    if 'codes' not in batch:
        return jax.lax.stop_gradient(codec.encode(state, batch['x']))
    return codec.code_spec.cut(codec.written_spec.split(batch['codes']))


def check_embeddable(codec: Codec, task: str) -> None:
    """Raises `UserError` for codes of which there are too many for a task to learn each."""
    largest = codec.code_spec.largest
    if largest > _MOST_CODES:
        raise UserError(
            f'the codes of {codec.run.workdir} are of {largest:,}, and a {task} learns each, of at most '
            f'{_MOST_CODES:,}; set config.tokenizer.workdir to a run with more codes of fewer bits each '
            '(config.lfq.group_bits or config.bsq.group_bits), or with fewer levels (config.fsq.levels).'
        )


def check_written(codec: Codec, dataset: Dataset) -> None:
    """Raises `UserError` if a data set holds written codes that are not those of a codec."""
    if not isinstance(dataset, CodeDataset):
        return
    theirs, ours = dataset.facts.tokenizer, codec.run and codec.run.identity()
    if ours is None or theirs['checksum'] != ours['checksum']:
        named = f'{ours["workdir"]}, step {ours["step"]}' if ours else 'pixels'
        raise UserError(
            f'{dataset.name} holds codes of another tokenizer ({theirs["workdir"]}, step '
            f'{theirs["step"]}) than this model takes ({named}); write them again with '
            'vq_jax.tokenize, or change config.tokenizer.workdir or config.tokenizer.step.'
        )
    if dataset.facts.codes != codec.written_spec:
        raise UserError(
            f'{dataset.name} says that it holds codes of {dataset.facts.codes}, and its tokenizer makes '
            f'{codec.written_spec}; write them again with vq_jax.tokenize.'
        )
