"""SimVQ against a reference implementation, and its properties."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.quantizers import SimVectorQuantizer
from vq_jax.quantizers.quantizer import STATISTICS

# Of vector-quantize-pytorch 1.32.0 (SimVQ, PyTorch 2.13.0, CPU) with these weights, of the loss below. Its
# `rotation_trick` is the estimator 'rotation'; its matrix is the transpose of ours.
CODES = [[2, 1, 1, 1, 2], [2, 1, 1, 1, 2]]
LOSS = 1.6640093
MATRIX = [
    [-0.251942, 0.170778, 0.330087],
    [-0.206633, -0.087992, -0.218399],
    [0.055187, 0.226682, 0.494099],
]
EXPECTED = {
    'straight_through': [
        [
            [0.293975, -0.269302, -0.74789],
            [0.634482, -0.185594, -0.187647],
            [-0.083575, 0.643907, -1.089622],
            [-1.511998, -2.436444, 1.165525],
            [0.085205, 1.51671, 0.028673],
        ],
        [
            [-0.726917, 0.50681, -0.056662],
            [-1.224964, -0.918797, 1.752834],
            [0.384593, 0.403036, -0.29768],
            [-0.679457, 0.885849, -0.098318],
            [-0.769524, -0.143159, -0.90064],
        ],
    ],
    'rotation': [
        [
            [2.516552, -0.694757, -1.440153],
            [0.516784, -0.168327, 0.027084],
            [0.330547, 0.309025, -3.672355],
            [-6.395154, -1.081775, 2.384494],
            [-1.711476, 1.329624, -2.974772],
        ],
        [
            [-1.492009, 1.711649, 1.245982],
            [1.441724, -4.73525, -0.45455],
            [0.940233, 0.895534, -2.556684],
            [-0.691767, 0.954967, 0.246111],
            [-0.803776, -0.23733, -0.570886],
        ],
    ],
}


def reference(estimator):
    """Vectors, weights of values, and a quantizer with its variables, as the reference had them."""
    draw = np.random.default_rng(2)
    z, codes, matrix, weight = (
        jnp.asarray(draw.normal(size=shape), jnp.float32) for shape in ((2, 5, 3), (6, 3), (3, 3), (2, 5, 3))
    )
    quantizer = SimVectorQuantizer(6, dim=3, estimator=estimator)
    return z, weight, quantizer, {'params': {'map': {'kernel': matrix}}, STATISTICS: {'codebook': codes}}


@pytest.mark.parametrize('estimator', EXPECTED)
def test_codes_loss_and_gradients_are_the_references(estimator):
    z, weight, quantizer, variables = reference(estimator)

    def loss(params, z):
        out = quantizer.apply({**variables, 'params': params}, z)
        return jnp.vdot(weight, out.values) + jnp.mean(out.loss), out

    (d_params, d_z), out = jax.grad(loss, (0, 1), has_aux=True)(variables['params'], z)
    np.testing.assert_array_equal(out.codes[..., 0], CODES)
    np.testing.assert_allclose(jnp.mean(out.loss), LOSS, rtol=1e-5)
    np.testing.assert_allclose(d_z, EXPECTED[estimator], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(d_params['map']['kernel'], MATRIX, atol=1e-5, rtol=1e-5)
    vectors = quantizer.apply(variables, method='vectors')
    np.testing.assert_allclose(out.values, vectors[np.asarray(CODES)], atol=1e-5)
    np.testing.assert_allclose(quantizer.apply(variables, out.codes, method='lookup'), out.values, atol=1e-5)


def test_codes_that_were_never_chosen_move_with_those_that_were():
    """A cluster far from all codes: with one code near it, a map of all brings the others too."""
    quantizer = SimVectorQuantizer(8, dim=4)
    draw = np.random.default_rng(0)
    z = jnp.asarray(3 + draw.normal(size=(16, 8, 4)), jnp.float32)
    variables = initialised(quantizer.init, jax.random.key(0), z)
    params, optimizer = variables['params'], optax.adam(0.05)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        gradients = jax.grad(lambda p: quantizer.apply({**variables, 'params': p}, z).loss.mean())(params)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state

    before = quantizer.apply(variables, method='vectors')
    used = set(np.unique(quantizer.apply(variables, z).codes))
    for _ in range(100):
        params, state = step(params, state)
    after = quantizer.apply({**variables, 'params': params}, method='vectors')
    unused = [i for i in range(8) if i not in used]
    assert unused and (np.abs(after - before)[np.asarray(unused)].max(1) > 0.1).all()
    errors = [
        float(quantizer.apply({**variables, 'params': p}, z).loss.mean())
        for p in (variables['params'], params)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_identical_vectors_and_bfloat16_stay_finite():
    quantizer = SimVectorQuantizer(8, dim=4, estimator='rotation')
    z = jnp.zeros((1, 3, 4), jnp.bfloat16)
    variables = initialised(quantizer.init, jax.random.key(0), z)
    out, pull = jax.vjp(lambda z: quantizer.apply(variables, z).values, z)
    assert out.dtype == jnp.float32 and np.isfinite(pull(out)[0]).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r'^num_codes is 0; give'):
        SimVectorQuantizer(0)
    with pytest.raises(UserError, match=r'^estimator is '):
        SimVectorQuantizer(estimator='x')
