"""Neural codecs of sound: DAC (Kumar et al. 2023) and EnCodec (Défossez et al. 2022), which are SEANet here.

arXiv:2306.06546 and arXiv:2210.13438. Both have their layers in lists, by whose numbers they are called.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from vq_jax.spec import Spec
from vq_jax.weights.project import Folded, Project, Published, Row, Way, stated


@dataclasses.dataclass(frozen=True)
class CodecSizes:
    """Sizes of a codec, as far as its arrays say.

    Attributes:
        channels: of the encoder, at the rate of the sound.
        decoder_channels: of the decoder.
        strides: of the encoder's stages.
        units: in each stage.
        features: width of the vectors between encoder and decoder.
        depth: codes of a position.
        num_codes: at each depth.
        code_dim: where codes are compared; None where that is all of the features.
    """

    channels: int
    decoder_channels: int
    strides: tuple[int, ...]
    units: int
    features: int
    depth: int
    num_codes: int
    code_dim: int | None


class _DACLayers:
    """What DAC calls its layers; the activation before each convolution has the number before.

    Side 0 is the encoder, and 1 the decoder; `at` is how many stages come before, and `unit` how many
    residual units in the stage, of which each has `units`.

    Attributes:
        first: the first convolutions of both sides.
        convs: those of a unit.
        codebook: of depth `{depth}`.
    """

    first = ('encoder.block.0', 'decoder.model.0')
    convs = ('block.1', 'block.3')
    codebook = 'quantizer.quantizers.{depth}.codebook.weight'

    def unit(self, side: int, at: int, unit: int, units: int) -> str:
        return f'{self._stage(side, at)}.block.{2 * side + unit}'

    def resample(self, side: int, at: int, units: int) -> str:
        return f'{self._stage(side, at)}.block.{1 if side else units + 1}'

    def last(self, side: int, stages: int, units: int) -> str:
        return self._stage(side, stages + 1)

    @staticmethod
    def _stage(side: int, at: int) -> str:
        return f'{("encoder.block", "decoder.model")[side]}.{at + 1}'


class _EnCodecLayers:
    """The same of EnCodec. Activations have numbers, but no parameters."""

    first = ('encoder.model.0.conv.conv', 'decoder.model.0.conv.conv')
    convs = ('block.1.conv.conv', 'block.3.conv.conv', 'shortcut.conv.conv')
    codebook = 'quantizer.vq.layers.{depth}._codebook.embed'

    def unit(self, side: int, at: int, unit: int, units: int) -> str:
        return self._layer(side, at, units, 2 * side + unit)

    def resample(self, side: int, at: int, units: int) -> str:
        kind = 'convtr.convtr' if side else 'conv.conv'
        return f'{self._layer(side, at, units, 1 if side else units + 1)}.{kind}'

    def last(self, side: int, stages: int, units: int) -> str:
        return f'{self._layer(side, stages, units, 1 if side else 2)}.conv.conv'

    def lstm(self, side: int, stages: int, units: int) -> str:
        return f'{self._layer(side, 0 if side else stages, units, -1 if side else 0)}.lstm'

    @staticmethod
    def _layer(side: int, at: int, units: int, further: int) -> str:
        """The layer that comes so much further after so many stages; the decoder's LSTM is before them."""
        return f'{("encoder", "decoder")[side]}.model.{1 + side + at * (units + 2) + further}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodecProject(Project):
    """A project whose codecs of sound can be read and written.

    Attributes:
        layers: what it calls them.
        form: what of the section 'seanet' of our config is the same for all of its models.
        lstm: how many layers of an LSTM encoder and decoder have.
        TASK: see `Project`.
        KIND: see `Project`.
        UNSAID: see `Project`.
    """

    TASK: ClassVar[str] = 'vqgan'
    KIND: ClassVar[str] = 'audio'
    UNSAID: ClassVar[tuple[str, ...]] = ('data.sample_rate',)

    layers: _DACLayers | _EnCodecLayers
    form: Mapping[str, Any]
    lstm: int = 0

    def marks(self) -> tuple[str, ...]:
        """See `Project.marks`."""
        last = f'{self.layers.first[1]}.weight_g'
        return (f'{self.layers.first[0]}.weight_v', last, self.layers.codebook.format(depth=0))

    def sizes(self, arrays: Mapping[str, np.ndarray]) -> CodecSizes:
        """See `Project.sizes`."""
        n, size = self.layers, functools.partial(self.size, arrays)

        def there(name: str) -> bool:
            return f'{name}.weight_v' in arrays

        units = next(u for u in itertools.count() if not there(f'{n.unit(0, 0, u, 0)}.{n.convs[0]}'))
        stages = next(s for s in itertools.count() if not there(n.unit(1, s, 0, units) + f'.{n.convs[0]}'))
        codebook = n.codebook.format(depth=0)
        features = size(f'{n.first[1]}.weight_v', 1, 3)
        return CodecSizes(
            channels=size(f'{n.first[0]}.weight_v', 0, 3),
            decoder_channels=size(f'{n.first[1]}.weight_v', 0, 3) >> stages,
            strides=tuple(size(f'{n.resample(0, at, units)}.weight_v', 2, 3) // 2 for at in range(stages)),
            units=units,
            features=features,
            depth=next(d for d in itertools.count() if n.codebook.format(depth=d) not in arrays),
            num_codes=size(codebook, 0, 2),
            code_dim=size(codebook, 1, 2) if self.form['activation'] == 'snake' else None,
        )

    def sizes_of(
        self, config: Mapping[str, Any], shapes: Mapping[Way, tuple[int, ...]], grid: tuple[int, ...]
    ) -> CodecSizes:
        """See `Project.sizes_of`."""
        channels = config['seanet.channels']
        return CodecSizes(
            channels=channels,
            decoder_channels=config['seanet.decoder_channels'] or channels,
            strides=tuple(config['seanet.strides']),
            units=len(config['seanet.dilations']),
            features=config['seanet.features'],
            depth=config['residual.depth'],
            num_codes=config['quantizer.num_codes'],
            code_dim=config['quantizer.code_dim'],
        )

    def config(self, sizes: CodecSizes) -> dict[str, Any]:
        """See `Project.config`."""
        cosine = sizes.code_dim is not None
        return {
            'task': 'vqgan',
            'variant.backbone': 'seanet',
            'variant.bottleneck': 'quantizer',
            'variant.class_conditional': False,
            'seanet.channels': sizes.channels,
            'seanet.decoder_channels': sizes.decoder_channels,
            'seanet.strides': sizes.strides,
            'seanet.features': sizes.features,
            'seanet.lstm': self.lstm,
            'seanet.weight_norm': True,
            **{f'seanet.{key}': value for key, value in self.form.items()},
            'quantizer.kind': 'residual',
            'quantizer.groups': 1,
            'quantizer.num_codes': sizes.num_codes,
            'quantizer.code_dim': sizes.code_dim,
            'quantizer.cosine': cosine,
            **({'quantizer.unit_length': False} if cosine else {}),
            'residual.depth': sizes.depth,
            'residual.shared': False,
        }

    def given(self, sizes: CodecSizes) -> dict[str, Any]:
        """See `Project.given`."""
        codes = {'quantizer.learning': 'gradient', 'quantizer.codebook_init': 'random'}
        return {'data.channels': 1, **codes}

    def spec(self, config: Mapping[str, Any]) -> Spec:
        """See `Project.spec`."""
        return Spec('audio', (stated(config, 'data.num_samples'), 1), config['data.sample_rate'])

    def table(self, sizes: CodecSizes, config: Mapping[str, Any]) -> list[Row | Folded]:
        """See `Project.table`."""
        return _Table(self, sizes, config).rows

    def constants(self, sizes: CodecSizes, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """See `Project.constants`: what EnCodec's codebooks learn of their use, which is none."""
        if sizes.code_dim is not None:
            return {}
        before = [
            self.layers.codebook.format(depth=depth).removesuffix('embed') for depth in range(sizes.depth)
        ]
        counts = np.zeros(sizes.num_codes, np.float32)
        sums = np.zeros((sizes.num_codes, sizes.features), np.float32)
        one = {'inited': np.ones(1, np.float32), 'cluster_size': counts, 'embed_avg': sums}
        return {f'{name}{key}': value for name in before for key, value in one.items()}


class _Table:
    """Rows in the order in which sound passes the layers."""

    def __init__(self, project: CodecProject, sizes: CodecSizes, config: Mapping[str, Any]) -> None:
        self._project, self._sizes, self._names = project, sizes, project.layers
        self._snakes = project.form['activation'] == 'snake'
        self._numbers: dict[str, int] = {}
        self.rows: list[Row | Folded] = []
        self._encoder()
        learns = 'codebook' if config.get('quantizer.learning') == 'moving_average' else 'params'
        for depth in range(sizes.depth):
            self._codes(self._names.codebook.format(depth=depth), f'bottleneck.stages_{depth}', learns)
        self._decoder()

    def _encoder(self) -> None:
        s, n, ours, form = self._sizes, self._names, 'encoder', self._project.form
        width = s.channels
        self._conv(n.first[0], f'{ours}.{self._next(ours, "TimeConv")}', 1, width, form['kernel'])
        for at, stride in enumerate(s.strides):
            for unit in range(s.units):
                self._unit(n.unit(0, at, unit, s.units), ours, width)
            theirs = n.resample(0, at, s.units)
            self._snake(theirs, ours, width)
            self._conv(theirs, f'{ours}.{self._next(ours, "TimeConv")}', width, 2 * width, 2 * stride)
            width *= 2
        stages = len(s.strides)
        self._lstm(0, f'{ours}.ResidualLSTM_0', width)
        last = n.last(0, stages, s.units)
        self._snake(last, ours, width)
        self._conv(last, f'{ours}.{self._next(ours, "TimeConv")}', width, s.features, form['latent_kernel'])

    def _decoder(self) -> None:
        s, n, ours, form = self._sizes, self._names, 'decoder.trunk', self._project.form
        width = s.decoder_channels << len(s.strides)
        self._conv(n.first[1], f'{ours}.TimeConv_0', s.features, width, form['kernel'])
        self._lstm(1, f'{ours}.ResidualLSTM_0', width)
        for at, stride in enumerate(reversed(s.strides)):
            theirs = n.resample(1, at, s.units)
            self._snake(theirs, ours, width)
            self._conv_transpose(theirs, f'{ours}.TimeConvTranspose_{at}', width, width // 2, 2 * stride)
            width //= 2
            for unit in range(s.units):
                self._unit(n.unit(1, at, unit, s.units), ours, width)
        last = n.last(1, len(s.strides), s.units)
        self._snake(last, ours, width)
        self._conv(last, 'decoder.last', width, 1, form['kernel'])

    def _unit(self, theirs: str, ours: str, width: int) -> None:
        ours, form = f'{ours}.{self._next(ours, "SEANetUnit")}', self._project.form
        inner = width // form['compress']
        layers = [(width, inner, form['residual_kernel']), (inner, width, 1), (width, width, 1)]
        for number, (name, layer) in enumerate(zip(self._names.convs, layers, strict=False)):
            if number < 2:
                self._snake(f'{theirs}.{name}', ours, layer[0])
            self._conv(f'{theirs}.{name}', f'{ours}.TimeConv_{number}', *layer)

    def _codes(self, theirs: str, ours: str, learns: str) -> None:
        s = self._sizes
        way, shape = tuple(ours.split('.')), (s.num_codes, s.code_dim or s.features)
        self.rows.append(Row(theirs, shape, (learns, *way, 'codebook'), (0, 1), shape))
        if s.code_dim is None:
            return
        before = theirs.removesuffix('codebook.weight')
        for name, layer, into, out in (
            ('in_proj', 'project_in', s.features, s.code_dim),
            ('out_proj', 'project_out', s.code_dim, s.features),
        ):
            kernel = ('params', *way, layer, 'kernel')
            shapes = {f'{before}{name}.weight_g': (out, 1, 1), f'{before}{name}.weight_v': (out, into, 1)}
            self.rows.append(Folded(shapes, kernel, (into, out), _of_length, _with_length))
            bias = ('params', *way, layer, 'bias')
            self.rows.append(Row(f'{before}{name}.bias', (out,), bias, (0,), (out,)))

    def _lstm(self, side: int, ours: str, width: int) -> None:
        for layer in range(self._project.lstm):
            theirs = self._names.lstm(side, len(self._sizes.strides), self._sizes.units)
            way, shape = ('params', *ours.split('.'), f'LSTM_{layer}'), (4 * width, width)
            for name, kernel in (('ih', 'kernel'), ('hh', 'recurrent_kernel')):
                self.rows.append(
                    Row(f'{theirs}.weight_{name}_l{layer}', shape, (*way, kernel), (1, 0), shape[::-1])
                )
            biases = {f'{theirs}.bias_{name}_l{layer}': shape[:1] for name in ('ih', 'hh')}
            self.rows.append(Folded(biases, (*way, 'bias'), shape[:1], _sum, _with_zeros))

    def _snake(self, layer: str, ours: str, width: int) -> None:
        """The activation before a layer, if it has parameters."""
        if self._snakes:
            name, _, number = layer.rpartition('.')
            way = ('params', *ours.split('.'), self._next(ours, 'Snake'), 'alpha')
            self.rows.append(Row(f'{name}.{int(number) - 1}.alpha', (1, width, 1), way, (0, 1, 2), (width,)))

    def _conv(self, theirs: str, ours: str, width: int, out: int, size: int) -> None:
        way = ('params', *ours.split('.'))
        self.rows += [
            Row(f'{theirs}.weight_v', (out, width, size), (*way, 'kernel'), (2, 1, 0), (size, width, out)),
            Row(f'{theirs}.weight_g', (out, 1, 1), (*way, 'scale'), (2, 1, 0), (1, 1, out)),
            Row(f'{theirs}.bias', (out,), (*way, 'bias'), (0,), (out,)),
        ]

    def _conv_transpose(self, theirs: str, ours: str, width: int, out: int, size: int) -> None:
        """Their kernels are read from the other end."""
        way, shape, turned = ('params', *ours.split('.')), (width, out, size), np.arange(size)[::-1]
        kernel = (size, width, out)
        self.rows += [
            Row(f'{theirs}.weight_v', shape, (*way, 'kernel'), (2, 0, 1), kernel, orders={2: turned}),
            Row(f'{theirs}.weight_g', (width, 1, 1), (*way, 'scale'), (1, 0, 2), (1, width, 1)),
            Row(f'{theirs}.bias', (out,), (*way, 'bias'), (0,), (out,)),
        ]

    def _next(self, ours: str, kind: str) -> str:
        """The name that Flax gives the next layer of a kind in a module."""
        number = self._numbers.setdefault(f'{ours}.{kind}', 0)
        self._numbers[f'{ours}.{kind}'] += 1
        return f'{kind}_{number}'


def _of_length(length: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The kernel of a weight-normalised convolution of size 1, as a matrix."""
    kernel = kernel[..., 0].astype(np.float64)
    return (kernel * (length[..., 0] / np.linalg.norm(kernel, axis=1, keepdims=True))).T


def _with_length(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A matrix as a kernel, and the lengths of its outputs' weights."""
    kernel = kernel.T
    return np.linalg.norm(kernel, axis=1)[:, None, None], kernel[..., None]


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a + b


def _with_zeros(total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return total, np.zeros_like(total)


def _published(name: str, strides: tuple[int, ...], depth: int, rate: int, samples: int) -> Published:
    return Published(
        name,
        {'strides': strides, 'depth': depth},
        {'data.sample_rate': rate, 'data.num_samples': samples},
        {},
    )


_DEFAULTS = {
    'data.name': 'folder:recordings',
    'data.num_samples': 24_000,
    'perceptual.kind': 'none',
    'quantizer.revive_below': 0.0,
    'variant.discriminator': 'sound',
    'adversarial.adaptive': False,
}

DAC = CodecProject(
    name='dac',
    title='DAC',
    source='https://github.com/descriptinc/descript-audio-codec',
    licence='MIT',
    roots=('state_dict.', ''),
    section='state_dict',
    layers=_DACLayers(),
    form={
        'kernel': 7,
        'latent_kernel': 3,
        'dilations': (1, 3, 9),
        'residual_kernel': 7,
        'compress': 1,
        'shortcut': False,
        'activation': 'snake',
        'tanh': True,
        'causal': False,
        'padding': 'zeros',
    },
    defaults={**_DEFAULTS, 'residual.dropout': 0.5},
    published=(
        _published('44khz, 8 kbit/s', (2, 4, 8, 8), 9, 44_100, 16_896),
        _published('24khz', (2, 4, 5, 8), 32, 24_000, 24_000),
        _published('16khz', (2, 4, 5, 8), 12, 16_000, 16_000),
    ),
)
ENCODEC = CodecProject(
    name='encodec',
    title='EnCodec',
    source='https://github.com/facebookresearch/encodec',
    licence='MIT',
    roots=('',),
    unread=('quantizer.vq.layers.',),  # how often training chose each code
    layers=_EnCodecLayers(),
    form={
        'kernel': 7,
        'latent_kernel': 7,
        'dilations': (1,),
        'residual_kernel': 3,
        'compress': 2,
        'shortcut': True,
        'activation': 'elu',
        'tanh': False,
        'causal': True,
        'padding': 'reflect',
    },
    lstm=2,
    defaults={**_DEFAULTS, 'residual.dropout': 1.0},
    published=(_published('encodec_24khz', (2, 4, 5, 8), 32, 24_000, 24_000),),
)
