"""VQGAN, the KL autoencoder and the neural codec of sound, as a config describes them."""

import dataclasses
from typing import Literal

from ml_collections import ConfigDict

from vq_jax.errors import UserError, check_least
from vq_jax.models.autoencoder import Autoencoder
from vq_jax.models.discriminators import PatchDiscriminator
from vq_jax.models.residual import ResidualEncoder, ResidualSizes, residual_decoder
from vq_jax.models.seanet import SEANetEncoder, SEANetSizes, seanet_decoder
from vq_jax.models.sound_discriminators import SoundDiscriminator
from vq_jax.quantizers.gaussian import GaussianBottleneck
from vq_jax.quantizers.quantizer import Multiscale
from vq_jax.spec import Spec
from vq_jax.tasks.adversarial import AdversarialConfig, make_adversary
from vq_jax.tasks.autoencoder import AutoencoderTask, check_residual, encoded_grid
from vq_jax.tasks.balancer import BalancerConfig, make_balancer
from vq_jax.tasks.losses import BottleneckLoss, perceptual_loss, reconstruction_loss
from vq_jax.tasks.perceptual import Perceptual
from vq_jax.tasks.quantizer_config import make_quantizer, more_codes, quantizer_sections
from vq_jax.tasks.spectral import Spectral
from vq_jax.tasks.task import check_parts, labels_of
from vq_jax.tasks.translation import Source
from vq_jax.training.config import build, defaults
from vq_jax.training.optimizer import OptimizerConfig, model_optimizer, schedule_length


@dataclasses.dataclass(frozen=True)
class VariantConfig:
    """Which kind of autoencoder.

    Attributes:
        backbone: encoder and decoder: VQGAN's blocks (section 'model'), or, of sound, the convolutions over
            time of neural codecs (section 'seanet').
        bottleneck: 'quantizer' (see `QuantizerConfig`) makes VQGAN, 'gaussian' (section 'gaussian') the KL
            autoencoder of latent diffusion.
        source: what the encoder sees: the image itself; or, to translate one image into another
            (Isola et al. 2017, arXiv:1611.07004), its grey values or a copy reduced to a quarter of
            height and width. The discriminator is then given pairs, concatenated.
        class_conditional: decoder and discriminator are given the class.
        discriminator: of patches of images or sounds (section 'discriminator'), or of the periods and
            spectra of sounds (section 'sound_discriminator'), which knows no classes.
    """

    backbone: Literal['residual', 'seanet'] = 'residual'
    bottleneck: Literal['quantizer', 'gaussian'] = 'quantizer'
    source: Literal['image', 'grey', 'small'] = 'image'
    class_conditional: bool = False
    discriminator: Literal['patches', 'sound'] = 'patches'


@dataclasses.dataclass(frozen=True)
class VQGANLossConfig:
    """The generator's losses.

    Attributes:
        reconstruction: mean absolute or mean squared difference of values in [-1, 1].
        reconstruction_weight: its weight.
        perceptual_weight: of the perceptual loss.
        quantizer_weight: of the quantizer's own losses.
        kl_weight: of the divergence of a Gaussian bottleneck, in nats for each value of an example.
    """

    reconstruction: Literal['l1', 'mse'] = 'l1'
    reconstruction_weight: float = 1.0
    perceptual_weight: float = 1.0
    quantizer_weight: float = 1.0
    kl_weight: float = 1e-6

    def __post_init__(self) -> None:
        weights = ('reconstruction_weight', 'perceptual_weight', 'quantizer_weight', 'kl_weight')
        check_least(0, self, *weights)


def make_discriminator(
    config: ConfigDict, kind: Literal['patches', 'sound'], spec: Spec, num_labels: int = 0
) -> PatchDiscriminator | SoundDiscriminator:
    """The discriminator of a kind, of its section of a config, for examples of a spec of so many classes.

    Raises:
        UserError: if one of sound is to take other examples, or classes.
    """
    if kind == 'patches':
        return build(PatchDiscriminator, config.discriminator, 'discriminator', num_classes=num_labels)
    if spec.kind != 'audio' or num_labels:
        are = f'examples are {spec.plural}' if spec.kind != 'audio' else 'there are some'
        raise UserError(
            f'config.variant.discriminator=sound takes sounds and no classes, and {are}; set it to patches.'
        )
    return build(SoundDiscriminator, config.sound_discriminator, 'sound_discriminator')


