"""VQGAN on ImageNet at 256 pixels: `configs/image/vqgan_imagenet.py:f16_1024`, `:f16_16384` or `:f8`.

    python -m vq_jax.prepare imagenet2012
    python -m vq_jax.train --config configs/image/vqgan_imagenet.py:f16_1024 --workdir runs/vqgan_f16_1024

| variant | codes | codebook | parameters without the discriminator | published as |
| --- | --- | --- | --- | --- |
| f16_1024 | 16x16 | 1,024 x 256 | 72,141,699 | Esser et al. 2021 (arXiv:2012.09841), f16-1024 |
| f16_16384 | 16x16 | 16,384 x 256 | 76,073,859 | the same, f16-16384 |
| f8 | 32x32 | 16,384 x 4 | 67,717,295 | Rombach et al. 2022 (arXiv:2112.10752), vq-f8 |

LPIPS needs its published weights; see config.perceptual.weights.

Sizes, losses and f16_1024's weights and start of the discriminator are the published ones. Differences from
what was published: codes are initialised by k-means and dead ones are revived (`quantizer.codebook_init`,
`quantizer.revive_below`); the commitment is that of the equation (the published code has beta on the other
term: `quantizer.commitment=4 loss.quantizer_weight=0.25` is its loss); and the discriminators of the other
variants start as late as f16_1024's. The published vq-f8 was trained on OpenImages (256-pixel crops of images
resized to 384), with `discriminator.stages` 2, `adversarial.weight` 0.6 and the discriminator from step 1 on;
here these are 3, 0.75 and 250,000.

Not run: neither ImageNet nor an accelerator was available.
"""

from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.tasks import default_config

VARIANTS = ('f16_1024', 'f16_16384', 'f8')


def get_config(variant: str = 'f16_1024') -> ConfigDict:
    """The config of a variant."""
    if variant not in VARIANTS:
        raise UserError(f'vqgan_imagenet.py:{variant} is not there; choose one of {", ".join(VARIANTS)}.')
    config = default_config('vqgan')
    config.steps = 600_000
    config.batch_size = 96
    config.eval_every = 20_000
    config.checkpoint_every = 5_000
    config.data.name = 'imagenet2012'
    config.data.eval_split = 'validation'
    config.data.image_size = 256
    config.data.random_crop = True
    config.data.flip = True
    config.data.channels = 3
    config.data.workers = 16
    config.model.dtype = 'bfloat16'
    config.discriminator.dtype = 'bfloat16'
    if variant == 'f8':
        config.model.multipliers = (1, 2, 2, 4)
        config.model.attention_resolutions = (3,)
        config.model.features = 4
    config.quantizer.num_codes = 1_024 if variant == 'f16_1024' else 16_384
    config.quantizer.code_dim = config.model.features
    config.quantizer.learning = 'gradient'
    config.discriminator.stages = 2 if variant == 'f16_16384' else 3
    config.adversarial.weight = 0.8 if variant == 'f16_1024' else 0.75
    config.adversarial.start = 250_000
    config.adversarial.loss = 'hinge'
    for optimizer in (config.optimizer, config.discriminator_optimizer):
        optimizer.learning_rate = 4.5e-6 * 96
        optimizer.b1 = 0.5
        optimizer.b2 = 0.9
    config.parallel.engine = 'jit'  # of few examples a chip: see docs/pods.md
    return config
