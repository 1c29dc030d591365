from itertools import pairwise

import flax.linen as nn
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


def calls_of(kind, net, shape, **options):
    """The modules of a kind that a net calls, and the arguments, without computing: {path: ...}."""
    found = {}

    def look(call, arguments, keywords, context):
        if isinstance(context.module, kind):
            found["/".join(context.module.path)] = context.module, arguments
        return call(*arguments, **keywords)

    with nn.intercept_methods(look):
        shape_of(net, shape, **options)
    return found


def parameters_of(net, shape):
    """Shapes of the parameters, without computing them."""
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(lambda x: init(net, x, INDEX), x)["params"]


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
        {"stem": 2, "head": 3},
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


def test_the_default_net_has_the_parameters_of_its_docstring():
    widths, count = (32, 64, 128, 256), 0
    for before, width in zip((5, *widths), widths, strict=False):
        count += 9 * (before + width) * width + 2 * 2 * width  # two convolutions, two norms
    for width, below in pairwise(widths):
        count += (below + 1) * width + 9 * (2 + 1) * width**2 + 2 * 2 * width
    count += (32 + 1) * 3
    net = UNet(classes=3)
    assert sum(leaf.size for leaf in jax.tree.leaves(parameters_of(net, (1, 8, 8, 5)))) == count
    layers = calls_of((nn.GroupNorm, unet.ChannelDropout), net, (1, 8, 8, 5)).values()
    assert {getattr(layer, "num_groups", 8) for layer, _ in layers} == {8}
    assert {getattr(layer, "rate", 0.0) for layer, _ in layers} == {0.0}


def test_groups_are_lowered_where_the_width_is_no_multiple():
    norms = calls_of(nn.GroupNorm, UNet(classes=2, widths=(12,)), (1, 4, 4, 1))
    assert {norm.num_groups for norm, _ in norms.values()} == {4}


@pytest.mark.parametrize("train", [False, True])
def test_the_two_deepest_levels_and_the_decoder_drop_channels_in_training(train):
    net = UNet(classes=2, widths=(4, 4, 4, 4), dropout=0.5)
    found = {
        path.split("/")[0]: (dropout.rate, arguments[2])
        for path, (dropout, arguments) in calls_of(
            unet.ChannelDropout, net, (1, 8, 8, 1), train=train
        ).items()
    }
    assert found == {
        name: (0.0 if name in ("encoder0", "encoder1") else 0.5, train)
        for name in (*(f"encoder{level}" for level in range(4)), "decoder0", "decoder1", "decoder2")
    }


def test_the_second_stream_is_half_as_wide_and_the_stem_covers_its_stride():
    net = UNet(classes=2, widths=(8, 40), stem=3, second_stream=2, convolutions=1)
    params = parameters_of(net, (1, 6, 6, 5))
    shape = lambda block, layer: params[block][layer]["kernel"].shape
    assert params["encoder_stem"]["kernel"].shape == (5, 5, 3, 8)
    assert params["second_stem"]["kernel"].shape == (5, 5, 2, 8)
    assert shape("second0", "Conv_0") == (3, 3, 8, 8)  # at least 8
    assert shape("second1", "Conv_0") == (3, 3, 8, 20)
    assert shape("gate0", "Conv_1") == (1, 1, 16, 4)  # at least 4
    assert shape("gate1", "Conv_1") == (1, 1, 80, 10)


