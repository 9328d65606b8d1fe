"""Bits per dimension of VQ-VAE and VAE: van den Oord et al. 2017 (arXiv:1711.00937), section 4.1."""

from vq_jax.tables import Row, Table

SHORT = 2_000  # steps that a core takes in some minutes


def get_table() -> Table:
    """CIFAR-10 as published and in few steps; MNIST in black and white, which the paper does not have."""
    cifar10 = {'data.name': 'cifar10', 'data.image_size': 32, 'data.channels': 3}
    whole = {'bits per dimension': 'pixel_bits_per_dimension'}
    uniform = {'bits per dimension, uniform prior': 'bits_per_dimension_uniform_prior'}
    vae = {'bits per dimension': 'bits_per_dimension'}
    short = {
        'steps': SHORT,
        'batch_size': 64,
        'eval_every': SHORT,
        'checkpoint_every': 500,
        'optimizer.learning_rate': 5e-4,
        'optimizer.schedule': 'cosine',
        'optimizer.warmup_steps': 200,
    }
    return Table(
        title='Bits per dimension of VQ-VAE and VAE',
        source='van den Oord et al. 2017 (arXiv:1711.00937), section 4.1',
        remarks=(
            'All are upper bounds. Of a VQ-VAE it is `-(log p(x | z) + log p(z))`, with a prior that is '
            'learned, or with equally likely codes. Rows of few steps have a small part of the training of '
            'the others (250,000 steps), and do not compare with the paper. MNIST is padded to 32x32 and '
            'binarized by draws; the paper has CIFAR-10 alone, and does not say what its decoders have for a '
            'likelihood, which prior its VQ-VAE, nor how many codes it has at each of 8x8 places (it speaks '
            'of 8x8x10). Its VIMCO, 5.14, is not rebuilt here.'
        ),
        rows=(
            Row(
                'vqvae_cifar10',
                'VQ-VAE, CIFAR-10',
                'configs/image/vqvae_likelihood_cifar10.py',
                uniform,
                large=True,
            ),
            Row(
                'prior_cifar10',
                'VQ-VAE and PixelCNN, CIFAR-10',
                'configs/image/prior_cifar10.py',
                whole,
                {'tokenizer.workdir': '{vqvae_cifar10}'},
                {'bits per dimension': '4.67'},
                large=True,
            ),
            Row(
                'vae_cifar10',
                'VAE, CIFAR-10',
                'configs/image/vae_imagenette.py',
                vae,
                {**cifar10, 'data.eval_split': 'test', 'steps': 250_000},
                {'bits per dimension': '4.51'},
                large=True,
            ),
            Row(
                'vqvae_cifar10_short',
                'VQ-VAE, CIFAR-10, half as wide, few steps',
                'configs/image/vqvae_likelihood_cifar10.py',
                uniform,
                {**short, 'model.channels': 128, 'model.residual_channels': 64},
            ),
            Row(
                'prior_cifar10_short',
                'VQ-VAE and a small PixelCNN, CIFAR-10, the same, few steps',
                'configs/image/prior_cifar10.py',
                whole,
                {
                    **short,
                    'pixelcnn.depth': 6,
                    'pixelcnn.channels': 64,
                    'tokenizer.workdir': '{vqvae_cifar10_short}',
                    'optimizer.ema_decay': 0.995,
                },
            ),
            Row(
                'vae_cifar10_short',
                'VAE, CIFAR-10, few steps',
                'configs/image/vae_imagenette.py',
                vae,
                {**cifar10, **short, 'data.eval_split': 'test'},
            ),
            Row('vqvae_mnist', 'VQ-VAE, MNIST', 'configs/image/vqvae_likelihood_mnist.py', uniform),
            Row(
                'prior_mnist',
                'VQ-VAE and transformer, MNIST',
                'configs/image/prior_mnist.py',
                whole,
                {
                    'tokenizer.workdir': '{vqvae_mnist}',
                    'model.class_conditional': False,
                    'sampling.guidance': 1.0,
                    'steps': 2_000,
                },
            ),
            Row(
                'vae_mnist',
                'VAE, MNIST',
                'configs/image/vae_mnist.py',
                vae,
                {'data.pad': 2, 'data.image_size': 32, 'steps': 20_000},
            ),
        ),
    )
