"""A VQ-VAE on a folder of your own photographs: `configs/folder.py:PATH`.

Images are cropped to 64x64 pixels and become 16x16 codes from a codebook of 512. One image in ten is kept for
evaluation, unless the folder has splits of its own (see the table of data sets in the README): then `test`,
or `validation` where there is no `test`.

    python -m vq_jax.train --config configs/folder.py:$HOME/photographs --workdir runs/photographs

Results after 750 of the 1,000 steps, on 400 photographs of Imagenette in a squashed copy of 128 pixels, of
which 41 are evaluated: PSNR 22.92 dB, MSE 0.0247 (pixels in [-1, 1]), perplexity 397. Scenes can be
recognised, fine details cannot. Two cores of a shared x86-64 machine (jax 0.10.2), busy with much else, took
about 2 s a step, so that the last 250 were not waited for.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vq_jax.data.source import SPLIT_NAMES
from vq_jax.tasks import default_config


def get_config(folder: str = '') -> ConfigDict:
    """Small enough for a laptop's CPU.

    Args:
        folder: of images; where it is left out, `--config.data.name=folder:PATH` must name it.
    """
    config = default_config('vqvae')
    config.steps = 1_000
    config.batch_size = 32
    config.eval_every = 250
    config.checkpoint_every = 250
    config.data.name = f'folder:{folder}'
    _, validation, test = map(set, SPLIT_NAMES)
    found = {path.name.lower() for path in Path(folder).expanduser().glob('*/')} if folder else set()
    if found & validation and not found & test:
        config.data.eval_split = 'validation'
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
