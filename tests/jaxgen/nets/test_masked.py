import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgen.nets import masked

OFFSETS = {
    "raster": masked.raster(3),
    "wide": masked.raster(5),
    "above": masked.above(3),
    "own": masked.above(3, own=True),
    "left": masked.left(5),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parameters(layer, *args, seed=0, size=0.5):
    """Random parameters of a layer, so that no bias is zero, without a compilation."""
    rng = np.random.default_rng(seed)
    init = lambda key: layer.init(key, *args, mutable=["params"])["params"]
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda x: size * rng.normal(size=x.shape).astype(np.float32), shapes)


def at(x, *place):
    """x[place], or zeros beside the map."""
    inside = all(0 <= i < n for i, n in zip(place, x.shape, strict=False))
    return x[place] if inside else np.zeros_like(x[(0,) * len(place)])


def group(number, size, groups):
    """The channel that a feature of so many belongs to."""
    bounds = [-(-size * g // groups) for g in range(groups + 1)]
    return next(g for g in range(groups) if bounds[g] <= number < bounds[g + 1])


def brute_mask(inputs, outputs, groups, kind, parts):
    mask = np.zeros((inputs, outputs), bool)
    for i in range(inputs):
        for o in range(outputs):
            one = group(i, inputs, groups)
            two = group(o % (outputs // parts), outputs // parts, groups)
            mask[i, o] = one < two or (kind == "B" and one == two)
    return mask


@given(st.data(), st.sampled_from("AB"), st.integers(1, 4), st.integers(1, 4))
def test_a_channel_sees_those_before_it(data, kind, groups, parts):
    inputs, size = (data.draw(st.integers(groups, 9)) for _ in range(2))
    found = masked.channel_mask(inputs, parts * size, groups, kind, parts)
    np.testing.assert_array_equal(found, brute_mask(inputs, parts * size, groups, kind, parts))


def test_the_mask_of_three_channels_by_hand():
    ones = [[0, 1, 1], [0, 0, 1], [0, 0, 0]]
    np.testing.assert_array_equal(masked.channel_mask(3, 3, 3, "A"), ones)
    np.testing.assert_array_equal(masked.channel_mask(3, 3, 3, "B"), np.eye(3) + ones)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((3, 3, 3, "C"), "kind A or B; got 'C'"),
        ((2, 6, 3, "A"), "cannot be divided into 3 groups"),
        ((6, 8, 3, "B", 4), "give more features"),
        ((6, 7, 1, "B", 2), "in 2 parts"),
    ],
)
def test_features_that_do_not_suffice_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        masked.channel_mask(*args)


@pytest.mark.parametrize("size", [-1, 0, 1, 4])
@pytest.mark.parametrize("offsets", [masked.raster, masked.above, masked.left])
def test_a_convolution_has_an_odd_side(offsets, size):
    with pytest.raises(ValueError, match=f"odd and at least 3, got {size}"):
        offsets(size)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_neighbours_come_before_a_pixel(size):
    reach = size // 2
    square = [(a, b) for a in range(-reach, reach + 1) for b in range(-reach, reach + 1)]
    rows = [place for place in square if place[0] < 0]
    assert masked.above(size) == tuple(rows)
    assert masked.above(size, own=True) == tuple(p for p in square if p[0] <= 0)
    assert masked.left(size) == tuple(p for p in square if p[0] == 0 and p[1] <= 0)
    assert masked.raster(size) == tuple(p for p in square if p <= (0, 0))


def test_moved_is_a_shift_with_zeros():
    x, cases = normal(3, 4), [(steps, axis) for steps in range(-5, 6) for axis in ((), (0,), (1,))]
    every = jax.jit(lambda x: [masked.moved(x, steps, *axis) for steps, axis in cases])(x)
    for (steps, axis), found in zip(cases, every, strict=True):
        axis = axis[0] if axis else 0
        wanted = np.zeros_like(x)
        for i in range(x.shape[axis]):
            if 0 <= i - steps < x.shape[axis]:
                wanted.swapaxes(0, axis)[i] = x.swapaxes(0, axis)[i - steps]
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", OFFSETS)
def test_neighbours_against_a_loop(name):
    offsets, grid = OFFSETS[name], normal(4, 3, 2, 5)
    here = jax.jit(lambda row, column: masked.neighbours(grid, offsets, (row, column)))
    whole_row = jax.jit(lambda row: masked.neighbours(grid, offsets, (row, None)))
    for row in range(4):
        wanted = [
            np.concatenate([at(grid, row + down, column + right) for down, right in offsets], -1)
            for column in range(3)
        ]
        np.testing.assert_array_equal(whole_row(row), wanted)
        for column in range(3):
            np.testing.assert_array_equal(here(row, column), wanted[column])


def test_write_replaces_a_pixel_or_a_row():
    grid, pixel, line = normal(4, 3, 2, 5), normal(2, 5, seed=1), normal(3, 2, 5, seed=2)
    write = jax.jit(masked.write)
    for row, column in np.ndindex(4, 3):
        wanted = grid.copy()
        wanted[row, column] = pixel
        np.testing.assert_array_equal(write(grid, pixel, (row, column)), wanted)
        wanted[row] = line
        np.testing.assert_array_equal(write(grid, line, (row, None))[row], line)
        np.testing.assert_array_equal(write(wanted, line, (row, None)), wanted)


CONVOLUTIONS = [
    ("raster", "A", 1, 1),
    ("wide", "A", 3, 2),
    ("raster", "B", 3, 1),
    ("left", "B", 3, 4),
    ("left", "A", 1, 2),
    ("own", "B", 1, 1),
    ("above", "B", 1, 2),
]


@pytest.mark.parametrize(("name", "kind", "groups", "parts"), CONVOLUTIONS)
def test_a_masked_convolution_against_a_loop(name, kind, groups, parts):
    x, inputs, features = normal(2, 4, 5, 4), 4, 12
    conv = masked.MaskedConv(features, OFFSETS[name], groups, kind, parts)
    params = parameters(conv, x)
    offsets = [o for o in OFFSETS[name] if o != (0, 0) or kind == "B" or groups > 1]
    kernel = np.array(params["kernel"]).reshape(len(offsets), inputs, features)
    if (0, 0) in offsets:
        kernel[offsets.index((0, 0))] *= brute_mask(inputs, features, groups, kind, parts)
    wanted = np.zeros((2, 4, 5, features))
    for b, i, j in np.ndindex(2, 4, 5):
        near = [at(x[b], i + down, j + right) for down, right in offsets]
        wanted[b, i, j] = params["bias"] + sum(n @ k for n, k in zip(near, kernel, strict=True))
    apply = jax.jit(lambda x, at=None: conv.apply({"params": params}, x, at))
    np.testing.assert_allclose(apply(x), wanted, atol=1e-5)
    grid = np.moveaxis(x, 0, 2)
    row = apply(grid, (2, None))
    np.testing.assert_allclose(np.moveaxis(row, 1, 0), wanted[:, 2], atol=1e-5)
    for column in range(5):
        np.testing.assert_allclose(apply(grid, (2, column)), wanted[:, 2, column], atol=1e-5)


def test_the_head_is_two_layers_masked_by_channels():
    x = normal(2, 3, 6)
    head = masked.Head(9, 3, groups=3)
    params = parameters(head, x)
    wanted = x
    for number, (inputs, outputs) in enumerate([(6, 9), (9, 3)]):
        dense = params[f"PixelDense_{number}"]
        kernel = dense["kernel"] * brute_mask(inputs, outputs, 3, "B", 1)
        wanted = np.maximum(wanted, 0) @ kernel + dense["bias"]
    apply = jax.jit(lambda x: head.apply({"params": params}, x))
    np.testing.assert_allclose(apply(x), wanted, atol=1e-5)
    slopes = jax.jit(jax.jacobian(apply))(np.abs(x[0, 0]))
    assert not np.asarray(slopes[0, 2:]).any()
    assert not np.asarray(slopes[1, 4:]).any()
    assert np.asarray(slopes[2]).any()


def test_features_are_one_group_and_one_part_where_nothing_else_is_said():
    x = normal(1, 2, 3, 4)
    net = masked.PixelDense(6)
    params = parameters(net, x)
    wanted = x @ params["kernel"] + params["bias"]
    np.testing.assert_allclose(net.apply({"params": params}, x), wanted, atol=1e-5)
    net = masked.MaskedConv(6, ((0, 0),))
    params = parameters(net, x)
    wanted = x @ params["kernel"] + params["bias"]
    np.testing.assert_allclose(net.apply({"params": params}, x), wanted, atol=1e-5)
    net = masked.MaskedConv(6, ((0, 0),), 2)
    params = parameters(net, x)
    wanted = x @ (params["kernel"] * brute_mask(4, 6, 2, "B", 1)) + params["bias"]
    np.testing.assert_allclose(net.apply({"params": params}, x), wanted, atol=1e-5)
    net = masked.PixelDense(6, 2)
    found = net.apply({"params": params}, x)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_halves_of_a_float_stay_in_their_type():
    x = normal(1, 3, 3, 2)
    conv = masked.MaskedConv(4, masked.raster(3), dtype=jnp.bfloat16)
    init = functools.partial(conv.init_with_output, mutable=["params"])
    y, variables = jax.eval_shape(init, jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert y.dtype == jnp.bfloat16
    grid = jnp.zeros((3, 3, 1, 2), jnp.bfloat16)
    assert masked.write(grid, jnp.ones((1, 2)), (0, 0)).dtype == jnp.bfloat16
