import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nets.image_transformer import ImageTransformer, _rotated, _turns

KEY = jax.random.key(0)
NET = ImageTransformer(patch=2, width=16, layers=1, heads=2)


def random_params(net, z, t, condition=None):
    shapes = jax.eval_shape(net.init, KEY, z, t, condition)
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), leaf.dtype)
    return jax.tree.map(draw, shapes)


def make_input(shape=(3, 4, 6, 1)):
    z = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return z, np.linspace(0.0, 1.0, shape[0], dtype=np.float32)


def test_a_fresh_net_gives_zero():
    z, t = make_input()
    found, _ = NET.init_with_output(KEY, z, t)
    np.testing.assert_array_equal(found, np.zeros_like(z))


def test_the_result_is_an_image_of_the_same_shape_whatever_the_time():
    z, t = make_input()
    found = NET.apply(random_params(NET, z, t), z, t)
    assert (found.shape, found.dtype) == (z.shape, np.float32)
    assert np.all(np.isfinite(found))


def test_every_pixel_sees_all_others_and_its_own_row_only():
    z, t = make_input()
    params = random_params(NET, z, t)
    slopes = jax.jacrev(lambda z: NET.apply(params, z, t)[:, 0, 0, 0])(z)
    for row in range(len(z)):
        assert np.all(np.abs(slopes[row, row]) > 0)
        assert not np.any(np.delete(np.asarray(slopes[row]), row, axis=0))


@pytest.mark.parametrize("name", ["time", "class"])
def test_it_depends_on_the_time_and_the_class(name):
    z, t = make_input()
    classes = np.eye(3, dtype=np.float32)
    params = random_params(NET, z, t, classes)
    base = NET.apply(params, z, t, classes)
    other = (t[::-1], classes) if name == "time" else (t, classes[::-1])
    changed = np.abs(NET.apply(params, z, *other) - base).max((1, 2, 3))
    assert changed[0] > 1e-3


def test_rotary_products_depend_on_the_distance_alone():
    rows, columns, size = 4, 5, 8
    rng = np.random.default_rng(0)
    queries, keys = (
        np.broadcast_to(rng.normal(size=(1, 1, 1, size)).astype(np.float32), (1, 20, 1, size))
        for _ in range(2)
    )
    turns = _turns(rows, columns, size)
    products = np.einsum("bnhd,bmhd->nm", _rotated(queries, turns), _rotated(keys, turns))
    place = lambda row, column: row * columns + column
    assert products[place(0, 1), place(2, 2)] == pytest.approx(
        products[place(1, 3), place(3, 4)], rel=1e-4
    )
    assert products[place(0, 0), place(0, 0)] != pytest.approx(products[place(0, 0), place(1, 0)])


def test_bfloat16_computes_close_to_float32():
    z, t = make_input()
    params = random_params(NET, z, t)
    half = NET.clone(dtype=jnp.bfloat16).apply(params, z, t)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, NET.apply(params, z, t), atol=0.15)


@pytest.mark.parametrize(
    ("net", "words"),
    [(NET.clone(patch=4), "patch=4 must divide"), (NET.clone(width=18), "multiple of 4 x heads=2")],
)
def test_sizes_that_do_not_fit_are_refused(net, words):
    with pytest.raises(ValueError, match=words):
        net.init(KEY, *make_input())
