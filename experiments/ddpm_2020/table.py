"""Bits per dimension, and Fréchet distance against sampler and steps: Ho et al. 2020 (arXiv:2006.11239)."""

from vq_jax.tables import Comparison, Plot, Row, Table

SAMPLERS = {
    'ddpm': ('DDPM', (10, 25, 100)),
    'ddim': ('DDIM', (5, 10, 25, 50)),
    'euler': ('Euler', (5, 10, 25)),
    'heun': ('Heun', (5, 10, 25)),
    'dpm_solver': ('DPM-Solver', (5, 10, 25)),
}
BITS, DISTANCE, FID = 'bits per dimension', 'Fréchet distance, classifier', 'FID, Inception'
CIFAR10 = 'configs/image/ddpm_cifar10.py'


def get_table() -> Table:
    """MNIST in a classifier's features; for those who have it, CIFAR-10 as in the paper."""
    here = Comparison('classifier', num=500)
    as_published = Comparison('inception', num=50_000, split='train')
    drawn = {
        DISTANCE: 'samples.classifier_frechet',
        'share of the class asked for': 'samples.classifier_accuracy',
        'seconds per sample': 'samples.seconds_per_sample',
    }
    large = {
        'cifar10_simple': ({}, '≤ 3.75', '3.17'),
        'cifar10_bound': ({'model.weighting': 'bound'}, '≤ 3.70', '13.51'),
    }
    titles = {'cifar10_simple': 'CIFAR-10, loss of the noise', 'cifar10_bound': 'CIFAR-10, loss of the bound'}
    return Table(
        title='Diffusion: bits per dimension, and samplers',
        source='Ho et al. 2020 (arXiv:2006.11239), table 1',
        remarks=(
            'Bits per dimension are the variational bound on the test set, and above the true ones. MNIST, '
            f'which the paper does not have, is 28x28; {here.num:,} samples of all classes in turn, without '
            'guidance, are compared with the test set in the features of the classifier, so that their '
            'distance is not one of Inception features. Heun asks the network twice in each step but '
            'the last, the others once. All are on the grid `uniform`, which here is `log_snr` too. Seconds '
            'per sample were taken beside other work on the same cores, and do not rank the samplers. On '
            'CIFAR-10, 50,000 samples of 1,000 steps are compared with the training set, as in the paper, '
            'and the bound has a term for each of the 1,000 times.'
        ),
        rows=(
            *(
                row
                for name, (overrides, bits, fid) in large.items()
                for row in (
                    Row(
                        name,
                        f'{titles[name]}: samples',
                        CIFAR10,
                        {FID: 'samples.fid'},
                        overrides,
                        {FID: fid},
                        as_published,
                        large=True,
                    ),
                    Row(
                        f'{name}_bits',
                        f'{titles[name]}: likelihood',
                        f'{{{name}}}',
                        {BITS: 'bits_per_dimension'},
                        {'evaluation.times': 999},
                        {BITS: bits},
                        large=True,
                    ),
                )
            ),
            Row(
                'classifier',
                'Classifier, MNIST',
                'configs/image/classifier.py',
                {'classifier accuracy': 'accuracy'},
                {'data.pad': 0, 'data.image_size': 28},
            ),
            Row('mnist', 'MNIST: likelihood', 'configs/image/ddpm_mnist.py', {BITS: 'bits_per_dimension'}),
            Row(
                'cifar10_short',
                'CIFAR-10, a network like that of MNIST, few steps: likelihood',
                'configs/image/ddpm_mnist.py',
                {BITS: 'bits_per_dimension'},
                {
                    'steps': 1_500,
                    'eval_every': 1_500,
                    'data.name': 'cifar10',
                    'data.image_size': 32,
                    'data.channels': 3,
                    'data.flip': True,
                    'model.class_conditional': False,
                    'sampling.guidance': 1.0,
                    'unet.channels': 48,
                },
            ),
            *(
                Row(
                    f'{sampler}_{steps}',
                    f'MNIST: {title}, {steps} steps',
                    '{mnist}',
                    drawn,
                    {'sampling.sampler': sampler, 'sampling.steps': steps, 'sampling.guidance': 1.0},
                    comparison=here,
                    facts={'steps': steps, 'network calls': steps * 2 - 1 if sampler == 'heun' else steps}
                    | {'sampler': title},
                )
                for sampler, (title, counts) in SAMPLERS.items()
                for steps in counts
            ),
        ),
        plots=(
            Plot('steps', x='network calls', y=DISTANCE, series='sampler', log_x=True, log_y=True),
            Plot('speed', x='seconds per sample', y=DISTANCE, series='sampler', log_x=True, log_y=True),
        ),
    )
