import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.nets.encoders.resnet import ResNet, ResNetBlock
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


@pytest.mark.parametrize(
    ("depth", "parameters"),
    # torchvision's counts without the classifier's 1,000 x (512 or 2,048) + 1,000.
    [
        (18, 11_689_512 - 513_000),
        (34, 21_797_672 - 513_000),
        (50, 25_557_032 - 2_049_000),
    ],
)
def test_parameters_are_as_many_as_published(depth, parameters):
    _, variables = shapes(ResNet(depth), (64, 64))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters


@pytest.mark.parametrize("size", [(1, 1), (17, 23), (64, 40)])
def test_maps_of_any_size_and_any_number_of_channels(size):
    maps, variables = shapes(ResNet(50), size, channels=5)
    sides = [tuple(-(-side // stride) for side in size) for stride in ResNet.strides]
    assert [each.shape[1:3] for each in maps] == sides
    assert [each.shape[3] for each in maps] == [64, 256, 512, 1024, 2048]
    assert variables["params"]["stem"]["kernel"].shape == (7, 7, 5, 64)


def test_computation_in_half_precision_keeps_parameters_in_single():
    # Flax's norms promote bfloat16 to float32, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        maps, variables = shapes(ResNet(10, dtype=jnp.bfloat16), (32, 32))
    assert {each.dtype for each in maps} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(("train", "frozen"), [(False, False), (True, False), (True, True)])
def test_all_norms_use_running_statistics_outside_training_and_when_frozen(train, frozen):
    norms = calls_of(nn.BatchNorm, ResNet(14, frozen_statistics=frozen), train)
    assert len(norms) == 1 + 4 * 4
    found = {(norm.use_running_average, norm.epsilon, norm.momentum) for norm, _ in norms}
    assert found == {(not train or frozen, 1e-5, 0.9)}


@pytest.mark.parametrize(("train", "drop"), [(False, False), (True, False), (False, True)])
def test_rates_of_stochastic_depth_grow_linearly(train, drop):
    calls = calls_of(StochasticDepth, ResNet(18, stochastic_depth=0.7), train, drop)
    assert [layer.rate for layer, _ in calls] == pytest.approx(np.arange(8) / 10)
    assert {arguments[2] for _, arguments in calls} == {train or drop}


def test_a_block_that_is_left_out_is_its_shortcut():
    block = ResNetBlock(4, 2, False, 1 - 1e-7, False, jnp.float32)
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    run = lambda x: block.init_with_output(keys, x, INDEX, False, True)
    out, variables = jax.jit(run)(x)
    # A batch norm's first running variance is 1, and it adds 1e-5.
    kernel = np.asarray(variables["params"]["shortcut"]["kernel"])[0, 0]
    shortcut = x[:, ::2, ::2] @ kernel / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(out, np.maximum(shortcut, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"depth": 20}, "depth must be one of 10, 14, 18"), ({"stochastic_depth": 1.0}, "1.0")],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        shapes(ResNet(**options), (8, 8))
