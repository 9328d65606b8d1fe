"""A neural codec of speech at 8 kHz: 50 positions a second of up to 12 codes of 10 bits each.

    python -m vq_jax.prepare spoken_digit
    python -m vq_jax.train --config configs/audio/codec_8k.py --workdir runs/codec_8k

One model for 0.5 to 6 kbit/s: the first 3, 6 or 12 codes of each position are 1.5, 3 or 6 kbit/s. It is
causal: sound can be streamed, 20 ms at a time. Encoder and decoder have 617,264 and 617,378 parameters.

Seen on one core of a shared x86-64 machine, the other one busy too (Python 3.11, jax 0.10.2): 10,000 steps
in 75 minutes, 0.4 s each. Of the 250 recordings of the last tenth, cut to 0.3 s, by speakers that are in the
rest too, with all twelve codes: mel distance 0.966, SI-SDR 3.7 dB, PESQ-NB 2.60 (of the 240 that it takes), 6
kbit/s, 5.4 by the entropy of the codes. What three codes do not say, the others hardly add: from 1.5 to 6
kbit/s the SI-SDR of whole sentences goes from 4.3 to 5.0 dB, and in spectrograms fine harmonics above 2 kHz
are missing. There is no discriminator; `benchmarks/README.md` has each rate beside Opus and Codec 2.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Small enough for a laptop's CPU."""
    config = default_config('vqgan')
    config.steps = 10_000
    config.batch_size = 16
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'spoken_digit'
    config.data.train_split = 'train[:90%]'
    config.data.eval_split = 'train[90%:]'
    config.data.sample_rate = 8_000
    config.data.num_samples = 2400  # 0.3 s: few recordings are shorter, and silence behind them is no speech
    config.data.random_crop = True
    config.variant.backbone = 'seanet'
    config.seanet.channels = 16
    config.seanet.strides = (2, 4, 4, 5)
    config.seanet.features = 64
    config.seanet.dilations = (1, 3)
    config.seanet.shortcut = False
    config.seanet.activation = 'snake'
    config.seanet.lstm = 0
    config.seanet.tanh = True
    config.quantizer.kind = 'residual'
    config.residual.depth = 12
    config.residual.dropout = 0.5
    config.quantizer.num_codes = 1024
    config.quantizer.kmeans_batches = 8
    config.loss.reconstruction_weight = 0.1
    config.spectral.mel = 'dac'
    config.spectral.mel_weight = 2.0
    config.balancer.enabled = True
    config.balancer.decay = 0.99  # the first steps have gradients fifty times as long as those that follow
    config.perceptual.kind = 'none'
    config.adversarial.start = 1_000_000  # beyond the end: without a discriminator
    config.adversarial.adaptive = False
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 100
    return config
