"""What turns images into the tokens that a prior learns, and back."""

import dataclasses
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp

from vq_jax.errors import UserError
from vq_jax.ops.keys import content_keys
from vq_jax.spec import CodeSpec, Spec
from vq_jax.tasks.autoencoder import AutoencoderTask
from vq_jax.tasks.classes import ClassNames
from vq_jax.tasks.restore import restore_part
from vq_jax.training.state import abstract_examples


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """What the tokens are.

    Attributes:
        workdir: a run of the task vqvae or vqgan, whose codes they are; empty takes the values of the
            pixels themselves, red, green and blue one after the other.
        step: the checkpoint of that run; None is its newest.
        levels: how many values of a pixel are told apart, if `workdir` is empty; 2 is black and white.
        dither: draw one of the two levels around a value, so that their mean is the value, instead of
            parting the values evenly; of each image always the same. Of 2 levels that is the
            binarisation of Salakhutdinov and Murray 2008, which published likelihoods of MNIST have; which
            pixels come out white is another draw than theirs.
    """

    workdir: str = ''
    step: int | None = None
    levels: int = 256
    dither: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 256:
            raise UserError(f'levels is {self.levels}; give a number from 2 to 256.')
        if self.step is not None and not self.workdir:
            raise UserError('step is of the run in workdir; give that too.')


Levels = tuple[jax.Array, ...]  # tokens of each level [b h w], the coarsest first


class Tokenizer(Protocol):
    """Images to grids of tokens and back.

    Attributes:
        code_spec: what the codes are.
        grids: of each scale of tokens, the coarsest first; the codes of a position are side by side in the
            last axis.
        num_tokens: how many there are in each level, k.
        tokens_per_position: how many columns of a grid are one place of the image.
        num_labels: classes that `decode` is conditioned on; 0 for none.
        has_likelihood: whether `log_likelihood` is there.
        class_names: of these classes; None if they are not known.
        run: the trained run that it is, as far as inference needs it; None if nothing is learned.
    """

    code_spec: CodeSpec
    grids: tuple[tuple[int, ...], ...]
    num_tokens: int
    tokens_per_position: int
    num_labels: int
    class_names: ClassNames
    has_likelihood: bool
    run: Any

    def state(self) -> Any:
        """What the other methods are given as their first argument."""

    def encode(self, state: Any, images: jax.Array) -> Levels:
        """Images, uint8 [b h w c], to tokens, int32 [b h' w'] of each level."""

    def decode(self, state: Any, levels: Levels, labels: jax.Array) -> jax.Array:
        """Tokens, int [b h' w'] of each level, and classes int32 [b] to images, uint8 [b h w c]."""

    def log_likelihood(self, state: Any, images: jax.Array, levels: Levels) -> jax.Array:
        """`log p(image | tokens)` in nats [b]."""


