from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.nets import spectral_norm

KEY = jax.random.key(0)
SHAPES = {"dense": (7, 5), "conv": (3, 3, 2, 6), "bias": (5,), "scale": ()}


def tree(seed):
    rng = np.random.default_rng(seed)
    return {"net": {name: jnp.float32(rng.normal(size=shape)) for name, shape in SHAPES.items()}}


def largest(leaf):
    return np.linalg.svd(np.asarray(leaf).reshape(-1, leaf.shape[-1]), compute_uv=False)[0]


ten_steps = jax.jit(partial(spectral_norm.normalise, steps=10))


def iterated(params, times=15):
    vectors = spectral_norm.init(KEY, params)
    for _ in range(times):
        found, vectors = ten_steps(params, vectors)
    return found, vectors


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_kernels_are_divided_by_numpys_largest_singular_value(seed):
    params = tree(seed)
    found, _ = iterated(params)
    for name in ("dense", "conv"):
        wanted = params["net"][name] / largest(params["net"][name])
        np.testing.assert_allclose(found["net"][name], wanted, atol=2e-3)
    for name in ("bias", "scale"):
        np.testing.assert_array_equal(found["net"][name], params["net"][name])


def test_one_step_a_call_gets_there_too_and_from_below():
    params = tree(0)
    one_step = jax.jit(spectral_norm.normalise)
    vectors, values = spectral_norm.init(KEY, params), []
    for _ in range(60):
        found, vectors = one_step(params, vectors)
        values.append(largest(found["net"]["conv"]))
    assert values[0] > 1.0
    assert abs(values[-1] - 1.0) < 1e-3
    assert np.all(np.diff(values) < 1e-5)  # the estimate rises, so what is left falls


def test_it_is_what_flax_computes_from_the_same_vector():
    x = jax.random.normal(KEY, (3, 7))
    layer = nn.SpectralNorm(nn.Dense(5))
    variables = layer.init(KEY, x, update_stats=False)
    wanted, changed = layer.apply(variables, x, update_stats=True, mutable=["batch_stats"])
    (inner,) = variables["params"].values()
    (u,) = (v for v in jax.tree.leaves(variables["batch_stats"]) if v.ndim == 2)
    weights, vectors = spectral_norm.normalise(inner, {"kernel": u[0]})
    np.testing.assert_allclose(nn.Dense(5).apply({"params": weights}, x), wanted, rtol=1e-5)
    (moved,) = (v for v in jax.tree.leaves(changed["batch_stats"]) if v.ndim == 2)
    np.testing.assert_allclose(vectors["kernel"], moved[0], rtol=1e-5)


def test_the_gradient_goes_through_the_singular_value():
    # At convergence the derivative of the largest singular value is u v', so a change
    # along the kernel itself changes nothing.
    params = tree(3)
    _, vectors = iterated(params)
    target = jax.random.normal(KEY, SHAPES["dense"])

    def loss(params):
        return jnp.sum(target * spectral_norm.normalise(params, vectors)[0]["net"]["dense"])

    grads = jax.grad(loss)(params)["net"]["dense"]
    assert jnp.linalg.norm(grads) > 0.1
    assert abs(float(jnp.sum(grads * params["net"]["dense"]))) < 1e-3


def test_a_kernel_of_zeros_stays_finite():
    params = {"kernel": jnp.zeros((4, 3))}
    found, vectors = spectral_norm.normalise(params, spectral_norm.init(KEY, params))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((found, vectors)))
    # One of half the least norm, 1e-12, is divided by that.
    found, _ = spectral_norm.normalise({"kernel": jnp.full((1, 1), 5e-13)}, {"kernel": jnp.ones(1)})
    np.testing.assert_allclose(found["kernel"], 0.5, rtol=1e-5)
