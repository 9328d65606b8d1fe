"""Product quantization: each of several groups of a vector's numbers has a quantizer of its own."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least
from vq_jax.ops.parts import Part
from vq_jax.quantizers.quantizer import (
    Quantized,
    Quantizer,
    StartsFromData,
    after_update,
    check_width,
    decodable,
    unquantized,
)


class GroupedQuantizer(nn.Module):
    """The product quantizer of Jégou et al. 2011 (Product quantization for nearest neighbor search).

    A vector is split into groups of numbers that follow each other, and each group is quantized by itself:
    `g` codes of `k` stand for `k^g` vectors. With residual quantizers it is the group-residual quantization
    of HiFi-Codec (Yang et al. 2023, arXiv:2305.02765).

    A position has as many codes as all groups together: the first of each group, then the second of each, so
    that what comes first is what residual quantizers make of their first depths.

    Attributes:
        quantizer: what each group is given to, of any kind; each has parameters and a codebook of its own.
        groups: how many there are.
    """

    quantizer: Quantizer
    groups: int = 2

    def __post_init__(self) -> None:
        check_least(1, self, 'groups')
        super().__post_init__()

    def setup(self) -> None:  # noqa: D102 (Flax's)
        self.members = [self.quantizer.clone(parent=None, name=None) for _ in range(self.groups)]

    def __call__(
        self, z: jax.Array, train: bool = False, part: Part | None = None, step: jax.Array | None = None
    ) -> Quantized:
        """Quantizes vectors [b ... dim]; the arguments are those of `Quantizer`.

        Loss and metrics are means over the groups.
        """
        check_width(z, self.dim)
        split = zip(self.members, self._split(z), strict=True)
        found = [member(x, train=train, part=part, step=step) for member, x in split]
        return Quantized(
            values=jnp.concatenate([one.values for one in found], axis=-1),
            codes=_in_turn([one.codes for one in found]),
            loss=sum(one.loss for one in found) / self.groups,
            metrics=jax.tree.map(lambda *x: sum(x) / self.groups, *[one.metrics for one in found]),
        )

    @property
    def dim(self) -> int:
        """Width of the vectors that come in and go out."""
        return self.groups * self.quantizer.dim

    @property
    def vocabulary(self) -> tuple[int, ...]:
        """See `Quantizer`."""
        return tuple(k for k in self.quantizer.vocabulary for _ in range(self.groups))

    @property
    def decodable(self) -> tuple[int, ...]:
        """See `DecodesFewer`: equally many codes of each group."""
        return tuple(n * self.groups for n in decodable(self._member))

    @property
    def init_batches(self) -> int:
        """See `StartsFromData`."""
        member = self._member
        return member.init_batches if isinstance(member, StartsFromData) else 0

    def init_from_data(self, key: jax.Array, z: jax.Array) -> None:
        """Lets each group begin where its part of the vectors [n dim] is."""
        keys = jax.random.split(key, self.groups)
        for member, key, x in zip(self.members, keys, self._split(z), strict=True):
            member.init_from_data(key, x)

    def lookup(self, codes: jax.Array) -> jax.Array:
        """The vectors [... dim] that stand for codes, int32 [... n], equally many of each group.

        Raises:
            UserError: if n is no multiple of the number of groups.
        """
        n = codes.shape[-1]
        if n % self.groups:
            raise UserError(
                f'there are {n} codes at a position and {self.groups} groups; give equally many of each.'
            )
        codes = codes.reshape(*codes.shape[:-1], n // self.groups, self.groups)
        vectors = [member.lookup(codes[..., i]) for i, member in enumerate(self.members)]
        return jnp.concatenate(vectors, axis=-1)

    def project(self, z: jax.Array) -> jax.Array:
        """What the groups compare, side by side, [... groups*code_dim] of vectors [... dim]."""
        check_width(z, self.dim)
        split = zip(self.members, self._split(z), strict=True)
        return jnp.concatenate([member.project(x) for member, x in split], axis=-1)

    def nearest(self, vectors: jax.Array) -> jax.Array:
        """The codes, int32 [... groups*depth], nearest to vectors as `project` gives them."""
        split = zip(self.members, self._split(vectors), strict=True)
        return _in_turn([member.nearest(x) for member, x in split])

    def unquantized(self, z: jax.Array) -> jax.Array | None:
        """See `PassesUnquantized`."""
        split = zip(self.members, self._split(z), strict=True)
        found = [unquantized(member, x) for member, x in split]
        return None if any(x is None for x in found) else jnp.concatenate(found, axis=-1)

    def after_update(self) -> dict[str, jax.Array]:
        """See `LearnsWithoutGradients`; numbers are sums over the groups."""
        metrics = [after_update(member) for member in self.members]
        return jax.tree.map(lambda *x: sum(x), *metrics)

    @property
    def _member(self) -> Quantizer:
        """One bound to nothing: a bound one that is asked for what it has not begins to set itself up."""
        return self.quantizer.clone(parent=None, name=None)

    def _split(self, z: jax.Array) -> list[jax.Array]:
        return jnp.split(z, self.groups, axis=-1)


def _in_turn(codes: list[jax.Array]) -> jax.Array:
    """Codes of groups, int32 [... depth] each, as int32 [... depth*groups]: the first of each, and so on."""
    return jnp.stack(codes, axis=-1).reshape(*codes[0].shape[:-1], -1)
