"""A tokenizer of video of MAGVIT-v2's size (Yu et al. 2023, arXiv:2310.05737): 17 frames of 128x128 pixels.

For a folder of videos of your own, or a set of tensorflow-datasets: `configs/video/magvit2.py:NAME`.

    python -m vq_jax.train --config configs/video/magvit2.py:folder:PATH --workdir runs/magvit2
    python -m vq_jax.summary --config configs/video/magvit2.py

Clips become 5x16x16 codes of 18 bits. The first frame has 16x16 of its own, so that an image is a clip of one
frame. Frames, channels and codes are after the paper; weights of losses, optimizers and the number of steps
have not been checked against it.

What differs: decoders have no adaptive group normalisation, and layers no blur; the coarsest resolution has
a layer of attention, of each frame by itself; the discriminator is a PatchGAN and not StyleGAN's; weights
do not begin from those of a model of images; and the entropy loss has one weight from first to last.

Encoder and decoder have 284,781,205 parameters, and a step of 256 clips takes 1.05e16 FLOP, as
`vq_jax.summary` counts. Not run: no accelerator was available.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config(name: str = 'folder:videos') -> ConfigDict:
    """The config for a data set."""
    config = default_config('vqgan')
    config.steps = 500_000
    config.batch_size = 256
    config.eval_every = 10_000
    config.checkpoint_every = 5_000
    config.data.name = name
    config.data.frames = 17
    config.data.image_size = 128
    config.data.channels = 3
    config.data.random_crop = True
    config.data.workers = 16
    config.model.channels = 128
    config.model.multipliers = (1, 2, 2, 4)
    config.model.residual_blocks = 4
    config.model.attention_resolutions = ()
    config.model.features = 512
    config.model.temporal = 'causal'
    config.model.time_strides = (1, 2, 2)
    config.model.dtype = 'bfloat16'
    config.model.remat = True
    config.quantizer.kind = 'lfq'
    config.lfq.bits = 18
    config.loss.reconstruction = 'mse'
    config.loss.reconstruction_weight = 5.0
    config.loss.perceptual_weight = 0.1
    config.discriminator.channels = 128
    config.discriminator.strides = (1, 2, 2)
    config.discriminator.norm = 'none'
    config.discriminator.dtype = 'bfloat16'
    config.adversarial.weight = 0.1
    config.adversarial.adaptive = False
    config.adversarial.r1 = 10.0
    config.adversarial.lecam = 0.001
    for optimizer in (config.optimizer, config.discriminator_optimizer):
        optimizer.learning_rate = 1e-4
        optimizer.schedule = 'cosine'
        optimizer.warmup_steps = 5_000
        optimizer.b1 = 0.0
        optimizer.b2 = 0.99
    config.optimizer.ema_decay = 0.999
    config.parallel.engine = 'jit'  # of few examples a chip: see docs/pods.md
    return config
