"""The layers that networks of images are made of: rows of a table, in the order in which data pass them."""

from collections.abc import Iterable

import numpy as np

from vq_jax.errors import UserError
from vq_jax.weights.project import Folded, Row

GROUPS = 32  # of group normalisation, in all of these projects


def check_groups(title: str, widths: Iterable[int]) -> None:
    """Raises `UserError` unless layers of such numbers of channels are normalised in the same groups here."""
    if any(width < 4 * GROUPS or width % GROUPS for width in widths):
        raise UserError(
            f'{title} normalises {GROUPS} groups of channels, and vq_jax no group of fewer than 4 channels: '
            f'layers have {sorted(set(widths))}, and must have {4 * GROUPS} or more, a multiple of {GROUPS}.'
        )


class Layers:
    """Rows of the arrays of layers, of which the names there and the ways here are given, with dots.

    A layer there is a weight and a bias. Ways here are those below the parameters of a model.

    Attributes:
        rows: so far.
    """

    def __init__(self) -> None:
        self.rows: list[Row | Folded] = []
        self._numbers: dict[str, int] = {}

    def next(self, ours: str, kind: str) -> str:
        """The way to the next layer of a kind in a module, by the name that Flax gives it."""
        within = f'{ours}.{kind}' if ours else kind
        number = self._numbers.setdefault(within, 0)
        self._numbers[within] += 1
        return f'{within}_{number}'

    def attention(
        self, theirs: str, ours: str, width: int, names: tuple[str, str, str, str, str], linear: bool
    ) -> None:
        """Self-attention of one projection each.

        Of the normalisation, query, key, value and output, names there are given; those of the same name are
        one array, one after another. If they are linear they are matrices, and else kernels of convolutions.
        """
        norm, *others = names
        self.norm(f'{theirs}.{norm}', f'{ours}.GroupNorm_0', width)
        for number, name in enumerate(('query', 'key', 'value', 'output')):
            other = others[number]
            part, parts = others[:number].count(other), others.count(other)
            kernel, shape = (1, 1, width, width), (parts * width, width)
            matrix = (shape, (1, 0)) if linear else ((*shape, 1, 1), (2, 3, 1, 0))
            self._layer(f'{theirs}.{other}', f'{ours}.{name}', *matrix, kernel, part=part, parts=parts)

    def conv(self, theirs: str, ours: str, width: int, out: int, size: int = 3) -> None:
        """A convolution."""
        self._layer(theirs, ours, (out, width, size, size), (2, 3, 1, 0), (size, size, width, out))

    def pointwise(self, theirs: str, ours: str, width: int, out: int) -> None:
        """A convolution of size 1 there, which is a matrix here."""
        self._layer(theirs, ours, (out, width, 1, 1), (2, 3, 1, 0), (width, out))

    def linear(
        self,
        theirs: str,
        ours: str,
        width: int,
        out: int,
        into: np.ndarray | None = None,
        biases: bool = True,
    ) -> None:
        """A matrix, and which of the numbers that go into it there ours are, if the order is another."""
        self._layer(theirs, ours, (out, width), (1, 0), (width, out), into=into, biases=biases)

    def transformer(self, theirs: str, ours: str, width: int, depth: int, mlp_width: int, token: int) -> None:
        """A spatial transformer, whose blocks attend to themselves and to tokens of a width."""
        self.norm(f'{theirs}.norm', f'{ours}.GroupNorm_0', width)
        self.conv(f'{theirs}.proj_in', f'{ours}.input', width, width, size=1)
        for number in range(depth):
            block, way = f'{theirs}.transformer_blocks.{number}', f'{ours}.TransformerBlock_{number}'
            for i, (name, known) in enumerate((('self_attention', width), ('cross_attention', token)), 1):
                self.norm(f'{block}.norm{i}', f'{way}.{name}.norm', width)
                for layer, of, into in (('q', 'query', width), ('k', 'key', known), ('v', 'value', known)):
                    self.linear(
                        f'{block}.attn{i}.to_{layer}', f'{way}.{name}.{of}', into, width, biases=False
                    )
                self.linear(f'{block}.attn{i}.to_out.0', f'{way}.{name}.output', width, width)
            self.norm(f'{block}.norm3', f'{way}.LayerNorm_0', width)
            both, shape = (2 * mlp_width, width), (width, mlp_width)
            for part, name in enumerate(('widen', 'gate')):
                theirs_of_both = f'{block}.ff.net.0.proj'
                self._layer(theirs_of_both, f'{way}.{name}', both, (1, 0), shape, part=part, parts=2)
            self.linear(f'{block}.ff.net.2', f'{way}.narrow', mlp_width, width)
        self.conv(f'{theirs}.proj_out', f'{ours}.output', width, width, size=1)

    def norm(self, theirs: str, ours: str, width: int) -> None:
        """A normalisation."""
        self._layer(theirs, ours, (width,), (0,), (width,), name='scale')

    def _layer(
        self,
        theirs: str,
        ours: str,
        shape: tuple[int, ...],
        axes: tuple[int, ...],
        ours_shape: tuple[int, ...],
        name: str = 'kernel',
        into: np.ndarray | None = None,
        biases: bool = True,
        part: int = 0,
        parts: int = 1,
    ) -> None:
        """Weight and bias, the latter of which is as long as the first axis of the former there."""
        way = ('params', *ours.split('.'))
        orders = {} if into is None else {1: into}
        weight = Row(f'{theirs}.weight', shape, (*way, name), axes, ours_shape, part, parts, orders)
        self.rows.append(weight)
        if biases:
            size = (shape[0] // parts,)
            self.rows.append(Row(f'{theirs}.bias', shape[:1], (*way, 'bias'), (0,), size, part, parts))
