"""VQGAN and the KL autoencoder in other projects: what each of their arrays is called there and here.

The networks are the same in all of them; names differ, and which way the levels of the decoder are counted.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np

from vq_jax.errors import UserError
from vq_jax.weights.layers import Layers, check_groups
from vq_jax.weights.project import IMAGENET, Folded, Project, Row, Way, renamed

_PHI = 4  # convolutions of the multi-scale quantizer, as many as are published
_COUNT = {  # the key of the number of codes
    'vq': 'quantizer.num_codes',
    'multi_scale': 'quantizer.num_codes',
    'gumbel': 'gumbel.num_codes',
}
_CODEBOOKS = {  # what all of these projects call the codes
    'vq': 'quantize.embedding.weight',
    'multi_scale': 'quantize.embedding.weight',
    'gumbel': 'quantize.embed.weight',
}
_WIDTH = {  # the key of our config that is the width of the codes, or of the Gaussian's mean
    'vq': 'quantizer.code_dim',
    'multi_scale': 'model.features',
    'gumbel': 'model.features',
    'kl': 'gaussian.latent_dim',
}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of a network, as far as its arrays say.

    Attributes:
        image_channels: of an image.
        channels: at the finest resolution.
        multipliers: channels at each resolution, in units of `channels`, the finest first.
        residual_blocks: at each resolution of the encoder; the decoder has one more.
        attention: resolutions, 0 the finest, whose blocks are each followed by self-attention.
        features: width of the vectors between encoder and decoder.
        latent: width of the codes, or of the Gaussian's mean.
        num_codes: codes; 0 of a KL autoencoder.
    """

    image_channels: int
    channels: int
    multipliers: tuple[int, ...]
    residual_blocks: int
    attention: tuple[int, ...]
    features: int
    latent: int
    num_codes: int


@dataclasses.dataclass(frozen=True)
class Names:
    """What a project calls the layers.

    Attributes:
        down: of a residual block of the encoder, of which there are `{block}` before it at its resolution.
            That is number `{level}`, 0 the finest, and the data pass `{order}` others before it.
        down_attention: of the self-attention after it.
        downsample: of the convolution that ends a resolution.
        up: of the decoder, the same.
        up_attention: the same.
        upsample: the same.
        middle: of the blocks at the coarsest resolution, below the encoder's and the decoder's names.
        norm_out: of the last normalisation of both, the same.
        shortcut: of the convolution that a residual block's input passes.
        attention: of the normalisation, query, key, value and output of self-attention; those of the same
            name are one array, one after another.
        linear: whether the kernels of attention are matrices, and not those of convolutions.
        former: what layers are called in older files, the last part of their names, by what it is now.
    """

    down: str
    down_attention: str
    downsample: str
    up: str
    up_attention: str
    upsample: str
    middle: tuple[str, str, str]
    norm_out: str = 'norm_out'
    shortcut: str = 'nin_shortcut'
    attention: tuple[str, str, str, str, str] = ('norm', 'q', 'k', 'v', 'proj_out')
    linear: bool = False
    former: Mapping[str, str] = dataclasses.field(default_factory=dict)


