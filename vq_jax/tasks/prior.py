"""Priors: what the codes of pictures are like, and so how to draw new ones."""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.models.pixelcnn import PixelCNN, PixelCNNSizes
from vq_jax.models.transformer import Transformer, TransformerSizes
from vq_jax.ops import pictures
from vq_jax.ops.collectives import content_keys, example_keys, pmean
from vq_jax.ops.dropout import fold_in
from vq_jax.ops.likelihoods import bits_per_dimension
from vq_jax.ops.logits import guide
from vq_jax.ops.masking import Schedule, random_mask
from vq_jax.sampling.autoregressive import Choice, generate, generate_without_cache
from vq_jax.sampling.masked import generate_masked
from vq_jax.tasks.task import Task, check_labels
from vq_jax.tasks.tokenizers import Tokenizer, TokenizerConfig, make_tokenizer
from vq_jax.training.config import build, defaults
from vq_jax.training.optimizer import Optimizer, OptimizerConfig, make_optimizer
from vq_jax.training.parallel import Batch
from vq_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class PriorConfig:
    """Which network learns the tokens, and what it is told.

    Attributes:
        kind: 'transformer' (section 'transformer') and 'pixelcnn' (section 'pixelcnn') predict each token
            from those before it; 'maskgit' is a transformer that predicts masked tokens from all others.
        class_conditional: draw tokens of a given class.
        label_dropout: share of the training examples whose class is kept from the network, which guidance
            needs (Ho and Salimans 2022).
        mask_schedule: of the share that is masked, in training and sampling, for 'maskgit'.
    """

    kind: Literal['transformer', 'pixelcnn', 'maskgit'] = 'transformer'
    class_conditional: bool = False
    label_dropout: float = 0.1
    mask_schedule: Schedule = 'cosine'


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: logits are divided by it; 0 takes the most likely token.
        top_k: draw from the k most likely tokens alone; None from all.
        top_p: draw from the fewest tokens whose probabilities reach p; None from all.
        guidance: towards the class; 1 is the model itself (see `vq_jax.ops.logits.guide`).
        steps: of 'maskgit'.
        confidence_temperature: of 'maskgit' (see `vq_jax.sampling.masked.generate_masked`).
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    guidance: float = 1.0
    steps: int = 12
    confidence_temperature: float = 4.5

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f'steps is {self.steps}; give 1 or more.')
        self.choice()  # checks the rest

    def choice(self) -> Choice:
        """How one token is chosen."""
        return Choice(self.temperature, self.top_k, self.top_p)


