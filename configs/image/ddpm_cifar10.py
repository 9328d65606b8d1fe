"""DDPM (Ho et al. 2020, arXiv:2006.11239, appendix B) on CIFAR-10: 1,000 steps, noise prediction.

The network is theirs, except that the time embedding also scales the normalised activations: 38.3M
parameters instead of 35.7M. `--config.unet.time_conditioning=add --config.unet.sinusoid_endpoint=true` make
it theirs, and that of `ddpm-cifar10-32` (docs/weights.md).

    python -m vq_jax.prepare cifar10
    python -m vq_jax.train --config configs/image/ddpm_cifar10.py --workdir runs/ddpm_cifar10
    python -m vq_jax.evaluate --workdir runs/ddpm_cifar10 --override=evaluation.times=999

`--config.model.learned_variance=true --config.model.schedule=cosine` give the learned variance, that of the
first step included, and the schedule of Nichol and Dhariwal 2021 (arXiv:2102.09672), whose network and number
of steps differ. They also limit betas to 0.999; here the log signal-to-noise ratio ends at -13.3 instead.

Not run: neither CIFAR-10 nor an accelerator was available. The paper reports 3.75 bits per dimension and an
FID of 3.17.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """The paper's sizes, schedule and optimizer."""
    config = default_config('diffusion')
    config.steps = 800_000
    config.batch_size = 128
    config.eval_every = 50_000
    config.checkpoint_every = 10_000
    config.data.name = 'cifar10'
    config.data.image_size = 32
    config.data.channels = 3
    config.data.flip = True
    config.model.schedule = 'linear'
    config.model.timesteps = 1_000
    config.model.prediction = 'noise'
    config.unet.channels = 128
    config.unet.multipliers = (1, 2, 2, 2)
    config.unet.attention_resolutions = (1,)
    config.unet.head_channels = 256
    config.unet.dropout = 0.1
    config.sampling.sampler = 'ddpm'
    config.sampling.steps = 1_000
    config.sampling.variance = 'forward'
    config.optimizer.learning_rate = 2e-4
    config.optimizer.warmup_steps = 5_000
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema_decay = 0.9999
    return config
