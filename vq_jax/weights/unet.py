"""The U-Nets of diffusion models in other projects: what each of their arrays is called there and here.

They are that of Ho et al. 2020 (arXiv:2006.11239), with what Dhariwal and Nichol 2021 (arXiv:2105.05233) and
Rombach et al. 2022 (arXiv:2112.10752) changed about it. Names differ, and how the blocks are counted.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from vq_jax.errors import UserError
from vq_jax.weights.layers import Layers, check_groups
from vq_jax.weights.project import Project, Row, Way, renamed

_TIME = 'Conditioning_0'
_CLASSES = ('params', 'Embed_0')


@dataclasses.dataclass(frozen=True)
class UNetSizes:
    """Sizes of a network, as far as its arrays say.

    Attributes:
        inputs: channels that come in.
        outputs: channels that come out.
        channels: at the finest resolution.
        multipliers: channels at each resolution, in units of `channels`, the finest first.
        residual_blocks: at each resolution on the way down; on the way up there is one more.
        attention: resolutions, 0 the finest, whose blocks are each followed by self-attention.
        time_conditioning: what the time does in blocks.
        depth: blocks of the transformers that take its place; 0 for none.
        token: width of the tokens that these attend to.
        classes: that there are such tokens of, beside the one for none.
    """

    inputs: int
    outputs: int
    channels: int
    multipliers: tuple[int, ...]
    residual_blocks: int
    attention: tuple[int, ...]
    time_conditioning: Literal['scale_shift', 'add'] = 'add'
    depth: int = 0
    token: int = 0
    classes: int = 0


@dataclasses.dataclass(frozen=True)
class UNetNames:
    """What a project calls the layers.

    Of a block, `{level}` is the number of its resolution, 0 the finest, `{order}` that of those before it on
    its way, `{block}` that of the blocks before it at its resolution, and `{number}` that of all before it on
    its way, or `{next}`, counted from 1. What ends a resolution on the way down is counted like one more
    block; on the way up it has the numbers of the last block, and is the layer `{layer}` there.

    Attributes:
        conv_in: the first convolution.
        time: the two linear layers of the time.
        down: a block on the way down.
        down_attention: the self-attention after it.
        downsample: the convolution that ends a resolution.
        middle: blocks and self-attention at the coarsest resolution.
        up: a block on the way up.
        up_attention: the self-attention after it.
        upsample: the convolution that ends a resolution.
        block: of a block normalisation, convolution, linear layer of the time, normalisation, convolution,
            and the convolution that its input passes.
        out: the last normalisation and convolution.
        attention: of self-attention normalisation, query, key, value and output; None for transformers.
        classes: the tokens of classes, if there are any.
    """

    conv_in: str
    time: tuple[str, str]
    down: str
    down_attention: str
    downsample: str
    middle: tuple[str, str, str]
    up: str
    up_attention: str
    upsample: str
    block: tuple[str, str, str, str, str, str]
    out: tuple[str, str]
    attention: tuple[str, str, str, str, str] | None = None
    classes: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetProject(Project):
    """A project whose U-Nets can be read and written.

    Attributes:
        names: what it calls the layers.
        network: what of our config is the same for all of its models.
        former: what layers were called in older files, the last part of their names, by what it is now.
        TASK: see `Project`.
        UNSAID: see `Project`.
    """

    TASK: ClassVar[str] = 'diffusion'
    UNSAID: ClassVar[tuple[str, ...]] = (
        'unet.heads',
        'unet.sinusoid_endpoint',
        'unet.downsample_padding',
        'unet.norm_epsilon',
    )
    names: UNetNames
    network: Mapping[str, Any]
    former: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def renamed(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Project.renamed`."""
        return renamed(arrays, self.former)

    def marks(self) -> tuple[str, ...]:
        """See `Project.marks`."""
        n = self.names
        query = n.attention[1] if n.attention else 'transformer_blocks.0.attn2.to_q'
        layers = (n.conv_in, n.time[0], f'{n.middle[1]}.{query}', n.out[1], n.classes)
        return tuple(f'{layer}.weight' for layer in layers if layer)

    def sizes(self, arrays: Mapping[str, np.ndarray]) -> UNetSizes:
        """See `Project.sizes`."""
        size, names = functools.partial(self.size, arrays), self.names
        blocks = 0

        def of_block(level: int, block: int, layer: int = 1) -> str:
            there = names.down.format(**_place(level, level, block, blocks))
            return f'{there}.{names.block[layer]}.weight'

        def attention(level: int) -> str:
            there = names.down_attention.format(**_place(level, level, 0, blocks))
            return f'{there}.{names.attention[0] if names.attention else "norm"}.weight'

        channels = size(f'{names.conv_in}.weight', 0, 4)
        blocks = next(n for n in itertools.count() if of_block(0, n) not in arrays)
        levels = next(n for n in itertools.count() if of_block(n, 0) not in arrays)
        widths = [size(of_block(level, 0), 0, 4) for level in range(levels)]
        if not widths or any(width % channels for width in widths):
            raise UserError(f'the channels of a model of {self.title} are {channels} and {widths}.')
        inner = f'{names.middle[1]}.transformer_blocks'
        depth = next(n for n in itertools.count() if f'{inner}.{n}.norm1.weight' not in arrays)
        return UNetSizes(
            inputs=size(f'{names.conv_in}.weight', 1, 4),
            outputs=size(f'{names.out[1]}.weight', 0, 4),
            channels=channels,
            multipliers=tuple(width // channels for width in widths),
            residual_blocks=blocks,
            attention=tuple(level for level in range(levels) if attention(level) in arrays),
            time_conditioning='add' if size(of_block(0, 0, 2), 0, 2) == widths[0] else 'scale_shift',
            depth=depth,
            token=size(f'{inner}.0.attn2.to_k.weight', 1, 2) if depth else 0,
            classes=size(f'{names.classes}.weight', 0, 2) - 1 if names.classes else 0,
        )

    def sizes_of(
        self, config: Mapping[str, Any], shapes: Mapping[Way, tuple[int, ...]], grid: tuple[int, ...]
    ) -> UNetSizes:
        """See `Project.sizes_of`."""
        first, last = (shapes.get(('params', f'Conv_{i}', 'kernel'), (1, 1, 1, 1)) for i in range(2))
        return UNetSizes(
            inputs=first[2],
            outputs=last[3],
            channels=config['unet.channels'],
            multipliers=tuple(config['unet.multipliers']),
            residual_blocks=config['unet.residual_blocks'],
            attention=tuple(config['unet.attention_resolutions']),
            time_conditioning=config['unet.time_conditioning'],
            depth=config['unet.transformer_depth'],
            token=config['unet.vector_token'],
            classes=shapes.get((*_CLASSES, 'embedding'), (1,))[0] - 1,
        )

    def config(self, sizes: UNetSizes) -> dict[str, Any]:
        """See `Project.config`."""
        check_groups(self.title, [sizes.channels * multiplier for multiplier in (1, *sizes.multipliers)])
        of_classes = bool(self.names.classes)
        return {
            'task': 'diffusion',
            'model.backbone': 'unet',
            'model.class_conditional': of_classes,
            'model.fourier': (),
            'model.upscale': 1,
            'model.given': 0.0,
            'model.path': 'variance_preserving',
            'model.clock': 'steps',
            'model.learned_variance': sizes.outputs == 2 * sizes.inputs,
            **self.network,
            'conditioner.kind': None,
            **({} if self.BUILT_ON else {'latent.workdir': ''}),
            'unet.channels': sizes.channels,
            'unet.multipliers': sizes.multipliers,
            'unet.residual_blocks': sizes.residual_blocks,
            'unet.attention_resolutions': sizes.attention,
            'unet.time_conditioning': sizes.time_conditioning,
            'unet.transformer_depth': 0 if self.names.attention else max(sizes.depth, 1),
            'unet.vector_token': max(sizes.token, 1) if of_classes else 0,
            'unet.patch': 1,
        }

    def given(self, sizes: UNetSizes) -> dict[str, Any]:
        """See `Project.given`."""
        return {} if self.BUILT_ON else {'data.channels': sizes.inputs}

    def num_classes(self, sizes: UNetSizes, config: Mapping[str, Any]) -> int:
        """See `Project.num_classes`."""
        return sizes.classes

    def table(self, sizes: UNetSizes, config: Mapping[str, Any]) -> list[Row]:
        """See `Project.table`."""
        return _Table(self.names, sizes, _sines_first(sizes, config)).rows


def _place(level: int, order: int, block: int, blocks: int, layer: int = 1) -> dict[str, int]:
    """Where a block is, as `UNetNames` counts, of so many at each resolution."""
    number = order * (blocks + 1) + block
    at = {'level': level, 'order': order, 'block': block}
    return {**at, 'number': number, 'next': number + 1, 'layer': layer}


def _sines_first(sizes: UNetSizes, config: Mapping[str, Any]) -> np.ndarray | None:
    """Which numbers of theirs ours are that a time becomes, if they are others.

    Code that has the endpoint, as that of Ho et al. 2020, has sines before cosines, and all other, as ours,
    cosines before sines.
    """
    if not config['unet.sinusoid_endpoint']:
        return None
    return np.arange(sizes.channels).reshape(2, -1)[::-1].reshape(-1)


class _Table(Layers):
    """Rows in the order in which the data pass the layers."""

    def __init__(self, names: UNetNames, sizes: UNetSizes, times: np.ndarray | None) -> None:
        super().__init__()
        self._names, self._sizes = names, sizes
        n, s = names, sizes
        last = len(s.multipliers) - 1
        self.linear(n.time[0], f'{_TIME}.Dense_0', s.channels, 4 * s.channels, into=times)
        self.linear(n.time[1], f'{_TIME}.Dense_1', 4 * s.channels, 4 * s.channels)
        if n.classes:
            shape = (s.classes + 1, s.token)
            self.rows.append(Row(f'{n.classes}.weight', shape, (*_CLASSES, 'embedding'), (0, 1), shape))
        self.conv(n.conv_in, self.next('', 'Conv'), s.inputs, s.channels)
        width, passed = s.channels, [s.channels]
        for level in range(last + 1):
            for block in range(s.residual_blocks):
                at = _place(level, level, block, s.residual_blocks)
                width = self._block(n.down.format(**at), width, level)
                self._attention(n.down_attention.format(**at), level)
                passed.append(width)
            if level < last:
                at = _place(level, level, s.residual_blocks, s.residual_blocks)
                self.conv(n.downsample.format(**at), f'{self.next("", "Downsample")}.Conv_0', width, width)
                passed.append(width)
        first, attention, second = n.middle
        self._block(first, width, last)
        self._attention(attention)
        self._block(second, width, last)
        for level in reversed(range(last + 1)):
            layer = 2 if level in s.attention else 1
            for block in range(s.residual_blocks + 1):
                at = _place(level, last - level, block, s.residual_blocks, layer)
                width = self._block(n.up.format(**at), width + passed.pop(), level)
                self._attention(n.up_attention.format(**at), level)
            if level:
                self.conv(n.upsample.format(**at), self.next('', 'Upsample'), width, width)
        self.norm(n.out[0], self.next('', 'GroupNorm'), width)
        self.conv(n.out[1], self.next('', 'Conv'), width, s.outputs)

    def _block(self, theirs: str, width: int, level: int) -> int:
        """A block of a resolution; how many channels come out of it."""
        s, ours = self._sizes, self.next('', 'TimedBlock')
        out, norms, convs = s.channels * s.multipliers[level], (0, 3), (1, 4)
        for number, into in enumerate((width, out)):
            self.norm(f'{theirs}.{self._names.block[norms[number]]}', f'{ours}.GroupNorm_{number}', into)
            self.conv(f'{theirs}.{self._names.block[convs[number]]}', f'{ours}.Conv_{number}', into, out)
        times = 1 if s.time_conditioning == 'add' else 2
        self.linear(f'{theirs}.{self._names.block[2]}', f'{ours}.Dense_0', 4 * s.channels, times * out)
        if width != out:
            self.conv(f'{theirs}.{self._names.block[5]}', f'{ours}.Conv_2', width, out, size=1)
        return out

    def _attention(self, theirs: str, level: int | None = None) -> None:
        """The attention after a block of a resolution, if there is any; always in the middle."""
        s = self._sizes
        if level is not None and level not in s.attention:
            return
        width = s.channels * s.multipliers[-1 if level is None else level]
        if self._names.attention:
            self.attention(theirs, self.next('', 'Attention'), width, self._names.attention, linear=True)
        else:
            ours = self.next('', 'SpatialTransformer')
            self.transformer(theirs, ours, width, s.depth, 4 * width, s.token)
