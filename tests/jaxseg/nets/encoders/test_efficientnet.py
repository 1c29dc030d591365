import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.nets.encoders.efficientnet import EfficientNetLite0, InvertedBottleneck
from jaxseg.nets.encoders.stochastic_depth import StochasticDepth

INDEX = np.int32([5, 9])


def shapes(net, size, channels=3):
    spec = jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)
    run = lambda x: net.init_with_output(jax.random.key(0), x, INDEX)
    return jax.eval_shape(run, spec)


def calls_of(kind, net, *modes):
    """[(module, arguments)] of the modules of a kind that a net calls."""
    calls = []

    def note(call, args, kwargs, context):
        if isinstance(context.module, kind) and context.method_name == "__call__":
            calls.append((context.module, args))
        return call(*args, **kwargs)

    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    x = np.zeros((2, 32, 32, 3), np.float32)
    with nn.intercept_methods(note):
        jax.eval_shape(lambda x: net.init_with_output(keys, x, INDEX, *modes), x)
    return calls


def test_parameters_are_as_many_as_published():
    """timm counts 4,652,008, with the last convolution, its norm and the classifier."""
    _, variables = shapes(EfficientNetLite0(), (64, 64))
    head = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 4_652_008 - head


@pytest.mark.parametrize("origin", ["tensorflow", "timm"])
@pytest.mark.parametrize("size", [(1, 1), (17, 23), (64, 40)])
def test_maps_of_any_size_and_any_number_of_channels(size, origin):
    net = EfficientNetLite0(origin)
    maps, variables = shapes(net, size, channels=1)
    sides = [tuple(-(-side // stride) for side in size) for stride in net.strides]
    assert [each.shape[1:3] for each in maps] == sides
    assert [each.shape[3] for each in maps] == [16, 24, 40, 112, 320]
    assert variables["params"]["stem"]["kernel"].shape == (3, 3, 1, 32)


def test_images_are_normalised_as_in_the_training_of_the_weights():
    net = EfficientNetLite0()
    pixels = np.float64([0, 127, 255])
    found = (pixels / 255 - net.mean[0]) / net.std[0]
    np.testing.assert_allclose(found, (pixels - 127) / 128, atol=1e-12)
    assert EfficientNetLite0("timm").mean == (0.485, 0.456, 0.406)
    assert EfficientNetLite0("timm").std == (0.229, 0.224, 0.225)


def test_computation_in_half_precision_keeps_parameters_in_single():
    # Flax's norms promote bfloat16 to float32, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        maps, variables = shapes(EfficientNetLite0(dtype=jnp.bfloat16), (32, 32))
    assert {each.dtype for each in maps} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(("origin", "epsilon"), [("tensorflow", 1e-3), ("timm", 1e-5)])
@pytest.mark.parametrize(("train", "frozen"), [(False, False), (True, False), (True, True)])
def test_all_norms_use_running_statistics_outside_training_and_when_frozen(
    train, frozen, origin, epsilon
):
    net = EfficientNetLite0(origin, repeats=(1,) * 7, frozen_statistics=frozen)
    norms = calls_of(nn.BatchNorm, net, train)
    assert len(norms) == 1 + 2 + 6 * 3
    found = {(norm.use_running_average, norm.epsilon) for norm, _ in norms}
    assert found == {(not train or frozen, epsilon)}


@pytest.mark.parametrize(("train", "drop"), [(False, False), (True, False), (False, True)])
def test_rates_of_stochastic_depth_grow_linearly(train, drop):
    calls = calls_of(StochasticDepth, EfficientNetLite0(stochastic_depth=0.3), train, drop)
    # Of 16 blocks those at the same size and width as the block before have a shortcut.
    blocks = np.array([2, 4, 6, 7, 9, 10, 12, 13, 14])
    assert [layer.rate for layer, _ in calls] == pytest.approx(0.3 * blocks / 15)
    assert {arguments[2] for _, arguments in calls} == {train or drop}


def test_a_block_that_is_left_out_is_its_input():
    block = InvertedBottleneck(4, 3, 1, 6, 1 - 1e-7, False, False, jnp.float32)
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 4)).astype(np.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    run = jax.jit(lambda x: block.init_with_output(keys, x, INDEX, False, True)[0])
    np.testing.assert_array_equal(run(x), x)


def test_padding_is_that_of_the_origin():
    """Of an even side, TensorFlow pads the end alone, and PyTorch the start."""
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 0, 0] = 1.0
    for symmetric, place in ((False, 0), (True, 1)):
        block = InvertedBottleneck(1, 3, 2, 1, 0.0, symmetric, False, jnp.float32)
        variables = jax.tree.map(np.array, block.init(jax.random.key(0), x, INDEX[:1], 0, 0))
        kernel = np.arange(9.0, dtype=np.float32).reshape(3, 3, 1, 1) / 9
        variables["params"]["depthwise"]["kernel"] = kernel
        variables["params"]["project"]["kernel"][:] = 1.0
        out = np.asarray(block.apply(variables, x, INDEX[:1], False, False))
        assert out[0, 0, 0, 0] == pytest.approx(kernel[place, place, 0, 0], rel=2e-3)
        assert not out[0, 1].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"origin": "keras"}, "origin must be tensorflow or timm"),
        ({"widths": (8, 8)}, "widths must be seven numbers above 0"),
        ({"repeats": (0, 1, 1, 1, 1, 1, 1)}, "repeats must be seven numbers above 0"),
        ({"stochastic_depth": -0.1}, "-0.1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        shapes(EfficientNetLite0(**options), (8, 8))
