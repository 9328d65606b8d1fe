"""VQGAN and the transformers of taming-transformers: Esser et al. 2021 (arXiv:2012.09841)."""

from vq_jax.weights.gpt import GPTNames, GPTProject
from vq_jax.weights.project import Published
from vq_jax.weights.vqgan import Names, VQGANProject

_SOURCE = 'https://github.com/CompVis/taming-transformers'

NAMES = Names(
    down='encoder.down.{level}.block.{block}',
    down_attention='encoder.down.{level}.attn.{block}',
    downsample='encoder.down.{level}.downsample.conv',
    up='decoder.up.{level}.block.{block}',
    up_attention='decoder.up.{level}.attn.{block}',
    upsample='decoder.up.{level}.upsample.conv',
    middle=('mid.block_1', 'mid.attn_1', 'mid.block_2'),
)

# The loss of `VectorQuantizer2` has beta, 0.25, on the term of the codebook: a quarter of one with a
# commitment of 4. The rate of learning was 4.5e-6 times the examples of a batch on all devices, which nothing
# says of the published models.
_TRAINED = {
    'data.random_crop': True,
    'quantizer.commitment': 4.0,
    'loss.quantizer_weight': 0.25,
    'adversarial.loss': 'hinge',
    'optimizer.b1': 0.5,
    'optimizer.b2': 0.9,
    'discriminator_optimizer.b1': 0.5,
    'discriminator_optimizer.b2': 0.9,
}
# Models of other data sets than ImageNet, such as FacesHQ, have the sizes of the first.
_SIZES = {'channels': 128, 'multipliers': (1, 1, 2, 2, 4), 'residual_blocks': 2, 'latent': 256}

TAMING = VQGANProject(
    name='taming',
    title='taming-transformers',
    source=_SOURCE,
    licence='MIT',
    names=NAMES,
    bottleneck='vq',
    roots=('state_dict.', '', 'state_dict.first_stage_model.', 'first_stage_model.'),
    section='state_dict',
    unread=('loss.',),  # the discriminator and LPIPS
    published=(
        Published(
            'f16-1024',
            {**_SIZES, 'num_codes': 1024},
            {**_TRAINED, 'adversarial.weight': 0.8, 'adversarial.start': 250_001},
            {'rFID on the validation set of ImageNet': '7.94'},
        ),
        Published(
            'f16-16384',
            {**_SIZES, 'num_codes': 16_384},
            {**_TRAINED, 'adversarial.weight': 0.75, 'discriminator.stages': 2},
            {'rFID on the validation set of ImageNet': '4.98'},
        ),
    ),
)

TAMING_GUMBEL = VQGANProject(
    name='taming-gumbel',
    title='taming-transformers with Gumbel-softmax',
    source=_SOURCE,
    licence='MIT',
    names=NAMES,
    bottleneck='gumbel',
    roots=('state_dict.', ''),
    section='state_dict',
    unread=('loss.',),
    published=(
        Published(
            'vqgan_gumbel_f8',
            {'channels': 128, 'multipliers': (1, 1, 2, 4), 'residual_blocks': 2, 'num_codes': 8192},
            {
                'data.random_crop': True,
                'gumbel.kl': 1e-8,
                'adversarial.loss': 'hinge',
                'optimizer.b1': 0.5,
                'optimizer.b2': 0.9,
                'discriminator_optimizer.b1': 0.5,
                'discriminator_optimizer.b2': 0.9,
            },
            {'rFID on the validation set of ImageNet': '1.49', 'trained on': 'OpenImages'},
        ),
    ),
)

TAMING_GPT = GPTProject(
    name='taming-gpt',
    title="taming-transformers' GPT",
    source=_SOURCE,
    licence='MIT',
    names=GPTNames(
        codes='tok_emb',
        block='blocks.{block}',
        norms=('ln1', 'ln2'),
        qkv=('attn.query', 'attn.key', 'attn.value'),
        attended='attn.proj',
        widen='mlp.0',
        narrow='mlp.2',
        norm='ln_f',
        head='head',
        positions='pos_emb',
        mask='attn.mask',
    ),
    form={
        'positions': 'learned',
        'norm': 'layer',
        'norm_epsilon': 1e-5,
        'mlp': 'gelu',
        'biases': True,
    },
    roots=('state_dict.transformer.', 'transformer.', ''),
    published=(
        Published(
            'cin_transformer',
            {'depth': 48, 'width': 1536, 'num_codes': 16_384},
            {
                'model.class_conditional': True,
                'model.label_dropout': 0.0,
                'transformer.heads': 24,
                'sampling.top_k': 600,
                'sampling.top_p': 0.92,
            },
            {'FID on ImageNet, with the best way of sampling': '5.20'},
        ),
    ),
)
