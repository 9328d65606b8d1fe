"""Priors over the space-time codes of sprites: `prior_sprites.py:transformer`, `:masked` or `:text`.

    python -m vq_jax.train --config configs/video/vqgan_sprites.py:causal --workdir runs/vqgan_sprites
    python -m vq_jax.train --config configs/video/prior_sprites.py:masked --workdir runs/prior_sprites
    python -m vq_jax.sample --workdir runs/prior_sprites --num 12 --output videos.gif
    python -m vq_jax.sample --workdir runs/prior_sprites --num 8 --label "walking, seen from the left" \
        --output walking.mp4
    python -m vq_jax.train --config configs/video/prior_sprites.py:text --workdir runs/text_sprites
    python -m vq_jax.sample --workdir runs/text_sprites --num 4 --output videos.gif \
        --text "orc character with pink page hair, white shirt and teal pants, walking, seen from the left"

| variant | network | sampled |
| --- | --- | --- |
| transformer | codes one after the other, as in VideoGPT (Yan et al. 2021) | in 1,024 steps, with a cache |
| masked | masked codes from all others, as in MAGVIT (Yu et al. 2023, arXiv:2212.05199) | in 16 steps |
| text | as masked, with the sentence that describes the clip in place of its class | in 16 steps |

All learn 4x16x16 codes of 7 frames, with rotary positions on all three axes. The twelve classes are what a
character does and where it looks, as the sentence that describes it ends; the rest of it is skin, hair and
clothes. For a tokenizer of 8 frames, such as the variant `full`, set `--config.tokenizer.workdir` to its run
and `--config.data.frames=8`. Of half of the training clips a part is given: the first frames, the first and
the last, or all around a box.

How videos are continued, and what is between two frames filled in, is in docs/video.md.

Not run.
"""

from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.tasks import default_config

KINDS = {'transformer': 'transformer', 'masked': 'maskgit', 'text': 'maskgit'}
CLASSES = r'(?P<label>(casting a spell|walking|slashing), seen from the \w+)$'


def get_config(variant: str = 'transformer') -> ConfigDict:
    """Sizes for two cores of a CPU."""
    if variant not in KINDS:
        raise UserError(f'prior_sprites.py:{variant} is not there; choose one of {", ".join(KINDS)}.')
    config = default_config('prior', conditioner='text' if variant == 'text' else None)
    config.steps = 2_000
    config.batch_size = 8
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'sprites'
    if variant == 'text':
        config.data.caption_length = 128
        config.text_encoder.depth = 3
        config.text_encoder.width = 128
    else:
        config.data.name_key = 'text'
        config.data.name_pattern = CLASSES
        config.model.class_conditional = True
    config.data.frames = 7
    config.data.image_size = 64
    config.data.channels = 3
    config.data.random_crop = True  # in time
    config.tokenizer.workdir = 'runs/vqgan_sprites'
    config.model.kind = KINDS[variant]
    config.model.given = 0.5
    config.transformer.depth = 4
    config.transformer.width = 192
    config.transformer.heads = 4
    config.transformer.positions = 'rotary'
    config.transformer.dropout = 0.1
    config.sampling.steps = 16
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 100
    config.optimizer.ema_decay = 0.995
    return config
