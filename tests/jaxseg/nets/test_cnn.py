import flax.linen as nn
import jax
import jax.numpy as jnp
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
