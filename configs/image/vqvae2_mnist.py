"""A two-level VQ-VAE on MNIST: 32x32 digits to 4x4 top and 8x8 bottom codes, from codebooks of 256.

    python -m vq_jax.prepare mnist
    python -m vq_jax.train --config configs/image/vqvae2_mnist.py --workdir runs/vqvae2_mnist

Results: test PSNR 24.91 dB, MSE 0.0158 (pixels in [-1, 1]), perplexity 206 at the bottom and 206 at the top,
in 7 minutes on two cores of a shared x86-64 machine under other load (jax 0.10.2). On digits the top level
carries little: on the first 256 test images the MSE is 0.0142, with the top codes of another image 0.0167,
and with the bottom codes of another image 0.39.

Digits are sampled by a prior for each level, that of the bottom codes given the top ones:

    python -m vq_jax.train --config configs/image/prior_mnist.py --workdir runs/top --config.steps=1500 \
        --config.tokenizer.workdir=runs/vqvae2_mnist --config.model.level=top
    python -m vq_jax.train --config configs/image/prior_mnist.py --workdir runs/bottom --config.steps=1000 \
        --config.tokenizer.workdir=runs/vqvae2_mnist --config.model.level=bottom \
        --config.model.top_workdir=runs/top --config.eval_every=1000
    python -m vq_jax.train --config configs/image/classifier.py --workdir runs/classifier --config.steps=1500
    python -m vq_jax.evaluate --workdir runs/bottom --features runs/classifier --num 1000

Results on the test set, on the same machine: 36.5 nats for the top codes (3.29 bits per code), 113.0 for the
bottom ones (2.55). Of 1,000 samples (guidance 2) 97.1% are of the requested class, and their
classifier_frechet is 5.16, by a classifier that is 98.9% accurate.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """The sizes of `vqvae_mnist.py`, and one more level."""
    config = default_config('vqvae')
    config.steps = 1500
    config.batch_size = 64
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'mnist'
    config.data.pad = 2
    config.data.image_size = 32
    config.data.channels = 1
    config.model.channels = 64
    config.model.top_stages = 1
    config.model.residual_channels = 32
    config.quantizer.num_codes = 256
    config.quantizer.dim = 32
    config.loss.reconstruction_weight = 3.0
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    return config
