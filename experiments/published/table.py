"""Reconstructions of ImageNet by published tokenizers: the published figures, and what is measured here."""

import os

from vq_jax.tables import Comparison, Row, Table

# Where files lie that are on no Hub; the links are on the pages of their projects.
FOLDER = os.environ.get('PUBLISHED_WEIGHTS', 'weights')
LLAMAGEN = 'hf://FoundationVision/LlamaGen'
VAR = 'hf://FoundationVision/var'
RFID, PSNR = 'rFID', 'PSNR, dB'


def get_table() -> Table:
    """A row for each file; ImageNet is for those who have it."""
    files = {
        'vqgan_f16_1024': ('VQGAN f16, 1,024 codes', f'{FOLDER}/vqgan_imagenet_f16_1024.ckpt', '7.94', ''),
        'vqgan_f16_16384': ('VQGAN f16, 16,384 codes', f'{FOLDER}/vqgan_imagenet_f16_16384.ckpt', '4.98', ''),
        'vq_f8': ('VQGAN f8, 16,384 codes', f'{FOLDER}/vq-f8/model.ckpt', '1.14', '23.07'),
        'gumbel_f8': ('VQGAN f8, Gumbel, 8,192 codes', f'{FOLDER}/vqgan_gumbel_f8.ckpt', '1.49', ''),
        'llamagen_ds16': ('LlamaGen f16, 16,384 codes', f'{LLAMAGEN}/vq_ds16_c2i.pt', '2.19', ''),
        'llamagen_ds8': ('LlamaGen f8, 16,384 codes', f'{LLAMAGEN}/vq_ds8_c2i.pt', '0.59', ''),
        'var': ('VAR, 10 scales of 4,096 codes', f'{VAR}/vae_ch160v4096z32.pth', '0.9', ''),
    }
    metrics = {
        RFID: 'reconstructions.fid',
        PSNR: 'reconstructions.psnr',
        'SSIM': 'reconstructions.ssim',
    }
    return Table(
        title='Published tokenizers: reconstructions of ImageNet',
        source=(
            'As their sources state it: of VQGAN f16 and Gumbel-softmax taming-transformers '
            '(https://github.com/CompVis/taming-transformers); of f8 Rombach et al. 2022 (arXiv:2112.10752); '
            'of LlamaGen its own page (https://github.com/FoundationVision/LlamaGen); of VAR the authors of '
            'ImageFolder (https://github.com/lxa9867/ImageFolder/issues/9)'
        ),
        remarks=(
            'Of the validation set of ImageNet, 50,000 images, at 256 pixels. f8, Gumbel-softmax and VAR '
            'were trained on OpenImages. FID '
            'depends on how images were stored, cropped and resized, and the published ones were measured by '
            'other code. Weights of LlamaGen and VAR are downloaded from the Hugging Face Hub; the other '
            'files are looked for in the folder that PUBLISHED_WEIGHTS names, or in weights.'
        ),
        rows=tuple(
            Row(
                name,
                title,
                f'weights:{file}',
                metrics,
                paper={RFID: rfid, PSNR: psnr},
                comparison=Comparison('inception'),
                large=True,
            )
            for name, (title, file, rfid, psnr) in files.items()
        ),
    )
