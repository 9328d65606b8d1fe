"""The image tokenizers of LlamaGen: Sun et al. 2024 (arXiv:2406.06525)."""

from vq_jax.weights.vqgan import Names, Project, Published

_NAMES = Names(
    down='encoder.conv_blocks.{order}.res.{block}',
    down_attention='encoder.conv_blocks.{order}.attn.{block}',
    downsample='encoder.conv_blocks.{order}.downsample.conv',
    up='decoder.conv_blocks.{order}.res.{block}',
    up_attention='decoder.conv_blocks.{order}.attn.{block}',
    upsample='decoder.conv_blocks.{order}.upsample.conv',
    middle=('mid.0', 'mid.1', 'mid.2'),
)
# The defaults of its `vq_train.py` and `vq_loss.py`: the adversarial loss has no adaptive weight, and steps
# are counted from 1.
_TRAINED = {
    'data.random_crop': True,
    'data.flip': True,
    'quantizer.commitment': 0.25,
    'loss.reconstruction': 'mse',
    'adversarial.loss': 'hinge',
    'adversarial.weight': 0.5,
    'adversarial.adaptive': False,
    'adversarial.start': 19_999,
    **{
        f'{optimizer}.{key}': value
        for optimizer in ('optimizer', 'discriminator_optimizer')
        for key, value in {'learning_rate': 1e-4, 'b1': 0.9, 'b2': 0.95, 'clip_norm': 1.0}.items()
    },
}

LLAMAGEN = Project(
    name='llamagen',
    title='LlamaGen',
    source='https://github.com/FoundationVision/LlamaGen',
    licence='MIT',
    names=_NAMES,
    bottleneck='vq',
    roots=('ema.', 'model.', 'state_dict.', ''),
    section='model',
    cosine=True,
    unread=('quantize.codebook_used',),  # which codes the last batches of training chose
    constants=lambda sizes: {'quantize.codebook_used': (65_536,)},
    published=tuple(
        Published(
            name,
            {'channels': 128, 'multipliers': multipliers, 'num_codes': 16_384, 'latent': 8},
            _TRAINED,
            {'rFID on the validation set of ImageNet, 256 pixels': distance},
        )
        for name, multipliers, distance in (
            ('vq_ds16_c2i', (1, 1, 2, 2, 4), '2.19'),
            ('vq_ds8_c2i', (1, 2, 2, 4), '0.59'),
        )
    ),
)
