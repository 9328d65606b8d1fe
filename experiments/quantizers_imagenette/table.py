"""The same tokenizer with every quantizer, at 1,024, 16,384 and 65,536 codes or as near as it comes."""

from typing import Any

from vq_jax.tables import Comparison, Plot, Row, Table

STEPS = 600
CONFIG = 'configs/image/vqvae_imagenette.py:64'
SIZES = (1024, 16_384, 65_536)
# Published rFID on ImageNet: of SimVQ's table (arXiv:2411.02038), 128 pixels, and of IBQ's code, 256 pixels.
PUBLISHED = {
    'vq_gradient_65536': '3.74',
    'simvq_1024': '3.67',
    'simvq_65536': '2.24',
    'ibq_1024': '2.24',
    'ibq_16384': '1.37',
}
RFID, PSNR, USE = 'rFID, ImageNet', 'PSNR, dB', 'share of codes in use'


def _scalar(kind: str, levels: dict[int, tuple[int, ...]]) -> dict:
    return {k: {'quantizer.kind': kind, f'{kind}.levels': levels[k]} for k in SIZES}


def _binary(kind: str) -> dict:
    """One code of all bits a position, its entropies over whole codes."""
    bits = {k: k.bit_length() - 1 for k in SIZES}
    return {k: {'quantizer.kind': kind, f'{kind}.bits': n, f'{kind}.group_bits': n} for k, n in bits.items()}


def _two(overrides: dict, key: str) -> dict:
    """Two codes a position, which together are as many."""
    return {k: {**overrides, key: round(k**0.5)} for k in SIZES}


def _codebook(**overrides: Any) -> dict:
    """One code a position, placed by k-means among at least as many vectors."""
    return {
        k: {'quantizer.num_codes': k, 'quantizer.kmeans_batches': max(4, k // 1024), **overrides}
        for k in SIZES
    }


# What differs from the config, by size.
QUANTIZERS = {
    'vq': ('VQ', _codebook()),
    'vq_gradient': (
        'VQ by gradient, random start, no revival',
        {
            k: {
                'quantizer.num_codes': k,
                'quantizer.learning': 'gradient',
                'quantizer.codebook_init': 'random',
                'quantizer.revive_below': 0.0,
            }
            for k in SIZES
        },
    ),
    'vq_rotation': (
        'VQ, rotated gradient',
        _codebook(**{'quantizer.estimator': 'rotation'}),
    ),
    'vq_cosine': (
        'VQ by angle, in 8 dimensions',
        _codebook(**{'quantizer.cosine': True, 'quantizer.code_dim': 8}),
    ),
    'residual': (
        'residual VQ, two codes',
        _two({'quantizer.kind': 'residual', 'residual.depth': 2}, 'quantizer.num_codes'),
    ),
    'product': ('product VQ, two codes', _two({'quantizer.groups': 2}, 'quantizer.num_codes')),
    'simvq': ('SimVQ', {k: {'quantizer.kind': 'simvq', 'simvq.num_codes': k} for k in SIZES}),
    'fsq': (
        'FSQ',
        _scalar('fsq', {1024: (8, 5, 5, 5), 16_384: (8, 8, 8, 6, 5), 65_536: (8, 8, 8, 5, 5, 5)}),
    ),
    'lfq': ('LFQ', _binary('lfq')),
    'bsq': ('BSQ', _binary('bsq')),
    'ibq': ('IBQ', {k: {'quantizer.kind': 'ibq', 'ibq.num_codes': k} for k in SIZES}),
    'gumbel': (
        'Gumbel-softmax',
        {k: {'quantizer.kind': 'gumbel', 'gumbel.num_codes': k, 'gumbel.anneal_steps': STEPS} for k in SIZES},
    ),
}
# Their softmax over all codes takes long without an accelerator.
SLOW = {f'{kind}_{k}' for kind in ('ibq', 'gumbel') for k in SIZES[1:]}


def get_table() -> Table:
    """Imagenette at 64 pixels, a few hundred steps: short, and the same for all."""
    metrics = {
        PSNR: 'psnr',
        'SSIM': 'reconstructions.ssim',
        'Fréchet distance, classifier': 'reconstructions.classifier_frechet',
    }
    first = {USE: 'codebook_usage', 'perplexity': 'perplexity'}
    of_two = {column: f'{name}_depth_0' for column, name in first.items()}
    length = {'steps': STEPS, 'batch_size': 16, 'eval_every': STEPS, 'checkpoint_every': 200}
    network = {'model.channels': 64, 'model.residual_channels': 32, 'model.stages': 3}
    return Table(
        title='Quantizers',
        source=f'{CONFIG} with half its channels and one stage more, {STEPS} steps of 16 images',
        remarks=(
            'All else is the same: 64 pixels become 8x8 positions; no quantizer was tuned. Numbers are of '
            'the 3,925 images of the validation set, here a 128-pixel copy whose images were squashed to '
            'squares, not the published 160-pixel files; the distance is in the features of a small '
            'classifier of its own, and compares with no other table. With two codes a position, use '
            'and perplexity are those of the first (of 32, 128 and 256). FSQ has 1,000, 15,360 and 64,000 '
            'codes. rFID is as published, of other networks trained far longer.'
        ),
        rows=(
            Row(
                'classifier',
                'Classifier',
                'configs/image/classifier.py',
                {'classifier accuracy': 'accuracy'},
                {
                    'steps': 1_000,
                    'data.name': 'imagenette/160px-v2',
                    'data.eval_split': 'validation',
                    'data.pad': 0,
                    'data.image_size': 64,
                    'data.channels': 3,
                    'data.flip': True,
                },
            ),
            *(
                Row(
                    name := f'{kind}_{k}',
                    f'{title}, {k:,}',
                    CONFIG,
                    {**metrics, **(of_two if kind in ('residual', 'product') else first)},
                    {**length, **network, **overrides[k]},
                    {RFID: PUBLISHED[name]} if name in PUBLISHED else {},
                    Comparison('classifier'),
                    {'codes': k, 'quantizer': title},
                    large=name in SLOW,
                )
                for kind, (title, overrides) in QUANTIZERS.items()
                for k in SIZES
            ),
        ),
        plots=(
            Plot('psnr', x='codes', y=PSNR, series='quantizer', log_x=True),
            Plot('use', x='codes', y=USE, series='quantizer', log_x=True),
        ),
    )
