"""Class-conditional diffusion of the latents of sprites, with a U-Net over time, height and width.

    python -m vq_jax.train --config configs/video/vqgan_sprites.py:kl --workdir runs/kl_sprites
    python -m vq_jax.train --config configs/video/ldm_sprites.py --workdir runs/ldm_sprites
    python -m vq_jax.sample --workdir runs/ldm_sprites --num 12 --guidance 2 --output videos.gif

The latents are 4x16x16 vectors of 4 numbers. The twelve classes are what a character does and where it looks,
as the sentence that describes it ends. Of half of the training clips a part is given: the first frames, the
first and the last, or all around a box. With `--config.model.backbone=dit` the network is a DiT over tokens
of 2x2x2 latents. With an empty `config.latent.workdir` it learns the pixels of 8 frames, for which
`--config.data.image_size=16` is a size that two cores have time for.

Not run.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Sizes for two cores of a CPU; v-prediction along the cosine schedule."""
    config = default_config('diffusion')
    config.steps = 4_000
    config.batch_size = 16
    config.eval_every = 1_000
    config.checkpoint_every = 500
    config.data.name = 'sprites'
    config.data.name_key = 'text'
    config.data.name_pattern = r'(?P<label>(casting a spell|walking|slashing), seen from the \w+)$'
    config.data.frames = 8
    config.data.image_size = 64
    config.data.channels = 3
    config.latent.workdir = 'runs/kl_sprites'
    config.model.class_conditional = True
    config.model.given = 0.5
    config.model.weighting = 'min_snr'
    config.unet.channels = 48
    config.unet.multipliers = (1, 2)
    config.unet.residual_blocks = 1
    config.unet.attention_resolutions = (1,)
    config.unet.head_channels = 24
    config.dit.depth = 6
    config.dit.width = 192
    config.dit.heads = 4
    config.sampling.sampler = 'dpm_solver'
    config.sampling.steps = 20
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 200
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema_decay = 0.998
    return config
