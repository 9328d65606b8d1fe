"""A VQ-VAE of pieces of Shakespeare: each 4 bytes of 64 to one of 1024 codes.

    python -m vq_jax.prepare tiny_shakespeare
    python -m vq_jax.train --config configs/text/vqvae_shakespeare.py --workdir runs/vqvae_shakespeare
    python -m vq_jax.train --config configs/text/shakespeare.py:small --workdir runs/vqvae_shakespeare_prior \
        --config.tokenizer.workdir=runs/vqvae_shakespeare
    python -m vq_jax.sample --workdir runs/vqvae_shakespeare_prior --num 4 --output samples.txt

The second is a prior over the codes. Any text does as well: `--config.data.name=text:PATH
--config.data.eval_split=test`.

Not run.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Small enough for a laptop's CPU."""
    config = default_config('vqvae')
    config.steps = 5_000
    config.batch_size = 64
    config.eval_every = 1_000
    config.checkpoint_every = 1_000
    config.num_shown = 4
    config.data.name = 'tiny_shakespeare'
    config.data.eval_split = 'validation+test'
    config.data.num_tokens = 64
    config.data.random_crop = True
    config.model.channels = 128
    config.model.stages = 2
    config.model.residual_channels = 64
    config.model.axial_heads = 4
    config.quantizer.num_codes = 1024
    config.quantizer.dim = 64
    config.loss.reconstruction = 'categorical'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 100
    return config
