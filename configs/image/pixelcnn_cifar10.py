"""A gated PixelCNN over the pixels of CIFAR-10: red, then green, then blue, each with 256 values.

    python -m vq_jax.prepare cifar10
    python -m vq_jax.train --config configs/image/pixelcnn_cifar10.py --workdir runs/pixelcnn_cifar10
    python -m vq_jax.sample --workdir runs/pixelcnn_cifar10 --num 64 --output samples.png

The paper reports 3.03 bits per dimension (van den Oord et al. 2016, arXiv:1606.05328, table 1), which
evaluation calls `bits_per_dimension`. The sizes here are not the paper's. Not run.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Fifteen layers of 128 channels; unconditional, as for the paper's figure."""
    config = default_config('prior')
    config.steps = 200_000
    config.batch_size = 64
    config.eval_every = 10_000
    config.checkpoint_every = 2_000
    config.data.name = 'cifar10'
    config.data.image_size = 32
    config.data.channels = 3
    config.data.flip = True
    config.model.kind = 'pixelcnn'
    config.pixelcnn.depth = 15
    config.pixelcnn.channels = 128
    config.pixelcnn.dropout = 0.1
    config.optimizer.learning_rate = 4e-4
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 1_000
    config.optimizer.ema_decay = 0.9995
    return config
