"""All quantizers with vectors that are few, equal, zero, huge or tiny."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.quantizers import (
    BinarySphericalQuantizer,
    FiniteScalarQuantizer,
    GroupedQuantizer,
    GumbelQuantizer,
    IndexBackpropagationQuantizer,
    LookupFreeQuantizer,
    ResidualQuantizer,
    SimVectorQuantizer,
    VectorQuantizer,
)
from vq_jax.quantizers.quantizer import BATCH_MEANS, REVIVALS, STATISTICS, after_update

VQ = VectorQuantizer(100, 4, codebook_init='random', revive_below=0.5)
KINDS = {
    'vq': VQ.copy(estimator='rotation'),
    'cosine': VQ.copy(learning='gradient', cosine=True, orthogonality=0.1),
    'residual': ResidualQuantizer(VQ, 2, shared=True, dropout=0.5),
    'grouped': GroupedQuantizer(VQ.copy(dim=2), 2),
    'simvq': SimVectorQuantizer(100, 4, estimator='rotation'),
    'fsq': FiniteScalarQuantizer((8, 5, 2), 4),
    'lfq': LookupFreeQuantizer(8, 4),
    'bsq': BinarySphericalQuantizer(8, 4, group_bits=4),
    'ibq': IndexBackpropagationQuantizer(100, 4),
    'gumbel': GumbelQuantizer(100, 4),
}
ONE = np.float32([0.5, -1, 2, 0])
VECTORS = {
    'equal': np.stack([ONE, ONE]),
    'zero': np.zeros((2, 4)),
    'zero and one': np.stack([0 * ONE, ONE]),
    'opposite': np.stack([-ONE, ONE]),
    'huge': 1e8 * np.stack([-ONE, ONE]),
    'tiny': 1e-30 * np.stack([-ONE, ONE]),
}


@pytest.mark.parametrize('kind', KINDS)
def test_training_stays_finite_and_codes_are_codes(kind):
    """Of two vectors, and more codes than that; also in bfloat16."""
    quantizer = KINDS[kind]
    variables = initialised(quantizer.init, jax.random.key(0), jnp.zeros((1, 2, 4)))

    @jax.jit
    def step(variables, z):
        params, fixed = variables.get('params', {}), {STATISTICS: variables.get(STATISTICS, {})}

        def loss(params, z):
            out, means = quantizer.apply(
                {'params': params, **fixed},
                z,
                train=True,
                step=jnp.int32(3),
                mutable=[BATCH_MEANS],
                rngs={'codebook': jax.random.key(1)},
            )
            return jnp.mean(out.loss) + jnp.mean(out.values), (out, means)

        gradients, (out, means) = jax.grad(loss, (0, 1), has_aux=True)(params, z)
        _, learned = quantizer.apply(
            {'params': params, **fixed, **means}, method=after_update, mutable=[STATISTICS, REVIVALS]
        )
        looked_up = quantizer.apply(variables, out.codes, method='lookup')
        return gradients, out, learned, looked_up

    for name, vectors in VECTORS.items():
        z = jnp.asarray(vectors[None], jnp.bfloat16)
        gradients, out, learned, looked_up = step(variables, z)
        for x in jax.tree.leaves((gradients, out.values, out.loss, out.metrics, learned)):
            assert np.isfinite(np.float64(x)).all(), name
        assert ((out.codes >= 0) & (out.codes < np.asarray(quantizer.vocabulary))).all(), name
        if kind != 'residual':  # whose values may be of fewer depths
            scale = max(1, np.abs(vectors).max())
            np.testing.assert_allclose(looked_up / scale, out.values / scale, atol=1e-5, err_msg=name)
        if name == 'equal' and kind != 'gumbel':
            np.testing.assert_array_equal(out.codes[0, 0], out.codes[0, 1])
