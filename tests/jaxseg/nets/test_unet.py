import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.nets import unet
from jaxseg.nets.unet import UNet, resize

INDEX = np.zeros(1, np.int32)


def init(net, x, index, train=True):
    return net.init({"params": jax.random.key(0), "dropout": jax.random.key(0)}, x, index, train)


def run(net, x, index=None, seed=1, **options):
    """Logits of a fresh net, compiled as a whole."""
    index = np.arange(len(x), dtype=np.int32) if index is None else np.int32(index)
    rngs = {"dropout": jax.random.key(seed)}

    @jax.jit
    def logits(x):
        return net.apply(init(net, x[:1], index[:1]), x, index, rngs=rngs, **options)

    return np.asarray(logits(x))


def shape_of(net, shape, train=False):
    """Shapes of the logits, without computing them."""

    def logits(x):
        index = jnp.arange(len(x))
        variables = init(net, x[:1], index[:1])
        rngs = {"dropout": jax.random.key(0)}
        return net.apply(variables, x, index, train, rngs=rngs, mutable=["batch_stats"])[0]

    return jax.eval_shape(logits, jax.ShapeDtypeStruct(shape, jnp.float32))


def picture(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"block": "residual"},
        {"norm": "batch"},
        {"norm": "none"},
        {"up": "transpose"},
        {"stem": 2},
        {"second_stream": 2},
        {"widths": (4,)},
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (5, 19)])
def test_logits_are_as_large_as_the_image(options, size):
    logits = shape_of(UNet(classes=3, **({"widths": (4, 8, 8)} | options)), (2, *size, 5))
    assert logits.shape == (2, *size, 3)
    assert logits.dtype == jnp.float32


def test_logits_are_float32_whatever_the_net_computes_in():
    # Flax's norms promote bfloat16 to float32, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        logits = shape_of(UNet(classes=3, widths=(4, 8), dtype=jnp.bfloat16), (2, 5, 7, 3))
    assert logits.shape == (2, 5, 7, 3)
    assert logits.dtype == jnp.float32


def test_every_option_at_once_gives_finite_logits():
    net = UNet(
        classes=3,
        widths=(4, 8),
        convolutions=1,
        block="residual",
        norm="batch",
        up="transpose",
        stem=2,
        second_stream=2,
        dropout=0.2,
    )
    logits = run(net, picture((2, 5, 9, 5)), drop=True)
    assert np.isfinite(logits).all()
    assert logits.std() > 0


@pytest.mark.parametrize(
    ("options", "multiple"), [({"widths": (4,)}, 1), ({}, 8), ({"stem": 2, "widths": (4, 8, 8)}, 8)]
)
def test_the_padded_sides_are_multiples_of_all_strides_together(options, multiple):
    assert UNet(classes=2, **options).multiple == multiple


def test_padding_repeats_the_last_row_and_column():
    x = picture((1, 3, 5, 2))
    padded = unet.pad_to_multiple(x, 4)
    assert padded.shape == (1, 4, 8, 2)
    np.testing.assert_array_equal(padded, x[:, [0, 1, 2, 2]][:, :, [0, 1, 2, 3, 4, 4, 4, 4]])
    assert unet.pad_to_multiple(padded, 4) is padded


def test_deep_supervision_halves_the_size_and_only_in_training():
    net = UNet(classes=3, widths=(4, 8, 8), deep_supervision=True)
    shapes = [y.shape for y in shape_of(net, (2, 21, 18, 3), train=True)]
    assert shapes == [(2, 21, 18, 3), (2, 11, 9, 3)]
    assert shape_of(net, (2, 21, 18, 3)).shape == (2, 21, 18, 3)


