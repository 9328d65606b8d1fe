"""A VQ-VAE on a folder of your own photographs: `configs/folder.py:PATH`.

Images are cropped to 64x64 pixels and become 16x16 codes from a codebook of 512. One image in ten is kept for
evaluation, unless the folder has splits of its own; see the table of data sets in the README.

    python -m vq_jax.train --config configs/folder.py:$HOME/photographs --workdir runs/photographs
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config(folder: str = 'PATH') -> ConfigDict:
    """Small enough for a laptop's CPU.

    Args:
        folder: of images; `--config.data.name=folder:PATH` names it too.
    """
    config = default_config('vqvae')
    config.steps = 1_000
    config.batch_size = 32
    config.eval_every = 250
    config.checkpoint_every = 250
    config.data.name = f'folder:{folder}'
    config.data.image_size = 64
    config.data.channels = 3
    config.data.flip = True
    config.model.channels = 64
    config.model.residual_channels = 32
    config.quantizer.num_codes = 512
    config.quantizer.dim = 32
    config.loss.reconstruction_weight = 4.0
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 50
    return config
