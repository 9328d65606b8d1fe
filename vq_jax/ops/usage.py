"""How codes are used: entropy, perplexity, and the share of a vocabulary, from the codes that are there.

Nothing here has the size of the vocabulary, so that there is no limit to it.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.ops.quantization import entropy


def usage(codes: jax.Array, vocabulary: int) -> dict[str, jax.Array]:
    """How codes, int32 of any shape, of a vocabulary of so many are used, on the devices.

    Returns:
        'perplexity', its logarithm 'code_entropy_bits', and 'codebook_usage', the share of the vocabulary
        that occurs: float32 scalars.
    """
    flat = jnp.sort(codes.reshape(-1))
    first = jnp.concatenate([jnp.ones(1, bool), flat[1:] != flat[:-1]])
    counts = jnp.zeros(len(flat), jnp.int32).at[jnp.cumsum(first) - 1].add(1)
    nats = entropy(counts / len(flat))
    return _named(jnp.exp(nats), nats, jnp.sum(first) / float(vocabulary))


@dataclasses.dataclass(frozen=True)
class CodeCounts:
    """How often each code occurred that did, on the host.

    Attributes:
        codes: those that occurred, in order, int64 [n].
        counts: how often each did, int64 [n].
    """

    codes: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray) -> 'CodeCounts':
        """The counts of codes, int of any shape."""
        return cls(*np.unique(np.asarray(codes, np.int64), return_counts=True))

    def __add__(self, other: 'CodeCounts') -> 'CodeCounts':
        """The counts of both."""
        codes, where = np.unique(np.concatenate([self.codes, other.codes]), return_inverse=True)
        counts = np.zeros(len(codes), np.int64)
        np.add.at(counts, where, np.concatenate([self.counts, other.counts]))
        return CodeCounts(codes, counts)

    @property
    def shares(self) -> np.ndarray:
        """The share of all codes that each is, float64 [n], the largest first."""
        return np.sort(self.counts)[::-1] / max(1, self.counts.sum())

    @property
    def by_use(self) -> dict[int, float]:
        """The share of all codes that each is, the largest first."""
        order = np.argsort(-self.counts, kind='stable')
        shares = self.counts / max(1, self.counts.sum())
        return dict(zip(self.codes[order].tolist(), shares[order].tolist(), strict=True))

    def usage(self, vocabulary: int) -> dict[str, float]:
        """See `usage`, in float64; and 'dead_codes', how many of the vocabulary do not occur."""
        shares = self.shares
        nats = -float(np.sum(shares * np.log(shares)))
        named = _named(math.exp(nats), nats, len(shares) / vocabulary)
        return {**named, 'dead_codes': vocabulary - len(shares)}


def _named(perplexity, nats, share):  # noqa: ANN001, ANN202
    return {'perplexity': perplexity, 'code_entropy_bits': nats / math.log(2), 'codebook_usage': share}
