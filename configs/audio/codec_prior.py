"""A class-conditional prior over the codes of a neural codec: spoken digits at 8 kHz, half a second of each.

    python -m vq_jax.prepare spoken_digit
    python -m vq_jax.train --config configs/audio/codec_8k.py --workdir runs/codec_8k
    python -m vq_jax.train --config configs/audio/codec_prior.py --workdir runs/codec_prior
    python -m vq_jax.sample --workdir runs/codec_prior --num 10 --label 7 --output sevens.wav

Of the codec's 12 codes at each of 25 positions it learns the first 4, which are 2 kbit/s, and decodes these
alone. They are predicted in the delay pattern of MusicGen, in 28 steps instead of 100; with
`--config.model.pattern=depth` it is an RQ-Transformer instead, and `flattened` predicts a code a step.

Seen on a core of a shared x86-64 machine under other load (Python 3.11, jax 0.10.2), in 22 minutes, over a
codec that had learned from four of the five speakers (benchmarks/README.md): of 250 samples, all digits in
turn, a classifier (`speech_classifier.py:digit --config.data.num_samples=4000`, right on 97.6% of held-out
recordings) hears the digit asked for in 46.4%, by chance 10%; classifier_frechet 35.3. In their
spectrograms there are pauses and bands of formants. Of the last tenth of the recordings, a code costs 6.53
bits after 500 steps, 6.98 in the end, and the first of each position 5.26 and 5.51: 2,250 recordings are
few.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Small enough for a laptop's CPU."""
    config = default_config('prior')
    config.steps = 2_000
    config.batch_size = 32
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'spoken_digit'
    config.data.train_split = 'train[:90%]'
    config.data.eval_split = 'train[90%:]'
    config.data.num_samples = 4000
    config.tokenizer.workdir = 'runs/codec_8k'
    config.tokenizer.depths = 4
    config.model.class_conditional = True
    config.model.pattern = 'delay'
    config.transformer.depth = 4
    config.transformer.width = 128
    config.transformer.heads = 4
    config.transformer.dropout = 0.2
    config.depth_transformer.width = 128
    config.depth_transformer.heads = 4
    config.depth_transformer.dropout = 0.2
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 100
    config.optimizer.ema_decay = 0.995
    return config
