"""A GPT over the codes of ImageNet: `configs/image/prior_imagenet.py:b`, `:l`, `:xl` or `:xxl`.

The sizes of LlamaGen (Sun et al. 2024, arXiv:2406.06525): 256 codes of 256x256 images, classes, rotary 2-D
positions.

    python -m vq_jax.prepare imagenet2012
    python -m vq_jax.train --config configs/image/vqgan_imagenet.py:f16_16384 --workdir runs/vqgan_f16_16384
    python -m vq_jax.tokenize --workdir runs/vqgan_f16_16384 --output runs/imagenet_codes
    python -m vq_jax.train --config configs/image/prior_imagenet.py:xxl --workdir runs/prior_xxl \
        --config.data.name=codes:runs/imagenet_codes
    python -m vq_jax.sample --workdir runs/prior_xxl --num 16 --label 207 --guidance 2 --output dogs.png

| variant | blocks | width | heads | parameters |
| --- | --- | --- | --- | --- |
| b | 12 | 768 | 12 | 111,006,976 |
| l | 24 | 1024 | 16 | 336,907,264 |
| xl | 36 | 1280 | 20 | 751,631,104 |
| xxl | 48 | 1536 | 24 | 1,411,801,600 |

Parameters, optimizer state and moving average are split over all devices. Compiled for 32 chips of a v5e
slice, a step of xxl needs 2.17 GiB of the 15.75 GiB that programs may use of each (`vq_jax.summary
--topology v5e:4x8`, jax 0.10.2, libtpu 0.0.42.1; with a small tokenizer that has as many codes, for the
VQGAN).

Differences from what was published: layer normalisation, GELU and biases instead of RMS normalisation, SwiGLU
and none, no dropout of attention, and samples of the averaged parameters.

Not run: neither ImageNet nor an accelerator was available.
"""

from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.tasks import default_config

VARIANTS = {'b': (12, 768, 12), 'l': (24, 1024, 16), 'xl': (36, 1280, 20), 'xxl': (48, 1536, 24)}


def get_config(variant: str = 'b') -> ConfigDict:
    """The config of a variant."""
    if variant not in VARIANTS:
        raise UserError(f'prior_imagenet.py:{variant} is not there; choose one of {", ".join(VARIANTS)}.')
    config = default_config('prior')
    config.steps = 1_500_000
    config.batch_size = 256
    config.eval_every = 50_000
    config.checkpoint_every = 5_000
    config.data.name = 'imagenet2012'
    config.data.eval_split = 'validation'
    config.data.image_size = 256
    config.data.flip = True
    config.data.channels = 3
    config.data.workers = 16
    config.tokenizer.workdir = 'runs/vqgan_f16_16384'
    config.model.class_conditional = True
    config.sampling.guidance = 2.0
    config.transformer.depth, config.transformer.width, config.transformer.heads = VARIANTS[variant]
    config.transformer.positions = 'rotary'
    config.transformer.dropout = 0.1
    config.transformer.dtype = 'bfloat16'
    config.transformer.remat = True
    config.transformer.scan = True
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-4
    config.optimizer.b2 = 0.95
    config.optimizer.weight_decay = 0.05
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema_decay = 0.9999
    config.parallel.engine = 'jit'
    config.parallel.shard_parameters = True
    return config