def network_config(sizes: Sizes, form: Literal['vqgan', 'maskgit']) -> dict[str, Any]:
    """What our config must say, by dotted keys, of encoder and decoder of such a form."""
    return {
        'task': 'vqgan',
        'variant.backbone': 'residual',
        'variant.source': 'image',
        'variant.class_conditional': False,
        'model.channels': sizes.channels,
        'model.multipliers': sizes.multipliers,
        'model.residual_blocks': sizes.residual_blocks,
        'model.attention_resolutions': sizes.attention,
        'model.features': sizes.features,
        'model.strides': (2,),
        'model.temporal': 'full',
        'model.latent_convolutions': False,
        'model.form': form,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class VQGANProject(Project):
    """A project whose tokenizers or autoencoders can be read and written.

    Attributes:
        names: what it calls the layers.
        bottleneck: which of its models.
        cosine: codes are compared by direction.
        zeros: the shapes of arrays that models of such sizes have there and ours do not, which are written as
            zeros.
        TASK: see `Project`.
    """

    TASK: ClassVar[str] = 'vqgan'
    names: Names
    bottleneck: Literal['vq', 'multi_scale', 'gumbel', 'kl']
    cosine: bool = False
    zeros: Callable[[Sizes], dict[str, tuple[int, ...]]] = lambda sizes: {}
    # LPIPS would have to be downloaded before anything can be evaluated.
    defaults: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {**IMAGENET, 'perceptual.kind': 'none', 'quantizer.revive_below': 0.0}
    )

    def renamed(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays of a file by the names that the project has for them now."""
        return renamed(arrays, self.names.former)

    def root(self, arrays: Mapping[str, np.ndarray]) -> str | None:
        """What the names of a model of this project begin with among others; None if there is none."""
        first = f'{self.names.down.format(level=0, block=0, order=0)}.conv1.weight'
        query = f'encoder.{self.names.middle[1]}.{self.names.attention[1]}.weight'
        for root in self.roots:
            there = all(f'{root}{name}' in arrays for name in (first, query, 'quant_conv.weight'))
            codebooks = {name for name in _CODEBOOKS.values() if f'{root}{name}' in arrays}
            if there and codebooks == {*self._codebook}:
                return root
        return None

    @property
    def _codebook(self) -> tuple[str, ...]:
        """The name of the codes there, if there are any."""
        return (_CODEBOOKS[self.bottleneck],) if self.bottleneck in _CODEBOOKS else ()

    def sizes(self, arrays: Mapping[str, np.ndarray]) -> Sizes:
        """The sizes of a model, by the shapes of its arrays without their root.

        Raises:
            UserError: an array that says a size is missing, or has other axes.
        """
        size = functools.partial(self.size, arrays)

        def block(level: int, number: int) -> str:
            return f'{self.names.down.format(level=level, block=number, order=level)}.conv1.weight'

        def attention(level: int) -> str:
            there = self.names.down_attention.format(level=level, block=0, order=level)
            return f'{there}.{self.names.attention[0]}.weight'

        channels = size('encoder.conv_in.weight', 0, 4)
        levels = next(n for n in itertools.count() if block(n, 0) not in arrays)
        widths = [size(block(level, 0), 0, 4) for level in range(levels)]
        if not channels or any(width % channels for width in widths):
            raise UserError(f'the channels of a model of {self.title} are {channels} and {widths}.')
        return Sizes(
            image_channels=size('encoder.conv_in.weight', 1, 4),
            channels=channels,
            multipliers=tuple(width // channels for width in widths),
            residual_blocks=next(n for n in itertools.count() if block(0, n) not in arrays),
            attention=tuple(level for level in range(levels) if attention(level) in arrays),
            features=size('post_quant_conv.weight', 0, 4),
            latent=size('post_quant_conv.weight', 1, 4),
            num_codes=size(*self._codebook, 0, 2) if self._codebook else 0,
        )

    def table(self, sizes: Sizes, config: Mapping[str, Any] = MappingProxyType({})) -> list[Row | Folded]:
        """All arrays of a model whose sizes, and whose config here, are given."""
        codebook = 'codebook' if config.get('quantizer.learning') == 'moving_average' else 'params'
        return _Table(self, sizes, codebook).rows

    def constants(
        self, sizes: Sizes, config: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, np.ndarray]:
        """What there is beside the network: see `zeros`."""
        return {name: np.zeros(shape, np.float32) for name, shape in self.zeros(sizes).items()}

    def given(self, sizes: Sizes) -> dict[str, Any]:
        """That codes are learned by gradients alone, by which they are where the network looks for them."""
        codes = {'quantizer.learning': 'gradient', 'quantizer.codebook_init': 'random'}
        return {'data.channels': sizes.image_channels, **codes}

    def config(self, sizes: Sizes) -> dict[str, Any]:
        """What our config must say, by dotted keys, for our network to be theirs.

        Raises:
            UserError: no config makes ours that network.
        """
        check_groups(self.title, [sizes.channels * multiplier for multiplier in (1, *sizes.multipliers)])
        quantizer = {
            'variant.bottleneck': 'quantizer',
            'quantizer.groups': 1,
            'quantizer.num_codes': sizes.num_codes,
            'quantizer.cosine': self.cosine,
            **({'quantizer.unit_length': True} if self.cosine else {}),
        }
        bottleneck = {
            'vq': {**quantizer, 'quantizer.kind': 'vq', 'quantizer.code_dim': sizes.latent},
            'multi_scale': {
                **quantizer,
                'quantizer.kind': 'multi_scale',
                'quantizer.code_dim': None,
                'multi_scale.convolutions': _PHI,
                'multi_scale.blend': 0.5,
            },
            'gumbel': {
                'variant.bottleneck': 'quantizer',
                'quantizer.kind': 'gumbel',
                'quantizer.groups': 1,
                'gumbel.num_codes': sizes.num_codes,
            },
            'kl': {'variant.bottleneck': 'gaussian', 'gaussian.latent_dim': sizes.latent},
        }
        return {
            **network_config(sizes, 'vqgan'),
            'model.latent_convolutions': self.bottleneck == 'multi_scale',
            **bottleneck[self.bottleneck],
        }

    def misfits(self, config: Mapping[str, Any]) -> list[str]:
        """That codes have no width of their own, or too few scales: ours then leaves out convolutions."""
        scales, of_scales = tuple(config['multi_scale.scales']), self.bottleneck == 'multi_scale'
        found = []
        if config[_WIDTH[self.bottleneck]] is None:
            found.append('config.quantizer.code_dim is None, and would have to be the width of the codes')
        if of_scales and len(scales) < _PHI:
            found.append(
                f'config.multi_scale.scales is {scales}, and the convolutions of {self.title} fit {_PHI} '
                'scales or more'
            )
        return found

    def sizes_of(
        self, config: Mapping[str, Any], shapes: Mapping[Way, tuple[int, ...]], grid: tuple[int, ...]
    ) -> Sizes:
        """The sizes of a model of ours, by its config, if it is one of these at all."""
        return Sizes(
            image_channels=config['data.channels'],
            channels=config['model.channels'],
            multipliers=tuple(config['model.multipliers']),
            residual_blocks=config['model.residual_blocks'],
            attention=tuple(config['model.attention_resolutions']),
            features=config['model.features'],
            latent=config[_WIDTH[self.bottleneck]],
            num_codes=config[_COUNT[self.bottleneck]] if self._codebook else 0,
        )


class _Table(Layers):
    """Rows in the order in which the data pass the layers."""

    def __init__(self, project: VQGANProject, sizes: Sizes, codebook: str) -> None:
        super().__init__()
        self._names, self._sizes = project.names, sizes
        latent, features = sizes.latent, sizes.features
        shape = (sizes.num_codes, latent)
        twice = 2 if project.bottleneck == 'kl' else 1  # a mean and a variance for each number
        self._encoder(twice * features)
        if project.bottleneck == 'multi_scale':
            self.conv('quant_conv', 'encoder.latent', features, latent)
            way = (codebook, 'bottleneck', 'quantizer', 'codebook')
            self.rows.append(Row(*project._codebook, shape, way, (0, 1), shape))
            for number in range(_PHI):
                theirs = f'quantize.quant_resi.qresi_ls.{number}'
                self.conv(theirs, f'bottleneck.phi_{number}', latent, latent)
            self.conv('post_quant_conv', 'decoder.trunk.latent', latent, features)
        elif project.bottleneck == 'gumbel':
            self._gumbel(features)
        else:
            self.pointwise('quant_conv', 'bottleneck.project_in', twice * features, twice * latent)
            if project.bottleneck == 'vq':
                way = (codebook, 'bottleneck', 'codebook')
                self.rows.append(Row(*project._codebook, shape, way, (0, 1), shape))
            self.pointwise('post_quant_conv', 'bottleneck.project_out', latent, features)
        self._decoder(features)

    def _encoder(self, out: int) -> None:
        s, names, ours = self._sizes, self._names, 'encoder'
        self.conv('encoder.conv_in', self.next(ours, 'Conv'), s.image_channels, s.channels)
        width, last = s.channels, len(s.multipliers) - 1
        for level, multiplier in enumerate(s.multipliers):
            for number in range(s.residual_blocks):
                at = {'level': level, 'order': level, 'block': number}
                self._block(names.down.format(**at), ours, width, s.channels * multiplier)
                width = s.channels * multiplier
                if level in s.attention:
                    self._attention(names.down_attention.format(**at), ours, width)
            if level < last:
                inner = f'{self.next(ours, "Downsample")}.Conv_0'
                self.conv(names.downsample.format(level=level, order=level), inner, width, width)
        self._middle('encoder', ours, width)
        self.norm(f'encoder.{names.norm_out}', self.next(ours, 'GroupNorm'), width)
        self.conv('encoder.conv_out', self.next(ours, 'Conv'), width, out)

    def _gumbel(self, features: int) -> None:
        """Logits and codes; linear maps that there are before and after them are in them here."""
        codes, width = self._sizes.num_codes, self._sizes.latent
        into, out = ('quant_conv', (width, features, 1, 1)), ('post_quant_conv', (features, width, 1, 1))
        logits = {'quantize.proj.weight': (codes, width, 1, 1)}
        way = ('params', 'bottleneck')
        self.rows += [
            Folded(
                {f'{into[0]}.weight': into[1], **logits},
                (*way, 'to_logits', 'kernel'),
                (features, codes),
                lambda first, second: (_matrix(second) @ _matrix(first)).T,
                lambda kernel: (_unit(len(kernel)), kernel.T[..., None, None]),
            ),
            Folded(
                {f'{into[0]}.bias': (width,), 'quantize.proj.bias': (codes,), **logits},
                (*way, 'to_logits', 'bias'),
                (codes,),
                lambda first, second, logits: _matrix(logits) @ first + second,
                lambda bias: (np.zeros(width, np.float32), bias),
            ),
            Folded(
                {
                    'quantize.embed.weight': (codes, width),
                    f'{out[0]}.weight': out[1],
                    f'{out[0]}.bias': (features,),
                },
                (*way, 'codebook'),
                (codes, features),
                lambda embed, kernel, bias: embed @ _matrix(kernel).T + bias,
                lambda codebook: (codebook, _unit(features), np.zeros(features, np.float32)),
            ),
        ]

    def _decoder(self, features: int) -> None:
        s, names, ours = self._sizes, self._names, 'decoder.trunk'
        last = len(s.multipliers) - 1
        width = s.channels * s.multipliers[-1]
        self.conv('decoder.conv_in', self.next(ours, 'Conv'), features, width)
        self._middle('decoder', ours, width)
        for level in reversed(range(len(s.multipliers))):
            for number in range(s.residual_blocks + 1):
                at = {'level': level, 'order': last - level, 'block': number}
                self._block(names.up.format(**at), ours, width, s.channels * s.multipliers[level])
                width = s.channels * s.multipliers[level]
                if level in s.attention:
                    self._attention(names.up_attention.format(**at), ours, width)
            if level:
                inner = self.next(ours, 'Upsample')
                self.conv(names.upsample.format(level=level, order=last - level), inner, width, width)
        self.norm(f'decoder.{names.norm_out}', self.next(ours, 'GroupNorm'), width)
        self.conv('decoder.conv_out', 'decoder.last', width, s.image_channels)

    def _middle(self, theirs: str, ours: str, width: int) -> None:
        first, attention, second = self._names.middle
        self._block(f'{theirs}.{first}', ours, width, width)
        self._attention(f'{theirs}.{attention}', ours, width)
        self._block(f'{theirs}.{second}', ours, width, width)

    def _block(self, theirs: str, ours: str, width: int, out: int) -> None:
        ours = self.next(ours, 'ResidualBlock')
        for number, c in enumerate((width, out)):
            self.norm(f'{theirs}.norm{number + 1}', f'{ours}.GroupNorm_{number}', c)
            self.conv(f'{theirs}.conv{number + 1}', f'{ours}.Conv_{number}', c, out)
        if width != out:
            self.conv(f'{theirs}.{self._names.shortcut}', f'{ours}.Conv_2', width, out, size=1)

    def _attention(self, theirs: str, ours: str, width: int) -> None:
        ours = self.next(ours, 'Attention')
        self.attention(theirs, ours, width, self._names.attention, self._names.linear)


def _matrix(kernel: np.ndarray) -> np.ndarray:
    """The kernel of a convolution of size 1 there as a matrix, whose products are of many digits."""
    return kernel[..., 0, 0].astype(np.float64)


def _unit(width: int) -> np.ndarray:
    """The kernel of a convolution of size 1 there that changes nothing."""
    return np.eye(width, dtype=np.float32)[..., None, None]
