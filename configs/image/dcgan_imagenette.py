"""DCGAN (Radford et al. 2016, arXiv:1511.06434) on Imagenette at 64 pixels, in its published code's sizes.

    python -m vq_jax.prepare imagenette/160px-v2
    python -m vq_jax.train --config configs/image/dcgan_imagenette.py --workdir runs/dcgan_imagenette

Not run at these sizes: no accelerator was available. Much smaller, with `--config.steps=2500
--config.batch_size=64 --config.generator.channels=32 --config.discriminator.channels=32`, in 33 minutes on
two cores of a shared x86-64 machine under other load (jax 0.10.2): the pixel variance of samples relative to
data is 0.84, no two samples of different noise are alike, and a linear probe, which is 50% accurate, sees 7
of the 10 classes in them. Samples have plausible colours and layouts but no recognisable objects.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """The published sizes and optimizer, and a moving average of the generator."""
    config = default_config('gan')
    config.steps = 30_000
    config.batch_size = 128
    config.eval_every = 2_000
    config.checkpoint_every = 2_000
    config.best_metric = None
    config.data.name = 'imagenette/160px-v2'
    config.data.eval_split = 'validation'
    config.data.image_size = 64
    config.data.channels = 3
    config.data.flip = True
    config.generator.channels = 64
    config.discriminator.channels = 64
    for optimizer in (config.optimizer, config.discriminator_optimizer):
        optimizer.learning_rate = 2e-4
        optimizer.b1 = 0.5
    config.optimizer.ema_decay = 0.999
    return config
