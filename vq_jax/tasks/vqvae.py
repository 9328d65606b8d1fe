"""The VQ-VAE, of one or two scales of codes, as a config describes it."""

import dataclasses
from typing import Literal

from ml_collections import ConfigDict

from vq_jax.errors import UserError, check_least
from vq_jax.models.autoencoder import Autoencoder
from vq_jax.models.observation import CATEGORICAL, Observation
from vq_jax.models.strided import StridedEncoder, StridedSizes, strided_decoder
from vq_jax.models.two_scales import TwoScaleBottleneck, TwoScaleTrunk
from vq_jax.spec import Spec
from vq_jax.tasks.autoencoder import AutoencoderTask, encoded_grid
from vq_jax.tasks.losses import BottleneckLoss, reconstruction_loss
from vq_jax.tasks.quantizer_config import make_quantizer, more_codes, quantizer_sections
from vq_jax.tasks.spectral import Spectral
from vq_jax.tasks.task import labels_of
from vq_jax.tasks.values import num_channels
from vq_jax.training.config import build, defaults
from vq_jax.training.optimizer import model_optimizer

_FACTORS_KEY = 'config.model.stages and top_stages'  # by which vectors are fewer than values


@dataclasses.dataclass(frozen=True)
class VQVAEConfig(StridedSizes):
    """Sizes of encoders and decoders.

    Attributes:
        top_stages: strided convolutions from the codes to those of a coarser scale (Razavi et al. 2019,
            arXiv:1906.00446); 0 for one scale.
        class_conditional: the decoder is given the class, such as who speaks, so that codes need not tell it
            (van den Oord et al. 2017, section 4.3); only of one scale. The encoder is not given it.
    """

    top_stages: int = 0
    class_conditional: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(0, self, 'top_stages')
        if self.class_conditional and self.top_stages:
            raise UserError(
                f'class_conditional is true and top_stages is {self.top_stages}, and a decoder of two scales '
                'takes no class; set one of them to false or 0.'
            )


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The loss of van den Oord et al. 2017 (arXiv:1711.00937), equation 3.

    Attributes:
        reconstruction: the first term: mean squared or mean absolute error of values in [-1, 1]; or
            `-log p(x | z)` in nats a value (see `vq_jax.models.observation.Observation`), with which
            evaluation gives a bound on the likelihood of examples. Of text it is 'categorical', in nats a
            position.
        reconstruction_weight: its weight; the quantizer's terms have their own. One over the variance
            of the values makes an error independent of the contrast of the data.
    """

    reconstruction: Literal['mse', 'l1', 'bernoulli', 'gaussian', 'discretised_logistic', 'categorical'] = (
        'mse'
    )
    reconstruction_weight: float = 1.0

    def __post_init__(self) -> None:
        check_least(0, self, 'reconstruction_weight')

    def check_spec(self, spec: Spec) -> None:
        """Raises `UserError` if it cannot be that of such examples."""
        if (spec.kind == 'text') != (self.reconstruction == CATEGORICAL):
            only = f'is for text, and these are {spec.plural}; set it to mse'
            if spec.kind == 'text':
                only = f'is for numbers, and tokens of text are none; set it to {CATEGORICAL}'
            raise UserError(f'config.loss.reconstruction is {self.reconstruction}, which {only}.')


class VQVAETask(AutoencoderTask):
    """The autoencoder of a strided encoder, quantizers and a strided decoder."""

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """Sections 'model', 'loss' and 'spectral', and the quantizers'."""
        return {
            'model': defaults(VQVAEConfig),
            **quantizer_sections(),
            'loss': defaults(LossConfig),
            'spectral': defaults(Spectral),
        }

    @classmethod
    def from_config(cls, config: ConfigDict, spec: Spec, num_classes: int) -> 'VQVAETask':
        """The task of a full config, for such examples of so many classes."""
        sizes = build(VQVAEConfig, config.model, 'model')
        num_labels = labels_of(sizes.class_conditional, num_classes, 'model')
        loss = build(LossConfig, config.loss, 'loss')
        loss.check_spec(spec)
        factors = dataclasses.replace(sizes, stages=sizes.stages + sizes.top_stages).factors
        grid = encoded_grid(spec, factors, _FACTORS_KEY)
        quantizer = make_quantizer(config, None if sizes.top_stages else grid)
        if sizes.top_stages:
            quantizers = make_quantizer(config, None), quantizer
            between = dataclasses.replace(sizes, stages=sizes.top_stages)
            encoder = StridedEncoder(sizes, sizes.channels)
            bottleneck = TwoScaleBottleneck(quantizers, between)
            trunk = TwoScaleTrunk(sizes, between.factors)
        else:
            encoder, bottleneck, trunk = StridedEncoder(sizes, quantizer.dim), quantizer, None
        is_error = loss.reconstruction in ('mse', 'l1')
        head = None if is_error else Observation(loss.reconstruction, spec.dtype)
        decoder = strided_decoder(sizes, num_channels(spec), trunk)
        return cls(
            model=Autoencoder(encoder, bottleneck, decoder, head, conditional=sizes.class_conditional),
            spec=spec,
            factors=factors,
            factors_key=_FACTORS_KEY,
            losses=(
                reconstruction_loss(loss.reconstruction, loss.reconstruction_weight),
                *build(Spectral, config.spectral, 'spectral').losses(spec),
            ),
            bottleneck_loss=BottleneckLoss(),
            optimizer=model_optimizer(config),
            num_labels=num_labels,
            more_codes=more_codes(config),
            accumulate=config.accumulate,
        )
