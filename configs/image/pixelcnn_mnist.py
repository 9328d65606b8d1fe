"""A gated PixelCNN over the pixels of binarised MNIST, without a tokenizer.

    python -m vq_jax.prepare mnist
    python -m vq_jax.train --config configs/image/pixelcnn_mnist.py --workdir runs/pixelcnn_mnist

A pixel is white with its grey value as the probability, sampled once for each image, as in published
likelihoods: 81.30 nats (van den Oord et al. 2016, arXiv:1601.06759, table 4). That figure is unconditional
(`--config.model.class_conditional=false`); knowing the class can be worth up to log 10, 2.3 nats.
`--config.tokenizer.levels=256 --config.tokenizer.dither=false` models the grey values themselves.

Results with `--config.steps=1000`, half an epoch, in 15 minutes on two cores of a shared x86-64 machine
under other load (jax 0.10.2): 90.6 nats on the test set, given the class; strokes, but few digits.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Twelve layers of 32 channels, which see 15 rows up and 14 columns to either side."""
    config = default_config('prior')
    config.steps = 2_000
    config.batch_size = 32
    config.eval_every = 1_000
    config.checkpoint_every = 500
    config.num_shown = 4
    config.data.name = 'mnist'
    config.data.channels = 1
    config.tokenizer.levels = 2
    config.tokenizer.dither = True
    config.model.kind = 'pixelcnn'
    config.model.class_conditional = True
    config.pixelcnn.depth = 12
    config.pixelcnn.channels = 32
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 100
    config.optimizer.ema_decay = 0.998
    return config
