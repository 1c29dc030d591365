import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.nets.edge_net import DifferenceConv, EdgeNet


def test_difference_convolution_sees_change_alone():
    layer = DifferenceConv(6)
    x = jnp.full((1, 7, 7, 3), 0.8)

    @jax.jit
    def run(x):
        return layer.apply(layer.init(jax.random.key(0), x), x)[0, 1:-1, 1:-1]

    flat = np.asarray(run(x))
    assert flat.shape == (5, 5, 6)
    np.testing.assert_allclose(flat[..., :3], 0.0, atol=1e-6)
    assert np.abs(flat[..., 3:]).max() > 0.01
    assert np.abs(run(x.at[0, 3, 3].set(0.1))[..., :3]).max() > 0.01


def test_difference_convolution_is_a_convolution_with_its_kernel_s_sum_taken_off_the_centre():
    layer = DifferenceConv(2)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 3, 2)), jnp.float32)

    @jax.jit
    def run(x):
        params = layer.init(jax.random.key(0), x)
        return layer.apply(params, x)[0, 1, 1], params["params"]["kernel"]

    found, kernel = map(np.asarray, run(x))
    change = kernel[..., 0].copy()
    change[1, 1] -= change.sum((0, 1))
    window = np.asarray(x)[0]
    expected = [(window * change).sum(), (window * kernel[..., 1]).sum()]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_default_net_is_small_and_its_widths_are_those_of_the_docstring():
    shapes = jax.eval_shape(EdgeNet().init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert 85_000 < sum(leaf.size for leaf in jax.tree.leaves(shapes)) < 100_000


@pytest.mark.parametrize("size", [(1, 1), (21, 34)])
def test_one_map_per_stage_and_the_fused_one_of_any_size(size):
    net = EdgeNet(widths=(4, 4, 4), side=4, groups=2)
    x = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), x)
    found = jax.eval_shape(net.apply, params, x)
    assert found.shape == (2, *size, 4)
    assert found.dtype == jnp.float32


def test_the_fused_map_starts_as_the_mean_of_the_others():
    net = EdgeNet(widths=(4, 4), side=4, groups=2)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 8, 1)), jnp.float32)
    found = np.asarray(jax.jit(lambda x: net.apply(net.init(jax.random.key(0), x), x))(x))
    np.testing.assert_allclose(found[..., 0], found[..., 1:].mean(-1), atol=1e-5)


@pytest.mark.parametrize("options", [{"side": 0}, {"widths": ()}, {"groups": 0}, {"dilation": 0}])
def test_sizes_below_one_are_refused(options):
    with pytest.raises(ValueError, match="at least 1"):
        EdgeNet(**options).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
