"""A neural codec of speech at 8 kHz: 50 positions a second of up to 12 codes of 10 bits each.

    python -m vq_jax.prepare spoken_digit
    python -m vq_jax.train --config configs/audio/codec_8k.py --workdir runs/codec_8k

One model for 0.5 to 6 kbit/s: the first 3, 6 or 12 codes of each position are 1.5, 3 or 6 kbit/s. It is
causal: sound can be streamed, 20 ms at a time. Encoder and decoder have 617,264 and 617,378 parameters.

A step takes about half a second of the processor (two shared x86-64 cores). Not run to its end yet. Of 80
steps with a decay of 0.999 in the balancer, in which samples and mel bands got about equal shares, the last
had a mel loss of 3.61 and a mean absolute difference of 0.036; with weights of 15 and 100 instead of the
balancer, 3.23 and 0.042.
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