class VQGANTask(AutoencoderTask):
    """The autoencoder of residual blocks, or SEANet's, with a perceptual loss and a discriminator."""

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """Sections for generator, bottlenecks, discriminator and losses."""
        return {
            'variant': defaults(VariantConfig),
            'model': defaults(ResidualSizes),
            'seanet': defaults(SEANetSizes),
            **quantizer_sections(without=('dim',)),
            'gaussian': defaults(GaussianBottleneck, without=('dim', 'free_bits')),
            'discriminator': defaults(PatchDiscriminator, without=('num_classes',)),
            'sound_discriminator': defaults(SoundDiscriminator),
            'loss': defaults(VQGANLossConfig),
            'spectral': defaults(Spectral),
            'balancer': defaults(BalancerConfig),
            'perceptual': defaults(Perceptual),
            'adversarial': defaults(AdversarialConfig),
            'discriminator_optimizer': defaults(OptimizerConfig),
        }

    @classmethod
    def from_config(cls, config: ConfigDict, spec: Spec, num_classes: int) -> 'VQGANTask':
        """The task of a full config, for such examples of so many classes."""
        variant = build(VariantConfig, config.variant, 'variant')
        num_labels = labels_of(variant.class_conditional, num_classes, 'variant')
        sizes = build(ResidualSizes, config.model, 'model')
        seanet = build(SEANetSizes, config.seanet, 'seanet')
        if variant.backbone == 'seanet':
            if spec.kind != 'audio':
                raise UserError(
                    'config.variant.backbone is seanet, which is of sound, and these are '
                    f'{spec.plural}; set it to residual.'
                )
            sizes = seanet
        else:
            check_residual(sizes, spec, 'model')
        causal_video = sizes is not seanet and sizes.temporal == 'causal'
        factors_key = f'config.{"seanet.strides" if sizes is seanet else "model.multipliers"}'
        loss = build(VQGANLossConfig, config.loss, 'loss')
        perceptual = build(Perceptual, config.perceptual, 'perceptual')
        if variant.bottleneck == 'gaussian':
            width = 2 * sizes.features
            bottleneck = build(GaussianBottleneck, config.gaussian, 'gaussian', dim=sizes.features)
            bottleneck_loss = BottleneckLoss(loss.kl_weight, per_value=True)
        else:
            grid = encoded_grid(spec, sizes.factors, factors_key, causal_video)
            width, bottleneck = sizes.features, make_quantizer(config, grid, dim=sizes.features)
            bottleneck_loss = BottleneckLoss(loss.quantizer_weight)
        one_by_one = not isinstance(bottleneck, Multiscale)  # whether each position is quantized by itself
        discriminator = make_discriminator(config, variant.discriminator, spec, num_labels)
        adversarial = build(AdversarialConfig, config.adversarial, 'adversarial')
        learning = adversarial.start - adversarial.warmup  # the step from which the discriminator learns
        if discriminator.norm == 'batch' and learning < config.steps:
            what = "the discriminator's batch normalisation"
            check_parts(config, what, 'config.discriminator.norm=none')
        losses = [reconstruction_loss(loss.reconstruction, loss.reconstruction_weight)]
        if perceptual.kind != 'none':
            losses.append(perceptual_loss(perceptual, loss.perceptual_weight, sizes.dtype))
        if variant.backbone == 'seanet':
            encoder, decoder = SEANetEncoder(sizes, width), seanet_decoder(sizes, spec.channels)
        else:
            encoder, decoder = ResidualEncoder(sizes, width), residual_decoder(sizes, spec.channels)
        losses += build(Spectral, config.spectral, 'spectral').losses(spec)
        return cls(
            model=Autoencoder(encoder, bottleneck, decoder, conditional=variant.class_conditional),
            spec=spec,
            factors=sizes.factors,
            factors_key=factors_key,
            streams=(causal_video or (sizes is seanet and seanet.streams)) and one_by_one,
            first_apart=causal_video,
            losses=tuple(losses),
            bottleneck_loss=bottleneck_loss,
            optimizer=model_optimizer(config),
            adversary=make_adversary(config, adversarial, discriminator, schedule_length(config) - learning),
            balancer=make_balancer(config, adversarial),
            perceptual=perceptual,
            source=Source(variant.source),
            num_labels=num_labels,
            more_codes=more_codes(config),
            accumulate=config.accumulate,
        )
