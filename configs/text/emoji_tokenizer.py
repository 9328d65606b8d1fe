"""A VQGAN of emoji at 64 pixels, to 16x16 codes from a codebook of 512.

`emoji` is not in tensorflow-datasets' catalogue; where it was not prepared, take a folder of images with
captions by `--config.data.name=folder:PATH`, here and in the configs that build on it.

    python -m vq_jax.train --config configs/text/emoji_tokenizer.py --workdir runs/emoji_tokenizer

It reads no text; `emoji_prior.py` and `emoji_diffusion.py` do.

Not run.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Sizes for two cores of a CPU; the discriminator joins halfway through the run."""
    config = default_config('vqgan')
    config.steps = 2_000
    config.batch_size = 16
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'emoji'
    config.data.image_size = 64
    config.data.channels = 3
    config.model.channels = 24
    config.model.multipliers = (1, 2, 2)
    config.model.residual_blocks = 1
    config.model.attention_resolutions = ()
    config.model.features = 48
    config.quantizer.num_codes = 512
    config.quantizer.code_dim = 8
    config.discriminator.channels = 16
    config.perceptual.kind = 'ms_ssim'
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
