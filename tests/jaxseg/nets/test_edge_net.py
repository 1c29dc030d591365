import flax.linen as nn
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


def test_the_default_net_is_that_of_the_docstring():
    x, count, before = jnp.zeros((1, 32, 32, 3)), 4 + 1, 3
    for width in (16, 24, 32, 40):
        count += 9 * (before + 2 * width) * width + 3 * 2 * width  # three convolutions and norms
        count += (width + 1) * 16 + 9 * 16 * 16 + 2 * 16 + 16 + 1  # the decoder beside it
        before = width
    layers = []

    def look(call, arguments, options, context):
        layers.append(context.module)
        return call(*arguments, **options)

    with nn.intercept_methods(look):
        shapes = jax.eval_shape(EdgeNet().init, jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
    assert sum(isinstance(layer, DifferenceConv) for layer in layers) == 4
    assert {layer.num_groups for layer in layers if isinstance(layer, nn.GroupNorm)} == {8}
    dilated = [layer for layer in layers if getattr(layer, "kernel_dilation", 1) == 2]
    assert [layer.features for layer in dilated] == [40, 40]


@pytest.mark.parametrize("size", [(1, 1), (21, 34)])
def test_one_map_per_stage_and_the_fused_one_of_any_size(size):
    net = EdgeNet(widths=(4, 4, 4), side=4, groups=2)
    x = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), x)
    found = jax.eval_shape(net.apply, params, x)
    assert found.shape == (2, *size, 4)
    assert found.dtype == jnp.float32


def convolved(x, kernel, dilation=1):
    """A convolution of [H, W, C], tap by tap; zero beyond the border."""
    reach = kernel.shape[0] // 2 * dilation
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)))
    rows, columns = (np.arange(size) for size in x.shape[:2])
    return sum(
        padded[rows + dilation * r][:, columns + dilation * c] @ kernel[r, c]
        for r, c in np.ndindex(kernel.shape[:2])
    )


def normed(x):
    """The group norm of two groups, before it has learnt."""
    parts = x.reshape(*x.shape[:2], 2, -1)
    parts = parts - parts.mean((0, 1, 3), keepdims=True)
    parts /= np.sqrt((parts**2).mean((0, 1, 3), keepdims=True) + 1e-6)
    return parts.reshape(x.shape)


def doubled(x):
    """Enlarged bilinearly by two."""
    for axis in (0, 1):
        place = np.clip((np.arange(2 * x.shape[axis]) - 0.5) / 2, 0, x.shape[axis] - 1)
        low = np.minimum(place.astype(int), x.shape[axis] - 2)
        share = np.expand_dims(place - low, (1, 2)) if axis == 0 else (place - low)[:, None]
        x = (1 - share) * np.take(x, low, axis) + share * np.take(x, low + 1, axis)
    return x


def test_a_net_of_two_stages_step_by_step():
    net = EdgeNet(widths=(4, 6), side=4, groups=2, dilation=3)
    image = np.random.default_rng(0).normal(size=(1, 5, 6, 1)).astype(np.float32)

    @jax.jit
    def run(x):
        variables = net.init(jax.random.key(0), x)
        return net.apply(variables, x), variables["params"]

    found, params = jax.device_get(run(image))
    kernel = lambda number: params[f"Conv_{number}"]["kernel"]
    x, stages = np.pad(image[0], ((0, 1), (0, 0), (0, 0)), mode="edge"), []
    for stage, dilation in enumerate((1, 3)):
        if stage:
            x = x.reshape(3, 2, 3, 2, -1).max((1, 3))
        block = params[f"stage{stage}"]
        first = block["DifferenceConv_0"]["kernel"].copy()
        half = first.shape[-1] // 2
        first[1, 1, :, :half] -= first[..., :half].sum((0, 1))
        inputs = np.maximum(normed(convolved(x, first)), 0)
        x = np.maximum(normed(convolved(inputs, block["Conv_0"]["kernel"], dilation)), 0)
        x = np.maximum(inputs + normed(convolved(x, block["Conv_1"]["kernel"], dilation)), 0)
        stages.append(x)
    coarse = np.maximum(normed(convolved(stages[1] @ kernel(0)[0, 0], kernel(1))), 0)
    fine = stages[0] @ kernel(3)[0, 0] + doubled(coarse)
    fine = np.maximum(normed(convolved(fine, kernel(4))), 0)
    maps = [fine @ kernel(5)[0, 0], doubled(coarse @ kernel(2)[0, 0])]
    # The fused map starts as the mean of the others, the finest of which comes first.
    expected = np.concatenate([sum(maps) / 2, *maps], -1)[:5]
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


@pytest.mark.parametrize("options", [{"side": 0}, {"widths": ()}, {"groups": 0}, {"dilation": 0}])
def test_sizes_below_one_are_refused(options):
    with pytest.raises(ValueError, match="at least 1"):
        EdgeNet(**options).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_sizes_of_one_are_accepted():
    net = EdgeNet(widths=(1,), side=1, dilation=1, groups=1)
    shapes = jax.eval_shape(net.init_with_output, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    assert shapes[0].shape == (1, 8, 8, 2)
