"""A VQ-VAE on MNIST whose decoder is a likelihood: binarised 32x32 digits to 4x4 codes out of 256.

    python -m vq_jax.prepare mnist
    python -m vq_jax.train --config configs/image/vqvae_likelihood_mnist.py \
        --workdir runs/vqvae_likelihood_mnist

Results on the test set: bound with a uniform prior over the codes -156.8 nats (reconstruction -68.1, codes
88.7), including the cost of the padding; 0.221 bits per dimension of the padded images, perplexity 201; 3
minutes on two cores of a shared x86-64 machine under other load (jax 0.10.2). The cost of the codes matters:
with 8x8 of them, `--config.model.stages=2 --config.steps=1000`, reconstruction -41.1, codes 354.9, 0.558
bits.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """The sizes of `vqvae_mnist.py` and one more stage; pixels are binarised anew each time they are seen."""
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
    config.model.stages = 3
    config.model.residual_channels = 32
    config.quantizer.num_codes = 256
    config.quantizer.dim = 32
    config.loss.reconstruction = 'bernoulli'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    return config
