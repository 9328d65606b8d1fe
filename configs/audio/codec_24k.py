"""The codec of Défossez et al. 2022 (EnCodec, arXiv:2210.13438) at 24 kHz, for a folder of recordings.

    python -m vq_jax.train --config configs/audio/codec_24k.py:$HOME/recordings --workdir runs/codec_24k

Encoder, decoder, codebooks, losses, crops, batch and optimizer are those of the paper: 75 positions a second
of up to 32 codes of 10 bits each, 0.75 to 24 kbit/s from one model. It is causal: sound can be streamed, 13.3
ms at a time. For that, convolutions see zeros before the first sample, and not the sound mirrored as in the
published code, which is `config.seanet.padding=reflect`. The encoder has 7,421,696 parameters and the decoder
7,421,922: those of the published code less the second bias of each LSTM.

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
    config.steps = 600_000
    config.batch_size = 64
    config.eval_every = 10_000
    config.checkpoint_every = 10_000
    config.data.name = f'folder:{folder}'
    config.data.sample_rate = 24_000
    config.data.num_samples = 24_000
    config.data.random_crop = True
    config.variant.backbone = 'seanet'
    config.quantizer.kind = 'residual'
    config.residual.depth = 32
    config.residual.dropout = 1.0
    config.quantizer.num_codes = 1024
    config.perceptual.kind = 'none'
    config.loss.reconstruction_weight = 0.1
    config.spectral.mel = 'encodec'
    config.spectral.mel_weight = 2.0
    config.variant.discriminator = 'sound'
    config.sound_discriminator.periods = ()
    config.sound_discriminator.band_windows = ()
    config.sound_discriminator.stft_windows = (1024, 2048, 512, 256, 128)
    config.sound_discriminator.normalise = False
    config.adversarial.loss = 'hinge'
    config.adversarial.adaptive = False
    config.adversarial.weight = 4.0
    config.adversarial.feature_weight = 4.0
    config.balancer.enabled = True
    for optimizer in (config.optimizer, config.discriminator_optimizer):
        optimizer.learning_rate = 3e-4
        optimizer.b1 = 0.5
        optimizer.b2 = 0.9
    return config
