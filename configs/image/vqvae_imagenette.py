"""A VQ-VAE on Imagenette, at 64 or 128 pixels: `configs/image/vqvae_imagenette.py:64` or `:128`.

Images become codes at a quarter of their height and width, from a codebook of 1,024.

    python -m vq_jax.prepare imagenette/160px-v2
    python -m vq_jax.train --config configs/image/vqvae_imagenette.py:64 --workdir runs/vqvae_imagenette_64

Results with `:64 --config.steps=600 --config.batch_size=32`, on two cores of a shared x86-64 machine, in 5
minutes, on a copy whose images had been squashed to 128x128 pixels: validation PSNR 23.05 dB, MSE
0.0229 (pixels in [-1, 1]), perplexity 864. The full 30,000 steps, and `:128`, were not run: they
need an accelerator.
"""

from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.tasks import default_config


def get_config(size: str = '64') -> ConfigDict:
    """The config for a size in pixels, '64' or '128'."""
    if size not in ('64', '128'):
        raise UserError(f'vqvae_imagenette.py:{size} is not there; choose :64 or :128.')
    config = default_config('vqvae')
    config.steps = 30_000
    config.batch_size = 64
    config.eval_every = 2_500
    config.checkpoint_every = 2_500
    config.data.name = 'imagenette/160px-v2'
    config.data.eval_split = 'validation'
    config.data.image_size = int(size)
    config.data.channels = 3
    config.data.flip = True
    config.model.channels = 128
    config.model.residual_channels = 64
    config.quantizer.num_codes = 1024
    config.quantizer.dim = 64
    config.loss.reconstruction_weight = 4.0
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 200
    return config
