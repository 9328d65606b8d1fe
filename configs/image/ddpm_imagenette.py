"""Class-conditional diffusion of pixels on Imagenette (ten classes) at 64 pixels, for one GPU.

    python -m vq_jax.prepare imagenette/160px-v2
    python -m vq_jax.train --config configs/image/ddpm_imagenette.py --workdir runs/ddpm_imagenette
    python -m vq_jax.sample --workdir runs/ddpm_imagenette --num 64 --guidance 2 --output samples.png

Flow matching instead:

    python -m vq_jax.train --config configs/image/ddpm_imagenette.py --workdir runs/flow_imagenette \
        --config.model.path=straight --config.model.schedule=straight \
        --config.model.prediction=velocity --config.model.weighting=uniform

Not run: no accelerator was available.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """The cosine schedule, unshifted at 64 pixels (Hoogeboom et al.), and min-SNR weights (Hang et al.)."""
    config = default_config('diffusion')
    config.steps = 100_000
    config.batch_size = 64
    config.eval_every = 10_000
    config.checkpoint_every = 2_500
    config.data.name = 'imagenette/160px-v2'
    config.data.eval_split = 'validation'
    config.data.image_size = 64
    config.data.channels = 3
    config.data.flip = True
    config.model.class_conditional = True
    config.model.weighting = 'min_snr'
    config.unet.channels = 128
    config.unet.multipliers = (1, 2, 3, 4)
    config.unet.attention_resolutions = (2, 3)
    config.unet.dropout = 0.1
    config.unet.dtype = 'bfloat16'
    config.sampling.sampler = 'dpm_solver'
    config.sampling.steps = 40
    config.sampling.guidance = 2.0
    config.sampling.rescale = 0.7
    config.optimizer.learning_rate = 2e-4
    config.optimizer.warmup_steps = 1_000
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema_decay = 0.9999
    return config
