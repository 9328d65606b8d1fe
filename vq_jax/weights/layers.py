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
            way = ('params', *ours.split('.'), name)
            self.rows += [
                Row(f'{theirs}.{other}.weight', matrix[0], (*way, 'kernel'), matrix[1], kernel, part, parts),
                Row(f'{theirs}.{other}.bias', shape[:1], (*way, 'bias'), (0,), (width,), part, parts),
            ]

    def conv(self, theirs: str, ours: str, width: int, out: int, size: int = 3) -> None:
        """A convolution."""
        self._layer(theirs, ours, (out, width, size, size), (2, 3, 1, 0), (size, size, width, out))

    def pointwise(self, theirs: str, ours: str, width: int, out: int) -> None:
        """A convolution of size 1 there, which is a matrix here."""
        self._layer(theirs, ours, (out, width, 1, 1), (2, 3, 1, 0), (width, out))

    def linear(self, theirs: str, ours: str, width: int, out: int, into: np.ndarray | None = None) -> None:
        """A matrix, and which of the numbers that go into it there ours are, if the order is another."""
        self._layer(theirs, ours, (out, width), (1, 0), (width, out), into=into)

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
    ) -> None:
        """Weight and bias, the latter of which is as long as the first axis of the former there."""
        way = ('params', *ours.split('.'))
        orders = {} if into is None else {1: into}
        self.rows += [
            Row(f'{theirs}.weight', shape, (*way, name), axes, ours_shape, orders=orders),
            Row(f'{theirs}.bias', shape[:1], (*way, 'bias'), (0,), shape[:1]),
        ]
