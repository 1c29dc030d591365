import jax
import numpy as np
import pytest

from jaxseg.nets.decoders import layers
from tests.jaxseg.nets.decoders import reference

X = np.random.default_rng(0).normal(size=(2, 5, 7, 6)).astype(np.float32)


def test_top_down_adds_all_coarser_maps():
    rng = np.random.default_rng(1)
    maps = [rng.normal(size=(1, n, 2 * n, 3)).astype(np.float32) for n in (8, 4, 2)]
    got = layers.top_down(list(maps))
    middle = maps[1] + reference.bilinear(maps[2], 4, 8)
    np.testing.assert_allclose(got[2], maps[2])
    np.testing.assert_allclose(got[1], middle, atol=1e-5)
    np.testing.assert_allclose(got[0], maps[0] + reference.bilinear(middle, 8, 16), atol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 3, 6])
def test_pool_to_averages_regions_that_may_overlap(side):
    got = layers.pool_to(X, side)
    assert got.shape == (2, side, side, 6)
    for i in range(side):
        rows = slice(int(np.floor(i * 5 / side)), int(np.ceil((i + 1) * 5 / side)))
        for j in range(side):
            columns = slice(int(np.floor(j * 7 / side)), int(np.ceil((j + 1) * 7 / side)))
            mean = X[:, rows, columns].mean((1, 2))
            np.testing.assert_allclose(got[:, i, j], mean, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"dilation": 2}, {"dilation": 2, "separable": True}])
def test_conv_norm_is_convolution_then_norm_then_relu(options):
    layer = layers.ConvNorm(4, 3, **options)
    variables = jax.tree.map(np.asarray, layer.init(jax.random.key(0), X, False))
    variables["batch_stats"]["Norm_0"]["BatchNorm_0"] = {
        "mean": np.linspace(-1, 1, 4, dtype=np.float32),
        "var": np.linspace(0.5, 2, 4, dtype=np.float32),
    }
    named = {key: {"it": value} for key, value in variables.items()}
    got = np.asarray(layer.apply(variables, X, False))
    reference.same(got, reference.conv_norm(X, named, "it", options.get("dilation", 1)))


def test_batch_norm_learns_statistics_unless_they_are_frozen():
    for frozen in (False, True):
        norm = layers.Norm("batch", frozen, np.float32)
        variables = norm.init(jax.random.key(0), X, True)
        y, changed = norm.apply(variables, X, True, mutable=["batch_stats"])
        if frozen:
            np.testing.assert_allclose(y, X / np.sqrt(1 + 1e-5), rtol=1e-5)
            assert changed["batch_stats"].keys() == variables["batch_stats"].keys()
            jax.tree.map(
                np.testing.assert_array_equal, changed["batch_stats"], variables["batch_stats"]
            )
        else:
            np.testing.assert_allclose(np.mean(y, (0, 1, 2)), 0.0, atol=1e-5)
            mean = changed["batch_stats"]["BatchNorm_0"]["mean"]
            np.testing.assert_allclose(mean, 0.05 * X.mean((0, 1, 2)), atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "groups"), [(64, 8), (16, 4), (12, 3), (8, 2), (6, 1), (20, 5)]
)
def test_groups_divide_the_channels_and_hold_four_or_more(channels, groups):
    x = np.random.default_rng(2).normal(size=(2, 3, 4, channels)).astype(np.float32)
    norm = layers.Norm("group", False, np.float32)
    got = norm.apply(norm.init(jax.random.key(0), x, True), x, True)
    parts = x.reshape(2, 12, groups, -1)
    mean, var = (f(parts, (1, 3), keepdims=True) for f in (np.mean, np.var))
    wanted = (parts - mean) / np.sqrt(var + 1e-6)
    np.testing.assert_allclose(got, wanted.reshape(x.shape), atol=1e-4)