@dataclasses.dataclass(frozen=True)
class PriorTask(Task):
    """See `vq_jax.tasks.task.Task` for what each method does; `state.frozen` is the tokenizer's.

    Attributes:
        model: tokens to logits.
        tokenizer: pictures to tokens and back.
        config: see `PriorConfig`.
        sampling: see `Sampling`.
        optimizer: changes the parameters.
        image_shape: [h w c].
        num_labels: classes that the model is conditioned on; 0 for none.
    """

    inference_needs_frozen: ClassVar[bool] = True

    model: Transformer | PixelCNN
    tokenizer: Tokenizer
    config: PriorConfig
    sampling: Sampling
    optimizer: Optimizer
    image_shape: tuple[int, int, int]
    num_labels: int

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """Sections 'tokenizer', 'model', 'transformer', 'pixelcnn' and 'sampling'."""
        return {
            'tokenizer': defaults(TokenizerConfig),
            'model': defaults(PriorConfig),
            'transformer': defaults(TransformerSizes),
            'pixelcnn': defaults(PixelCNNSizes),
            'sampling': defaults(Sampling),
        }

    @classmethod
    def from_config(
        cls, config: ConfigDict, image_shape: tuple[int, int, int], num_classes: int
    ) -> 'PriorTask':
        """The task of a full config, for pictures [h w c] of so many classes; reads the tokenizer's run."""
        options = build(PriorConfig, config.model, 'model')
        check_labels(options.class_conditional, num_classes, 'model')
        tokenizer = make_tokenizer(build(TokenizerConfig, config.tokenizer, 'tokenizer'), image_shape)
        num_labels = num_classes if options.class_conditional else 0
        if tokenizer.num_labels and not num_labels:
            raise UserError(
                'the decoder of this tokenizer is conditioned on classes; set '
                'config.model.class_conditional=true.'
            )
        k = tokenizer.num_tokens
        if options.kind == 'pixelcnn':
            model = PixelCNN(build(PixelCNNSizes, config.pixelcnn, 'pixelcnn'), k, num_labels)
        else:
            causal = options.kind == 'transformer'
            model = Transformer(
                build(TransformerSizes, config.transformer, 'transformer'),
                num_inputs=k if causal else k + 1,
                num_outputs=k,
                grid=tokenizer.grid,
                num_classes=num_labels,
                causal=causal,
            )
        return cls(
            model=model,
            tokenizer=tokenizer,
            num_labels=num_labels,
            config=options,
            sampling=build(Sampling, config.sampling, 'sampling'),
            optimizer=make_optimizer(build(OptimizerConfig, config.optimizer, 'optimizer'), config.steps),
            image_shape=image_shape,
        )

    @property
    def num_codes(self) -> int:
        """How many tokens there are."""
        return self.tokenizer.num_tokens

    def check_image_shape(self, shape: tuple[int, int, int]) -> None:
        """Raises `UserError` unless the pictures are as large as those the model was made for."""
        if shape != self.image_shape:
            raise UserError(f'the pictures are {shape} and the model was made for {self.image_shape}.')

    def init(self, key: jax.Array, batch: Batch) -> TrainState:
        """Random parameters."""
        params_key, run_key = jax.random.split(key)
        tokens = jnp.zeros((1, *self.tokenizer.grid), jnp.int32)
        tokens = tokens if isinstance(self.model, PixelCNN) else tokens.reshape(1, -1)
        variables = self.model.init(params_key, tokens, batch['label'][:1])
        return TrainState.create(run_key, variables, self.optimizer)

    def pretrained(self) -> Any:
        """What the tokenizer learned."""
        return self.tokenizer.state()

    def pretrained_shapes(self) -> Any:
        """Their shapes."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), self.tokenizer.state())

    def train_step(
        self, state: TrainState, batch: Batch, axis_name: str | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update of the parameters."""
        tokens = self._tokens(state, batch)
        keys = example_keys(state.step_key(), len(tokens), axis_name)
        labels = self._labels(batch['label'])
        if self.num_labels:
            hidden = jax.vmap(lambda key: jax.random.bernoulli(key, self.config.label_dropout))
            labels = jnp.where(hidden(fold_in(keys, 0)), self.num_labels, labels)
        asked = self._asked(fold_in(keys, 1), tokens)
        share = pmean(jnp.mean(asked), axis_name)

        def loss_fn(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            logits = self._logits({'params': params}, tokens, asked, labels, fold_in(keys, 2))
            nats = optax.softmax_cross_entropy_with_integer_labels(logits, tokens)
            right = (jnp.argmax(logits, -1) == tokens) & asked
            # Over all tokens that were asked for, on whatever device.
            loss = jnp.mean(nats * asked) / share
            return loss, {'loss': loss, 'accuracy': jnp.mean(right) / share}

        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params)
        grads, metrics = pmean((grads, metrics), axis_name)
        state, update = state.apply_gradients(grads, self.optimizer)
        return state.finish_step(self.optimizer), {**metrics, **update}

    def eval_step(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """Nats of the tokens; of a masked model, of those in a mask that depends on the picture alone."""
        tokens = self._tokens(state, batch)
        asked = self._asked(content_keys(batch['image']), tokens)
        labels = self._labels(batch['label'])
        logits = self._logits(state.eval_variables(), tokens, asked, labels, None)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, tokens)
        right = (jnp.argmax(logits, -1) == tokens) & asked
        return {
            'nats': jnp.sum(nats * asked, -1),
            'right': jnp.mean(right, -1),
            'asked': jnp.mean(asked, -1),
        }

    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """'loss' is nats a token asked for; a causal model also has the likelihood of whole grids."""
        n, share = math.prod(self.tokenizer.grid), means['asked']
        numbers = {'loss': means['nats'] / n / share, 'accuracy': means['right'] / share}
        if self.config.kind != 'maskgit':
            numbers |= {'nats': means['nats'], 'bits_per_dimension': bits_per_dimension(-means['nats'], n)}
        return {name: float(value) for name, value in numbers.items()}

    def predict(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """Pictures, what their tokens decode to, and a sample of the class of each."""
        images, labels = batch['image'], batch['label']
        return {
            'images': images,
            'decoded': self.decode(state, self.encode(state, images), labels),
            'samples': self.sample(state, content_keys(images), labels),
        }

    def pictures(
        self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Pictures over what their tokens decode to over samples."""
        rows = [predictions[name] for name in ('images', 'decoded', 'samples')]
        return {'samples': pictures.rows(rows)}

    def sample(
        self, state: TrainState, keys: jax.Array, labels: jax.Array, sampling: Sampling | None = None
    ) -> jax.Array:
        """Pictures [n h w c], uint8, of the classes int32 [n] if the model is conditioned on them."""
        tokens = self.sample_tokens(state, keys, labels, None, sampling)
        return self.decode(state, tokens, labels)

    def sample_tokens(
        self,
        state: TrainState,
        keys: jax.Array,
        labels: jax.Array,
        given: jax.Array | None = None,
        sampling: Sampling | None = None,
    ) -> jax.Array:
        """Draws grids of tokens.

        Args:
            state: of the model.
            keys: a random key for each grid [b].
            labels: int32 [b]; without meaning for a model that is not conditioned on them.
            given: tokens that stay as they are, int [b h w]; -1 where one is to be drawn.
            sampling: how; by default as the config says.

        Returns:
            int32 [b h w].
        """
        sampling = sampling or self.sampling
        b, n = len(keys), math.prod(self.tokenizer.grid)
        labels = self._labels(labels)
        guided = bool(self.num_labels) and sampling.guidance != 1
        if guided:
            labels = jnp.concatenate([labels, jnp.full_like(labels, self.num_labels)])

        def asked_with(tokens: jax.Array) -> jax.Array:
            return jnp.concatenate([tokens, tokens]) if guided else tokens

        def merged(logits: jax.Array) -> jax.Array:
            return guide(*jnp.split(logits, 2), sampling.guidance) if guided else logits

        variables = state.eval_variables()
        given = jnp.full((b, n), -1) if given is None else given.reshape(b, n)
        if self.config.kind == 'transformer':

            def step(before: jax.Array, i: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
                inputs = asked_with(before), labels, i, cache
                logits, grown = self.model.apply(variables, *inputs, method='step')
                return merged(logits), grown

            cache = self.model.empty_cache(len(labels))
            tokens = generate(step, cache, keys, n, sampling.choice(), given)
        else:

            def network(tokens: jax.Array) -> jax.Array:
                tokens = asked_with(tokens)
                return merged(self._logits(variables, tokens, tokens < 0, labels, None))

            if self.config.kind == 'pixelcnn':
                tokens = generate_without_cache(network, keys, n, sampling.choice(), given)
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
        return tokens.reshape(b, *self.tokenizer.grid)

    def log_probability(self, state: TrainState, tokens: jax.Array, labels: jax.Array) -> jax.Array:
        """Of grids of tokens, int [b h w], in nats [b]; a masked model has none."""
        flat = tokens.reshape(len(tokens), -1)
        asked = jnp.ones(flat.shape, bool)
        logits = self._logits(state.eval_variables(), flat, asked, self._labels(labels), None)
        return -jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, flat), -1)

    def encode(self, state: TrainState, images: jax.Array) -> jax.Array:
        """The tokens, int32 [b h' w'], of pictures, uint8 [b h w c]."""
        return self.tokenizer.encode(state.frozen, images)

    def decode(self, state: TrainState, codes: jax.Array, labels: jax.Array) -> jax.Array:
        """Pictures, uint8 [b h w c], of tokens, int [b h' w'], of the classes int32 [b]."""
        return self.tokenizer.decode(state.frozen, codes, labels)

    def _tokens(self, state: TrainState, batch: Batch) -> jax.Array:
        """[b n], without a gradient."""
        tokens = self.encode(state, batch['image'])
        return jax.lax.stop_gradient(tokens).reshape(len(tokens), -1)

    def _labels(self, labels: jax.Array) -> jax.Array:
        return labels if self.num_labels else jnp.zeros_like(labels)

    def _asked(self, keys: jax.Array, tokens: jax.Array) -> jax.Array:
        """Which tokens the network is to predict at once, bool [b n]."""
        if self.config.kind == 'maskgit':
            return random_mask(keys, tokens.shape[1], self.config.mask_schedule)
        return jnp.ones(tokens.shape, bool)

    def _logits(
        self,
        variables: Any,
        tokens: jax.Array,
        asked: jax.Array,
        labels: jax.Array,
        keys: jax.Array | None,
    ) -> jax.Array:
        """Logits of all tokens [b n k]; a masked model does not see those asked for."""
        if self.config.kind == 'maskgit':
            tokens = jnp.where(asked, self.tokenizer.num_tokens, tokens)
        if isinstance(self.model, PixelCNN):
            grids = tokens.reshape(-1, *self.tokenizer.grid)
            logits = self.model.apply(variables, grids, labels, keys)
            return logits.reshape(*tokens.shape, -1)
        return self.model.apply(variables, tokens, labels, keys)
