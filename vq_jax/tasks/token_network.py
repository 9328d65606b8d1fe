"""A network over a grid of tokens: its logits, and tokens sampled from them."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vq_jax.models.conditioning_stack import ConditioningStack
from vq_jax.models.context import NO_CONDITIONS, NOTHING, Conditioner, Conditions, Context, ContextEncoder
from vq_jax.models.pixelcnn import PixelCNN
from vq_jax.models.rq_transformer import RQTransformer
from vq_jax.models.transformer import Transformer
from vq_jax.ops.delay import delayed, undelayed
from vq_jax.ops.guidance import guide, halves, twice
from vq_jax.ops.masking import random_mask
from vq_jax.ops.traced import differs
from vq_jax.sampling.autoregressive import Choose, Step, generate
from vq_jax.sampling.masked import generate_masked
from vq_jax.spec import CodeSpec, blank_conditions
from vq_jax.tasks.prior_config import PriorConfig, Sampling


@dataclasses.dataclass(frozen=True)
class TokenNetwork:
    """A network, what makes its context, and how both are used.

    Tokens are those of a grid row by row, the codes of a position side by side, and the network takes and
    predicts them in an order that `config.pattern` says (see `to_steps`).

    Attributes:
        model: tokens and a context to logits.
        encoder: classes, conditions and the coarser scale to a context; its variables lie beside those of the
            model.
        config: see `PriorConfig`.
        shape: of the codes of an example [*grid depth].
        num_tokens: how many there are, k, at each depth.
    """

    model: Transformer | RQTransformer | PixelCNN
    encoder: ContextEncoder
    config: PriorConfig
    shape: tuple[int, ...]
    num_tokens: int

    @property
    def grid(self) -> tuple[int, ...]:
        """Sizes of the axes of the grid of tokens (see `side_by_side`)."""
        return side_by_side(self.shape)

    @property
    def num_steps(self) -> int:
        """In how many steps a causal model predicts the codes of an example."""
        return jax.eval_shape(
            self.to_steps, jax.ShapeDtypeStruct((1, math.prod(self.shape)), jnp.int32)
        ).shape[1]

    @property
    def masked(self) -> bool:
        """Whether it predicts masked tokens from all others, and so has no likelihood."""
        return self.config.kind == 'maskgit'

    def init(self, key: jax.Array, coarser: jax.Array | None) -> Any:
        """The random variables of model and encoder; `coarser` as for `context`, of one example."""
        read, blank = self._read(coarser, 1), blank_conditions(self.encoder.specs, 1)
        context, variables = self.encoder.init_with_output(
            key, jnp.zeros(1, jnp.int32), read, blank, method='encode'
        )
        tokens = self.to_steps(jnp.zeros((1, math.prod(self.shape)), jnp.int32))
        params = self.model.init(key, tokens, self._in_steps(context))['params']
        return {'params': {**params, **variables.get('params', {})}}

    def context(
        self,
        variables: Any,
        labels: jax.Array,
        coarser: jax.Array | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> Context:
        """The context of examples (see `ContextEncoder.encode`), with the variables of model and encoder.

        For the codes of a coarser scale may stand those of what is given of the scale itself, with
        `num_tokens` where nothing is (see `PriorConfig.given`); None is nothing at all.
        """
        read = self._read(coarser, len(labels))
        context = self.encoder.apply(variables, labels, read, conditions, method='encode')
        return self._in_steps(context)

    def asked(self, keys: jax.Array, among: jax.Array | None = None) -> jax.Array:
        """Which tokens are to be predicted at once, bool [b n]: all, or a random mask, of keys [b].

        They are among those that are not known, bool [b n]; None is all.
        """
        if among is None:
            among = jnp.ones((len(keys), math.prod(self.shape)), bool)
        return random_mask(keys, among, self.config.mask_schedule) if self.masked else among

    def logits(
        self,
        variables: Any,
        tokens: jax.Array,
        asked: jax.Array,
        context: Context = NOTHING,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """The logits of all tokens [b n k].

        Args:
            variables: of the model.
            tokens: int [b n].
            asked: True where a masked model does not see the token, bool [b n].
            context: of each example.
            keys: a random key for each example [b], for dropout; None drops nothing.
        """
        if self.masked:
            tokens = jnp.where(asked, self.num_tokens, tokens)
        logits = self.model.apply(variables, self.to_steps(tokens), context, keys=keys)
        return self.from_steps(logits).reshape(*tokens.shape, -1)

    def sample(
        self,
        variables: Any,
        keys: jax.Array,
        context: Context,
        sampling: Sampling,
        known: jax.Array | None = None,
    ) -> jax.Array:
        """Samples codes.

        Args:
            variables: of the model.
            keys: a random key for each example [b].
            context: of each example.
            sampling: how.
            known: codes that stay as they are, int [b *grid depth]; -1 where one is to be sampled.

        Returns:
            int32 [b *grid depth].
        """
        b, n = len(keys), math.prod(self.shape)
        known = jnp.full((b, n), -1) if known is None else known.reshape(b, n)
        if not self.masked:
            step, choose, cache = self.causal_step(variables, b, context, sampling)
            steps = self.to_steps(known)
            tokens = generate(step, cache, keys, steps.shape[1], choose, steps, self.model.grow)
            tokens = self.from_steps(tokens)
        else:
            context, both, one = self._guidance(context, sampling)

            def network(tokens: jax.Array) -> jax.Array:
                tokens = both(tokens)
                return one(self.logits(variables, tokens, tokens < 0, context))

            tokens = generate_masked(
                network,
                keys,
                known,
                steps=sampling.steps,
                choice=sampling,
                schedule=self.config.mask_schedule,
                confidence_temperature=sampling.confidence_temperature,
            )
        return tokens.reshape(b, *self.shape)

    def causal_step(
        self, variables: Any, b: int, context: Context, sampling: Sampling
    ) -> tuple[Step, Choose, Any]:
        """The step of a model that is not masked, how its tokens are chosen, and the cache of the first step.

        With guidance; see `vq_jax.sampling.autoregressive.generate`.

        Args:
            variables: of the model.
            b: how many examples.
            context: of each.
            sampling: how.
        """
        context, both, one = self._guidance(context, sampling)
        start = self.model.apply(variables, len(both(jnp.arange(b))), context, method='start')

        def steps(method: str, finish: Callable[[jax.Array], jax.Array]) -> Step:
            def step(before: jax.Array, i: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
                predicted, cache = self.model.apply(variables, both(before), i, cache, method=method)
                return finish(predicted), cache

            return step

        if not isinstance(self.model, RQTransformer):
            return steps('step', one), sampling, start

        def choose(keys: jax.Array, vectors: jax.Array, known: jax.Array) -> jax.Array:
            cache = self.model.apply(variables, vectors, method='start_depths')
            return generate(steps('step_depths', one), cache, keys, known.shape[1], sampling, known)

        return steps('step', lambda vectors: vectors), choose, start

    def to_steps(self, tokens: jax.Array) -> jax.Array:
        """Puts tokens in the order in which the model takes and predicts them.

        Args:
            tokens: int [b n]; -1 may stand for one that is not known.

        Returns:
            Int [b s], or of a pattern with several codes in a step [b s depth], in which `num_tokens` stands
            where there is none of a depth.
        """
        if self.config.pattern == 'flattened':
            return tokens
        codes = tokens.reshape(len(tokens), -1, self.shape[-1])
        return delayed(codes, self.num_tokens) if self.config.pattern == 'delay' else codes

    def from_steps(self, steps: jax.Array) -> jax.Array:
        """Puts what there is of each token of steps [b s ...], or [b s depth ...], in its place [b n ...]."""
        if self.config.pattern == 'flattened':
            return steps
        codes = undelayed(steps) if self.config.pattern == 'delay' else steps
        return codes.reshape(len(codes), -1, *codes.shape[3:])

    def _read(self, coarser: jax.Array | None, b: int) -> jax.Array | None:
        """The codes that the encoder reads of b examples."""
        if coarser is None and self.config.given:
            return jnp.full((b, *self.shape), self.num_tokens)
        return coarser

    def _in_steps(self, context: Context) -> Context:
        """A context whose grid has a vector for each step: that of the position whose first code it predicts.

        The last steps of a delay, which predict no first code, have none.
        """
        if context.grid is None or self.config.pattern == 'flattened':
            return context
        b, width = len(context.grid), context.grid.shape[-1]
        grid = context.grid.reshape(b, -1, width)
        return context.replace(grid=jnp.pad(grid, ((0, 0), (0, self.num_steps - grid.shape[1]), (0, 0))))

    def _guidance(self, context: Context, sampling: Sampling) -> tuple[Context, Any, Any]:
        """The context of what the model sees, and functions of its inputs and of its logits.

        With guidance it sees each example twice, the second time as that leans away from.
        """
        if not (self.encoder.most_dropped and differs(sampling.guidance, 1)):
            return context, lambda x: x, lambda x: x
        return self.encoder.both(context), twice, lambda logits: guide(*halves(logits), sampling.guidance)


def side_by_side(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes of the grid in which the codes of a position [*grid depth] lie side by side on the last axis."""
    *grid, columns, depth = shape
    return *grid, columns * depth


