"""MaskGIT: Chang et al. 2022 (arXiv:2202.04200), whose own files are Flax's."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from vq_jax.errors import UserError
from vq_jax.weights.layers import check_groups
from vq_jax.weights.project import IMAGENET, Project, Published, Row, Way
from vq_jax.weights.vqgan import Sizes, network_config

_SOURCE = 'https://github.com/google-research/maskgit'


class MaskGITTokenizer(Project):
    """The tokenizer, a VQGAN of `vq_jax.models.residual` of the form 'maskgit'.

    Attributes:
        TASK: see `Project`.
    """

    TASK: ClassVar[str] = 'vqgan'

    def marks(self) -> tuple[str, ...]:
        """See `Project.marks`."""
        return ('quantizer.codebook', 'encoder.ResBlock_0.Conv_0.kernel', 'decoder.ResBlock_0.Conv_0.kernel')

    def sizes(self, arrays: Mapping[str, np.ndarray]) -> Sizes:
        """See `Project.sizes`: of each resolution, one convolution of the decoder says that it is there."""
        levels, blocks = _count(arrays, 'decoder.Conv') - 1, _count(arrays, 'encoder.ResBlock')
        if levels < 1 or blocks % (levels + 1):
            raise UserError(
                f'a decoder of {self.title} with {max(levels, 0) + 1} convolutions has {max(levels, 0)} '
                f'resolutions, and its encoder a multiple of {max(levels, 0) + 1} blocks, not {blocks}.'
            )
        each = blocks // (levels + 1)
        first = [f'encoder.ResBlock_{level * each}.Conv_0.kernel' for level in range(levels)]
        channels = self.size(arrays, 'encoder.Conv_0.kernel', 3, 4)
        widths = [self.size(arrays, name, 3, 4) for name in first]
        if any(width % channels for width in widths):
            raise UserError(f'the channels of a model of {self.title} are {channels} and {widths}.')
        latent = self.size(arrays, 'quantizer.codebook', 1, 2)
        return Sizes(
            image_channels=self.size(arrays, 'encoder.Conv_0.kernel', 2, 4),
            channels=channels,
            multipliers=tuple(width // channels for width in widths),
            residual_blocks=each,
            attention=(),
            features=latent,
            latent=latent,
            num_codes=self.size(arrays, 'quantizer.codebook', 0, 2),
        )

    def sizes_of(
        self, config: Mapping[str, Any], shapes: Mapping[Way, tuple[int, ...]], grid: tuple[int, ...]
    ) -> Sizes:
        """See `Project.sizes_of`."""
        return Sizes(
            image_channels=config['data.channels'],
            channels=config['model.channels'],
            multipliers=tuple(config['model.multipliers']),
            residual_blocks=config['model.residual_blocks'],
            attention=(),
            features=config['model.features'],
            latent=config['model.features'],
            num_codes=config['quantizer.num_codes'],
        )

    def config(self, sizes: Sizes) -> dict[str, Any]:
        """See `Project.config`."""
        check_groups(self.title, [sizes.channels * multiplier for multiplier in (1, *sizes.multipliers)])
        return {
            **network_config(sizes, 'maskgit'),
            'variant.bottleneck': 'quantizer',
            'quantizer.kind': 'vq',
            'quantizer.groups': 1,
            'quantizer.num_codes': sizes.num_codes,
            'quantizer.code_dim': None,
            'quantizer.cosine': False,
        }

    def given(self, sizes: Sizes) -> dict[str, Any]:
        """See `Project.given`: that codes are learned by gradients alone."""
        codes = {'quantizer.learning': 'gradient', 'quantizer.codebook_init': 'random'}
        return {'data.channels': sizes.image_channels, **codes}

    def table(self, sizes: Sizes, config: Mapping[str, Any]) -> list[Row]:
        """See `Project.table`."""
        codebook = 'codebook' if config.get('quantizer.learning') == 'moving_average' else 'params'
        shape = (sizes.num_codes, sizes.latent)
        way = (codebook, 'bottleneck', 'codebook')
        return [*_Layers(sizes).rows, Row('quantizer.codebook', shape, way, (0, 1), shape)]


class _Layers:
    """Rows of encoder and decoder, in the order in which the data pass them."""

    def __init__(self, sizes: Sizes) -> None:
        self.rows: list[Row] = []
        each, width = sizes.residual_blocks, sizes.channels
        widths = [width * multiplier for multiplier in sizes.multipliers]
        last, levels = widths[-1], len(widths)
        self._conv('encoder.Conv_0', 'encoder.Conv_0', sizes.image_channels, width, biases=False)
        # The coarsest resolution is there twice: the second time in the middle.
        self._blocks('encoder', 'encoder', width, [out for out in [*widths, last] for _ in range(each)])
        self._norm('encoder.GroupNorm_0', 'encoder.GroupNorm_0', last)
        self._conv('encoder.Conv_1', 'encoder.Conv_1', last, sizes.features, size=1)
        ours = 'decoder.trunk'
        self._conv('decoder.Conv_0', f'{ours}.Conv_0', sizes.features, last)
        self._blocks('decoder', ours, last, [out for out in [last, *widths[::-1]] for _ in range(each)])
        for number, out in enumerate(widths[:0:-1]):
            self._conv(f'decoder.Conv_{number + 1}', f'{ours}.Upsample_{number}', out, out)
        self._norm('decoder.GroupNorm_0', f'{ours}.GroupNorm_0', widths[0])
        self._conv(f'decoder.Conv_{levels}', 'decoder.last', widths[0], sizes.image_channels)

    def _blocks(self, theirs: str, ours: str, width: int, outs: list[int]) -> None:
        for number, out in enumerate(outs):
            there, here = f'{theirs}.ResBlock_{number}', f'{ours}.ResidualBlock_{number}'
            for part, c in enumerate((width, out)):
                self._norm(f'{there}.GroupNorm_{part}', f'{here}.GroupNorm_{part}', c)
                self._conv(f'{there}.Conv_{part}', f'{here}.Conv_{part}', c, out, biases=False)
            if width != out:
                self._conv(f'{there}.Conv_2', f'{here}.Conv_2', out, out, size=1, biases=False)
            width = out

    def _conv(self, theirs: str, ours: str, width: int, out: int, size: int = 3, biases: bool = True) -> None:
        self.rows.append(_same(f'{theirs}.kernel', f'{ours}.kernel', (size, size, width, out)))
        if biases:
            self.rows.append(_same(f'{theirs}.bias', f'{ours}.bias', (out,)))

    def _norm(self, theirs: str, ours: str, width: int) -> None:
        self.rows += [_same(f'{theirs}.{name}', f'{ours}.{name}', (width,)) for name in ('scale', 'bias')]


def _same(theirs: str, ours: str, shape: tuple[int, ...]) -> Row:
    """An array that is the same there and here."""
    return Row(theirs, shape, ('params', *ours.split('.')), tuple(range(len(shape))), shape)


def _count(arrays: Mapping[str, np.ndarray], layers: str) -> int:
    """How many layers there are of a name, which are numbered, whichever of their arrays there are."""
    found = (re.match(rf'{re.escape(layers)}_(\d+)\.', name) for name in arrays)
    return max((int(number.group(1)) + 1 for number in found if number), default=0)


# What `vqgan_config.py` says; of its losses there is no more than that.
_TRAINED = {
    'batch_size': 256,
    'quantizer.commitment': 0.25,
    'adversarial.loss': 'non_saturating',
    'adversarial.weight': 0.1,
    'adversarial.adaptive': False,
    **{
        f'{optimizer}.{key}': value
        for optimizer in ('optimizer', 'discriminator_optimizer')
        for key, value in {'learning_rate': 1e-4, 'b1': 0.0, 'b2': 0.99}.items()
    },
}

MASKGIT = MaskGITTokenizer(
    name='maskgit',
    title='MaskGIT',
    source=_SOURCE,
    licence='Apache-2.0',
    roots=('params.', ''),
    section='params',
    published=(
        Published(
            'tokenizer_imagenet',
            {
                'channels': 128,
                'multipliers': (1, 1, 2, 2, 4),
                'residual_blocks': 2,
                'latent': 256,
                'num_codes': 1024,
            },
            _TRAINED,
            {},
        ),
    ),
    # LPIPS would have to be downloaded before anything can be evaluated.
    defaults={**IMAGENET, 'perceptual.kind': 'none', 'quantizer.revive_below': 0.0},
)