def test_every_skip_reaches_the_output():
    """A U-Net that forgets its full-resolution skip still trains, only worse."""
    net = UNet(classes=2, widths=(4, 8, 8), convolutions=1)
    x = picture((1, 16, 16, 3))
    variables = jax.jit(lambda: init(net, x, INDEX))()
    apply = jax.jit(lambda v: net.apply(v, x, INDEX))
    base = np.asarray(apply(variables))
    for level in range(2):
        kernel = variables["params"][f"decoder{level}"]["Conv_0"]["kernel"]
        assert kernel.shape[2] == 2 * net.widths[level]  # up-sampled and skip, side by side
        changed = jax.tree.map(np.array, variables)
        changed["params"][f"decoder{level}"]["Conv_0"]["kernel"][:, :, net.widths[level] :] = 0
        assert np.abs(np.asarray(apply(changed)) - base).max() > 1e-4


def test_padding_does_not_shift_the_image():
    """A translation by the net's stride moves the logits of a net without borders in reach."""
    net = UNet(classes=2, widths=(4, 8), norm="none", convolutions=1)
    x = picture((1, 32, 32, 1))
    moved, still = np.split(run(net, np.concatenate([np.roll(x, (4, 2), (1, 2)), x])), 2)
    still = np.roll(still, (4, 2), (1, 2))
    np.testing.assert_allclose(moved[:, 10:-10, 10:-10], still[:, 10:-10, 10:-10], atol=1e-5)


def test_dropout_belongs_to_the_example_and_can_be_on_outside_training():
    net = UNet(classes=2, widths=(4, 8), dropout=0.5, norm="batch", convolutions=1)
    x = picture((3, 8, 8, 3))
    x[2] = x[0]
    index = np.int32([5, 9, 5])
    rng = lambda seed: {"dropout": jax.random.key(seed)}
    variables = jax.jit(lambda: init(net, x[:1], index[:1]))()
    dropped = jax.jit(
        lambda x, index, seed: net.apply(variables, x, index, drop=True, rngs=rng(seed))
    )
    calm = jax.jit(lambda x, seed: net.apply(variables, x, index, rngs=rng(seed)))
    out = np.asarray(dropped(x, index, 1))
    np.testing.assert_allclose(out[0], out[2], atol=1e-6)
    np.testing.assert_allclose(out[1:2], dropped(x[1:2], index[1:2], 1), atol=1e-6)
    assert np.abs(np.asarray(dropped(x, index, 2)) - out).max() > 1e-4
    np.testing.assert_array_equal(calm(x, 1), calm(x, 2))


def test_channel_dropout_keeps_the_mean():
    layer = unet.ChannelDropout(0.25)
    x = np.ones((200, 2, 1, 8), np.float32)
    rngs = {"dropout": jax.random.key(0)}
    found = np.asarray(layer.apply({}, x, np.arange(200), True, rngs=rngs))
    assert (found == found[:, :1]).all()  # whole channels
    assert set(np.unique(found).round(4)) == {0.0, np.float32(1 / 0.75).round(4)}
    assert found.mean() == pytest.approx(1.0, abs=0.05)


def test_resize_is_bilinear():
    ramp = np.arange(6.0, dtype=np.float32).reshape(1, 6, 1, 1)
    expected = np.clip(np.arange(12) / 2 - 0.25, 0, 5)
    np.testing.assert_allclose(resize(ramp, 2)[0, :, 0, 0], expected, atol=1e-6)
    assert resize(ramp, 1) is ramp


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": "dense"}, "block must be one of plain, residual"),
        ({"norm": "layer"}, "norm must be one of"),
        ({"dropout": 1.0}, "dropout"),
        ({"classes": 0}, "classes >= 1"),
        ({"widths": ()}, "at least 1"),
        ({"widths": (4, 0)}, "at least 1"),
        ({"stem": 0}, "at least 1"),
        ({"convolutions": 0}, "at least 1"),
        ({"dropout": -0.1}, "dropout"),
        ({"up": "pool"}, "up must be one of resize, transpose"),
        ({"second_stream": 3}, "the input has 3 channels"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        shape_of(UNet(**({"classes": 2} | options)), (1, 8, 8, 3))
