"""LlamaGen, tokenizers and class-conditional transformers: Sun et al. 2024 (arXiv:2406.06525)."""

from vq_jax.weights.gpt import GPTNames, GPTProject
from vq_jax.weights.project import Published
from vq_jax.weights.vqgan import Names, VQGANProject

_SOURCE = 'https://github.com/FoundationVision/LlamaGen'
_ROOTS = ('ema.', 'model.', 'state_dict.', '')

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

LLAMAGEN = VQGANProject(
    name='llamagen',
    title='LlamaGen',
    source=_SOURCE,
    licence='MIT',
    names=_NAMES,
    bottleneck='vq',
    roots=_ROOTS,
    section='model',
    cosine=True,
    unread=('quantize.codebook_used',),  # which codes the last batches of training chose
    zeros=lambda sizes: {'quantize.codebook_used': (65_536,)},
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

# The defaults of its `train_c2i.py`, and the guidance of the samples that its results are of.
_TRAINED_GPT = {
    'model.label_dropout': 0.1,
    'transformer.dropout': 0.1,
    'batch_size': 256,
    'optimizer.name': 'adamw',
    'optimizer.learning_rate': 1e-4,
    'optimizer.b1': 0.9,
    'optimizer.b2': 0.95,
    'optimizer.weight_decay': 0.05,
    'optimizer.clip_norm': 1.0,
}

LLAMAGEN_GPT = GPTProject(
    name='llamagen-gpt',
    title="LlamaGen's class-conditional GPT",
    source=_SOURCE,
    licence='MIT',
    names=GPTNames(
        codes='tok_embeddings',
        block='layers.{block}',
        norms=('attention_norm', 'ffn_norm'),
        qkv=('attention.wqkv',) * 3,
        attended='attention.wo',
        widen='feed_forward.w3',
        narrow='feed_forward.w2',
        norm='norm',
        head='output',
        gate='feed_forward.w1',
        classes='cls_embedding.embedding_table',
    ),
    form={
        'positions': 'rotary_tokens',
        'norm': 'rms',
        'norm_epsilon': 1e-5,
        'mlp': 'swiglu',
        'biases': False,
    },
    interleaved=True,
    roots=('module.', *_ROOTS),
    section='model',
    published=tuple(
        Published(
            name,
            {'depth': depth, 'width': width},
            {**_TRAINED_GPT, 'transformer.heads': heads, 'sampling.guidance': guidance},
            {'FID on ImageNet at 256 pixels, of codes of 384 pixels': distance},
        )
        for name, depth, width, heads, guidance, distance in (
            ('GPT-B', 12, 768, 12, 2.0, '6.09'),
            ('GPT-L', 24, 1024, 16, 2.0, '3.07'),
            ('GPT-XL', 36, 1280, 20, 1.75, '2.62'),
            ('GPT-XXL', 48, 1536, 24, 1.75, '2.34'),
            ('GPT-3B', 24, 3200, 32, 1.65, '2.18'),
        )
    ),
)
