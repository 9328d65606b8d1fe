"""A VQ-VAE of emoji at 32 pixels, to 8x8 codes from a codebook of 512.

`emoji` is not in tensorflow-datasets' catalogue; where it was not prepared, take a folder of images with
captions by `--config.data.name=folder:PATH`, here and in the configs that build on it.

    python -m vq_jax.train --config configs/text/emoji_tokenizer.py --workdir runs/emoji_tokenizer

It reads no text; `emoji_prior.py`, `emoji_diffusion.py` and `emoji_captions.py` do.

Seen on a core of a shared x86-64 machine under other load (Python 3.11, jax 0.10.2), in 15 minutes: of the
398 emoji of the test set, PSNR 23.19 dB, perplexity 370 of 512 codes, all of which are used. Colours and
shapes are right, and edges and faces are soft.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Sizes for two cores of a CPU."""
    config = default_config('vqvae')
    config.steps = 3_000
    config.batch_size = 32
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'emoji'
    config.data.image_size = 32
    config.data.channels = 3
    config.model.channels = 96
    config.model.residual_channels = 64
    config.quantizer.num_codes = 512
    config.quantizer.dim = 8
    config.loss.reconstruction_weight = 4.0
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 100
    config.optimizer.ema_decay = 0.99
    return config
