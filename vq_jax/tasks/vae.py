"""The VAE: learn a density of images, and a latent from which they can be drawn."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vq_jax.errors import check_least
from vq_jax.media import sheets
from vq_jax.models.observation import Likelihood, Observation
from vq_jax.models.residual import ResidualDecoder, ResidualEncoder, ResidualSizes
from vq_jax.models.vae import (
    VAE,
    ConvolutionalSizes,
    FlatDecoder,
    FlatEncoder,
    MLPDecoder,
    MLPEncoder,
    MLPSizes,
)
from vq_jax.ops import gaussians
from vq_jax.ops.collectives import pmean
from vq_jax.ops.grids import per_axis
from vq_jax.ops.images import to_float
from vq_jax.ops.keys import content_keys, fold_in, normal
from vq_jax.ops.likelihoods import bits_per_dimension
from vq_jax.ops.parts import Part
from vq_jax.quantizers.gaussian import GaussianBottleneck
from vq_jax.spec import Spec
from vq_jax.tasks.autoencoding import AutoencodingTask, check_size, errors
from vq_jax.tasks.task import check_parts, check_same_spec
from vq_jax.training.config import build, defaults
from vq_jax.training.optimizer import Optimizer, model_optimizer
from vq_jax.training.parallel import Batch
from vq_jax.training.state import TrainState

_ACTIVE = 0.01  # Burda et al. 2016 (arXiv:1509.00519), section 5.2


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """What the VAE is made of.

    Attributes:
        backbone: encoder and decoder: connected layers (section 'mlp') or convolutions (section
            'convolutional') around a vector, or VQGAN's blocks (section 'residual') around a grid.
        latent_dim: dimensions of the latent; at each place, if it is a grid.
        likelihood: of pixels under the decoder's outputs (see `vq_jax.models.observation.Observation`).
        importance_samples: samples for the bound of Burda et al. 2016 in evaluation, k.
    """

    backbone: Literal['mlp', 'convolutional', 'residual'] = 'mlp'
    latent_dim: int = 50
    likelihood: Likelihood = 'bernoulli'
    importance_samples: int = 50

    def __post_init__(self) -> None:
        check_least(1, self, 'latent_dim', 'importance_samples')


@dataclasses.dataclass(frozen=True)
class VAELossConfig:
    """The negative evidence lower bound, in nats an image.

    In training 'loss' is weighted as below; in evaluation it is the bound itself, whatever the weights.

    Attributes:
        beta: weight of the divergence from the prior (Higgins et al. 2017); 1 is the bound.
        beta_warmup: steps over which the weight rises from 0 (Bowman et al. 2016, arXiv:1511.06349).
        free_bits: nats, on average over a batch, that each dimension of the latent may hold for
            nothing (Kingma et al. 2016, arXiv:1606.04934, equation 15).
    """

    beta: float = 1.0
    beta_warmup: int = 0
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        check_least(0, self, 'beta', 'beta_warmup', 'free_bits')


@dataclasses.dataclass(frozen=True)
class VAETask(AutoencodingTask):
    """See `vq_jax.tasks.task.Task` for what each method does.

    Attributes:
        model: see `vq_jax.models.vae.VAE`.
        latent_shape: of one example's latent, [d] or [*grid' d].
        spec: of the examples.
        factors: must divide the sizes of the grid.
        importance_samples: k of the importance-weighted bound.
        loss: see `VAELossConfig`.
        optimizer: changes the parameters.
        accumulate: parts of a step's batch.
    """

    model: VAE
    latent_shape: tuple[int, ...]
    spec: Spec
    factors: tuple[int, ...]
    importance_samples: int
    loss: VAELossConfig
    optimizer: Optimizer
    accumulate: int = 1

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """Sections 'model', 'mlp', 'convolutional', 'residual' and 'loss'."""
        return {
            'model': defaults(VAEConfig),
            'mlp': defaults(MLPSizes),
            'convolutional': defaults(ConvolutionalSizes),
            'residual': defaults(ResidualSizes),
            'loss': defaults(VAELossConfig),
        }

    @classmethod
    def from_config(cls, config: ConfigDict, spec: Spec, num_classes: int) -> 'VAETask':
        """The task of a full config, for images [h w c]; classes are not used."""
        options = build(VAEConfig, config.model, 'model')
        sizes = {
            'mlp': build(MLPSizes, config.mlp, 'mlp'),
            'convolutional': build(ConvolutionalSizes, config.convolutional, 'convolutional'),
            'residual': build(ResidualSizes, config.residual, 'residual'),
        }[options.backbone]
        factors, latent_shape, features = (1,), (options.latent_dim,), None
        if isinstance(sizes, MLPSizes):
            encoder, decoder = MLPEncoder(sizes), MLPDecoder(sizes, spec.shape)
        elif isinstance(sizes, ConvolutionalSizes):
            encoder, decoder = FlatEncoder(sizes), FlatDecoder(sizes, spec.shape)
            factors = sizes.factors
        else:
            encoder = ResidualEncoder(sizes, 2 * sizes.features)
            decoder = ResidualDecoder(sizes, spec.channels)
            factors, features = sizes.factors, sizes.features
            along = per_axis(factors, spec.rank, 'strides')
            grid = (n // f for n, f in zip(spec.grid, along, strict=True))
            latent_shape = (*grid, options.latent_dim)
        model = VAE(
            encoder=encoder,
            latent=GaussianBottleneck(options.latent_dim, features),
            decoder=decoder,
            observation=Observation(options.likelihood),
        )
        loss = build(VAELossConfig, config.loss, 'loss')
        if loss.free_bits:
            check_parts(config, 'config.loss.free_bits', 'config.loss.free_bits=0')
        return cls(
            model=model,
            latent_shape=latent_shape,
            spec=spec,
            factors=factors,
            importance_samples=options.importance_samples,
            loss=loss,
            optimizer=model_optimizer(config),
            accumulate=config.accumulate,
        )

    def check_spec(self, spec: Spec) -> None:
        """Raises `UserError` if the size does not fit; only a grid of latents takes other sizes."""
        check_size(spec, self.factors, self.spec.channels, 'the stages of the encoder')
        if len(self.latent_shape) == 1:
            check_same_spec(spec, self.spec)

    def init(self, key: jax.Array, batch: Batch) -> TrainState:
        """Random parameters."""
        params_key, run_key = jax.random.split(key)
        variables = self.model.init(params_key, to_float(batch['x'][:1]))
        return TrainState.create(run_key, variables, self.optimizer)

    def train_step(
        self, state: TrainState, batch: Batch, axis_name: str | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update of the parameters."""
        observing, sampling = jax.random.split(state.step_key())
        warm = jnp.minimum(1.0, state.step / max(1, self.loss.beta_warmup)) if self.loss.beta_warmup else 1.0

        def loss_fn(params: Any, batch: Batch, part: Part) -> tuple[jax.Array, Any]:
            variables, images = {'params': params}, to_float(batch['x'])
            observed = self.model.observation.observe(part.keys(observing), images)
            posterior = self.model.apply(variables, observed, method='posterior')
            z = gaussians.sample(part.keys(sampling), posterior.mean, posterior.log_variance)
            pixels = self.model.apply(variables, z, method='distribution')
            reconstruction = jnp.mean(pixels.log_probability(observed))
            units = jnp.mean(posterior.kl(), axis=0)
            # Whether a dimension is below its free bits is a matter of the whole batch.
            paid = pmean(jax.lax.stop_gradient(units), axis_name) > self.loss.free_bits
            divergence = jnp.sum(jnp.where(paid, units, self.loss.free_bits))
            loss = self.loss.beta * warm * divergence - reconstruction
            kl = jnp.sum(units)
            metrics = {'loss': loss, 'elbo': reconstruction - kl, 'reconstruction': reconstruction, 'kl': kl}
            return loss, metrics

        return state.descend(loss_fn, batch, self.optimizer, self.accumulate, axis_name)

    def eval_step(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """The bounds and their parts in nats [b], errors, and moments of the posterior's means.

        The moments are around the mean of a grey image. The draws of an image depend on its bytes alone.
        """
        variables = state.eval_variables()
        images = to_float(batch['x'])
        keys = content_keys(batch['x'])
        observed = self.model.observation.observe(fold_in(keys, 0), images)
        posterior = self.model.apply(variables, observed, method='posterior')
        kl = jnp.sum(posterior.kl(), axis=tuple(range(1, posterior.mean.ndim)))

        def draw(carry: tuple[jax.Array, jax.Array], number: jax.Array) -> tuple[Any, None]:
            """Adds a sample to log-sum-exp of the weights, and to the sum of reconstructions."""
            z = gaussians.sample(fold_in(keys, number), posterior.mean, posterior.log_variance)
            pixels = self.model.apply(variables, z, method='distribution')
            reconstruction = pixels.log_probability(observed)
            log_ratio = gaussians.log_density(z, 0.0, 0.0) - gaussians.log_density(
                z, posterior.mean, posterior.log_variance
            )
            log_weight = reconstruction + jnp.sum(log_ratio, axis=tuple(range(1, z.ndim)))
            weights, reconstructions = carry
            return (jnp.logaddexp(weights, log_weight), reconstructions + reconstruction), None

        k = self.importance_samples
        start = (jnp.full(len(images), -jnp.inf), jnp.zeros(len(images)))
        (weights, reconstructions), _ = jax.lax.scan(draw, start, 1 + jnp.arange(k))
        reconstruction, values = reconstructions / k, images[0].size
        elbo, iwae = reconstruction - kl, weights - jnp.log(k)
        # Moments around a point near all means, the same for all batches: float32 keeps more of their digits.
        grey = self.model.apply(variables, jnp.zeros_like(observed[:1]), method='posterior').mean
        mean = (posterior.mean - grey).reshape(len(images), -1)
        return {
            'elbo': elbo,
            'reconstruction': reconstruction,
            'kl': kl,
            'iwae': iwae,
            'bits_per_dimension': bits_per_dimension(elbo, values),
            'iwae_bits_per_dimension': bits_per_dimension(iwae, values),
            **errors(self.model.apply(variables, posterior.mean, method='decode'), batch['x']),
            'latent_mean': mean,
            'latent_square': jnp.square(mean),
        }

    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """The means, and how many dimensions of the latent are active."""
        metrics = dict(means)
        # A dimension is active if its mean varies with the image.
        variance = metrics.pop('latent_square') - np.square(metrics.pop('latent_mean'))
        metrics['active_units'] = np.sum(variance > _ACTIVE)
        metrics['loss'] = -metrics['elbo']
        return {name: float(value) for name, value in metrics.items()}

    def predict(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """Images, their reconstructions, and as many samples."""
        images, labels = batch['x'], batch['label']
        rebuilt = self.decode(state, self.encode(state, images), labels)
        samples = self.sample(state, content_keys(images), labels)
        return {'images': images, 'reconstructions': rebuilt, 'samples': samples}

    def media(
        self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]
    ) -> dict[str, sheets.Sheet]:
        """Originals over reconstructions; samples from the prior."""
        return {
            'reconstructions': sheets.rows(
                {'originals': predictions['images'], 'reconstructions': predictions['reconstructions']}
            ),
            'samples': sheets.rows({'samples': predictions['samples']}),
        }

    def sample(self, state: TrainState, keys: jax.Array, labels: jax.Array) -> jax.Array:
        """Images [n h w c], uint8, of latents drawn from the prior."""
        return self.decode(state, normal(keys, self.latent_shape), labels)