def make_network(
    config: PriorConfig,
    sizes: Mapping[str, Any],
    codes: CodeSpec,
    scale: int,
    num_classes: int,
    conditioner: Conditioner | None = None,
    dropout: float = 0.0,
) -> TokenNetwork:
    """The network of a config.

    Args:
        config: says which.
        sizes: of a 'transformer', of a 'depth_transformer', and of a 'pixelcnn'.
        codes: all vocabularies of which are equal.
        scale: of the codes, that is learned.
        num_classes: that it is conditioned on; 0 for none.
        conditioner: of what else it is conditioned on.
        dropout: the share of the training examples for which that is dropped.
    """
    k, shape = codes.largest, codes.shapes[scale]
    grid, depth = shape[:-1], shape[-1]
    if config.kind == 'pixelcnn':
        size = sizes['pixelcnn']
        model, width = PixelCNN(size, k, grid, depth), size.channels
    else:
        size, causal = sizes['transformer'], config.kind == 'transformer'
        width = size.width
        if config.pattern == 'delay':
            steps = (math.prod(grid) + depth - 1,)
            model = Transformer(size, k + 1, k, steps, tokens_per_slot=depth)
        elif config.pattern == 'depth':
            model = RQTransformer(
                Transformer(size, k, k, grid, tokens_per_slot=depth),
                Transformer(sizes['depth_transformer'], (depth - 1) * k, k, (depth,)),
            )
        else:
            grid = side_by_side(shape)
            model = Transformer(size, k if causal else k + 1, k, grid, causal)
    # One more than there are codes stands where nothing is given.
    given = 1 if config.given else 0
    stack = ConditioningStack(k + given, width, grid, dtype=size.dtype) if scale or given else None
    encoder = ContextEncoder(
        num_classes,
        stack,
        conditioner,
        label_dropout=config.label_dropout,
        dropout=dropout,
        grid_dropout=0.0 if stack else dropout,
    )
    return TokenNetwork(model, encoder, config, shape, k)
