"""The VQ-VAE of VideoGPT (Yan et al. 2021, arXiv:2104.10157) at its size for UCF-101: 16 frames of 128x128.

For a folder of videos of your own, or a set of tensorflow-datasets: `configs/video/videogpt.py:NAME`.

    python -m vq_jax.train --config configs/video/videogpt.py:folder:PATH --workdir runs/videogpt
    python -m vq_jax.summary --config configs/video/videogpt.py

Clips become 4x32x32 codes from a codebook of 2,048. Sizes, weights of losses and optimizer are those of
github.com/wilson1yan/VideoGPT.

What differs: groups of channels of each example are normalised, and not channels of the batch; the first
convolution of the decoder has size 3 and not 1; the codebook begins by k-means; and a code is revived where
it is used less than a tenth of an even share, and not less than about once a batch.

Encoder and decoder have 22,739,059 parameters, 1,597,440 more than the published ones, by that convolution;
a step of 32 clips takes 1.64e13 FLOP, as `vq_jax.summary` counts. Not run: no accelerator was available.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config(name: str = 'folder:videos') -> ConfigDict:
    """The config for a data set."""
    config = default_config('vqvae')
    config.steps = 200_000
    config.batch_size = 32
    config.eval_every = 10_000
    config.checkpoint_every = 5_000
    config.data.name = name
    config.data.frames = 16
    config.data.image_size = 128
    config.data.channels = 3
    config.data.random_crop = True
    config.data.workers = 16
    config.model.channels = 240
    config.model.stages = 2  # of strides 2, also in time
    config.model.residual_blocks = 4
    config.model.residual_channels = 120
    config.model.axial_heads = 2
    config.quantizer.num_codes = 2048
    config.quantizer.dim = 256
    # Of values in [-1, 1]; the code divides the error of values in [-0.5, 0.5] by 0.06.
    config.loss.reconstruction_weight = 1 / 0.24
    config.optimizer.learning_rate = 3e-4
    config.optimizer.clip_norm = 1.0
    return config
