"""What the number of codes does, for each way of learning them."""

from vq_jax.tables import Plot, Row, Table

STEPS = 300
SIZES = (32, 128, 512, 2048, 16_384)
LARGEST_HERE = 2048  # the largest takes long without an accelerator
VARIANTS = {
    'moving average': {},
    'moving average, no revival': {'quantizer.revive_below': 0.0},
    'moving average, no revival, random start': {
        'quantizer.revive_below': 0.0,
        'quantizer.codebook_init': 'random',
    },
    'gradient': {'quantizer.learning': 'gradient'},
    'gradient, no revival': {'quantizer.learning': 'gradient', 'quantizer.revive_below': 0.0},
    'gradient, no revival, random start': {
        'quantizer.learning': 'gradient',
        'quantizer.revive_below': 0.0,
        'quantizer.codebook_init': 'random',
    },
}


def get_table() -> Table:
    """MNIST, a few hundred steps: short, and the same for all."""
    metrics = {'MSE': 'mse', 'perplexity': 'perplexity', 'share of codes in use': 'codebook_usage'}
    length = {'steps': STEPS, 'eval_every': STEPS, 'checkpoint_every': 100}
    return Table(
        title='Number of codes, and how they are learned',
        source=f'configs/image/vqvae_mnist.py with {STEPS} steps; pixels in [-1, 1]',
        remarks=(
            'Perplexity and share of codes in use are over the whole test set. Codes start as means of '
            'clusters of encoded images where the start is not random, and codes that are hardly used are '
            'put in the place of encoded images where there is revival.'
        ),
        rows=tuple(
            Row(
                f'{"_".join(variant.replace(",", "").split())}_{k}',
                f'{k:,} codes, {variant}',
                'configs/image/vqvae_mnist.py',
                metrics,
                {**length, 'quantizer.num_codes': k, **overrides},
                facts={'codes': k, 'learning': variant},
                large=k > LARGEST_HERE,
            )
            for variant, overrides in VARIANTS.items()
            for k in SIZES
        ),
        plots=(
            Plot('mse', x='codes', y='MSE', series='learning', log_x=True),
            Plot('perplexity', x='codes', y='perplexity', series='learning', log_x=True, log_y=True),
            Plot('use', x='codes', y='share of codes in use', series='learning', log_x=True),
        ),
    )
