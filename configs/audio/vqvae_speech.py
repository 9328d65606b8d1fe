"""A VQ-VAE on recordings of spoken digits: half a second at 8 kHz to 64 codes from a codebook of 256.

    python -m vq_jax.prepare spoken_digit
    python -m vq_jax.train --config configs/audio/vqvae_speech.py --workdir runs/vqvae_speech

The Free Spoken Digit Dataset has 2,500 recordings by five speakers, and no test set: the last tenth, in the
shuffled order of tensorflow-datasets, is for evaluation. Recordings longer than half a second lose both ends,
shorter ones are followed by silence.

Seen on two cores of a shared x86-64 machine (Python 3.11, jax 0.10.2), heavily loaded, with 7 minutes of
processor time: signal-to-noise ratio 3.1 dB, mean squared error 0.00124 of samples in [-1, 1], perplexity
101 of 256 codes; spectrograms have the envelope of the speech and little of its harmonics, at a kilobit a
second.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Small enough for a laptop's CPU."""
    config = default_config('vqvae')
    config.steps = 2_000
    config.batch_size = 32
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'spoken_digit'
    config.data.train_split = 'train[:90%]'
    config.data.eval_split = 'train[90%:]'
    config.data.num_samples = 4096
    config.model.channels = 64
    config.model.stages = 3
    config.model.strides = (4,)
    config.model.residual_channels = 64
    config.quantizer.num_codes = 256
    config.quantizer.dim = 32
    config.loss.reconstruction_weight = 300.0
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 100
    return config
