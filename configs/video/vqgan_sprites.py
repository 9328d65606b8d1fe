"""Autoencoders of sprites at 64 pixels: `configs/video/vqgan_sprites.py:causal`, `:full`, `:frames` or `:kl`.

`sprites` is not in tensorflow-datasets' catalogue; where it was not prepared, take other clips by
`--config.data.name=folder:PATH`.

    python -m vq_jax.train --config configs/video/vqgan_sprites.py:causal --workdir runs/vqgan_sprites

| variant | frames | codes or latents | what a frame sees |
| --- | --- | --- | --- |
| causal | 7 | 4x16x16 | earlier frames, as in MAGVIT-v2 (Yu et al. 2023, arXiv:2310.05737) |
| full | 8 | 4x16x16 | frames on both sides, as a VQGAN of three axes |
| frames | 8 | 8x16x16 | itself: a VQGAN of images, frame by frame, the baseline |
| kl | 8 | 4x16x16 of 4 numbers | as full: the KL autoencoder for `ldm_sprites.py` |

Clips of sprites have 8 frames, and a causal model that halves time takes 1 + 2k of them: 7. The discriminator
sees frames and motion, the perceptual loss is of each frame.

Not run.
"""

from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.tasks import default_config

TEMPORAL = {'causal': 'causal', 'full': 'full', 'frames': 'none', 'kl': 'full'}


def get_config(variant: str = 'causal') -> ConfigDict:
    """Sizes for two cores of a CPU."""
    if variant not in TEMPORAL:
        raise UserError(f'vqgan_sprites.py:{variant} is not there; choose one of {", ".join(TEMPORAL)}.')
    config = default_config('vqgan')
    config.steps = 2_000
    config.batch_size = 8
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'sprites'
    config.data.frames = 7 if variant == 'causal' else 8
    config.data.image_size = 64
    config.data.channels = 3
    config.data.random_crop = variant == 'causal'  # in time
    config.model.channels = 16
    config.model.multipliers = (1, 2, 2)
    config.model.residual_blocks = 1
    config.model.attention_resolutions = ()
    config.model.features = 32
    config.model.temporal = TEMPORAL[variant]
    config.model.time_strides = (1, 1) if variant == 'frames' else (1, 2)
    config.variant.bottleneck = 'gaussian' if variant == 'kl' else 'quantizer'
    config.gaussian.latent_dim = 4
    config.quantizer.num_codes = 256
    config.quantizer.code_dim = 8
    config.perceptual.kind = 'ms_ssim'
    config.discriminator.channels = 16
    config.discriminator.strides = (1, 2, 2)
    config.adversarial.loss = 'hinge'
    config.adversarial.start = 1_000
    config.adversarial.warmup = 100
    config.adversarial.ramp = 100
    for optimizer in (config.optimizer, config.discriminator_optimizer):
        optimizer.learning_rate = 5e-4
        optimizer.b1 = 0.5
        optimizer.b2 = 0.9
    config.optimizer.ema_decay = 0.99
    return config
