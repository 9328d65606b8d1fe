"""A small classifier of 32x32 (padded) MNIST digits, whose features are used to evaluate other models.

    python -m vq_jax.prepare mnist
    python -m vq_jax.train --config configs/image/classifier.py --workdir runs/classifier
    python -m vq_jax.evaluate --workdir runs/dcgan_mnist --features runs/classifier

It serves only runs whose images have the same size. For 28x28 digits (ddpm_mnist, vae_mnist):

    python -m vq_jax.train --config configs/image/classifier.py --workdir runs/classifier28 \
        --config.data.pad=0 --config.data.image_size=28

For another data set, set `--config.data.name` and the other keys of `data`.

Results on the test set: accuracy 99.12%, cross-entropy 0.0278 nats; under 3 minutes on two cores of a
shared x86-64 machine under other load (jax 0.10.2).
10,000 samples of configs/image/dcgan_mnist.py against the test set: classifier_frechet 1.71, precision 0.846,
recall 0.743, and 99.2% of them are classified as the requested class.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Images as in the configs of 32x32 digits; AdamW with a cosine schedule."""
    config = default_config('classifier')
    config.steps = 3_000
    config.batch_size = 64
    config.eval_every = 1_000
    config.checkpoint_every = 1_000
    config.data.name = 'mnist'
    config.data.pad = 2
    config.data.image_size = 32
    config.data.channels = 1
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.01
    config.optimizer.schedule = 'cosine'
    return config
