"""A class-conditional transformer over the codes of a VQ-VAE of MNIST.

    python -m vq_jax.prepare mnist
    python -m vq_jax.train --config configs/image/vqvae_mnist.py --workdir runs/vqvae_mnist
    python -m vq_jax.train --config configs/image/prior_mnist.py --workdir runs/prior_mnist
    python -m vq_jax.sample --workdir runs/prior_mnist --num 64 --label 3 --output threes.png

`--config.model.kind=pixelcnn` or `maskgit` models the same codes with another network: all three, with 1,500
steps each, are compared in experiments/priors/table.md.

Results after 3,000 steps, on two cores of a shared x86-64 machine under heavy other load (jax 0.10.2), in 61
minutes: 94.7 nats, 2.13 bits per code, on the test set.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Small networks; the class is dropped from a tenth of the examples, for guidance."""
    config = default_config('prior')
    config.steps = 3_000
    config.batch_size = 64
    config.eval_every = 1_000
    config.checkpoint_every = 1_000
    config.data.name = 'mnist'
    config.data.pad = 2
    config.data.image_size = 32
    config.data.channels = 1
    config.tokenizer.workdir = 'runs/vqvae_mnist'
    config.model.class_conditional = True
    config.sampling.guidance = 2.0
    config.transformer.depth = 4
    config.transformer.width = 128
    config.transformer.heads = 4
    config.transformer.dropout = 0.1
    config.pixelcnn.depth = 8
    config.pixelcnn.first_kernel = 5
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.01
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 200
    config.optimizer.ema_decay = 0.999
    return config
