"""A convolutional VAE on Imagenette at 64 pixels, with a discretised-logistic likelihood of 8-bit pixels.

    python -m vq_jax.prepare imagenette/160px-v2
    python -m vq_jax.train --config configs/image/vae_imagenette.py --workdir runs/vae_imagenette

Results with `--config.steps=600 --config.batch_size=32`, on two cores of a shared x86-64 machine (jax
0.10.2), in 2 minutes: 7.20 bits per dimension on the validation set (importance-weighted with 8 samples
7.20), KL 439 nats, all 256 dimensions active, PSNR 16.8 dB. The full run was not made. The Imagenette here is
a 128-pixel copy whose images were squashed to squares.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """256 latent dimensions; KL warm-up, so that they are put to use."""
    config = default_config('vae')
    config.steps = 20_000
    config.batch_size = 64
    config.eval_every = 2_000
    config.checkpoint_every = 2_000
    config.data.name = 'imagenette/160px-v2'
    config.data.eval_split = 'validation'
    config.data.image_size = 64
    config.data.channels = 3
    config.data.flip = True
    config.model.backbone = 'convolutional'
    config.model.latent_dim = 256
    config.model.likelihood = 'discretised_logistic'
    config.model.importance_samples = 8
    config.convolutional.channels = 64
    config.convolutional.stages = 3
    config.loss.beta_warmup = 1_000
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 200
    config.optimizer.clip_norm = 20_000.0  # in nats an image; only spikes of the scale reach it
    return config
