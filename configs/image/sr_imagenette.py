"""Super-resolution from 32 to 128 pixels on Imagenette (Saharia et al. 2021, SR3, arXiv:2104.07636).

The network is given the small image, enlarged by cubic interpolation, beside the noisy one.

    python -m vq_jax.prepare imagenette/160px-v2
    python -m vq_jax.train --config configs/image/sr_imagenette.py --workdir runs/sr_imagenette

Not run at these sizes: no accelerator was available. A much smaller model that predicts x0, after 1,000
steps of batch 8 in 18 minutes on two cores of a shared x86-64 machine (jax 0.10.2): its one-step estimate
has a PSNR of 22.82 dB on 512 images of the validation set, cubic interpolation 22.58. It is sharper, with a
faint grid. After 250 such steps it was 21.9 dB on 32 images, and 18.1 with v-prediction. The command of
the 1,000-step run:

    python -m vq_jax.train --config configs/image/sr_imagenette.py --workdir runs/sr_small \
        --config.steps=1000 --config.batch_size=8 --config.eval_every=1000 --config.checkpoint_every=250 \
        --config.model.prediction=x0 --config.model.weighting=uniform \
        --config.unet.channels=32 --config.unet.multipliers="(1,2)" \
        --config.unet.residual_blocks=1 --config.unet.attention_resolutions="()" \
        --config.unet.head_channels=32 --config.unet.dtype=float32 \
        --config.optimizer.learning_rate=1e-3 --config.optimizer.schedule=cosine \
        --config.optimizer.warmup_steps=50 --config.optimizer.ema_decay=0.98 --config.sampling.sampler=ddim \
        --config.sampling.steps=1 --config.evaluation.times=2 "--config.data.eval_split=validation[64:576]"
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """A U-Net on patches of 2x2 pixels; the cosine schedule, shifted from 64 pixels to 128."""
    config = default_config('diffusion')
    config.steps = 100_000
    config.batch_size = 32
    config.eval_every = 10_000
    config.checkpoint_every = 2_500
    config.data.name = 'imagenette/160px-v2'
    config.data.eval_split = 'validation'
    config.data.image_size = 128
    config.data.channels = 3
    config.data.flip = True
    config.model.upscale = 4
    config.model.shift = 2.0
    config.model.weighting = 'min_snr'
    config.unet.patch = 2
    config.unet.channels = 96
    config.unet.multipliers = (1, 2, 3, 4)
    config.unet.attention_resolutions = (3,)
    config.unet.head_channels = 48
    config.unet.dtype = 'bfloat16'
    config.sampling.sampler = 'dpm_solver'
    config.sampling.steps = 25
    config.optimizer.learning_rate = 2e-4
    config.optimizer.warmup_steps = 1_000
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema_decay = 0.999
    return config
