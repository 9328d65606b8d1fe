"""A VQ-VAE on letters and digits in colour, drawn with fonts of a dependency: the first thing to run.

24x24 pixels, RGB, to 6x6 codes from a codebook of 256.

    make train

Results on characters in fonts that it has not seen them in: test PSNR 24.38 dB, MSE 0.0163 (pixels in
[-1, 1]), perplexity 198 of 256 codes, in 87 seconds on two cores of a shared x86-64 machine under much other
load (jax 0.10.2), 82 seconds of processor time.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Small enough for a laptop's CPU."""
    config = default_config('vqvae')
    config.steps = 1000
    config.batch_size = 64
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'glyphs'
    config.data.image_size = 24
    config.data.channels = 3
    config.model.channels = 96
    config.model.stages = 1
    config.model.strides = (4,)
    config.quantizer.num_codes = 256
    config.quantizer.dim = 32
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = 'cosine'
    return config
