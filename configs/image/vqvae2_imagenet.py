"""The VQ-VAE with two scales of codes of Razavi et al. 2019 (arXiv:1906.00446) on ImageNet.

256x256 images to 32x32 coarse and 64x64 fine codes, each from a codebook of 512.

    python -m vq_jax.prepare imagenet2012 --data_dir /mnt/shared/tfds
    ./launch_tpu.sh --name vq --zone us-central2-b --type v4-32 -- \
        --config configs/image/vqvae2_imagenet.py --config.data.data_dir=/mnt/shared/tfds \
        --workdir /mnt/shared/runs/vqvae2_imagenet

The paper's sizes: 128 channels, two residual blocks of 64, codes of 64 dimensions, beta 0.25, decay 0.99,
batch 128, Adam at 3e-4. The kernel sizes, and 2,000,000 steps instead of 2,207,444, are choices of this
config.

Not run: neither ImageNet nor a pod was available.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """The paper's sizes; bfloat16 layers."""
    config = default_config('vqvae')
    config.steps = 2_000_000
    config.batch_size = 128
    config.eval_every = 20_000
    config.checkpoint_every = 5_000
    config.data.name = 'imagenet2012'
    config.data.eval_split = 'validation'
    config.data.image_size = 256
    config.data.resize = 288
    config.data.random_crop = True
    config.data.channels = 3
    config.data.flip = True
    config.data.workers = 16
    config.model.channels = 128
    config.model.stages = 2
    config.model.top_stages = 1
    config.model.residual_blocks = 2
    config.model.residual_channels = 64
    config.model.dtype = 'bfloat16'
    config.quantizer.num_codes = 512
    config.quantizer.dim = 64
    config.quantizer.commitment = 0.25
    config.quantizer.decay = 0.99
    config.quantizer.kmeans_batches = 1
    config.optimizer.learning_rate = 3e-4
    config.parallel.engine = 'jit'
    return config
