"""A VQ-VAE on a folder of your own recordings: `configs/audio/recordings.py:PATH`.

Speech or other sound at 16,000 samples a second, of any length and rate in the files: a stretch of one second
becomes 250 positions of four codes each, from codebooks of 512 (residual quantization, 9 kbit/s). One
recording in ten is kept for evaluation, all of which is evaluated, unless the folder has splits of its own
(see docs/own-data.md): then `test`, or `validation` where there is no `test`.

    python -m vq_jax.train --config configs/audio/recordings.py:$HOME/recordings --workdir runs/recordings
"""

from pathlib import Path

from ml_collections import ConfigDict

from vq_jax.data.source import SPLIT_NAMES
from vq_jax.tasks import default_config


def get_config(folder: str = '') -> ConfigDict:
    """Small enough for a laptop's CPU.

    Args:
        folder: of recordings; where it is left out, `--config.data.name=folder:PATH` must name it.
    """
    config = default_config('vqvae')
    config.steps = 2_000
    config.batch_size = 16
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = f'folder:{folder}'
    _, validation, test = map(set, SPLIT_NAMES)
    found = {path.name.lower() for path in Path(folder).expanduser().glob('*/')} if folder else set()
    if found & validation and not found & test:
        config.data.eval_split = 'validation'
    config.data.sample_rate = 16_000
    config.data.num_samples = 16_000
    config.data.whole_recordings = True
    config.data.random_crop = True
    config.data.loudness = -23.0
    config.model.channels = 64
    config.model.stages = 3
    config.model.strides = (4,)
    config.model.residual_channels = 64
    config.quantizer.kind = 'residual'
    config.quantizer.num_codes = 512
    config.quantizer.dim = 32
    config.residual.depth = 4
    config.loss.reconstruction_weight = 300.0
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 100
    return config
