import jax
import numpy as np
import pytest

from jaxgen.nets.pixelrnn import PixelRNN
from jaxgen.nets.row_lstm import RowLSTM
from tests.jaxgen import test_autoregressive
from tests.jaxgen.nets.test_masked import at, brute_mask, normal, parameters
from tests.jaxgen.test_autoregressive import CASES, LIKELIHOODS, NETS

LAYERS = ("row", "diagonal")


def triangle(shape, layers):
    """What Row LSTMs after a convolution of 3 x 3 see of earlier values: no more to the
    right in a row above than its distance; to the left that, and one for each layer.
    """
    places = list(np.ndindex(*shape))
    found = np.zeros((len(places), len(places)), bool)
    for one, (i, j, c) in enumerate(places):
        for two, (row, column, channel) in enumerate(places):
            d = i - row
            if d == 0 and column == j:
                found[one, two] = channel < c
            else:
                last = j + d if d else j - 1
                found[one, two] = d >= 0 and j - d - 1 - layers <= column <= last
    return found


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("name", "channels"), [("binary", 1), ("softmax", 3), ("mixture", 3)])
def test_a_value_depends_on_earlier_ones_only(layer, name, channels):
    shape, net = (4, 4, channels), NETS[layer]
    found = test_autoregressive.seen(net, shape, LIKELIHOODS[name], classes=2)
    earlier = test_autoregressive.earlier(shape)
    assert not (found & ~earlier).any()
    wanted = earlier if layer == "diagonal" else triangle(shape, net.layers)
    np.testing.assert_array_equal(found, wanted)


def test_the_triangle_of_one_row_lstm():
    net = PixelRNN("row", 1, 4, 6, kernel=3)
    found = test_autoregressive.seen(net, (4, 7, 1), LIKELIHOODS["binary"])
    np.testing.assert_array_equal(found, triangle((4, 7, 1), 1))
    last = found[3 * 7 + 3].reshape(4, 7)  # of the pixel in row 3, column 3
    np.testing.assert_array_equal(
        last,
        [
            [1, 1, 1, 1, 1, 1, 1],
            [1, 1, 1, 1, 1, 1, 0],
            [1, 1, 1, 1, 1, 0, 0],
            [0, 1, 1, 0, 0, 0, 0],
        ],
    )


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("name", "shape", "levels", "label"),
    [
        ("binary", (3, 3, 1), 2, 1),
        ("binary", (1, 3, 3), 2, None),
        ("softmax", (2, 2, 1), 4, 0),
        ("mixture", (1, 2, 1), 256, None),
    ],
)
def test_the_probabilities_of_all_images_sum_to_one(layer, name, shape, levels, label):
    found = test_autoregressive.total(NETS[layer], shape, LIKELIHOODS[name], levels, label)
    assert found == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("name", "channels", "classes"), CASES)
def test_images_are_those_of_the_naive_loop(layer, name, channels, classes):
    test_autoregressive.check_draws(NETS[layer], name, channels, classes)


def test_layers_where_none_are_given():
    """As in the paper for MNIST: 7 x 7, seven Row LSTMs of size 16, 32 features in the head."""
    net, x = PixelRNN(), np.zeros((1, 9, 9, 1), np.float32)
    params = jax.eval_shape(lambda: net.init(jax.random.key(0), x, mutable=["params"]))["params"]
    assert params["MaskedConv_0"]["kernel"].shape == (7 * 3 + 3, 2 * 16)
    assert {f"layer_{number}" for number in range(7)} == params.keys() - {"MaskedConv_0", "head"}
    assert params["layer_0"]["RowLSTM_0"]["recurrent"].shape == (3 * 16, 4 * 16)
    assert [layer["kernel"].shape for layer in params["head"].values()] == [(32, 32), (32, 1)]


@pytest.mark.parametrize("groups", [1, 3])
def test_the_net_is_that_of_table_1(groups):
    """Conv 7 x 7 of kind A, x + 1 x 1 of an LSTM of x, then twice relu and 1 x 1."""
    x, label = normal(2, 5, 4, 3), np.eye(3)[[2, 0]]
    net = PixelRNN("row", 1, 6, 9, kernel=7, outputs=3, groups=groups)
    params = parameters(net, x, label)
    found = jax.jit(lambda x: net.apply({"params": params}, x, label))(x)

    def dense(x, params, inputs, outputs):
        return x @ (params["kernel"] * brute_mask(inputs, outputs, groups, "B", 1)) + params["bias"]

    first = params["MaskedConv_0"]
    near = [(a, b) for a in range(-3, 1) for b in range(-3, 4) if (a, b) < (0, 0)]
    kernel = list(np.reshape(first["kernel"], (-1, 3, 12)))
    if groups > 1:
        near += [(0, 0)]
        kernel[-1] = kernel[-1] * brute_mask(3, 12, 3, "A", 1)
    h = np.zeros((2, 5, 4, 12), np.float32)
    for b, i, j in np.ndindex(2, 5, 4):
        seen = [at(x[b], i + down, j + right) for down, right in near]
        h[b, i, j] = first["bias"] + sum(s @ k for s, k in zip(seen, kernel, strict=True))
    layer = params["layer_0"]
    bias = label @ layer["Dense_0"]["kernel"]
    lstm = jax.jit(
        lambda h: RowLSTM(6, groups).apply({"params": layer["RowLSTM_0"]}, h, None, bias)
    )(h)
    h = h + dense(np.asarray(lstm), layer["PixelDense_0"], 6, 12)
    h = dense(np.maximum(h, 0), params["head"]["PixelDense_0"], 12, 9)
    h = dense(np.maximum(h, 0), params["head"]["PixelDense_1"], 9, 3)
    np.testing.assert_allclose(found, h, atol=1e-4)
