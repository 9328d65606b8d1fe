"""The VAE of Burda et al. 2016 (arXiv:1509.00519, table 1, one stochastic layer) on MNIST.

Two connected layers of 200 tanh units on either side of 50 latent dimensions, pixels binarized anew each
time they are seen.

    python -m vq_jax.train --config configs/vae_mnist.py --workdir runs/vae_mnist
    python -m vq_jax.evaluate --workdir runs/vae_mnist --override=model.importance_samples=5000

Seen on the test set: evidence lower bound -93.3 nats (reconstruction -69.2, divergence 24.1), importance-
weighted bound with 50 samples -90.4, 17 of 50 dimensions active; 6 minutes on two cores of a shared x86-64
machine (jax 0.10.2). With `--config.steps=500000`, paused and so not timed: -90.8 nats, 50 samples -88.1,
and 5,000 samples, as in the second command, -87.4. The paper's -86.8 nats, of 5,000 samples too, took about
3,280 epochs; these are 167 and 833.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """The paper's sizes; a cosine schedule and batches of 100 instead of its steps and 20."""
    config = default_config('vae')
    config.steps = 100_000
    config.batch_size = 100
    config.log_every = 1_000
    config.eval_every = 20_000
    config.checkpoint_every = 10_000
    config.data.name = 'mnist'
    config.data.channels = 1
    config.model.latent_dim = 50
    config.mlp.hidden = (200, 200)
    config.mlp.activation = 'tanh'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    return config
