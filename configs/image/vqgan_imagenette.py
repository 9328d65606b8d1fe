"""A small VQGAN on Imagenette at 64 pixels, which trains on a laptop's CPU.

Images become 16x16 codes from a codebook of 1,024. The perceptual loss is multi-scale SSIM, which needs no
weights; for LPIPS, which does: `--config.perceptual.kind=lpips`.

    python -m vq_jax.prepare imagenette/160px-v2
    python -m vq_jax.train --config configs/image/vqgan_imagenette.py --workdir runs/vqgan_imagenette

Results on the validation set after 1,000 steps, on two cores of a shared x86-64 machine under other load (jax
0.10.2), in 36 minutes: PSNR 20.9 dB, L1 0.136 (pixels in [-1, 1]), 1 - MS-SSIM 0.086, perplexity 789. Without
the discriminator (`--config.adversarial.start=1000000`), in 31 minutes: 23.0 dB, 0.104, 0.055, 852. After so
few steps the discriminator makes images sharper but grainy, with slightly wrong colours; without it
they are smooth. The Imagenette here is a 128-pixel copy whose images were squashed to squares.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """1.0M parameters, and 0.7M in the discriminator, which joins halfway through the run."""
    config = default_config('vqgan')
    config.steps = 1_000
    config.batch_size = 16
    config.eval_every = 500
    config.checkpoint_every = 200
    config.data.name = 'imagenette/160px-v2'
    config.data.eval_split = 'validation'
    config.data.image_size = 64
    config.data.channels = 3
    config.data.flip = True
    config.model.channels = 32
    config.model.multipliers = (1, 2, 2)
    config.model.residual_blocks = 1
    config.model.attention_resolutions = ()
    config.model.features = 64
    config.quantizer.num_codes = 1_024
    config.quantizer.code_dim = 8
    config.discriminator.channels = 32
    config.perceptual.kind = 'ms_ssim'
    config.adversarial.loss = 'hinge'
    config.adversarial.start = 500
    config.adversarial.warmup = 100
    config.adversarial.ramp = 100
    for optimizer in (config.optimizer, config.discriminator_optimizer):
        optimizer.learning_rate = 5e-4
        optimizer.b1 = 0.5
        optimizer.b2 = 0.9
    config.optimizer.ema_decay = 0.99
    return config
