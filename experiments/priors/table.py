"""Three priors over the same codes of MNIST."""

from vq_jax.tables import Row, Table


def get_table() -> Table:
    """The tokenizer, and each prior with the sizes of `configs/prior_mnist.py`."""
    likelihood = {'bits per code': 'bits_per_dimension', 'accuracy': 'accuracy'}
    kinds = {'transformer': likelihood, 'pixelcnn': likelihood, 'maskgit': {'accuracy': 'accuracy'}}
    return Table(
        title='Priors over the codes of MNIST',
        source='PixelCNN (arXiv:1606.05328), transformer (arXiv:2012.09841), MaskGIT (arXiv:2202.04200)',
        remarks=(
            'Accuracy is the share of the codes asked for that the network holds most likely: each after '
            'those before it, or of MaskGIT, masked ones between all others.'
        ),
        rows=(
            Row('tokenizer', 'VQ-VAE', 'configs/vqvae_mnist.py', {'PSNR, dB': 'psnr'}),
            *(
                Row(
                    kind,
                    {'transformer': 'Transformer', 'pixelcnn': 'PixelCNN', 'maskgit': 'MaskGIT'}[kind],
                    'configs/prior_mnist.py',
                    numbers,
                    {'model.kind': kind, 'tokenizer.workdir': '{tokenizer}'},
                )
                for kind, numbers in kinds.items()
            ),
        ),
    )
