"""What the number of codes does, for each way of learning them."""

from vq_jax.tables import Row, Table

SIZES = (32, 128, 512, 2048, 16_384)
LARGEST_HERE = 2048  # the largest takes long without an accelerator
VARIANTS = {
    'moving average': {},
    'moving average, no revival': {'quantizer.revive_below': 0.0},
    'moving average, no revival, random start': {
        'quantizer.revive_below': 0.0,
        'quantizer.start': 'random',
    },
    'gradient': {'quantizer.learning': 'gradient'},
    'gradient, no revival, random start': {
        'quantizer.learning': 'gradient',
        'quantizer.revive_below': 0.0,
        'quantizer.start': 'random',
    },
}


def get_table() -> Table:
    """MNIST, 500 steps: short, and the same for all."""
    numbers = {'MSE': 'mse', 'perplexity': 'perplexity', 'share of codes in use': 'codes_used'}
    return Table(
        title='Number of codes, and how they are learned',
        source='configs/vqvae_mnist.py with 500 steps; pixels in [-1, 1]',
        rows=tuple(
            Row(
                f'{"_".join(variant.replace(",", "").split())}_{k}',
                f'{k:,} codes, {variant}',
                'configs/vqvae_mnist.py',
                numbers,
                {'steps': 500, 'eval_every': 500, 'quantizer.num_codes': k, **overrides},
                large=k > LARGEST_HERE,
            )
            for variant, overrides in VARIANTS.items()
            for k in SIZES
        ),
    )
