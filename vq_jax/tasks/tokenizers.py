"""What turns pictures into the tokens that a prior learns, and back."""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from vq_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """What the tokens are.

    Attributes:
        workdir: a run of the task vqvae or vqgan, whose codes they are; empty takes the grey values of
            the pictures themselves.
        step: the checkpoint of that run; None is its newest.
        levels: how many grey values are told apart, if `workdir` is empty; 2 is black and white.
    """

    workdir: str = ''
    step: int | None = None
    levels: int = 256

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 256:
            raise UserError(f'config.tokenizer.levels is {self.levels}; give a number from 2 to 256.')


class Tokenizer(Protocol):
    """Pictures to grids of tokens and back.

    Attributes:
        grid: rows and columns of tokens.
        num_tokens: how many there are, k.
        num_labels: classes that `decode` is conditioned on; 0 for none.
    """

    grid: tuple[int, int]
    num_tokens: int
    num_labels: int

    def state(self) -> Any:
        """What `encode` and `decode` are given as their first argument."""

    def encode(self, state: Any, images: jax.Array) -> jax.Array:
        """Pictures, uint8 [b h w c], to tokens, int32 [b h' w']."""

    def decode(self, state: Any, tokens: jax.Array, labels: jax.Array) -> jax.Array:
        """Tokens, int [b h' w'], and classes int32 [b] to pictures, uint8 [b h w c]."""


@dataclasses.dataclass(frozen=True)
class GreyValues:
    """The grey values of pictures, in so many levels.

    Attributes:
        grid: height and width of the pictures.
        num_tokens: levels.
    """

    grid: tuple[int, int]
    num_tokens: int
    num_labels: int = 0

    def state(self) -> None:
        """None: nothing is learned."""

    def encode(self, state: Any, images: jax.Array) -> jax.Array:
        """Each level is as many bytes wide as the others, to within one."""
        return images[..., 0].astype(jnp.int32) * self.num_tokens // 256

    def decode(self, state: Any, tokens: jax.Array, labels: jax.Array) -> jax.Array:
        """The first level is black and the last one white."""
        return jnp.round(tokens * (255 / (self.num_tokens - 1))).astype(jnp.uint8)[..., None]


class Codes:
    """The codes of a trained run; its state is on the host."""

    def __init__(self, config: TokenizerConfig, image_shape: tuple[int, int, int]) -> None:
        """Reads the run; raises `UserError` if it has no codes, or takes no such pictures [h w c]."""
        from vq_jax.tasks.restore import restore  # which imports all tasks, and so cannot come first

        restored = restore(config.workdir, config.step)
        self._task = restored.task
        num_codes = getattr(self._task, 'num_codes', None)
        if num_codes is None or restored.config.task == 'prior':
            raise UserError(
                f'{config.workdir} is a run of the task {restored.config.task}, which has no codes; set '
                'config.tokenizer.workdir to one of vqvae or vqgan.'
            )
        self._task.check_image_shape(image_shape)
        self._state = jax.device_get(restored.state.for_inference())
        images = jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8)
        self.grid = jax.eval_shape(self.encode, self._state, images).shape[1:]
        self.num_tokens = num_codes
        self.num_labels = self._task.num_labels

    def state(self) -> Any:
        """What the run learned."""
        return self._state

    def encode(self, state: Any, images: jax.Array) -> jax.Array:
        """See `Tokenizer.encode`."""
        return self._task.encode(state, images)

    def decode(self, state: Any, tokens: jax.Array, labels: jax.Array) -> jax.Array:
        """See `Tokenizer.decode`."""
        return self._task.decode(state, tokens, labels)


def make_tokenizer(config: TokenizerConfig, image_shape: tuple[int, int, int]) -> Tokenizer:
    """The tokenizer of a config, for pictures [h w c].

    Raises:
        UserError: if the run cannot be read or its pictures are others.
    """
    if config.workdir:
        return Codes(config, image_shape)
    if image_shape[-1] != 1:
        raise UserError(
            'grey values are tokens of grey pictures; set config.data.channels=1, or '
            'config.tokenizer.workdir to a run of vqvae or vqgan.'
        )
    return GreyValues(grid=image_shape[:2], num_tokens=config.levels)
