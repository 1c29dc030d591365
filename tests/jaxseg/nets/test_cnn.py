import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.nets.cnn import CNN
from jaxseg.nets.unet import ChannelDropout


def shapes(net, shape):
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    x, index = jax.ShapeDtypeStruct((2, *shape), jnp.float32), jnp.arange(2)

    def run(x):
        variables = net.init(keys, x, index, True)
        return variables, net.apply(variables, x, index)

    return jax.eval_shape(run, x)


def test_the_founding_net_has_the_parameters_of_its_docstring():
    variables, logits = shapes(CNN(classes=10), (224, 224, 3))
    convolutions = 3 * 3 * 3 * 64 + 64 + 3 * 3 * 64 * 64 + 64
    dense = 112 * 112 * 64 * 128 + 128
    last = 128 * 10 + 10
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == convolutions + dense + last
    assert logits.shape == (2, 10)
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize("size", [(1, 1), (5, 8)])
def test_a_last_row_that_no_window_fills_is_pooled_by_itself(size):
    variables, logits = shapes(CNN(classes=3, widths=(2,), hidden=4), (*size, 1))
    assert (
        variables["params"]["Dense_0"]["kernel"].shape[0] == -(-size[0] // 2) * -(-size[1] // 2) * 2
    )
    assert logits.shape == (2, 3)


def test_the_logits_are_those_of_the_layers_one_by_one():
    net = CNN(classes=3, widths=(2,), hidden=4)
    x, index = np.random.default_rng(0).normal(size=(2, 4, 6, 1)).astype(np.float32), np.arange(2)
    variables = jax.jit(lambda x: net.init(jax.random.key(0), x, index))(x)
    params = jax.tree.map(np.asarray, variables["params"])
    padded = np.pad(x[..., 0], ((0, 0), (1, 1), (1, 1)))
    kernel = params["Conv_0"]["kernel"][:, :, 0]  # biases begin at 0
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    y = np.maximum(np.einsum("nhwij,ijf->nhwf", windows, kernel), 0)
    y = y.reshape(2, 2, 2, 3, 2, 2).max((2, 4)).reshape(2, -1)
    y = np.maximum(y @ params["Dense_0"]["kernel"], 0) @ params["Dense_1"]["kernel"]
    found = jax.jit(lambda x: net.apply(variables, x, index))(x)
    np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"train": True}, {"drop": True}])
def test_a_quarter_of_the_channels_is_dropped_in_training_or_where_asked(options):
    net, x, index = CNN(classes=3, widths=(2,), hidden=4), jnp.zeros((1, 4, 4, 1)), jnp.arange(1)
    calls = []

    def look(call, arguments, keywords, context):
        if isinstance(context.module, ChannelDropout):
            calls.append((context.module.rate, arguments[2]))
        return call(*arguments, **keywords)

    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    with nn.intercept_methods(look):
        jax.eval_shape(lambda: net.init(keys, x, index, **options))
    assert calls == [(0.25, bool(options))]