@dataclasses.dataclass(frozen=True)
class PixelValues:
    """The values of pixels, the channels of each side by side [b h w*c].

    The colours of a pixel are drawn one after the other, as van den Oord et al. 2016 (arXiv:1601.06759,
    section 2.2) have it.

    Attributes:
        grids: height, and width times channels, once.
        num_tokens: values that are told apart.
        tokens_per_position: channels.
        dither: see `TokenizerConfig`.
    """

    grids: tuple[tuple[int, int]]
    num_tokens: int
    tokens_per_position: int
    dither: bool = False
    num_labels: int = 0
    class_names: ClassVar[None] = None
    has_likelihood: ClassVar[bool] = False
    run: ClassVar[None] = None

    @property
    def code_spec(self) -> CodeSpec:
        """At each pixel its channels, one after the other."""
        ((h, columns),), depth = self.grids, self.tokens_per_position
        return CodeSpec(((h, columns // depth),), ((self.num_tokens,) * depth,))

    def state(self) -> None:
        """None: nothing is learned."""

    def encode(self, state: Any, images: jax.Array) -> Levels:
        """Without dither, each level is as many bytes wide as the others, to within one."""
        if self.dither:
            draw = jax.vmap(lambda key: jax.random.randint(key, images.shape[1:], 0, 255))
            level, rest = jnp.divmod(images.astype(jnp.int32) * (self.num_tokens - 1), 255)
            tokens = level + (draw(content_keys(images)) < rest)
        else:
            tokens = images.astype(jnp.int32) * self.num_tokens // 256
        return (tokens.reshape(*images.shape[:2], -1),)

    def decode(self, state: Any, levels: Levels, labels: jax.Array) -> jax.Array:
        """The first level is 0 and the last one 255; without dither, `encode` gives the same tokens."""
        (tokens,) = levels
        k = self.num_tokens
        values = jnp.round(tokens * (255 / (k - 1))).astype(jnp.int32)
        if not self.dither:  # into the bytes that are of the level
            values = jnp.clip(values, -(-256 * tokens // k), -(-256 * (tokens + 1) // k) - 1)
        return values.astype(jnp.uint8).reshape(*tokens.shape[:2], -1, self.tokens_per_position)


class Codes:
    """The codes of a trained run; its state is on the host."""

    def __init__(self, config: TokenizerConfig, spec: Spec) -> None:
        """Reads the run; raises `UserError` if it has no codes, or takes no such images [h w c]."""
        restored = restore_part('tokenizer.workdir', config.workdir, config.step)
        self._task = restored.task
        if not isinstance(self._task, AutoencoderTask) or not self._task.vocabularies:
            raise UserError(
                f'{config.workdir} is a run of the task {restored.config.task}, which has no codes; set '
                'config.tokenizer.workdir to one of vqvae or vqgan.'
            )
        restored.check_spec(spec)
        vocabularies = self._task.vocabularies
        if len({k for vocabulary in vocabularies for k in vocabulary}) > 1:
            raise UserError(
                f'the codes of {config.workdir} have vocabularies of several sizes, {vocabularies}, and a '
                'prior takes those of one; set config.tokenizer.workdir to a run with equal ones.'
            )
        self.run = restored
        self._state = restored.state
        encoded = jax.eval_shape(self.encode, self._state, abstract_examples(1, spec))
        self.grids = tuple(x.shape[1:] for x in encoded)
        depth = len(vocabularies[0])
        grids = tuple((*grid[:-1], grid[-1] // depth) for grid in self.grids)
        self.code_spec = CodeSpec(grids, vocabularies)
        self.num_tokens, self.tokens_per_position = vocabularies[0][0], depth
        self.num_labels = self._task.num_labels
        self.class_names = restored.class_names
        self.has_likelihood = self._task.has_likelihood

    def state(self) -> Any:
        """What the run learned."""
        return self._state

    def encode(self, state: Any, images: jax.Array) -> Levels:
        """See `Tokenizer.encode`; the codes of a position lie side by side."""
        return as_tokens(self._task.encode(state, images))

    def decode(self, state: Any, levels: Levels, labels: jax.Array) -> jax.Array:
        """See `Tokenizer.decode`."""
        return self._task.decode(state, as_codes(levels, self.tokens_per_position), labels)

    def log_likelihood(self, state: Any, images: jax.Array, levels: Levels) -> jax.Array:
        """See `Tokenizer.log_likelihood`; raises `AttributeError` unless `has_likelihood`."""
        return self._task.log_likelihood(state, images, as_codes(levels, self.tokens_per_position))


def as_tokens(codes: Levels) -> Levels:
    """Codes of each scale [b *grid depth] with those of a position side by side in the last axis."""
    return tuple(scale.reshape(*scale.shape[:-2], -1) for scale in codes)


def as_codes(tokens: Levels, depth: int) -> Levels:
    """The other way round: tokens of each scale as codes [b *grid depth]."""
    return tuple(scale.reshape(*scale.shape[:-1], -1, depth) for scale in tokens)


def make_tokenizer(config: TokenizerConfig, spec: Spec) -> Tokenizer:
    """The tokenizer of a config, for images [h w c].

    Raises:
        UserError: if the run cannot be read or its images are others.
    """
    if config.workdir:
        return Codes(config, spec)
    h, w, c = spec.shape
    return PixelValues(
        grids=((h, w * c),), num_tokens=config.levels, tokens_per_position=c, dither=config.dither
    )
