import jax.numpy as jnp
import numpy as np

from jaxseg.nets.encoders.layer_norm import layer_norm


def test_a_large_mean_costs_no_digits():
    random = np.random.default_rng(0)
    x = np.float32(1e3 + 0.01 * random.normal(size=(4, 64)))
    params = {"scale": random.normal(size=64), "bias": random.normal(size=64)}
    exact = np.float64(x)
    exact = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-6)
    y = layer_norm(1e-6, jnp.float32, "norm").apply({"params": params}, x)
    np.testing.assert_allclose(y, exact * params["scale"] + params["bias"], atol=0.02)


def test_its_name_and_dtype_are_those_given():
    norm = layer_norm(0.25, jnp.bfloat16, "last")
    assert (norm.name, norm.epsilon, norm.dtype) == ("last", 0.25, jnp.bfloat16)
