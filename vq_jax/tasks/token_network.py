"""One of the three networks over a grid of tokens: its logits, and tokens drawn from them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vq_jax.models.pixelcnn import PixelCNN
from vq_jax.models.transformer import Transformer
from vq_jax.ops.dropout import hide_labels
from vq_jax.ops.logits import guide
from vq_jax.ops.masking import random_mask
from vq_jax.ops.traced import differs
from vq_jax.sampling.autoregressive import generate
from vq_jax.sampling.masked import generate_masked
from vq_jax.tasks.prior_config import PriorConfig, Sampling


@dataclasses.dataclass(frozen=True)
class TokenNetwork:
    """A network, and how it is used.

    Attributes:
        model: tokens to logits.
        config: see `PriorConfig`.
        grid: rows and columns of the tokens [h w].
        num_tokens: how many there are, k.
        num_labels: classes that the model is conditioned on; 0 for none.
    """

    model: Transformer | PixelCNN
    config: PriorConfig
    grid: tuple[int, int]
    num_tokens: int
    num_labels: int

    @property
    def masked(self) -> bool:
        """Whether it predicts masked tokens from all others, and so has no likelihood."""
        return self.config.kind == 'maskgit'

    def init(self, key: jax.Array, above: Sequence[jax.Array]) -> Any:
        """The model's random variables; `above` as for `logits`, of one example."""
        tokens = jnp.zeros((1, *self._shape), jnp.int32)
        return self.model.init(key, tokens, jnp.zeros(1, jnp.int32), *above)

    def asked(self, keys: jax.Array) -> jax.Array:
        """Which tokens are to be predicted at once, bool [b n]: all, or those in a random mask.

        Args:
            keys: a random key for each example [b].
        """
        n = math.prod(self.grid)
        if self.masked:
            return random_mask(keys, n, self.config.mask_schedule)
        return jnp.ones((len(keys), n), bool)

    def hide(self, keys: jax.Array, labels: jax.Array) -> jax.Array:
        """The classes int32 [b], some of them replaced by that which stands for none.

        Args:
            keys: a random key for each example [b].
            labels: int32 [b].
        """
        if not self.num_labels:
            return labels
        return hide_labels(keys, labels, self.config.label_dropout, self.num_labels)

    def logits(
        self,
        variables: Any,
        tokens: jax.Array,
        asked: jax.Array,
        labels: jax.Array,
        above: Sequence[jax.Array] = (),
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """The logits of all tokens [b n k].

        Args:
            variables: of the model.
            tokens: int [b n].
            asked: True where a masked model is not shown the token, bool [b n].
            labels: int32 [b]; without meaning for a model that is not conditioned on them.
            above: the tokens of the level above, int [b h' w'], if there is one.
            keys: a random key for each example [b], for dropout; None drops nothing.
        """
        if self.masked:
            tokens = jnp.where(asked, self.num_tokens, tokens)
        inputs = tokens.reshape(len(tokens), *self._shape), self._classes(labels), *above
        return self.model.apply(variables, *inputs, keys=keys).reshape(*tokens.shape, -1)

    def draw(
        self,
        variables: Any,
        keys: jax.Array,
        labels: jax.Array,
        sampling: Sampling,
        given: jax.Array | None = None,
        above: Sequence[jax.Array] = (),
    ) -> jax.Array:
        """Draws grids of tokens.

        Args:
            variables: of the model.
            keys: a random key for each grid [b].
            labels: int32 [b]; without meaning for a model that is not conditioned on them.
            sampling: how.
            given: tokens that stay as they are, int [b h w]; -1 where one is to be drawn.
            above: as for `logits`.

        Returns:
            int32 [b h w].
        """
        b, n = len(keys), math.prod(self.grid)
        guided = bool(self.num_labels) and differs(sampling.guidance, 1)
        labels = self._classes(labels)
        if guided:
            labels = jnp.concatenate([labels, jnp.full_like(labels, self.num_labels)])

        def twice(x: jax.Array) -> jax.Array:
            return jnp.concatenate([x, x]) if guided else x

        def merged(logits: jax.Array) -> jax.Array:
            return guide(*jnp.split(logits, 2), sampling.guidance) if guided else logits

        above = [twice(x) for x in above]
        given = jnp.full((b, n), -1) if given is None else given.reshape(b, n)

        def step(before: jax.Array, i: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
            logits, grown = self.model.apply(variables, twice(before), i, cache, method='step')
            return merged(logits), grown

        def network(tokens: jax.Array) -> jax.Array:
            tokens = twice(tokens)
            return merged(self.logits(variables, tokens, tokens < 0, labels, above))

        if not self.masked:
            cache = self.model.apply(variables, labels, *above, method='start')
            tokens = generate(step, cache, keys, n, sampling.choice(), given, self.model.grow)
        else:
            tokens = generate_masked(
                network,
                keys,
                given,
                steps=sampling.steps,
                choice=sampling.choice(),
                schedule=self.config.mask_schedule,
                confidence_temperature=sampling.confidence_temperature,
            )
        return tokens.reshape(b, *self.grid)

    @property
    def _shape(self) -> tuple[int, ...]:
        """In which the model takes the tokens of an example."""
        return self.grid if isinstance(self.model, PixelCNN) else (math.prod(self.grid),)

    def _classes(self, labels: jax.Array) -> jax.Array:
        return labels if self.num_labels else jnp.zeros_like(labels)


def make_network(
    config: PriorConfig,
    sizes: Mapping[str, Any],
    *,
    num_tokens: int,
    grid: tuple[int, int],
    tokens_per_position: int,
    num_labels: int,
    has_level_above: bool,
) -> TokenNetwork:
    """The network of a config.

    Args:
        config: which, and what it is told.
        sizes: of a 'transformer', and of a 'pixelcnn'.
        num_tokens: how many tokens there are, in each level.
        grid: rows and columns of the tokens.
        tokens_per_position: how many columns are one place.
        num_labels: classes that it is conditioned on; 0 for none.
        has_level_above: whether the tokens are finer ones of those of a coarser level.
    """
    num_above = num_tokens if has_level_above else 0
    if config.kind == 'pixelcnn':
        rows, columns = grid
        places = rows, columns // tokens_per_position
        model = PixelCNN(
            sizes['pixelcnn'], num_tokens, places, tokens_per_position, num_labels, num_above=num_above
        )
    else:
        causal = config.kind == 'transformer'
        model = Transformer(
            sizes['transformer'],
            num_inputs=num_tokens if causal else num_tokens + 1,
            num_outputs=num_tokens,
            grid=grid,
            num_classes=num_labels,
            causal=causal,
            num_above=num_above,
        )
    return TokenNetwork(model, config, grid, num_tokens, num_labels)
