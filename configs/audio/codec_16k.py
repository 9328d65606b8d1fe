"""The codec of Kumar et al. 2023 (DAC, arXiv:2306.06546) at 16 kHz, for a folder of recordings.

    python -m vq_jax.train --config configs/audio/codec_16k.py:$HOME/recordings --workdir runs/codec_16k

Encoder, decoder, codebooks, losses, crops, batch and optimizer are those of the published code: 50 positions
a second of 12 codes of 10 bits each, 6 kbit/s. The encoder has 21,521,536 parameters and the decoder
52,334,690.

Not run yet.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config(folder: str = '') -> ConfigDict:
    """For accelerators.

    Args:
        folder: of recordings; where it is left out, `--config.data.name=folder:PATH` must name it.
    """
    config = default_config('vqgan')
    config.steps = 250_000
    config.batch_size = 72
    config.eval_every = 10_000
    config.checkpoint_every = 10_000
    config.data.name = f'folder:{folder}'
    config.data.sample_rate = 16_000
    config.data.num_samples = 6_080  # 0.38 s
    config.data.random_crop = True
    config.variant.backbone = 'seanet'
    config.seanet.channels = 64
    config.seanet.decoder_channels = 96
    config.seanet.strides = (2, 4, 5, 8)
    config.seanet.features = 1024
    config.seanet.latent_kernel = 3
    config.seanet.dilations = (1, 3, 9)
    config.seanet.residual_kernel = 7
    config.seanet.compress = 1
    config.seanet.shortcut = False
    config.seanet.activation = 'snake'
    config.seanet.lstm = 0
    config.seanet.tanh = True
    config.seanet.causal = False
    config.quantizer.kind = 'residual'
    config.residual.depth = 12
    config.residual.dropout = 0.5
    config.quantizer.num_codes = 1024
    config.quantizer.code_dim = 8
    config.quantizer.cosine = True
    config.quantizer.unit_length = False
    config.quantizer.learning = 'gradient'
    config.quantizer.codebook_init = 'random'
    config.quantizer.revive_below = 0.0
    config.perceptual.kind = 'none'
    config.loss.reconstruction_weight = 0.0
    config.spectral.mel = 'dac'
    config.spectral.mel_weight = 15.0
    config.variant.discriminator = 'sound'
    config.adversarial.loss = 'least_squares'
    config.adversarial.adaptive = False
    config.adversarial.weight = 8.0  # there 1, of the sum over 8 discriminators
    config.adversarial.feature_weight = 200.0  # there 2, of the sum over their 100 layers
    for optimizer in (config.optimizer, config.discriminator_optimizer):
        optimizer.name = 'adamw'
        optimizer.learning_rate = 1e-4
        optimizer.b1 = 0.8
        optimizer.b2 = 0.99
        optimizer.weight_decay = 0.01
    return config
