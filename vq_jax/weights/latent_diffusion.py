"""Latent diffusion: Rombach et al. 2022 (arXiv:2112.10752).

Its KL autoencoders, and the U-Net of its model of the classes of ImageNet. Its VQ autoencoders are those of
taming-transformers.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from vq_jax.weights.project import IMAGENET, Published, Way
from vq_jax.weights.taming import NAMES
from vq_jax.weights.unet import UNetNames, UNetProject, UNetSizes
from vq_jax.weights.vqgan import VQGANProject

_SOURCE = 'https://github.com/CompVis/latent-diffusion'

LATENT_DIFFUSION = VQGANProject(
    name='latent-diffusion',
    title='latent-diffusion',
    source=_SOURCE,
    licence='MIT',
    names=NAMES,
    bottleneck='kl',
    roots=('state_dict.', '', 'state_dict.first_stage_model.', 'first_stage_model.'),
    section='state_dict',
    unread=('loss.',),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentUNetProject(UNetProject):
    """U-Nets over latents, which are taken as the autoencoder gives them."""

    BUILT_ON: ClassVar[tuple[str, str] | None] = ('latent', 'a model of the latents of an autoencoder')

    def beside(self, sizes: UNetSizes, config: Mapping[str, Any]) -> dict[Way, np.ndarray]:
        """See `Project.beside`."""
        c = sizes.inputs
        return {('latent', 'mean'): np.zeros(c, np.float32), ('latent', 'scale'): np.ones(c, np.float32)}

    def constants(self, sizes: UNetSizes, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """See `Project.constants`: the schedule."""
        betas = np.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2
        return {'alphas_cumprod': np.cumprod(1 - betas).astype(np.float32)}


_UNET = 'model.diffusion_model'
LATENT_DIFFUSION_UNET = LatentUNetProject(
    name='latent-diffusion-unet',
    title="latent-diffusion's U-Net of classes",
    source=_SOURCE,
    licence='MIT',
    roots=('state_dict.', ''),
    section='state_dict',
    unread=(
        'first_stage_model.',
        'model_ema.',
        'alphas_cumprod_prev',
        'betas',
        'log_one_minus_alphas_cumprod',
        'posterior_',
        'sqrt_',
    ),
    names=UNetNames(
        conv_in=f'{_UNET}.input_blocks.0.0',
        time=(f'{_UNET}.time_embed.0', f'{_UNET}.time_embed.2'),
        down=f'{_UNET}.input_blocks.{{next}}.0',
        down_attention=f'{_UNET}.input_blocks.{{next}}.1',
        downsample=f'{_UNET}.input_blocks.{{next}}.0.op',
        middle=(f'{_UNET}.middle_block.0', f'{_UNET}.middle_block.1', f'{_UNET}.middle_block.2'),
        up=f'{_UNET}.output_blocks.{{number}}.0',
        up_attention=f'{_UNET}.output_blocks.{{number}}.1',
        upsample=f'{_UNET}.output_blocks.{{number}}.{{layer}}.conv',
        block=(
            'in_layers.0',
            'in_layers.2',
            'emb_layers.1',
            'out_layers.0',
            'out_layers.3',
            'skip_connection',
        ),
        out=(f'{_UNET}.out.0', f'{_UNET}.out.2'),
        classes='cond_stage_model.embedding',
    ),
    network={
        'model.schedule': 'scaled_linear',
        'model.shift': 1.0,
        'model.timesteps': 1000,
        'model.prediction': 'noise',
        'unet.sinusoid_endpoint': False,
        'unet.downsample_padding': 'both',
        'unet.norm_epsilon': 1e-5,
    },
    defaults={
        **IMAGENET,
        'data.channels': 3,
        'model.label_dropout': 0.1,
        'optimizer.learning_rate': 1e-4,
        'sampling.sampler': 'ddim',
        'sampling.steps': 250,
        'sampling.grid': 'uniform',
        'sampling.guidance': 1.5,
    },
    published=(
        Published(
            'cin256-v2',
            {'channels': 192, 'multipliers': (1, 2, 3, 5), 'attention': (1, 2, 3), 'token': 512},
            {'unet.heads': 1},
            {'FID on ImageNet, 256 pixels, guidance 1.5': '3.60'},
        ),
    ),
)
