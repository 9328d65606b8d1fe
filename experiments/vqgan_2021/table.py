"""Reconstructions of VQGAN (Esser et al. 2021, arXiv:2012.09841), and what each of its losses does."""

from vq_jax.tables import Comparison, Plot, Row, Table

STEPS = 400
IMAGENETTE = 'configs/image/vqgan_imagenette.py'
FID, PSNR, DISTANCE = 'FID, Inception', 'PSNR, dB', 'Fréchet distance, classifier'
PUBLISHED = {
    'f16_1024': ('f16, 1,024 codes, ImageNet', {FID: '7.94'}),
    'f16_16384': ('f16, 16,384 codes, ImageNet', {FID: '4.98'}),
    'f8': ('f8, 16,384 codes, ImageNet', {FID: '1.14', PSNR: '23.07'}),
}


def get_table() -> Table:
    """ImageNet for those who have it; Imagenette at 64 pixels, loss by loss."""
    length = {'steps': STEPS, 'eval_every': STEPS, 'checkpoint_every': 100}
    alone = {'adversarial.start': STEPS, 'adversarial.warmup': 0, 'adversarial.ramp': 0}
    joined = {
        'adversarial.start': STEPS // 2,
        'adversarial.warmup': STEPS // 10,
        'adversarial.ramp': STEPS // 10,
    }
    losses = {
        'vqvae': ('VQ-VAE: absolute difference', {'perceptual.kind': 'none', **alone}, False),
        'perceptual': ('with multi-scale SSIM', alone, False),
        'gan': ('with multi-scale SSIM and discriminator', joined, False),
        'lpips': ('with LPIPS', {'perceptual.kind': 'lpips', **alone}, True),
        'lpips_gan': ('with LPIPS and discriminator', {'perceptual.kind': 'lpips', **joined}, True),
    }
    small = {
        PSNR: 'psnr',
        'L1': 'l1',
        'SSIM': 'reconstructions.ssim',
        DISTANCE: 'reconstructions.classifier_frechet',
        'perplexity': 'perplexity',
    }
    return Table(
        title='VQGAN: reconstructions',
        source='Esser et al. 2021 (arXiv:2012.09841); f8 is of Rombach et al. 2022 (arXiv:2112.10752)',
        remarks=(
            'FID is of reconstructions of the validation set against the set itself; the published f8 was '
            f'trained on OpenImages. Imagenette, {STEPS} steps at 64 pixels, is not in the papers: there the '
            'distance is in the features of a small classifier of its own, and compares with no other table. '
            'Its numbers are of the 3,925 images of the validation set, here a 128-pixel copy whose '
            'images were squashed to squares, not the published 160-pixel files. LPIPS needs weights that '
            'are downloaded; multi-scale SSIM stands in for it.'
        ),
        rows=(
            *(
                Row(
                    variant,
                    title,
                    f'configs/image/vqgan_imagenet.py:{variant}',
                    {FID: 'reconstructions.fid', PSNR: 'psnr', 'perplexity': 'perplexity'},
                    paper=paper,
                    comparison=Comparison('inception'),
                    large=True,
                )
                for variant, (title, paper) in PUBLISHED.items()
            ),
            Row(
                'classifier',
                'Classifier, Imagenette',
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
                    name,
                    f'Imagenette, {title}',
                    IMAGENETTE,
                    small,
                    {**length, **overrides},
                    comparison=Comparison('classifier'),
                    large=large,
                )
                for name, (title, overrides, large) in losses.items()
            ),
        ),
        plots=(Plot('losses', x=PSNR, y=DISTANCE),),
    )
