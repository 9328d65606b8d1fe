"""A VQ-VAE of the names of emoji: each 4 bytes to one of 512 codes, of which the decoder is a likelihood.

    python -m vq_jax.train --config configs/text/vqvae_names.py --workdir runs/vqvae_names
    python -m vq_jax.train --config configs/text/emoji_names.py --workdir runs/vqvae_names_prior \
        --config.tokenizer.workdir=runs/vqvae_names
    python -m vq_jax.sample --workdir runs/vqvae_names_prior --num 20 --output names.txt

The second is a prior over the codes, 16 for each name, of which evaluation gives `bits_per_byte_bound`: what
names cost by both together. `emoji` is no set of tensorflow-datasets' catalogue: any prepared set with a text
does, by `--config.data.name=NAME --config.data.text_key=KEY`.

Not run.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Small enough for a laptop's CPU; axial attention lets each code see the whole name."""
    config = default_config('vqvae')
    config.steps = 2_000
    config.batch_size = 64
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'emoji'
    config.data.num_tokens = 64
    config.model.channels = 128
    config.model.stages = 2
    config.model.residual_channels = 64
    config.model.axial_heads = 4
    config.quantizer.num_codes = 512
    config.quantizer.dim = 64
    config.loss.reconstruction = 'categorical'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 100
    return config
