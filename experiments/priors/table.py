"""Three priors over the same codes of MNIST."""

from vq_jax.tables import Comparison, Plot, Row, Table

TITLES = {'transformer': 'Transformer', 'pixelcnn': 'PixelCNN', 'maskgit': 'MaskGIT'}
STEPS = 1_500


def get_table() -> Table:
    """Tokenizer, classifier, and each prior with the sizes of `configs/image/prior_mnist.py`."""
    comparison = Comparison('classifier', num=2_000)
    length = {'steps': STEPS, 'eval_every': STEPS, 'checkpoint_every': 250}
    drawn = {
        'Fréchet distance': 'samples.classifier_frechet',
        'share of the class asked for': 'samples.classifier_accuracy',
        'seconds per sample': 'samples.seconds_per_sample',
    }
    metrics = {'accuracy of codes': 'accuracy', **drawn}
    return Table(
        title='Priors over the codes of MNIST',
        source='PixelCNN (arXiv:1606.05328), transformer (arXiv:2012.09841), MaskGIT (arXiv:2202.04200)',
        remarks=(
            f'{STEPS:,} steps each. The accuracy of codes is the share of the codes asked for that the '
            'network holds most likely: each after those before it, or of MaskGIT, which has no likelihood, '
            'masked ones between all others. Fréchet distance, in the features of the classifier, and the '
            f'share that it sees as the class asked for are of {comparison.num:,} samples of all classes in '
            'turn against the test set; those of the VQ-VAE are of its reconstructions of the test set, '
            'which samples of its codes should not be expected to better.'
        ),
        rows=(
            Row(
                'classifier', 'Classifier', 'configs/image/classifier.py', {'classifier accuracy': 'accuracy'}
            ),
            Row(
                'tokenizer',
                'VQ-VAE',
                'configs/image/vqvae_mnist.py',
                {
                    'PSNR, dB': 'psnr',
                    'Fréchet distance': 'reconstructions.classifier_frechet',
                    'share of the class asked for': 'reconstructions.classifier_accuracy',
                },
                length,
                comparison=comparison,
            ),
            *(
                Row(
                    kind,
                    title,
                    'configs/image/prior_mnist.py',
                    metrics if kind == 'maskgit' else {'bits per code': 'bits_per_dimension', **metrics},
                    {
                        'model.kind': kind,
                        'tokenizer.workdir': '{tokenizer}',
                        'sampling.guidance': 1.0,
                        **length,
                    },
                    comparison=comparison,
                )
                for kind, title in TITLES.items()
            ),
            *(
                Row(
                    f'{kind}_guided',
                    f'{title}, guidance 2',
                    f'{{{kind}}}',
                    drawn,
                    {'sampling.guidance': 2.0},
                    comparison=comparison,
                )
                for kind, title in TITLES.items()
            ),
        ),
        plots=(Plot('speed', x='seconds per sample', y='Fréchet distance', log_x=True),),
    )
