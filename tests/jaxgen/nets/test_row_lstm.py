import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nets.row_lstm import RowLSTM, lstm_cell
from tests.jaxgen.nets.test_masked import at, brute_mask, normal, parameters

SIZE, INPUTS = 5, 6


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cell(gates, memory):
    """Equation 3: o, f, i, g; f with a bias of 1."""
    o, f, i, g = np.split(np.asarray(gates, np.float64), 4)
    memory = sigmoid(f + 1) * memory + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(memory), memory


def reference(params, x, bias, groups=1):
    """One pixel after another of one image [H, W, F]."""
    conv = params["MaskedConv_0"]
    before, own = np.array(conv["kernel"]).reshape(2, x.shape[-1], -1)
    if groups > 1:
        own = own * brute_mask(*own.shape, groups, "B", 4)
    state, memory = np.zeros((2, *x.shape[:2], SIZE))
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            gates = at(x, i, j - 1) @ before + x[i, j] @ own + conv["bias"] + bias
            above = [at(state, i - 1, j + right) for right in (-1, 0, 1)]
            gates = gates + np.concatenate(above) @ params["recurrent"]
            state[i, j], memory[i, j] = cell(gates, at(memory, i - 1, j))
    return state


def make(groups=1, shape=(2, 4, 5, INPUTS)):
    x, bias = normal(*shape), normal(shape[0], 4 * SIZE, seed=1)
    layer = RowLSTM(SIZE, groups)
    params = parameters(layer, x, None, bias)
    return layer, params, x, bias


def test_the_cell_is_equation_3():
    gates, memory = 3 * normal(20, 4 * SIZE), normal(20, SIZE, seed=1)
    found = lstm_cell(jnp.asarray(gates), jnp.asarray(memory))
    wanted = zip(*[cell(g, m) for g, m in zip(gates, memory, strict=True)], strict=True)
    for one, two in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, np.stack(two), atol=1e-6)


@pytest.mark.parametrize(
    ("groups", "shape"),
    [
        (1, (2, 4, 5, INPUTS)),
        (3, (2, 4, 5, INPUTS)),
        (1, (1, 5, 1, INPUTS)),
        (1, (1, 1, 3, INPUTS)),
    ],
    ids=str,
)
def test_a_map_against_a_loop_over_pixels(groups, shape):
    layer, params, x, bias = make(groups, shape)
    found = jax.jit(lambda x: layer.apply({"params": params}, x, None, bias))(x)
    wanted = [reference(params, *one, groups) for one in zip(x, bias, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_state_sees_three_pixels_above_and_one_to_the_left():
    layer, params, x, bias = make(shape=(1, 5, 7, INPUTS))
    whole = jax.jit(lambda x: layer.apply({"params": params}, x[None], None, bias)[0, 4, 3])
    slopes = np.abs(np.asarray(jax.jit(jax.jacobian(whole))(x[0]))).sum((0, 3))
    # d rows up: from one further left than the triangle of states, to its right edge.
    wanted = [[3 - d - 1 <= column <= 3 + d for column in range(7)] for d in (4, 3, 2, 1, 0)]
    np.testing.assert_array_equal(slopes > 0, wanted)


def test_from_pixel_to_pixel_it_gives_the_map():
    layer, params, x, bias = make(3)
    apply = functools.partial(layer.apply, {"params": params}, mutable=["cache"])
    whole, state = jax.jit(lambda x: apply(x, None, bias))(x)
    garbage = jax.tree.map(lambda grid: grid.at[1:].set(jnp.nan), state["cache"])

    @jax.jit
    def step(cache, pixel, place):
        variables = {"params": params, "cache": cache}
        found, state = layer.apply(variables, pixel, None, bias, place, mutable=["cache"])
        return found, state["cache"]

    for i in range(1, 4):
        for j in range(5):
            found, garbage = step(garbage, x[:, i, j], (i, j))
            np.testing.assert_allclose(found, whole[:, i, j], atol=1e-5)
