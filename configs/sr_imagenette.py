"""Super-resolution from 32 to 128 pixels on Imagenette (Saharia et al. 2021, SR3, arXiv:2104.07636).

The network is shown the small picture, enlarged by cubic interpolation, beside the noisy one.

    python -m vq_jax.prepare imagenette/160px-v2
    python -m vq_jax.train --config configs/sr_imagenette.py --workdir runs/sr_imagenette

Not run: no accelerator was at hand.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """A U-Net on patches of 2x2 pixels; the cosine schedule, shifted for 128 pixels."""
    config = default_config('diffusion')
    config.steps = 100_000
    config.batch_size = 32
    config.eval_every = 10_000
    config.checkpoint_every = 2_500
    config.data.name = 'imagenette/160px-v2'
    config.data.eval_split = 'validation'
    config.data.image_size = 128
    config.data.channels = 3
    config.data.flip = True
    config.model.upscale = 4
    config.model.shift = 2.0
    config.model.weighting = 'min_snr'
    config.unet.patch = 2
    config.unet.channels = 96
    config.unet.multipliers = (1, 2, 3, 4)
    config.unet.attention_levels = (3,)
    config.unet.head_channels = 48
    config.unet.dtype = 'bfloat16'
    config.sampling.sampler = 'dpm_solver'
    config.sampling.steps = 25
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 2e-4
    config.optimizer.warmup_steps = 1_000
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema_decay = 0.999
    return config
