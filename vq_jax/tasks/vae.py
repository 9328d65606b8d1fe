"""The VAE, as a config describes it: a likelihood of examples, and a latent to sample them from."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vq_jax.errors import check_least
from vq_jax.media import Media, show
from vq_jax.models.autoencoder import Autoencoder
from vq_jax.models.mlp import MLPEncoder, MLPSizes, mlp_decoder
from vq_jax.models.observation import Likelihood, Observation
from vq_jax.models.residual import ResidualEncoder, ResidualSizes, residual_decoder
from vq_jax.models.strided import FlatEncoder, FlatTrunk, StridedSizes, strided_decoder
from vq_jax.ops import gaussians
from vq_jax.ops.images import to_float
from vq_jax.ops.keys import content_keys, fold_in, normal
from vq_jax.ops.likelihoods import bits_per_dimension
from vq_jax.ops.losses import sum_each
from vq_jax.quantizers.gaussian import GaussianBottleneck
from vq_jax.spec import Spec
from vq_jax.tasks.autoencoder import AutoencoderTask, check_residual, encoded_grid, errors
from vq_jax.tasks.losses import BottleneckLoss, reconstruction_loss
from vq_jax.tasks.task import check_parts, check_same_spec
from vq_jax.training.config import build, defaults
from vq_jax.training.optimizer import model_optimizer
from vq_jax.training.parallel import Batch
from vq_jax.training.state import TrainState

_FACTORS_KEY = 'the stages of the encoder'  # by which latents are fewer than values
_ACTIVE = 0.01  # Burda et al. 2016 (arXiv:1509.00519), section 5.2


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """What the VAE is made of.

    Attributes:
        backbone: encoder and decoder: connected layers (section 'mlp') or convolutions (section
            'convolutional') around a vector, or VQGAN's blocks (section 'residual') around a grid.
        latent_dim: dimensions of the latent; at each position, if it is a grid.
        likelihood: of values under the decoder's outputs (see `vq_jax.models.observation.Observation`).
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
    """The negative evidence lower bound, in nats an example.

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
class VAETask(AutoencoderTask):
    """The autoencoder of a Gaussian bottleneck and a likelihood, which has a prior to sample from.

    Attributes:
        latent_shape: of one example's latent, [d] or [*grid' d].
        importance_samples: k of the importance-weighted bound.
    """

    latent_shape: tuple[int, ...] = ()
    importance_samples: int = 1

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """Sections 'model', 'mlp', 'convolutional', 'residual' and 'loss'."""
        convolutional = defaults(StridedSizes)
        convolutional.channels, convolutional.stages = 64, 3
        return {
            'model': defaults(VAEConfig),
            'mlp': defaults(MLPSizes),
            'convolutional': convolutional,
            'residual': defaults(ResidualSizes),
            'loss': defaults(VAELossConfig),
        }

    @classmethod
    def from_config(cls, config: ConfigDict, spec: Spec, num_classes: int) -> 'VAETask':
        """The task of a full config, for such examples; classes are not used."""
        options = build(VAEConfig, config.model, 'model')
        loss = build(VAELossConfig, config.loss, 'loss')
        if loss.free_bits:
            check_parts(config, 'config.loss.free_bits', 'config.loss.free_bits=0')
        mlp = build(MLPSizes, config.mlp, 'mlp')
        strided = build(StridedSizes, config.convolutional, 'convolutional')
        residual = build(ResidualSizes, config.residual, 'residual')
        factors, grid, features, first_apart = (1,), (), None, False
        if options.backbone == 'mlp':
            encoder, decoder = MLPEncoder(mlp), mlp_decoder(mlp, spec.shape)
        elif options.backbone == 'convolutional':
            encoder, trunk = FlatEncoder(strided), FlatTrunk(strided, spec.grid)
            decoder = strided_decoder(strided, spec.channels, trunk)
            factors = strided.factors
        else:
            features, factors = residual.features, residual.factors
            encoder = ResidualEncoder(residual, 2 * features)
            decoder = residual_decoder(residual, spec.channels)
            check_residual(residual, spec, 'residual')
            first_apart = residual.temporal == 'causal'
            grid = encoded_grid(spec, factors, _FACTORS_KEY, first_apart)
        bottleneck = GaussianBottleneck(options.latent_dim, features, loss.free_bits)
        return cls(
            model=Autoencoder(encoder, bottleneck, decoder, Observation(options.likelihood, spec.dtype)),
            spec=spec,
            factors=factors,
            factors_key=_FACTORS_KEY,
            # Other likelihoods add noise to what is seen, by the bytes of the whole example.
            streams=first_apart and options.likelihood == 'discretised_logistic',
            first_apart=first_apart,
            losses=(reconstruction_loss(options.likelihood, math.prod(spec.shape)),),  # nats an example
            bottleneck_loss=BottleneckLoss(loss.beta, loss.beta_warmup),
            optimizer=model_optimizer(config),
            accumulate=config.accumulate,
            latent_shape=(*grid, options.latent_dim),
            importance_samples=options.importance_samples,
        )

    def check_spec(self, spec: Spec) -> None:
        """Raises `UserError` if the size does not fit; only a grid of latents takes other sizes."""
        super().check_spec(spec)
        if len(self.latent_shape) == 1:
            check_same_spec(spec, self.spec)

    def train_step(
        self, state: TrainState, batch: Batch, axis_name: str | None = None, phase: str | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update of the parameters; the metrics have the bound and its parts, in nats."""
        state, metrics = super().train_step(state, batch, axis_name, phase)
        reconstruction = -metrics.pop('reconstruction_loss') * math.prod(self.spec.shape)
        metrics |= {'reconstruction': reconstruction, 'elbo': reconstruction - metrics['kl']}
        return state, metrics

    def eval_step(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """The bounds and their parts in nats [b], errors, and moments of the posterior's means.

        The moments are around the mean of a grey image. What is sampled of an example depends on its bytes
        alone.
        """
        variables, keys = state.eval_variables(), content_keys(batch['x'])
        observed = self.seen(to_float(batch['x']))
        posterior = self.model.apply(variables, observed, method='posterior')
        kl = sum_each(posterior.kl())

        def add(sums: tuple[jax.Array, ...], number: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
            """Adds a sample to log-sum-exp of the weights, and to the sum of reconstructions."""
            z = gaussians.sample(fold_in(keys, number), posterior.mean, posterior.log_variance)
            outputs = self.model.apply(variables, (z,), method='outputs')
            reconstruction = outputs.log_probability(observed)
            log_ratio = gaussians.log_density(z, 0.0, 0.0) - gaussians.log_density(
                z, posterior.mean, posterior.log_variance
            )
            log_weight = reconstruction + sum_each(log_ratio)
            weights, reconstructions = sums
            return (jnp.logaddexp(weights, log_weight), reconstructions + reconstruction), None

        k, b = self.importance_samples, len(observed)
        start = (jnp.full(b, -jnp.inf), jnp.zeros(b))
        (weights, reconstructions), _ = jax.lax.scan(add, start, 1 + jnp.arange(k))
        reconstruction, size = reconstructions / k, observed[0].size
        elbo, iwae = reconstruction - kl, weights - jnp.log(k)
        # Moments around a point near all means, the same for all batches: float32 keeps more of their digits.
        grey = self.model.apply(variables, jnp.zeros_like(observed[:1]), method='posterior').mean
        mean = (posterior.mean - grey).reshape(b, -1)
        decoded = self.model.apply(variables, (posterior.mean,), method='decode')
        return {
            'loss': -elbo,
            'elbo': elbo,
            'reconstruction': reconstruction,
            'kl': kl,
            'iwae': iwae,
            'bits_per_dimension': bits_per_dimension(elbo, size),
            'iwae_bits_per_dimension': bits_per_dimension(iwae, size),
            **errors(decoded, batch['x'], self.spec),
            'latent_mean': mean,
            'latent_square': jnp.square(mean),
        }

    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """The means, and how many dimensions of the latent are active."""
        metrics = dict(means)
        # A dimension is active if its mean varies with the example.
        variance = metrics.pop('latent_square') - np.square(metrics.pop('latent_mean'))
        metrics['active_units'] = np.sum(variance > _ACTIVE)
        return super().summarize(metrics)

    def predict(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """Examples, their reconstructions, and as many samples."""
        keys = fold_in(content_keys(batch['x']), 0)  # not those that the examples are observed with
        samples = self.sample(state, keys, batch['label'])
        return {**super().predict(state, batch), 'samples': samples}

    def media(self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]) -> dict[str, Media]:
        """Originals over reconstructions; samples from the prior."""
        samples = show('samples', {'samples': predictions['samples']}, self.spec)
        return {**super().media(predictions, means), **samples}

    def sample(self, state: TrainState, keys: jax.Array, labels: jax.Array) -> jax.Array:
        """Examples as the spec says, of latents sampled from the prior."""
        return self.decode(state, (normal(keys, self.latent_shape),), labels)
