"""DiT-XL/2 (Peebles and Xie 2023, arXiv:2212.09748) on the latents of a KL autoencoder of ImageNet.

256x256 images, a 32x32 grid of 4-dimensional latents, 256 tokens; the variance is learned.

    python -m vq_jax.prepare imagenet2012
    python -m vq_jax.train --config configs/image/kl_f8_imagenet.py --workdir runs/kl_f8_imagenet
    python -m vq_jax.train --config configs/image/ldm_imagenet.py --workdir runs/ldm_imagenet
    python -m vq_jax.sample --workdir runs/ldm_imagenet --num 16 --label 207 --guidance 4 --output dogs.png

Not run: neither ImageNet nor an accelerator was available. The paper reports an FID of 19.47 after
these 400,000 steps, without guidance. It samples the latents, multiplies them by one constant, and has no
learning-rate warm-up; here latents are the posterior means, each channel normalised to mean 0 and s.d. 1.

Parameters, optimizer state and moving average are split over all devices. Compiled for 16 chips of a v5e
slice, a step needs 5.61 GiB of the 15.75 GiB that programs may use of each, 19.6 TFLOP and 177 GB of HBM,
which allow 46% of peak (`vq_jax.topology.compile_step`, jax 0.10.2, libtpu 0.0.42.1, 2026-11-28; without
the split, by `pmap`, it needed 33.5 GiB or more).
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """The paper's sizes, schedule and optimizer."""
    config = default_config('diffusion')
    config.steps = 400_000
    config.batch_size = 256
    config.eval_every = 50_000
    config.checkpoint_every = 5_000
    config.data.name = 'imagenet2012'
    config.data.eval_split = 'validation'
    config.data.image_size = 256
    config.data.flip = True
    config.data.channels = 3
    config.data.workers = 16
    config.latent.workdir = 'runs/kl_f8_imagenet'
    config.model.backbone = 'dit'
    config.model.class_conditional = True
    config.model.schedule = 'linear'
    config.model.timesteps = 1_000
    config.model.prediction = 'noise'
    config.model.learned_variance = True
    config.dit.patch = 2
    config.dit.depth = 28
    config.dit.width = 1152
    config.dit.heads = 16
    config.dit.dtype = 'bfloat16'
    config.dit.remat = True
    config.parallel.engine = 'jit'
    config.parallel.shard_parameters = True
    config.sampling.sampler = 'ddpm'
    config.sampling.steps = 250
    config.optimizer.learning_rate = 1e-4
    config.optimizer.warmup_steps = 1_000
    config.optimizer.ema_decay = 0.9999
    return config
