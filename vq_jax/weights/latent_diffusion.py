"""The KL autoencoders of latent diffusion: Rombach et al. 2022 (arXiv:2112.10752).

Its VQ autoencoders are those of taming-transformers.
"""

from vq_jax.weights.taming import NAMES
from vq_jax.weights.vqgan import VQGANProject

LATENT_DIFFUSION = VQGANProject(
    name='latent-diffusion',
    title='latent-diffusion',
    source='https://github.com/CompVis/latent-diffusion',
    licence='MIT',
    names=NAMES,
    bottleneck='kl',
    roots=('state_dict.', '', 'state_dict.first_stage_model.', 'first_stage_model.'),
    section='state_dict',
    unread=('loss.',),
)
