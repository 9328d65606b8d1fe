"""The multi-scale tokenizer of VAR: Tian et al. 2024 (arXiv:2404.02905)."""

import dataclasses

from vq_jax.weights.project import Published
from vq_jax.weights.taming import NAMES
from vq_jax.weights.vqgan import VQGANProject

_SCALES = 10

VAR = VQGANProject(
    name='var',
    title='VAR',
    source='https://github.com/FoundationVision/VAR',
    licence='MIT',
    names=dataclasses.replace(NAMES, attention=('norm', 'qkv', 'qkv', 'qkv', 'proj_out')),
    bottleneck='multi_scale',
    roots=('', 'vae_local.', 'trainer.vae_local.'),
    unread=('quantize.ema_vocab_hit_SV',),  # how often training chose each code at each scale
    zeros=lambda sizes: {'quantize.ema_vocab_hit_SV': (_SCALES, sizes.num_codes)},
    published=(
        Published(
            'vae_ch160v4096z32',
            {'channels': 160, 'multipliers': (1, 1, 2, 2, 4), 'features': 32, 'num_codes': 4096},
            {'quantizer.commitment': 0.25},
            {'trained on': 'OpenImages'},  # https://github.com/FoundationVision/VAR/issues/16
        ),
    ),
)
