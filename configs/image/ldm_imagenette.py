"""Class-conditional diffusion of the latents of a VQGAN, on Imagenette (ten classes) at 64 pixels.

The latents are a 16x16 grid of 8-dimensional vectors, those that are compared with the codes. Any other run
of vqgan, vqvae or vae with one grid of latents will do: `--config.latent.workdir=DIR`.

    python -m vq_jax.prepare imagenette/160px-v2
    python -m vq_jax.train --config configs/image/vqgan_imagenette.py --workdir runs/vqgan_imagenette
    python -m vq_jax.train --config configs/image/ldm_imagenette.py --workdir runs/ldm_imagenette
    python -m vq_jax.sample --workdir runs/ldm_imagenette --num 64 --guidance 2 --output samples.png

Not run at these sizes: no accelerator was available. Much smaller, in 3,000 steps of batch 32 and 88 minutes
on two cores of a shared x86-64 machine under other load (jax 0.10.2), over the row `perceptual` of
experiments/vqgan_2021: 1,000 samples with guidance 2 have a Fréchet distance of 21.3 from the validation set
in the features of that table's classifier, precision 0.78 and recall 0.58; the autoencoder's reconstructions
of that set have 16.5. Samples have plausible colours and layouts but no recognisable objects: 16% of them are
of the requested class, by a classifier that is 65% accurate.

    python -m vq_jax.experiment experiments/vqgan_2021 --rows classifier,perceptual --workdir RUNS --rerun
    python -m vq_jax.train --config configs/image/ldm_imagenette.py --workdir runs/ldm_small \
        --config.latent.workdir=RUNS/perceptual --config.steps=3000 --config.batch_size=32 \
        --config.eval_every=1000 --config.checkpoint_every=250 --config.log_every=50 \
        --config.unet.multipliers="(1,2)" --config.unet.attention_resolutions="(1,)" \
        --config.unet.dropout=0.0 --config.optimizer.warmup_steps=100 \
        --config.optimizer.ema_decay=0.998 --config.sampling.grid=uniform
    python -m vq_jax.evaluate --workdir runs/ldm_small --features RUNS/classifier --num 1000
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """A small U-Net; v-prediction along the cosine schedule."""
    config = default_config('diffusion')
    config.steps = 50_000
    config.batch_size = 64
    config.eval_every = 5_000
    config.checkpoint_every = 1_000
    config.data.name = 'imagenette/160px-v2'
    config.data.eval_split = 'validation'
    config.data.image_size = 64
    config.data.channels = 3
    config.data.flip = True
    config.latent.workdir = 'runs/vqgan_imagenette'
    config.model.class_conditional = True
    config.model.weighting = 'min_snr'
    config.unet.channels = 64
    config.unet.multipliers = (1, 2, 3)
    config.unet.attention_resolutions = (1, 2)
    config.unet.head_channels = 32
    config.unet.dropout = 0.1
    config.sampling.sampler = 'dpm_solver'
    config.sampling.steps = 30
    config.sampling.guidance = 2.0
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 500
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema_decay = 0.999
    return config
