"""VQ: the quantizer with a codebook."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax.errors import UserError, check_least, check_share
from vq_jax.ops import quantization
from vq_jax.ops.kmeans import kmeans
from vq_jax.ops.nearest import nearest_code
from vq_jax.ops.parts import Part
from vq_jax.ops.rows import dot_by_rows
from vq_jax.quantizers.quantizer import (
    BATCH_MEANS,
    REVIVALS,
    STATISTICS,
    Quantized,
    check_estimator,
    check_width,
)


class VectorQuantizer(nn.Module):
    """The quantizer of van den Oord et al. 2017 (arXiv:1711.00937).

    A vector z has the nearest code e. The loss is `||sg(z) - e||^2 + commitment ||z - sg(e)||^2` (their
    equation 3) where the codebook learns by gradient. Where it learns by moving averages (their appendix
    A.1), it is the second term alone, and the codebook lives in the mutable collection 'codebook'.

    Attributes:
        num_codes: the number of codes, k.
        dim: width of the vectors that come in and go out.
        code_dim: width of the space in which codes are compared, reached by a linear map from the
            input and left by another (Yu et al. 2021, arXiv:2110.04627, section 3.2); None compares
            in the input's own space, of width `dim`.
        learning: how the codebook learns.
        cosine: compare directions: inputs and codes are brought to unit length (ibid.).
        unit_length: with `cosine`, whether vectors and codes are kept at unit length; if not, they are
            brought to it for the search alone, and values, losses and codebook keep their lengths, as in DAC
            (Kumar et al. 2023, arXiv:2306.06546).
        commitment: weight of the commitment loss, beta in equation 3.
        decay: of the moving averages of code use, and of the codebook if it learns by them.
        codebook_init: 'kmeans' begins with the centres of the first batches' vectors (see `init_from_data`);
            'random' with vectors from a uniform distribution over [-1/k, 1/k].
        kmeans_batches: how many batches k-means is given.
        revive_below: a code used less than this share of an even share, 1/k, is dead, and is moved
            onto a vector of the current batch. 0 never revives.
        estimator: how gradients pass through the choice of a code: 'straight_through' passes them on as they
            are (Bengio et al. 2013, arXiv:1308.3432), 'rotation' turns them with the vector (Fifty et al.
            2024, arXiv:2410.06424).
        orthogonality: weight of the mean squared cosine between different codes (Shin et al. 2021,
            arXiv:2112.00384, equation 2); of a codebook that learns by gradient.
    """

    num_codes: int = 512
    dim: int = 64
    code_dim: int | None = None
    learning: Literal['gradient', 'moving_average'] = 'moving_average'
    cosine: bool = False
    commitment: float = 0.25
    decay: float = 0.99
    codebook_init: Literal['kmeans', 'random'] = 'kmeans'
    kmeans_batches: int = 4
    revive_below: float = 0.1
    estimator: quantization.Estimator = 'straight_through'
    orthogonality: float = 0.0
    unit_length: bool = True

    def __post_init__(self) -> None:
        check_least(1, self, 'num_codes', 'dim', 'code_dim', 'kmeans_batches')
        if self.learning not in ('gradient', 'moving_average'):
            raise UserError(f"learning is {self.learning!r}; give 'gradient' or 'moving_average'.")
        check_estimator(self.estimator)
        check_least(0, self, 'commitment', 'orthogonality')
        if self.orthogonality and self.learning != 'gradient':
            raise UserError(
                f'orthogonality is {self.orthogonality}, and a codebook of moving averages has no gradient; '
                'set it to 0, or learning=gradient.'
            )
        if not (self.unit_length or self.cosine):
            raise UserError('unit_length is False, and nothing but cosine makes it so; set cosine=True.')
        check_share(self, 'decay', one=False)
        check_share(self, 'revive_below')
        super().__post_init__()

    def setup(self) -> None:  # noqa: D102 (Flax's)
        k, d = self.num_codes, self.dim if self.code_dim is None else self.code_dim
        if self.code_dim is not None:
            self.project_in = nn.Dense(d, dot_general=dot_by_rows)
            self.project_out = nn.Dense(self.dim, dot_general=dot_by_rows)

        def first_codes(key: jax.Array) -> jax.Array:
            codes = jax.random.uniform(key, (k, d), jnp.float32, -1 / k, 1 / k)
            return self._scaled(codes)

        if self.learning == 'gradient':
            self.param('codebook', first_codes)
        else:
            self.moving_codebook = self.variable(
                STATISTICS, 'codebook', lambda: first_codes(self.make_rng('params'))
            )
            # The running sum of the vectors of each code; with `shares` below, m and N of the paper.
            self.sums = self.variable(STATISTICS, 'sums', lambda: self.moving_codebook.value / k)
        self.shares = self.variable(STATISTICS, 'shares', lambda: jnp.full(k, 1 / k, jnp.float32))

    def __call__(
        self, z: jax.Array, train: bool = False, part: Part | None = None, step: jax.Array | None = None
    ) -> Quantized:
        """Quantizes vectors [b ... dim]; the arguments are those of `Quantizer`.

        In training the collection 'batch_means' must be mutable: what `after_update` learns from is left
        there. Dead codes are revived with the random stream 'codebook', whose key must be equal in all parts
        of a batch.
        """
        quantized, compared = self.quantize(z)
        if train and not self.is_initializing():
            self.observe(compared, quantized.codes, part)
        return quantized

    def quantize(self, z: jax.Array) -> tuple[Quantized, jax.Array]:
        """What a call returns for vectors [b ... dim], and they as they were compared [b ... code_dim]."""
        z = self.project(z)
        codes = self.nearest(z)
        e = self.vectors()[codes[..., 0]]

        commitment = quantization.commitment_loss(z, e)
        loss = self.commitment * commitment
        metrics = {'commitment_loss': jnp.mean(commitment)}
        if self.learning == 'gradient':
            codebook_loss = quantization.codebook_loss(z, e)
            loss += codebook_loss
            metrics['codebook_loss'] = jnp.mean(codebook_loss)
        if self.orthogonality:
            metrics['orthogonality_loss'] = quantization.orthogonality_loss(self.vectors())
            loss += self.orthogonality * metrics['orthogonality_loss']

        values = self._leave(quantization.ESTIMATORS[self.estimator](z, e))
        return Quantized(values=values, codes=codes, loss=loss, metrics=metrics), z

    def observe(
        self, vectors: jax.Array, codes: jax.Array, part: Part | None, used: jax.Array | None = None
    ) -> None:
        """Leaves what `after_update` learns from in the collection 'batch_means', which must be mutable.

        Args:
            vectors: as they were compared [b ... code_dim].
            codes: of each, int32 [b ... 1].
            part: see `Quantizer`.
            used: which of them the codebook learns from, bool, of a shape that broadcasts to [b ...]; None is
                all.
        """
        flat, flat_codes = jax.lax.stop_gradient(vectors.reshape(-1, vectors.shape[-1])), codes.reshape(-1)
        means = {}
        if used is not None:
            means['used'] = jnp.mean(used)
            used = jnp.broadcast_to(used, codes.shape[:-1]).reshape(-1)
            flat_codes = jnp.where(used, flat_codes, self.num_codes)  # there is no such code to be counted
        means['shares'] = quantization.code_shares(flat_codes, self.num_codes)
        if self.learning == 'moving_average':
            means['sums'] = quantization.code_sums(flat, flat_codes, self.num_codes)
        if self.revive_below:
            means['vectors'] = self._sample_vectors(flat, part or Part.of_device(len(vectors)))
        self.put_variable(BATCH_MEANS, 'codebook', means)  # an error where that is not mutable

    @property
    def vocabulary(self) -> tuple[int, ...]:
        """See `Quantizer`."""
        return (self.num_codes,)

    @property
    def init_batches(self) -> int:
        """See `StartsFromData`."""
        return self.kmeans_batches if self.codebook_init == 'kmeans' else 0

    def init_from_data(self, key: jax.Array, z: jax.Array) -> None:
        """Puts the codes at the centres that k-means finds among vectors [n dim]; see `StartsFromData`.

        Of codes that are compared by direction and have lengths of their own, each is the mean of the vectors
        around one direction.
        """
        if len(z) < self.num_codes:
            raise UserError(
                f'k-means cannot place {self.num_codes} codes (num_codes) with the {len(z)} vectors of '
                f'{self.kmeans_batches} batches; raise kmeans_batches or the batch size, or set '
                'codebook_init=random.'
            )
        vectors = self.project(z)
        centres, shares = kmeans(key, vectors, k=self.num_codes, cosine=self.cosine)
        if self.cosine and not self.unit_length:
            codes = nearest_code(quantization.normalise(vectors), centres)
            sums = quantization.code_sums(vectors, codes, self.num_codes)
            means = sums / jnp.maximum(shares, 1 / len(vectors))[:, None]
            centres = jnp.where(shares[:, None] > 0, means, centres)
        self.set_codes(centres, shares)

    def lookup(self, codes: jax.Array) -> jax.Array:
        """The vectors [... dim] that stand for codes, int32 [... 1]."""
        return self._leave(self.vectors()[codes[..., 0]])

    def nearest(self, vectors: jax.Array) -> jax.Array:
        """The codes, int32 [... 1], nearest to vectors where codes are compared [... code_dim]."""
        flat, codebook = vectors.reshape(-1, vectors.shape[-1]), self.vectors()
        if self.cosine and not self.unit_length:
            flat, codebook = quantization.normalise(flat), quantization.normalise(codebook)
        return nearest_code(flat, codebook).reshape(*vectors.shape[:-1], 1)

    def project(self, z: jax.Array) -> jax.Array:
        """Takes vectors [... dim] to where codes are compared [... code_dim], in float32."""
        check_width(z, self.dim)
        z = z if self.code_dim is None else self.project_in(z)
        return self._scaled(z.astype(jnp.float32))

    def unquantized(self, z: jax.Array) -> jax.Array:
        """See `PassesUnquantized`."""
        return self._leave(self.project(z))

    def vectors(self) -> jax.Array:
        """The codebook as it is compared with vectors [k code_dim], float32."""
        if self.learning == 'moving_average':
            return self.moving_codebook.value
        # Read where it is kept: `set_codes` may have put another there after `setup`.
        return self._scaled(self.get_variable('params', 'codebook'))

    def set_codes(self, centres: jax.Array, shares: jax.Array) -> None:
        """Sets the codes; the collections of the codebook must be mutable.

        Args:
            centres: the codes [k code_dim].
            shares: the share of vectors that each is nearest to [k].
        """
        self.shares.value = shares
        if self.learning == 'gradient':
            self.put_variable('params', 'codebook', centres)
        else:
            self.moving_codebook.value = centres
            self.sums.value = centres * shares[:, None]

    def after_update(self) -> dict[str, jax.Array]:
        """See `LearnsWithoutGradients`; the collection 'codebook' must be mutable.

        So must 'revivals' if the codebook learns by gradient (see `revive`).
        """
        batch_means = self.get_variable(BATCH_MEANS, 'codebook')
        self._update_statistics(batch_means)
        return {'codes_revived': self._revive(batch_means['vectors'])} if self.revive_below else {}

    def _scaled(self, x: jax.Array) -> jax.Array:
        """Vectors or codes at the length at which they are kept."""
        return quantization.normalise(x) if self.cosine and self.unit_length else x

    def _leave(self, e: jax.Array) -> jax.Array:
        return e if self.code_dim is None else self.project_out(e)

    def _update_statistics(self, batch_means: dict[str, jax.Array]) -> None:
        """Moving averages of van den Oord et al. 2017, equations 6 to 8, in shares of positions.

        Dividing their counts and sums by the number of positions leaves the quotient as it is, and
        makes it independent of the batch size. Codes that the batch did not choose stay as they are
        (their sum and share shrink alike), so no share is ever divided by that could be zero.
        """
        decay = self.decay
        if 'used' in batch_means:  # then shares of the positions that are; without any, all stays
            used = batch_means['used']
            shared_by = jnp.where(used > 0, used, 1)
            batch_means = {name: x / shared_by for name, x in batch_means.items() if name != 'vectors'}
            decay = jnp.where(used > 0, decay, 1)
        self.shares.value = _average(self.shares.value, batch_means['shares'], decay)
        if self.learning == 'gradient':
            return
        self.sums.value = _average(self.sums.value, batch_means['sums'], decay)
        chosen = (batch_means['shares'] > 0)[:, None]
        means = self.sums.value / jnp.where(chosen, self.shares.value[:, None], 1)
        self.moving_codebook.value = jnp.where(chosen, self._scaled(means), self.moving_codebook.value)

    def _sample_vectors(self, z: jax.Array, part: Part) -> jax.Array:
        """A vector of the batch for each code to be moved onto if it is dead, as `Part.take` gives them.

        They are sampled from k stretches of the whole batch that have whole numbers of vectors, as equal as
        can be, so that no two codes get the same one where there are enough.
        """
        k = self.num_codes
        n = len(z) // len(part.index) * part.size
        # On the host, where k * n has room. With fewer vectors than codes, stretches are of one vector, and
        # some shared.
        bounds = np.arange(k + 1, dtype=np.int64) * n // k
        first, size = bounds[:-1].astype(np.int32), np.maximum(np.diff(bounds), 1).astype(np.int32)
        within = jax.random.uniform(self.make_rng('codebook'), (k,))
        return part.take(z, first + jnp.minimum((within * size).astype(jnp.int32), size - 1))

    def _revive(self, vectors: jax.Array) -> jax.Array:
        """Moves dead codes onto vectors [k code_dim]; returns how many there were."""
        k = self.num_codes
        dead = self.shares.value < self.revive_below / k
        self.shares.value = jnp.where(dead, 1 / k, self.shares.value)
        dead_row = dead[:, None]
        if self.learning == 'gradient':
            self.put_variable(REVIVALS, 'codebook', (dead_row, vectors))
        else:
            self.moving_codebook.value = jnp.where(dead_row, vectors, self.moving_codebook.value)
            self.sums.value = jnp.where(dead_row, vectors / k, self.sums.value)
        return jnp.sum(dead)


def _average(old: jax.Array, new: jax.Array, decay: float | jax.Array) -> jax.Array:
    return decay * old + (1 - decay) * new
