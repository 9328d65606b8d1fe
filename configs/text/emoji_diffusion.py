"""Emoji from their names, by diffusion of latents with a U-Net that attends to a text encoder.

    python -m vq_jax.train --config configs/text/emoji_tokenizer.py --workdir runs/emoji_tokenizer
    python -m vq_jax.train --config configs/text/emoji_diffusion.py --workdir runs/emoji_diffusion
    python -m vq_jax.sample --workdir runs/emoji_diffusion --num 8 --text "red apple" \
        --text "waving hand sign, dark skin tone" --output samples.png

The latents are an 8x8 grid of 8-dimensional vectors, those that are compared with the codes. With
`--config.model.backbone=dit` the network is a DiT over tokens of 2x2 of them. With
`--config.latent.workdir= --config.unet.patch=2` it learns pixels.

Not run.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Sizes for two cores of a CPU; v-prediction along the cosine schedule."""
    config = default_config('diffusion', conditioner='text')
    config.steps = 6_000
    config.batch_size = 32
    config.eval_every = 2_000
    config.checkpoint_every = 500
    config.data.name = 'emoji'
    config.data.caption_length = 96
    config.data.image_size = 32
    config.data.channels = 3
    config.latent.workdir = 'runs/emoji_tokenizer'
    config.model.weighting = 'min_snr'
    config.text_encoder.depth = 3
    config.text_encoder.width = 128
    config.unet.channels = 64
    config.unet.multipliers = (1, 2)
    config.unet.residual_blocks = 1
    config.unet.attention_resolutions = (1,)
    config.unet.head_channels = 32
    config.dit.depth = 6
    config.dit.width = 192
    config.dit.heads = 4
    config.sampling.sampler = 'dpm_solver'
    config.sampling.steps = 20
    config.sampling.guidance = 3.0
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 200
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema_decay = 0.998
    return config
