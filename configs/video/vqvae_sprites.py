"""VideoGPT's VQ-VAE on sprites, in small (Yan et al. 2021, arXiv:2104.10157): 8 frames of 64x64 pixels.

Convolutions over time, height and width, and in each residual block axial attention: along each of the
three, a position sees all others. Clips become 2x16x16 codes from a codebook of 256: as many as a small prior
can learn. `videogpt.py` has the published sizes, and says what differs.

`sprites` is not in tensorflow-datasets' catalogue; where it was not prepared, take other clips by
`--config.data.name=folder:PATH`.

    python -m vq_jax.train --config configs/video/vqvae_sprites.py --workdir runs/vqvae_sprites

Not run.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Sizes for two cores of a CPU."""
    config = default_config('vqvae')
    config.steps = 3_000
    config.batch_size = 16
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'sprites'
    config.data.frames = 8
    config.data.image_size = 64
    config.data.channels = 3
    config.model.channels = 32
    config.model.stages = 2  # of strides 2, also in time
    config.model.residual_channels = 16
    config.model.axial_heads = 2
    config.quantizer.num_codes = 256
    config.quantizer.dim = 32
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 100
    return config
