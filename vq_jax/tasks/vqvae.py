"""The VQ-VAE: learn codes from which images can be rebuilt."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vq_jax.errors import check_least
from vq_jax.media import sheets
from vq_jax.models.autoencoder import VQVAE
from vq_jax.models.observation import Distribution, Observation, expected
from vq_jax.models.vqvae2 import VQVAE2
from vq_jax.ops.images import to_float, to_uint8
from vq_jax.ops.keys import content_keys
from vq_jax.ops.likelihoods import bits_per_dimension
from vq_jax.ops.losses import mean_absolute, mean_square
from vq_jax.ops.parts import Part, over_parts
from vq_jax.quantizers.quantizer import BATCH_MEANS
from vq_jax.spec import Spec
from vq_jax.tasks.autoencoding import (
    AutoencodingTask,
    Codes,
    as_model,
    as_scales,
    check_quantizer_parts,
    check_size,
    errors,
    init_codes,
    learn_codes,
    of_scales,
    reconstruction_media,
    summarize,
    usage_of_batch,
)
from vq_jax.tasks.quantizer_config import make_quantizer, quantizer_sections
from vq_jax.training.config import build, defaults
from vq_jax.training.optimizer import Optimizer, model_optimizer
from vq_jax.training.parallel import Batch, Engine
from vq_jax.training.state import TrainState

_ERRORS = {'mse': mean_square, 'l1': mean_absolute}


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The loss of van den Oord et al. 2017 (arXiv:1711.00937), equation 3.

    Attributes:
        reconstruction: the first term: mean squared or mean absolute error of pixels in [-1, 1]; or
            `-log p(x | z)` in nats a value (see `vq_jax.models.observation.Observation`), with which
            evaluation gives a bound on the likelihood of images.
        reconstruction_weight: its weight; the quantizer's terms have their own. One over the variance
            of the pixels makes an error independent of the contrast of the data.
    """

    reconstruction: Literal['mse', 'l1', 'bernoulli', 'gaussian', 'discretised_logistic'] = 'mse'
    reconstruction_weight: float = 1.0

    def __post_init__(self) -> None:
        check_least(0, self, 'reconstruction_weight')


