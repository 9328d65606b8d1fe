"""Linear maps by rows are those of NumPy, and so are their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vq_jax.ops.rows import dot_by_rows


@pytest.mark.parametrize('shape', [(3,), (4, 3), (2, 5, 3), (2, 2, 2, 3), (0, 5, 3)])
def test_a_dense_layer_and_its_kernel_gradient_are_as_written_out(shape):
    x, there = (np.random.default_rng(i).normal(size=(*shape[:-1], n)) for i, n in enumerate((3, 4)))
    layer = nn.Dense(4, dot_general=dot_by_rows)
    variables = layer.init(jax.random.key(0), jnp.asarray(x))
    kernel = np.asarray(variables['params']['kernel'])
    np.testing.assert_allclose(layer.apply(variables, x), x @ kernel, rtol=1e-5, atol=1e-6)
    gradient = jax.grad(lambda variables: jnp.sum(layer.apply(variables, x) * there))(variables)
    written_out = np.einsum('nd,nk->dk', x.reshape(-1, 3), there.reshape(-1, 4))
    np.testing.assert_allclose(gradient['params']['kernel'], written_out, rtol=1e-5, atol=1e-6)


def test_what_is_no_linear_map_of_vectors_is_refused():
    x = jnp.ones((2, 3, 3))
    with pytest.raises(ValueError, match='not contracted over'):
        dot_by_rows(x, jnp.ones((3, 3)), (((1,), (0,)), ((), ())))
