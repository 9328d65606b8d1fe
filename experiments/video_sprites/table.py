"""Tokenizers of video, and what a prior over their codes predicts."""

from typing import Any

from vq_jax.tables import Comparison, FrameByFrame, Row, Table

FRAMES, SIZE, SAMPLES = 7, 32, 300
ALONE = 1_000_000  # the step, never reached, at which the discriminator begins
PREDICTED = {
    'PSNR, dB': 'predictions.psnr',
    'SSIM': 'predictions.ssim',
    'squared error of a frame': 'predictions.squared_error',
    'PSNR of copies': 'copies.psnr',
    'squared error of copies': 'copies.squared_error',
    "PSNR by the true frames' codes": 'reconstructions.psnr',
}


def get_table() -> Table:
    """Sprites at 32 pixels and Moving MNIST at 64, small enough for a core of a CPU."""
    comparison = Comparison('classifier', num=SAMPLES)
    clips = {'data.frames': FRAMES, 'data.image_size': SIZE}
    tokenizer = {'model.channels': 8, 'adversarial.start': ALONE, **of_steps(400)}
    prior = {'transformer.width': 128, **of_steps(1_000)}
    rebuilt = {
        'PSNR, dB': 'psnr',
        'SSIM': 'ssim',
        'Fréchet distance': 'reconstructions.classifier_frechet',
        'share of the right class': 'reconstructions.classifier_accuracy',
        'perplexity': 'perplexity',
        'share of codes used': 'codebook_usage',
    }
    digits = {
        'data.name': 'moving_mnist',
        'data.eval_split': 'test[:200]',
        'data.image_size': 64,
        'data.channels': 1,
    }
    return Table(
        title='Video: sprites and Moving MNIST',
        source=(
            'Comparisons after MAGVIT (arXiv:2212.05199), MAGVIT-v2 (arXiv:2310.05737) and Srivastava et al. '
            '2015 (arXiv:1502.04681); no paper has these numbers'
        ),
        remarks=(
            f'Sprites: clips of {FRAMES} frames of {SIZE}x{SIZE} pixels of characters that are not in the '
            'training set. The causal tokenizer gives a clip 256 codes of 8 bits, the one of single frames '
            '448 of log2(24) = 4.58 bits: 2,048 and 2,054 bits. Both learn without a discriminator. The '
            'Fréchet distance, and the share that it sees as the right one of twelve classes, action and '
            'direction, are by the classifier: of tokenizers of reconstructions, of the prior of '
            f'{SAMPLES} samples. Frames are predicted once for each clip. Copies are of the last frame that '
            'is given, blends go over from the first frame to the last; the PSNR by the codes of the true '
            "frames is the tokenizer's own, which no prediction by its codes should be expected to better. "
            'Moving MNIST: 20 frames of 64x64 pixels, the first 10 given, of 200 clips of its test set; it '
            'is another than the one that papers share. The squared error is what they call MSE.'
        ),
        rows=(
            Row(
                'classifier',
                'Classifier of action and direction',
                'configs/video/sprites_classifier.py:both',
                {'share of the right class': 'accuracy'},
                clips,
            ),
            Row(
                'causal',
                'Causal VQ, 4x8x8 codes of 256',
                'configs/video/vqgan_sprites.py:causal',
                rebuilt,
                {**clips, **tokenizer},
                comparison=comparison,
            ),
            Row(
                'frames',
                'Frame by frame, 7x8x8 codes of 24',
                'configs/video/vqgan_sprites.py:frames',
                rebuilt,
                {**clips, **tokenizer, 'data.random_crop': True, 'quantizer.num_codes': 24},
                comparison=comparison,
            ),
            Row(
                'prior',
                'Masked prior of the causal codes',
                'configs/video/prior_sprites.py:masked',
                {
                    'Fréchet distance': 'samples.classifier_frechet',
                    'share of the right class': 'samples.classifier_accuracy',
                    'accuracy of codes': 'accuracy',
                },
                {**clips, **prior, 'tokenizer.workdir': '{causal}'},
                comparison=comparison,
            ),
            Row('predicted', '4 frames from 3', '{prior}', PREDICTED, comparison=FrameByFrame((3,))),
            Row(
                'interpolated',
                '5 frames between 2',
                '{prior}',
                {
                    'PSNR, dB': 'interpolations.psnr',
                    'SSIM': 'interpolations.ssim',
                    'squared error of a frame': 'interpolations.squared_error',
                    'PSNR of copies': 'copies.psnr',
                    'PSNR of blends': 'blends.psnr',
                    "PSNR by the true frames' codes": 'reconstructions.psnr',
                },
                comparison=FrameByFrame((1, 1)),
            ),
            Row(
                'digits',
                'Moving MNIST: VQ of 2 frames, 8x8 codes of 256',
                'configs/video/vqgan_sprites.py:full',
                {name: metric for name, metric in rebuilt.items() if '.' not in metric},
                {
                    **digits,
                    **tokenizer,
                    **of_steps(300),
                    'batch_size': 4,
                    'data.frames': 4,
                    'data.random_crop': True,
                    'model.multipliers': (1, 2, 2, 2),
                    'model.time_strides': (1, 1, 2),
                },
            ),
            Row(
                'digits_prior',
                'Moving MNIST: masked prior',
                'configs/video/prior_sprites.py:masked',
                {'accuracy of codes': 'accuracy'},
                {
                    **digits,
                    **prior,
                    'batch_size': 4,
                    'data.frames': 20,
                    'data.name_key': None,
                    'data.name_pattern': None,
                    'model.class_conditional': False,
                    'tokenizer.workdir': '{digits}',
                },
            ),
            Row(
                'digits_predicted',
                'Moving MNIST: 10 frames from 10',
                '{digits_prior}',
                PREDICTED,
                comparison=FrameByFrame((10,)),
            ),
        ),
    )


def of_steps(number: int) -> dict[str, Any]:
    """Trained for so many steps, and evaluated at the end."""
    return {'steps': number, 'eval_every': number, 'checkpoint_every': 200}
