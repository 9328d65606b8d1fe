"""Diffusion transformers on latents: DiT (Peebles and Xie 2023), and SiT (Ma et al. 2024).

arXiv:2212.09748 and arXiv:2401.08740. The networks are the same, but DiT is told the number of a step of
noise, and SiT a time from noise to data, so that its velocity is minus ours. In their fixed positional
embeddings other channels than in ours are of rows, of columns, sines and cosines. Only linear layers know
which channel is which, so that channels change places in their kernels.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from vq_jax.errors import UserError
from vq_jax.weights.project import IMAGENET, Project, Published, Row, Way

_FREQUENCIES = 256  # numbers that a time becomes
_LATENT_SCALE = 0.18215  # what both multiply the latents of Stable Diffusion's autoencoders by


@dataclasses.dataclass(frozen=True)
class DiTSizes:
    """Sizes of a network, as far as its arrays say.

    Attributes:
        depth: blocks.
        width: of the vectors.
        mlp_width: between the connected layers.
        patch: of latents, on each axis.
        latent: channels of latents.
        outputs: channels that come out.
        positions: tokens of an example; 0 where no array says.
        classes: that there are embeddings of, beside the one for none.
    """

    depth: int
    width: int
    mlp_width: int
    patch: int
    latent: int
    outputs: int
    positions: int
    classes: int


@dataclasses.dataclass(frozen=True)
class DiTNames:
    """What a project calls the layers; those of a block have its number, `{block}`, in their names.

    Attributes:
        patches: the convolution of patches.
        time: the two linear layers of the time; with `{block}`, each block has them again.
        classes: the table of classes, likewise.
        changes: of a block, what shifts, scales and gates it.
        qkv: queries, keys and values, one layer or three.
        attended: what follows attention.
        widen: the first of the connected layers.
        narrow: the second.
        last: what shifts and scales the last layer, and that.
        positions: the positional embeddings; empty where no file has them.
    """

    patches: str = 'x_embedder.proj'
    time: tuple[str, str] = ('t_embedder.mlp.0', 't_embedder.mlp.2')
    classes: str = 'y_embedder.embedding_table'
    changes: str = 'blocks.{block}.adaLN_modulation.1'
    qkv: tuple[str, ...] = ('blocks.{block}.attn.qkv',)
    attended: str = 'blocks.{block}.attn.proj'
    widen: str = 'blocks.{block}.mlp.fc1'
    narrow: str = 'blocks.{block}.mlp.fc2'
    last: tuple[str, str] = ('final_layer.adaLN_modulation.1', 'final_layer.linear')
    positions: str = 'pos_embed'


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiTProject(Project):
    """A project whose diffusion transformers can be read and written.

    Attributes:
        names: what it calls the layers.
        process: what of the section 'model' of our config is the same for all of its models.
        learned_variance: of what comes out, twice as wide as latents, the other half is of the variance; else
            that is never used.
        sign: of what it predicts, beside ours.
        TASK: see `Project`.
        BUILT_ON: see `Project`.
        UNSAID: see `Project`.
    """

    TASK: ClassVar[str] = 'diffusion'
    BUILT_ON: ClassVar[tuple[str, str] | None] = ('latent', 'a model of the latents of an autoencoder')
    UNSAID: ClassVar[tuple[str, ...]] = ('dit.heads',)
    names: DiTNames = DiTNames()
    process: Mapping[str, Any]
    learned_variance: bool = False
    sign: int = 1

    def marks(self) -> tuple[str, ...]:
        """See `Project.marks`."""
        n = self.names
        return tuple(f'{name}.weight'.format(block=0) for name in (n.changes, n.patches, n.classes))

    def sizes(self, arrays: Mapping[str, np.ndarray]) -> DiTSizes:
        """See `Project.sizes`."""
        size, n = functools.partial(self.size, arrays), self.names

        def of(name: str, block: int = 0) -> str:
            return f'{name}.weight'.format(block=block)

        patch = size(of(n.patches), 2, 4)
        return DiTSizes(
            depth=next(i for i in itertools.count() if of(n.widen, i) not in arrays),
            width=size(of(n.patches), 0, 4),
            mlp_width=size(of(n.widen), 0, 2),
            patch=patch,
            latent=size(of(n.patches), 1, 4),
            outputs=size(of(n.last[1]), 0, 2) // max(1, patch**2),
            positions=size(n.positions, 1, 3) if n.positions else 0,
            classes=size(of(n.classes), 0, 2) - 1,
        )

    def sizes_of(
        self, config: Mapping[str, Any], shapes: Mapping[Way, tuple[int, ...]], grid: tuple[int, ...]
    ) -> DiTSizes:
        """See `Project.sizes_of`."""
        latent = shapes.get(('latent', 'mean'), (1,))[0]
        patch = config['dit.patch']
        return DiTSizes(
            depth=config['dit.depth'],
            width=config['dit.width'],
            mlp_width=config['dit.mlp_ratio'] * config['dit.width'],
            patch=patch,
            latent=latent,
            outputs=2 * latent,
            positions=math.prod(grid) // patch ** len(grid),
            classes=shapes.get(('params', 'Conditioning_0', 'Embed_0', 'embedding'), (1,))[0] - 1,
        )

    def config(self, sizes: DiTSizes) -> dict[str, Any]:
        """See `Project.config`."""
        return {
            'task': 'diffusion',
            'model.backbone': 'dit',
            'model.class_conditional': True,
            'model.fourier': (),
            'model.upscale': 1,
            'model.given': 0.0,
            'model.shift': 1.0,
            'model.learned_variance': self.learned_variance,
            **{f'model.{key}': value for key, value in self.process.items()},
            'conditioner.kind': None,
            'dit.patch': sizes.patch,
            'dit.depth': sizes.depth,
            'dit.width': sizes.width,
            'dit.mlp_ratio': sizes.mlp_width // sizes.width,
        }

    def check_grid(self, sizes: DiTSizes, grid: tuple[int, ...]) -> None:
        """See `Project.check_grid`."""
        side = math.isqrt(sizes.positions) * sizes.patch
        if sizes.positions and grid != (side, side):
            raise UserError(
                f'this model of {self.title} learns latents of {side}x{side}, and these are '
                f'{"x".join(map(str, grid))}; give its size of images, by --override=data.image_size=N.'
            )

    def num_classes(self, sizes: DiTSizes, config: Mapping[str, Any]) -> int:
        """See `Project.num_classes`."""
        return sizes.classes

    def table(self, sizes: DiTSizes, config: Mapping[str, Any]) -> list[Row]:
        """See `Project.table`."""
        n, width, wide, time = self.names, sizes.width, sizes.mlp_width, 'Conditioning_0'
        patch, outputs = (sizes.patch, sizes.patch), self._outputs(sizes)
        order = _channels(width)
        shape = (width, sizes.latent, *patch)
        kernel = ('params', 'Dense_0', 'kernel')
        table = ('params', time, 'Embed_0', 'embedding')
        classes = (sizes.classes + 1, width)
        rows = [
            Row(
                f'{n.patches}.weight',
                shape,
                kernel,
                (2, 3, 1, 0),
                (math.prod(shape[1:]), width),
                orders={0: order},
            ),
            Row(
                f'{n.patches}.bias',
                (width,),
                ('params', 'Dense_0', 'bias'),
                (0,),
                (width,),
                orders={0: order},
            ),
        ]
        for block in range(sizes.depth if '{block}' in n.classes else 1):
            first, second, name = (part.format(block=block) for part in (*n.time, n.classes))
            rows += _dense(first, f'{time}.Dense_0', (width, _FREQUENCIES))
            rows += _dense(second, f'{time}.Dense_1', (width, width))
            rows.append(Row(f'{name}.weight', classes, table, (0, 1), classes))
        for block in range(sizes.depth):
            changes, attended, widen, narrow = (
                name.format(block=block) for name in (n.changes, n.attended, n.widen, n.narrow)
            )
            ours, parts = f'DiTBlock_{block}', len(n.qkv)
            rows += _dense(changes, f'{ours}.Dense_0', (6 * width, width), out=_each(order, 6))
            for part, name in enumerate(n.qkv):
                qkv, way = (3 * width // parts, width), f'{ours}.Dense_1'
                rows += _dense(name.format(block=block), way, qkv, into=order, part=part, parts=parts)
            rows += _dense(attended, f'{ours}.Dense_2', (width, width), out=order)
            rows += _dense(widen, f'{ours}.Dense_3', (wide, width), into=order)
            rows += _dense(narrow, f'{ours}.Dense_4', (width, wide), out=order)
        rows += _dense(n.last[0], 'Dense_1', (2 * width, width), out=_each(order, 2))
        out = (math.prod(patch) * sizes.outputs, width)
        return rows + _dense(n.last[1], 'Dense_2', out, out=outputs, into=order, sign=self.sign)

    def beside(self, sizes: DiTSizes, config: Mapping[str, Any]) -> dict[Way, np.ndarray]:
        """See `Project.beside`."""
        c = sizes.latent
        scale = np.full(c, 1 / _LATENT_SCALE, np.float32)
        return {('latent', 'mean'): np.zeros(c, np.float32), ('latent', 'scale'): scale}

    def constants(self, sizes: DiTSizes, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """See `Project.constants`: the positional embeddings."""
        if not self.names.positions:
            return {}
        side, quarter = math.isqrt(sizes.positions), sizes.width // 4
        rows, columns = np.indices((side, side)).reshape(2, -1, 1)
        speeds = 1 / 10_000 ** (np.arange(quarter) / quarter)
        waves = (wave(at * speeds) for at in (columns, rows) for wave in (np.sin, np.cos))
        return {self.names.positions: np.concatenate(list(waves), axis=1)[None].astype(np.float32)}

    def _outputs(self, sizes: DiTSizes) -> np.ndarray:
        """Which numbers that come out of the last layer are ours: of each position of a patch, the first."""
        used = (2 if self.learned_variance else 1) * sizes.latent
        return np.arange(sizes.patch**2 * sizes.outputs).reshape(-1, sizes.outputs)[:, :used].reshape(-1)


def _channels(width: int) -> np.ndarray:
    """Which channels of theirs ours are.

    Theirs are sines and cosines of the column and then of the row, ours cosines and sines of the row and
    then of the column.
    """
    return np.arange(width).reshape(4, -1)[::-1].reshape(-1)


def _each(order: np.ndarray, n: int) -> np.ndarray:
    """The same order of n vectors, one after another."""
    return (np.arange(n)[:, None] * len(order) + order).reshape(-1)


def _dense(
    theirs: str,
    ours: str,
    shape: tuple[int, int],
    out: np.ndarray | None = None,
    into: np.ndarray | None = None,
    sign: int = 1,
    part: int = 0,
    parts: int = 1,
) -> list[Row]:
    """A linear layer of theirs, and which of what comes out of it and goes into it is ours, if not all is.

    It may be one of equal parts of one of ours with more outputs.
    """
    way = ('params', *ours.split('.'))
    orders = {axis: order for axis, order in enumerate((out, into)) if order is not None}
    of_bias = {0: out} if out is not None else {}
    features, width = shape if out is None else (len(out), shape[1])
    columns, numbers = (
        (axis, part * features, (part + 1) * features) if parts > 1 else None for axis in (1, 0)
    )
    whole, kernel, bias = parts * features, (*way, 'kernel'), (*way, 'bias')
    at, of_bias = {'orders': orders, 'sign': sign}, {'orders': of_bias, 'sign': sign}
    return [
        Row(f'{theirs}.weight', shape, kernel, (1, 0), (width, whole), **at, within=columns),
        Row(f'{theirs}.bias', shape[:1], bias, (0,), (whole,), **of_bias, within=numbers),
    ]


_DIT = {
    'schedule': 'linear',
    'path': 'variance_preserving',
    'timesteps': 1000,
    'prediction': 'noise',
    'clock': 'steps',
}
_SIT = {
    'schedule': 'straight',
    'path': 'straight',
    'timesteps': 0,
    'prediction': 'velocity',
    'clock': 'from_noise',
}


# As their papers train and sample, and what stands in the place of their samplers.
_DEFAULTS = {
    **IMAGENET,
    'data.channels': 3,
    'data.flip': True,
    'model.label_dropout': 0.1,
    'batch_size': 256,
    'optimizer.learning_rate': 1e-4,
    'optimizer.ema_decay': 0.9999,
    'sampling.steps': 250,
    'sampling.grid': 'uniform',
    'sampling.guidance': 1.5,
}


def _published(name: str, positions: int, pixels: int, fid: str) -> Published:
    sizes = {'depth': 28, 'width': 1152, 'patch': 2, 'positions': positions}
    facts = {f'FID on ImageNet, {pixels} pixels, guidance 1.5': fid}
    return Published(f'{name}-XL/2', sizes, {'dit.heads': 16, 'data.image_size': pixels}, facts)


def _standard(name: str) -> tuple[Published, ...]:
    """The sizes of the papers, table 1 of both, of which no results are known here."""
    return tuple(
        Published(f'{name}-{letter}', {'depth': depth, 'width': width}, {'dit.heads': heads}, {})
        for letter, depth, width, heads in (
            ('S', 12, 384, 6),
            ('B', 12, 768, 12),
            ('L', 24, 1024, 16),
            ('XL', 28, 1152, 16),
        )
    )


DIT = DiTProject(
    name='dit',
    title='DiT',
    source='https://github.com/facebookresearch/DiT',
    licence='CC BY-NC 4.0',
    roots=('ema.', 'model.', ''),
    process=_DIT,
    defaults={**_DEFAULTS, 'sampling.sampler': 'ddpm'},
    learned_variance=True,
    published=(
        _published('DiT', 256, 256, '2.27'),
        _published('DiT', 1024, 512, '3.04'),
        *_standard('DiT'),
    ),
)
SIT = DiTProject(
    name='sit',
    title='SiT',
    source='https://github.com/willisma/SiT',
    licence='MIT',
    roots=('ema.', 'model.', ''),
    process=_SIT,
    defaults={**_DEFAULTS, 'sampling.sampler': 'euler'},
    sign=-1,
    published=(_published('SiT', 256, 256, '2.06'), *_standard('SiT')),
)