def test_the_gate_weighs_the_second_stream_by_squeeze_and_excitation():
    gate, x, other = unet.Gate(8, jnp.float32), picture((2, 3, 4, 8)), picture((2, 3, 4, 3), 1)

    @jax.jit
    def run():
        variables = gate.init(jax.random.key(0), x, other)
        return gate.apply(variables, x, other), variables["params"]

    found, params = jax.device_get(run())
    first, second, third = (params[f"Conv_{number}"]["kernel"][0, 0] for number in range(3))
    other = other @ first  # the biases begin at 0
    pooled = np.concatenate([x, other], -1).mean((1, 2))
    weight = 1 / (1 + np.exp(-np.maximum(pooled @ second, 0) @ third))
    np.testing.assert_allclose(found, x + weight[:, None, None] * other, atol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_a_residual_block_adds_its_input_before_the_last_activation(kind):
    block = unet.Block(3, 2, kind, "none", 8, 0.0, jnp.float32)
    x = picture((1, 4, 5, 3))
    shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), x, INDEX, False, False))
    assert set(shapes["params"]) == {"Conv_0", "Conv_1"}
    assert set(shapes["params"]["Conv_0"]) == {"kernel", "bias"}  # no norm has one for it
    nothing = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    found = block.apply(nothing, x, INDEX, False, False)
    np.testing.assert_array_equal(found, np.maximum(x, 0) if kind == "residual" else 0 * x)


def test_batch_statistics_move_by_a_twentieth_in_training_alone():
    block = unet.Block(3, 1, "plain", "batch", 8, 0.0, jnp.float32)
    x = picture((1, 1, 1, 2))

    @jax.jit
    def run():
        variables = block.init(jax.random.key(0), x, INDEX, True, False)
        _, train = block.apply(variables, x, INDEX, True, False, mutable=["batch_stats"])
        return variables, train, block.apply(variables, x, INDEX, False, False)

    variables, train, still = jax.device_get(run())
    value = x[0, 0, 0] @ variables["params"]["Conv_0"]["kernel"][1, 1]
    stats = train["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], 0.05 * value, rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.95, rtol=1e-5)
    # With the running statistics, still mean 0 and variance 1.
    np.testing.assert_allclose(still[0, 0, 0], np.maximum(value, 0), rtol=1e-4)


@pytest.mark.parametrize(("kind", "reach"), [("transpose", 0), ("resize", 1)])
def test_upsampling_spreads_a_pixel_over_two_by_two_or_bilinearly(kind, reach):
    x = np.zeros((1, 5, 6, 2), np.float32)
    x[0, 1, 3] = 1
    up = unet.Up(3, kind, jnp.float32)
    found = np.asarray(jax.jit(lambda: up.apply(up.init(jax.random.key(0), x), x))())
    assert found.shape == (1, 10, 12, 3)
    touched = np.argwhere(found[0].any(-1))
    assert touched.min(0).tolist() == [2 - reach, 6 - reach]
    assert touched.max(0).tolist() == [3 + reach, 7 + reach]


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
        ({"widths": ()}, "at least 1"),
        ({"widths": (4, 0)}, "at least 1"),
        ({"stem": 0}, "at least 1"),
        ({"head": 2}, "head must be an odd number, got 2"),
        ({"convolutions": 0}, "at least 1"),
        ({"dropout": -0.1}, "dropout"),
        ({"up": "pool"}, "up must be one of resize, transpose"),
        ({"second_stream": 3}, "the input has 3 channels"),
        ({"mean": (0.5,) * 4, "std": (0.2,) * 4}, "mean has 4 numbers, but the input has 3"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        shape_of(UNet(**({"classes": 2} | options)), (1, 8, 8, 3))


def test_the_smallest_net_is_accepted_and_one_without_classes_refused():
    smallest = UNet(classes=1, widths=(1, 1), convolutions=1)
    assert shape_of(smallest, (1, 2, 2, 1)).shape == (1, 2, 2, 1)
    with pytest.raises(ValueError, match="classes >= 1"):
        shape_of(UNet(), (1, 8, 8, 3))


def test_channels_are_brought_to_mean_0_and_deviation_1():
    x = jax.random.uniform(jax.random.key(3), (1, 8, 8, 3), minval=-1.0)
    plain, own = UNet(2, (8, 8)), UNet(2, (8, 8), mean=(0.2, 0.7), std=(0.1, 0.4))
    image = (np.asarray(x) + 1) / 2
    channels = [(image[..., 0] - 0.2) / 0.1, (image[..., 1] - 0.7) / 0.4, x[..., 2]]  # a cue last
    wanted = jnp.asarray(np.stack(channels, -1))
    np.testing.assert_allclose(run(own, x), run(plain, wanted), atol=2e-5)
