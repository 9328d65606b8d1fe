"""The VQ-VAE of van den Oord et al. 2017 (arXiv:1711.00937, section 4.2) on ImageNet, for a TPU pod.

128x128 images to 32x32 codes from a codebook of 512.

    python -m vq_jax.prepare imagenet2012 --data_dir /mnt/shared/tfds
    ./launch_tpu.sh --name vq --zone us-central2-b --type v4-32 -- \
        --config configs/image/vqvae_imagenet.py --config.data.data_dir=/mnt/shared/tfds \
        --workdir /mnt/shared/runs/vqvae_imagenet

All workers must see the folder of the data, such as a bucket mounted with gcsfuse, and that of the run,
unless they are named as gs://BUCKET/FOLDER. Of such data each worker copies the splits that it reads, whole.

Not run: neither ImageNet nor a pod was available.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """bfloat16 layers, batch 1,024."""
    config = default_config('vqvae')
    config.steps = 250_000
    config.batch_size = 1024
    config.eval_every = 10_000
    config.checkpoint_every = 5_000
    config.data.name = 'imagenet2012'
    config.data.eval_split = 'validation'
    config.data.image_size = 128
    config.data.resize = 144
    config.data.random_crop = True
    config.data.channels = 3
    config.data.flip = True
    config.data.workers = 16
    config.model.channels = 256
    config.model.residual_channels = 256
    config.model.dtype = 'bfloat16'
    config.quantizer.num_codes = 512
    config.quantizer.dim = 64
    config.quantizer.kmeans_batches = 1
    config.loss.reconstruction_weight = 4.0
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 2_000
    config.parallel.engine = 'jit'
    return config
