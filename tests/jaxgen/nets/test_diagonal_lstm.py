import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nets.diagonal_lstm import DiagonalBiLSTM, skew, unskew
from tests.jaxgen.nets.test_masked import at, brute_mask, normal, parameters
from tests.jaxgen.nets.test_row_lstm import cell

SIZE, INPUTS = 4, 6


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 4, 2, 2), (2, 1, 3, 2, 2), (1, 3, 1)], ids=str)
def test_a_skewed_map_comes_back(shape):
    batch, height, width, *more = shape
    x = normal(*shape)
    skewed, back = jax.jit(lambda x: (skew(x), unskew(skew(x))))(x)
    assert skewed.shape == (batch, height, width + height - 1, *more)
    wanted = np.zeros_like(skewed)
    for row in range(height):
        wanted[:, row, row : row + width] = x[:, row]
    np.testing.assert_array_equal(skewed, wanted)
    np.testing.assert_array_equal(back, x)


def test_unskew_does_not_look_beyond_the_rows():
    x = normal(1, 3, 4, 2)
    beyond = np.full((1, 3, 6, 2), np.nan, np.float32)
    for row in range(3):
        beyond[:, row, row : row + 4] = x[:, row]
    np.testing.assert_array_equal(jax.jit(unskew)(beyond), x)


def reference(params, x, image, bias, groups):
    """One pixel after another of one image [H, W, F], in both directions."""
    mask = 1 if groups == 1 else brute_mask(INPUTS, 4 * SIZE, groups, "B", 4)
    dense = lambda name, x: x @ (params[name]["kernel"] * mask) + params[name]["bias"] + bias
    height, width = x.shape[:2]
    right, left, memory, other = np.zeros((4, height, width, SIZE))
    for i in range(height):
        for j in range(width):
            before = np.concatenate([at(right, i, j - 1), at(right, i - 1, j)])
            gates = dense("rightward", x[i, j]) + before @ params["recurrent"][0]
            right[i, j], memory[i, j] = cell(gates, at(memory, i, j - 1))
        for j in reversed(range(width)):
            before = np.concatenate([at(left, i, j + 1), at(left, i - 1, j)])
            gates = dense("leftward", x[i, j]) + before @ params["recurrent"][1]
            gates = gates + image[i, j] @ params["image"]["kernel"]
            left[i, j], other[i, j] = cell(gates, at(other, i, j + 1))
    return right + np.concatenate([np.zeros((1, width, SIZE)), left[:-1]])


def make(groups=1, shape=(2, 4, 5)):
    x, image = normal(*shape, INPUTS), normal(*shape, 3, seed=1)
    bias = normal(shape[0], 4 * SIZE, seed=2)
    layer = DiagonalBiLSTM(SIZE, groups)
    params = parameters(layer, x, image, bias)
    return layer, params, x, image, bias


@pytest.mark.parametrize(
    ("groups", "shape"),
    [
        (1, (2, 4, 5)),
        (3, (2, 5, 3)),
        (1, (1, 4, 1)),
        (1, (1, 1, 4)),
    ],
    ids=str,
)
def test_a_map_against_a_loop_over_pixels(groups, shape):
    layer, params, *inputs = make(groups, shape)
    found = jax.jit(lambda *inputs: layer.apply({"params": params}, *inputs))(*inputs)
    wanted = [reference(params, *one, groups) for one in zip(*inputs, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_state_sees_all_pixels_before_it():
    layer, params, x, image, bias = make(shape=(1, 5, 7))

    def pixel(x, image):
        return layer.apply({"params": params}, x[None], image[None], bias)[0, 3, 2]

    slopes = jax.jit(jax.jacobian(pixel, argnums=(0, 1)))(x[0], image[0])
    features, pixels = (np.abs(np.asarray(s)).sum((0, 3)) > 0 for s in slopes)
    before = np.arange(35).reshape(5, 7) < 3 * 7 + 2
    at_it = np.arange(35).reshape(5, 7) == 3 * 7 + 2
    np.testing.assert_array_equal(features, before | at_it)
    # Of the image itself, what the half to the left saw of the rows above.
    above = (np.arange(5)[:, None] < 3) & (np.arange(7) >= 2)
    np.testing.assert_array_equal(pixels, above)


def test_from_pixel_to_pixel_it_gives_the_map():
    layer, params, x, image, bias = make(3)
    apply = functools.partial(layer.apply, {"params": params}, mutable=["cache"])
    whole, state = jax.jit(apply)(x, image, bias)
    # A row knows all of those above it but their last half to the left.
    cache = jax.tree.map(lambda grid: grid.at[1:].set(jnp.nan), state["cache"])
    cache["left"] = cache["left"].at[:].set(jnp.nan)
    known = jnp.moveaxis(jnp.asarray(image), 0, 2)

    @jax.jit
    def step(cache, pixel, place):
        variables = {"params": params, "cache": cache}
        found, state = layer.apply(variables, pixel, known, bias, place, mutable=["cache"])
        return found, state["cache"]

    for i in range(1, 4):
        _, cache = step(cache, None, (i, None))
        for j in range(5):
            found, cache = step(cache, x[:, i, j], (i, j))
            np.testing.assert_allclose(found, whole[:, i, j], atol=1e-5)
