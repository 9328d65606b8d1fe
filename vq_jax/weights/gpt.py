"""Transformers over codes in other projects: what each of their arrays is called there and here.

In all of them the first slot holds the class, and each later one the code before.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from vq_jax.errors import UserError
from vq_jax.weights.project import IMAGENET, Project, Row, Way

_IMAGENET = 1000  # classes, of which the embeddings of the first codes stand where classes have none


@dataclasses.dataclass(frozen=True)
class GPTSizes:
    """Sizes of a transformer, as far as its arrays say.

    Attributes:
        depth: blocks.
        width: of the vectors.
        mlp_width: between the connected layers.
        num_codes: codes.
        positions: that are learned, of all slots; 0 where none are.
        classes: that have embeddings of their own; 0 where those of codes stand for them.
    """

    depth: int
    width: int
    mlp_width: int
    num_codes: int
    positions: int
    classes: int


@dataclasses.dataclass(frozen=True)
class GPTNames:
    """What a project calls the layers.

    Attributes:
        codes: the embedding of codes.
        block: of all layers of block number `{block}`.
        norms: of the normalisations in a block, before attention and before the connected layers.
        qkv: of query, key and value; those of the same name are one array, one after another.
        attended: of the layer after attention.
        widen: of the first connected layer.
        narrow: of the last connected layer.
        norm: of the last normalisation.
        head: of the layer to logits.
        gate: of the connected layer whose swish the first is multiplied by, if there is one.
        classes: the embedding of classes, if they have one of their own.
        positions: the array of learned positions, if there are any.
        mask: of the array in a block that says what a slot sees, if there is one.
    """

    codes: str
    block: str
    norms: tuple[str, str]
    qkv: tuple[str, str, str]
    attended: str
    widen: str
    narrow: str
    norm: str
    head: str
    gate: str | None = None
    classes: str | None = None
    positions: str | None = None
    mask: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPTProject(Project):
    """A project whose transformers over codes can be read and written.

    Attributes:
        names: what it calls the layers.
        form: what of the section 'transformer' of our config is the same for all of its models.
        interleaved: rotary positions turn neighbouring numbers, and not those of the two halves of a head.
        TASK: see `Project`.
        BUILT_ON: see `Project`.
        UNSAID: see `Project`.
    """

    TASK: ClassVar[str] = 'prior'
    BUILT_ON: ClassVar[tuple[str, str] | None] = ('tokenizer', 'a prior of the codes of a tokenizer')
    UNSAID: ClassVar[tuple[str, ...]] = ('transformer.heads',)

    names: GPTNames
    form: Mapping[str, Any]
    interleaved: bool = False
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {**IMAGENET, 'data.channels': 3})

    def marks(self) -> tuple[str, ...]:
        """See `Project.marks`."""
        n = self.names
        return (f'{n.codes}.weight', f'{n.block.format(block=0)}.{n.attended}.weight', f'{n.head}.weight')

    def sizes(self, arrays: Mapping[str, np.ndarray]) -> GPTSizes:
        """See `Project.sizes`."""
        n, size = self.names, functools.partial(self.size, arrays)

        def widen(block: int) -> str:
            return f'{n.block.format(block=block)}.{n.widen}.weight'

        return GPTSizes(
            depth=next(block for block in itertools.count() if widen(block) not in arrays),
            width=size(f'{n.codes}.weight', 1, 2),
            mlp_width=size(widen(0), 0, 2),
            num_codes=size(f'{n.codes}.weight', 0, 2),
            positions=size(n.positions, 1, 3) if n.positions else 0,
            classes=size(f'{n.classes}.weight', 0, 2) - 1 if n.classes else 0,
        )

    def sizes_of(
        self, config: Mapping[str, Any], shapes: Mapping[Way, tuple[int, ...]], grid: tuple[int, ...]
    ) -> GPTSizes:
        """See `Project.sizes_of`."""

        def size(*way: str, axis: int = 0) -> int:
            return shapes.get(('params', *way), (1, 1))[axis]

        return GPTSizes(
            depth=config['transformer.depth'],
            width=config['transformer.width'],
            mlp_width=size('blocks_0', 'widen', 'kernel', axis=1),
            num_codes=size('token', 'embedding'),
            positions=size('position') - 1,
            classes=size('label', 'embedding') - 1 if self.names.classes else 0,
        )

    def config(self, sizes: GPTSizes) -> dict[str, Any]:
        """See `Project.config`."""
        return {
            'task': 'prior',
            'model.kind': 'transformer',
            'model.pattern': 'flattened',
            'model.scale': None,
            'model.given': 0.0,
            'conditioner.kind': None,
            'transformer.depth': sizes.depth,
            'transformer.width': sizes.width,
            'transformer.mlp_ratio': 4,
            'transformer.norm_first': True,
            'transformer.head': 'linear',
            **({'model.class_conditional': True} if self.names.classes else {}),
            **{f'transformer.{key}': value for key, value in self.form.items()},
        }

    def check_grid(self, sizes: GPTSizes, grid: tuple[int, ...]) -> None:
        """See `Project.check_grid`: codes are a square, of as many slots as there are positions."""
        if sizes.positions and math.prod(grid) != sizes.positions:
            raise UserError(
                f'a model of {self.title} with {sizes.positions:,} positions learns as many codes, and these '
                f'are {math.prod(grid):,}; give its size of images, by --override=data.image_size=N.'
            )
        if len(set(grid)) > 1:
            raise UserError(f'{self.title} learns squares of codes, and these are {grid}.')

    def num_classes(self, sizes: GPTSizes, config: Mapping[str, Any]) -> int:
        """See `Project.num_classes`."""
        if config['model.class_conditional'] and not sizes.classes and sizes.num_codes < _IMAGENET:
            raise UserError(
                f'in {self.title} codes stand for classes, and {sizes.num_codes} for no {_IMAGENET:,}; set '
                'model.class_conditional=False.'
            )
        return (sizes.classes or _IMAGENET) if config['model.class_conditional'] else 0

    def table(self, sizes: GPTSizes, config: Mapping[str, Any]) -> list[Row]:
        """See `Project.table`."""
        n, width = self.names, sizes.width
        rows = [_embedding(f'{n.codes}.weight', 'token', (sizes.num_codes, width))]
        if n.classes:
            rows.append(_embedding(f'{n.classes}.weight', 'label', (sizes.classes + 1, width)))
        else:
            rows.append(self._classes_of_codes(sizes, config))
        if n.positions:
            shape = (sizes.positions + 1, width)  # the last is of a slot that causal transformers do not have
            of_slots = (0, 0, sizes.positions)
            theirs = (1, sizes.positions, width)
            rows.append(Row(n.positions, theirs, ('params', 'position'), (0, 1, 2), shape, within=of_slots))
        for block in range(sizes.depth):
            rows += self._block(n.block.format(block=block), f'blocks_{block}', sizes, config)
        rows += self._norm(n.norm, 'norm', width)
        kernel = ('params', 'head', 'kernel')
        shape = (sizes.num_codes, width)
        return [*rows, Row(f'{n.head}.weight', shape, kernel, (1, 0), shape[::-1])]

    def beside(self, sizes: GPTSizes, config: Mapping[str, Any]) -> dict[Way, np.ndarray]:
        """See `Project.beside`: logits have no biases there."""
        none = np.zeros(sizes.num_codes, np.float32)
        return {('params', 'head', 'bias'): none} if config['transformer.biases'] else {}

    def constants(self, sizes: GPTSizes, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """See `Project.constants`: what slots see of each other."""
        n, blocks = self.names, range(sizes.depth)
        if n.mask is None:
            return {}
        mask = np.tri(sizes.positions, dtype=np.float32)[None, None]
        return {f'{n.block.format(block=block)}.{n.mask}': mask for block in blocks}

    def _classes_of_codes(self, sizes: GPTSizes, config: Mapping[str, Any]) -> Row:
        """The embeddings of the first codes, which stand for the classes; without classes that of code 0."""
        way, shape, codes = ('params', 'label', 'embedding'), (1, sizes.width), np.arange(1)
        within = None
        if config['model.class_conditional']:  # which here has one more for none, which is never learned
            shape, codes, within = (_IMAGENET + 1, sizes.width), np.arange(_IMAGENET), (0, 0, _IMAGENET)
        theirs = (sizes.num_codes, sizes.width)
        name = f'{self.names.codes}.weight'
        return Row(name, theirs, way, (0, 1), shape, orders={0: codes}, within=within, copied=True)

    def _block(self, theirs: str, ours: str, sizes: GPTSizes, config: Mapping[str, Any]) -> list[Row]:
        n, width, wide = self.names, sizes.width, sizes.mlp_width
        rows = self._norm(f'{theirs}.{n.norms[0]}', f'{ours}.before_attention', width)
        halves = np.arange(width).reshape(config['transformer.heads'], -1, 2).swapaxes(1, 2).reshape(-1)
        for number, name in enumerate(n.qkv):
            at = {'part': n.qkv[:number].count(name), 'parts': n.qkv.count(name)}
            at['within'] = (number * width, (number + 1) * width)
            if self.interleaved and number < 2:
                at['orders'] = {0: halves}
            rows += self._dense(f'{theirs}.{name}', f'{ours}.qkv', width, width, 3 * width, **at)
        rows += self._dense(f'{theirs}.{n.attended}', f'{ours}.attended', width, width)
        rows += self._norm(f'{theirs}.{n.norms[1]}', f'{ours}.before_mlp', width)
        rows += self._dense(f'{theirs}.{n.widen}', f'{ours}.widen', width, wide)
        if n.gate:
            rows += self._dense(f'{theirs}.{n.gate}', f'{ours}.gate', width, wide)
        return rows + self._dense(f'{theirs}.{n.narrow}', f'{ours}.narrow', wide, width)

    def _norm(self, theirs: str, ours: str, width: int) -> list[Row]:
        way = ('params', *ours.split('.'))
        rows = [Row(f'{theirs}.weight', (width,), (*way, 'scale'), (0,), (width,))]
        if self.form['norm'] == 'layer':
            rows.append(Row(f'{theirs}.bias', (width,), (*way, 'bias'), (0,), (width,)))
        return rows

    def _dense(
        self,
        theirs: str,
        ours: str,
        width: int,
        out: int,
        of: int | None = None,
        within: tuple[int, int] | None = None,
        parts: int = 1,
        **at: Any,
    ) -> list[Row]:
        """A linear layer of theirs, which may be within one of ours with more outputs."""
        way, shape, whole = ('params', *ours.split('.')), (parts * out, width), of or out
        columns, numbers = (within and (axis, *within) for axis in (1, 0))
        kernel = {**at, 'parts': parts, 'within': columns}
        rows = [Row(f'{theirs}.weight', shape, (*way, 'kernel'), (1, 0), (width, whole), **kernel)]
        if self.form['biases']:
            bias = {**at, 'parts': parts, 'within': numbers}
            rows.append(Row(f'{theirs}.bias', shape[:1], (*way, 'bias'), (0,), (whole,), **bias))
        return rows


def _embedding(theirs: str, ours: str, shape: tuple[int, int]) -> Row:
    return Row(theirs, shape, ('params', ours, 'embedding'), (0, 1), shape)