@dataclasses.dataclass(frozen=True)
class VQVAETask(AutoencodingTask):
    """See `vq_jax.tasks.task.Task` for what each method does.

    Attributes:
        model: with one level of codes, or with two.
        loss: see `LossConfig`.
        optimizer: changes the parameters.
        spec: of the examples.
        accumulate: parts of a step's batch.
    """

    model: VQVAE | VQVAE2
    loss: LossConfig
    optimizer: Optimizer
    spec: Spec
    accumulate: int = 1

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """Sections 'model' (of `VQVAE2`; with `top_stages` 0, of `VQVAE`), 'loss' and the quantizers'."""
        model = defaults(VQVAE2, without=('out_channels',))
        model.top_stages = 0
        return {'model': model, **quantizer_sections(), 'loss': defaults(LossConfig)}

    @classmethod
    def from_config(cls, config: ConfigDict, spec: Spec, num_classes: int) -> 'VQVAETask':
        """The task of a full config, for images [h w c]; classes are not used."""
        loss = build(LossConfig, config.loss, 'loss')
        given = {
            'quantizer': make_quantizer(config),
            'observation': None if loss.reconstruction in _ERRORS else Observation(loss.reconstruction),
            'out_channels': spec.channels,
        }
        model = build(VQVAE2, config.model, 'model', top_quantizer=make_quantizer(config), **given)
        if not model.top_stages:
            one_level = {name: value for name, value in config.model.items() if name != 'top_stages'}
            model = build(VQVAE, one_level, 'model', **given)
        check_quantizer_parts(config, model.quantizer)
        return cls(
            model=model,
            loss=loss,
            spec=spec,
            accumulate=config.accumulate,
            optimizer=model_optimizer(config),
        )

    @property
    def vocabularies(self) -> tuple[tuple[int, ...], ...]:
        """How many codes there are, of each scale at each depth."""
        return (self.model.quantizer.vocabulary,) * (2 if isinstance(self.model, VQVAE2) else 1)

    @property
    def has_likelihood(self) -> bool:
        """Whether the decoder is a likelihood."""
        return self.model.observation is not None

    def check_spec(self, spec: Spec) -> None:
        """Raises `UserError` unless the sizes of the grid can be divided as often as the model must."""
        check_size(spec, self.model.factors, self.model.out_channels, 'config.model.stages and top_stages')

    def init(self, key: jax.Array, batch: Batch) -> TrainState:
        """Random parameters."""
        params_key, run_key = jax.random.split(key)
        variables = self.model.init(params_key, to_float(batch['x'][:1]))
        return TrainState.create(run_key, variables, self.optimizer)

    def init_from_data(
        self, key: jax.Array, state: TrainState, batches: Iterable[Batch], engine: Engine
    ) -> TrainState:
        """See `init_codes`; those of the coarser scale come first."""

        def vectors_by(method: str) -> Callable[[TrainState, Batch], jax.Array]:
            def vectors(state: TrainState, batch: Batch) -> jax.Array:
                images = self.seen(to_float(batch['x']))
                return self.model.apply(state.eval_variables(), images, method=method)

            return vectors

        start = functools.partial(
            init_codes, model=self.model, quantizer=self.model.quantizer, accumulate=self.accumulate
        )
        if isinstance(self.model, VQVAE2):
            key, top_key = jax.random.split(key)
            top = {'vectors': vectors_by('top_vectors'), 'method': 'init_top_codes'}
            state = start(top_key, state, batches, engine, **top)
        return start(key, state, batches, engine, vectors=vectors_by('vectors'))

    def train_step(
        self, state: TrainState, batch: Batch, axis_name: str | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update of parameters and codebook."""
        key = state.step_key()

        def loss_fn(params: Any, batch: Batch, part: Part) -> tuple[jax.Array, Any]:
            images = self._observed(part.keys(jax.random.fold_in(key, 0)), to_float(batch['x']))
            (outputs, quantized), changed = self.model.apply(
                {'params': params, **state.variables},
                images,
                train=True,
                part=part,
                step=state.step,
                mutable=[BATCH_MEANS],
                rngs={'codebook': key},
            )
            reconstruction = self._reconstruction_loss(outputs, images)
            loss = jnp.mean(self.loss.reconstruction_weight * reconstruction + quantized.loss)
            metrics = {
                'loss': loss,
                'reconstruction_loss': jnp.mean(reconstruction),
                **quantized.metrics,
            }
            return loss, (metrics, changed.get(BATCH_MEANS, {}), as_scales(quantized.codes))

        def of_part(batch: Batch, part: Part) -> tuple[Any, Codes]:
            grads, (metrics, batch_means, codes) = jax.grad(loss_fn, has_aux=True)(state.params, batch, part)
            return (grads, metrics, batch_means), codes

        means, codes = over_parts(of_part, batch, self.accumulate, axis_name)
        grads, metrics, batch_means = means
        state, update = state.apply_gradients(grads, self.optimizer)
        state, learned = learn_codes(self.model, state, batch_means)
        use = usage_of_batch(codes, self.vocabularies)
        return state.finish_step(self.optimizer), {**metrics, **use, **update, **learned}

    def eval_step(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """Losses, errors, and the codes of each scale.

        With a likelihood also, in nats, 'reconstruction', `log p(x | z)`, and 'kl_uniform_prior', what the
        codes cost if all are equally likely; and the bits per dimension of both together, an upper bound
        on those of the image. What is drawn of an image depends on its bytes alone.
        """
        images = to_float(batch['x'])
        observed = self.seen(images)
        outputs, quantized = self.model.apply(state.eval_variables(), observed)
        reconstruction = self._reconstruction_loss(outputs, observed)
        values = {
            'loss': self.loss.reconstruction_weight * reconstruction + quantized.loss,
            **errors(expected(outputs), batch['x']),
            **of_scales('codes', as_scales(quantized.codes)),
        }
        if self.has_likelihood:
            nats = outputs.log_probability(observed)
            kl = sum(
                codes[0, ..., 0].size * sum(map(math.log, vocabulary))
                for codes, vocabulary in zip(as_scales(quantized.codes), self.vocabularies, strict=True)
            )
            kl = jnp.full_like(nats, kl)
            values |= {
                'reconstruction': nats,
                'kl_uniform_prior': kl,
                'bits_per_dimension_uniform_prior': bits_per_dimension(nats - kl, images[0].size),
            }
        return values

    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """The means, with the use of codes over the whole set."""
        return summarize(means, self.vocabularies)

    def predict(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """Images, their codes, and what these decode to."""
        codes = self.encode(state, batch['x'])
        rebuilt = self.decode(state, codes, batch['label'])
        return {'images': batch['x'], **of_scales('codes', codes), 'reconstructions': rebuilt}

    def media(
        self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]
    ) -> dict[str, sheets.Sheet]:
        """Originals over reconstructions over code maps; histograms of code use."""
        return reconstruction_media(predictions, means, self.vocabularies, self.spec)

    def seen(self, images: jax.Array) -> jax.Array:
        """Images [b h w c] in [-1, 1] as the likelihood observes them; a function of their bytes."""
        return self._observed(content_keys(to_uint8(images)), images)

    def log_likelihood(
        self, state: TrainState, images: jax.Array, codes: Codes, labels: jax.Array | None = None
    ) -> jax.Array:
        """`log p(x | codes)`, in nats [b]; only if `has_likelihood`.

        Where the likelihood is one of what is drawn of an image, such as black and white pixels, the draw is
        the one that `encode` makes, so that `log p(x | z) + log p(z)` bounds `log p(x)` from below with
        `z = encode(state, images)`.

        Args:
            state: of the model.
            images: uint8 [b h w c].
            codes: as `encode` returns them.
            labels: not used.
        """
        pixels = self.model.apply(state.eval_variables(), as_model(codes), method='outputs')
        return pixels.log_probability(self.seen(to_float(images)))

    def _observed(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        return self.model.observation.observe(keys, images) if self.has_likelihood else images

    def _reconstruction_loss(self, outputs: jax.Array | Distribution, images: jax.Array) -> jax.Array:
        """Of each example [b]."""
        if isinstance(outputs, Distribution):
            return -outputs.log_probability(images) / images[0].size
        return _ERRORS[self.loss.reconstruction](outputs, images)
