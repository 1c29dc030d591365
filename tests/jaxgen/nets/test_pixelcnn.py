import jax
import numpy as np
import pytest

from jaxgen.nets.pixelcnn import PixelCNN
from tests.jaxgen import test_autoregressive
from tests.jaxgen.nets.test_masked import at, brute_mask, normal, parameters
from tests.jaxgen.test_autoregressive import CASES, LIKELIHOODS, NETS


def within(shape, reach):
    """Earlier values in a square around a pixel: no blind spot."""
    places = np.array(list(np.ndindex(*shape)))
    near = np.abs(places[:, None] - places[None])[..., :2].max(-1) <= reach
    return near & test_autoregressive.earlier(shape)


@pytest.mark.parametrize(("name", "channels"), [("binary", 1), ("softmax", 3), ("mixture", 3)])
def test_a_value_depends_on_earlier_ones_only(name, channels):
    shape = (4, 4, channels)
    found = test_autoregressive.seen(NETS["cnn"], shape, LIKELIHOODS[name], classes=2)
    assert not (found & ~test_autoregressive.earlier(shape)).any()
    np.testing.assert_array_equal(found, within(shape, 2))


def test_layers_enough_see_all_earlier_pixels():
    found = test_autoregressive.seen(PixelCNN(3, 6, 6, first=3), (4, 4, 1), LIKELIHOODS["binary"])
    np.testing.assert_array_equal(found, test_autoregressive.earlier((4, 4, 1)))


def test_its_reach_is_that_of_its_kernels():
    net = PixelCNN(2, 6, 6, first=5, kernel=3)
    found = test_autoregressive.seen(net, (5, 8, 1), LIKELIHOODS["binary"])
    np.testing.assert_array_equal(found, within((5, 8, 1), 3))


@pytest.mark.parametrize(
    ("name", "shape", "levels", "label"),
    [
        ("binary", (3, 3, 1), 2, 1),
        ("binary", (1, 3, 3), 2, None),
        ("softmax", (2, 2, 1), 4, 0),
        ("mixture", (1, 2, 1), 256, None),
    ],
)
def test_the_probabilities_of_all_images_sum_to_one(name, shape, levels, label):
    found = test_autoregressive.total(NETS["cnn"], shape, LIKELIHOODS[name], levels, label)
    assert found == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("name", "channels", "classes"), CASES)
def test_images_are_those_of_the_naive_loop(name, channels, classes):
    test_autoregressive.check_draws(NETS["cnn"], name, channels, classes)


def test_layers_where_none_are_given():
    """Seven: of 7 x 7 without the pixel itself, then of 3 x 3 with it."""
    net, x = PixelCNN(), np.zeros((1, 9, 9, 1), np.float32)
    params = jax.eval_shape(lambda: net.init(jax.random.key(0), x))["params"]
    kernels = [params[f"_Gated_{number}"] for number in range(len(params) - 1)]
    assert [k["vertical"]["kernel"].shape for k in kernels] == [(3 * 7, 64), *[(6 * 32, 64)] * 6]
    assert [k["horizontal"]["kernel"].shape for k in kernels] == [(3, 64), *[(2 * 32, 64)] * 6]
    assert [layer["kernel"].shape for layer in params["head"].values()] == [(32, 64), (64, 1)]


def conv(x, params, near, mask=None):
    """One pixel after another of [H, W, F]; the mask is that of the pixel itself."""
    kernel = np.array(params["kernel"]).reshape(len(near), x.shape[-1], -1)
    if mask is not None:
        kernel[near.index((0, 0))] *= mask
    found = np.zeros((*x.shape[:2], kernel.shape[-1]))
    for i, j in np.ndindex(x.shape[:2]):
        seen = [at(x, i + down, j + right) for down, right in near]
        found[i, j] = params["bias"] + sum(s @ k for s, k in zip(seen, kernel, strict=True))
    return found


def gate(x):
    """Equation 2."""
    value, control = np.split(x, 2, -1)
    return np.tanh(value) / (1 + np.exp(-control))


def reference(params, x, label, groups):
    """Figure 2 of one image, layer after layer."""
    v = h = x
    for number, size in enumerate((5, 3)):
        layer, reach = params[f"_Gated_{number}"], size // 2
        biases = [
            label @ layer[f"{name}_condition"]["kernel"] for name in ("vertical", "horizontal")
        ]
        columns = range(-reach, reach + 1)
        above = [(down, right) for down in range(-reach, number) for right in columns]
        fed = conv(v, layer["vertical"], above)
        link = fed @ layer["link"]["kernel"] + layer["link"]["bias"]
        left = [(0, right) for right in range(-reach, 1)]
        kind, mask = "AB"[number], None
        if groups > 1:
            mask = brute_mask(h.shape[-1], 12, groups, kind, 2)
        elif kind == "A":
            left = left[:-1]
        out = gate(conv(h, layer["horizontal"], left, mask) + link + biases[1])
        out = conv(out, layer["out"], [(0, 0)], brute_mask(6, 6, groups, "B", 1))
        v, h = gate(fed + biases[0]), out if number == 0 else h + out
    for name, sizes in (("PixelDense_0", (6, 9)), ("PixelDense_1", (9, 3))):
        mask = brute_mask(*sizes, groups, "B", 1)
        h = conv(np.maximum(h, 0), params["head"][name], [(0, 0)], mask)
    return h


@pytest.mark.parametrize("groups", [1, 3])
def test_gated_layers_against_a_loop_over_pixels(groups):
    x, label = normal(2, 4, 5, 3), np.eye(3)[[2, 0]]
    net = PixelCNN(2, 6, 9, first=5, outputs=3, groups=groups)
    params = parameters(net, x, label)
    found = jax.jit(lambda x: net.apply({"params": params}, x, label))(x)
    wanted = [reference(params, *one, groups) for one in zip(x, label, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
