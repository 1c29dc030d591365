from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.nets import EncoderDecoder
from jaxseg.nets.decoders import (
    FPN,
    DeepLabV3Plus,
    LinearProbe,
    SegFormerHead,
    UNetDecoder,
    UPerNet,
)
from jaxseg.nets.encoder_decoder import normalise
from tests.jaxseg.nets.decoders.reference import INDEX, batch_norm, bilinear, convolve, drawn


class Encoder(nn.Module):
    """Means of patches, convolved: what every encoder must keep to, and no more."""

    strides: tuple = (2, 4, 8)
    dtype: Any = jnp.float32
    mean: ClassVar = (0.4, 0.5, 0.6)
    std: ClassVar = (0.2, 0.3, 0.4)

    @nn.compact
    def __call__(self, x, index, train=False, drop=False):
        assert x.dtype == self.dtype
        assert (train, drop) in ((False, False), (True, False), (False, True))
        self.sow("intermediates", "input", x)
        batch, height, width, _ = x.shape
        patches = lambda s: x.reshape(batch, height // s, s, width // s, s, -1)
        pooled = [jnp.mean(patches(s), (2, 4)) for s in self.strides]
        layer = lambda n: nn.Conv(4 + n, (3, 3), dtype=self.dtype, name=f"layer{n}")
        return tuple(nn.relu(layer(n)(x)) for n, x in enumerate(pooled))


DECODERS = [
    DeepLabV3Plus(width=8, low=4, rates=(1, 2), norm="group"),
    FPN(width=8, branch=8, norm="group"),
    LinearProbe(norm="group"),
    SegFormerHead(width=8, norm="group"),
    UNetDecoder(widths=(8, 8, 8), norm="group"),
    UPerNet(width=8, regions=(1, 2), norm="group"),
]


def make(decoder=None, encoder=None, **options):
    decoder = decoder or SegFormerHead(width=8, norm="group")
    return EncoderDecoder(encoder or Encoder(), decoder, **({"classes": 3} | options))


def picture(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def start(net, x):
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    return net.init(keys, x[:1], INDEX[:1], True)


def shape_of(net, shape):
    call = lambda x: net.apply(start(net, x), x, INDEX[: len(x)])
    return jax.eval_shape(call, jax.ShapeDtypeStruct(shape, jnp.float32))


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: type(decoder).__name__)
@pytest.mark.parametrize("strides", [(2, 4, 8, 16, 32), (4, 8, 16, 32), (14,)])
def test_logits_are_as_large_as_the_image(decoder, strides):
    decoder = decoder.clone(widths=(8,) * 5) if isinstance(decoder, UNetDecoder) else decoder
    net = make(decoder, Encoder(strides=strides))
    if strides == (14,) and isinstance(decoder, DeepLabV3Plus | UNetDecoder):
        with pytest.raises(ValueError, match=r"strides \(14,\)"):
            shape_of(net, (2, 33, 47, 5))
        return
    logits = shape_of(net, (2, 33, 47, 5))
    assert logits.shape == (2, 33, 47, 3)
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize("size", [(1, 1), (16, 24), (3, 100)])
def test_any_size_works(size):
    assert shape_of(make(UNetDecoder(widths=(8, 8))), (2, *size, 3)).shape == (2, *size, 3)


def test_the_batch_does_not_change_an_example():
    net = make(SegFormerHead(width=8, norm="group", dropout=0.3), dropout=0.3)
    x = picture((2, 9, 13, 3))
    variables, rngs = drawn(net, x, INDEX), {"dropout": jax.random.key(1)}

    @jax.jit
    def run(x):
        alone = [
            net.apply(variables, x[n : n + 1], INDEX[n : n + 1], drop=True, rngs=rngs)
            for n in range(2)
        ]
        both = net.apply(variables, x, INDEX, drop=True, rngs=rngs)
        return jnp.concatenate(alone), both, net.apply(variables, x, INDEX)

    alone, both, without = run(x)
    np.testing.assert_allclose(alone, both, atol=1e-5)
    assert np.abs(both - without).max() > 0.1


def test_logits_are_the_head_enlarged_and_cropped():
    net, x = make(LinearProbe(), classes=2), picture((2, 13, 20, 3))
    variables = drawn(net, x, INDEX)
    logits = jax.jit(net.apply)(variables, x, INDEX)
    # Image edges repeated to 16 x 24; patches of 8 x 8 normalised by the encoder's statistics.
    padded = np.pad(x, ((0, 0), (0, 3), (0, 4), (0, 0)), mode="edge")
    normed = ((padded + 1) / 2 - np.array(Encoder.mean)) / np.array(Encoder.std)
    patches = normed.reshape(2, 2, 8, 3, 8, 3).mean((2, 4))
    params = jax.tree.map(np.asarray, variables["params"])
    convolved = convolve(patches, params["encoder"]["layer2"])
    norm, stats = params["decoder"]["norm"], variables["batch_stats"]["decoder"]["norm"]
    last = batch_norm(
        np.maximum(convolved, 0.0),
        norm["BatchNorm_0"],
        jax.tree.map(np.asarray, stats["BatchNorm_0"]),
    )
    wanted = last @ params["head"]["kernel"][0, 0] + params["head"]["bias"]
    np.testing.assert_allclose(logits, bilinear(wanted, 16, 24)[:, :13, :20], atol=1e-5)
    assert np.std(logits) > 0.1


def test_the_head_sees_the_neighbours_of_a_pixel():
    x, one = picture((1, 16, 24, 3)), INDEX[:1]
    wide, narrow = make(head=3), make()
    params = drawn(wide, x, one)["params"]
    kernel = params["head"]["kernel"]
    middle = params | {"head": params["head"] | {"kernel": kernel[1:2, 1:2]}}
    alone = jnp.zeros_like(kernel).at[1, 1].set(kernel[1, 1])  # without neighbours
    apply = lambda net, params: np.asarray(net.apply({"params": params}, x, one))
    assert np.abs(apply(wide, params) - apply(narrow, middle)).max() > 0.01
    alone = params | {"head": params["head"] | {"kernel": alone}}
    np.testing.assert_allclose(apply(wide, alone), apply(narrow, middle), atol=1e-5)


def test_parameters_are_those_of_encoder_decoder_and_head():
    net = make(UNetDecoder(widths=(8, 8), dropout=0.1))
    variables = jax.eval_shape(lambda: start(net, picture((1, 8, 8, 3))))
    assert sorted(variables["params"]) == ["decoder", "encoder", "head"]
    assert sorted(variables["params"]["encoder"]) == ["layer0", "layer1", "layer2"]
    assert sorted(variables["batch_stats"]) == ["decoder"]


def test_gradients_reach_every_parameter():
    net, x = make(SegFormerHead(width=8, finest=2, norm="group")), picture((2, 9, 9, 3))
    params = drawn(net, x, INDEX)["params"]
    loss = lambda params: jnp.sum(jnp.cos(net.apply({"params": params}, x, INDEX, True)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params)):
        assert np.abs(leaf).max() > 1e-4, jax.tree_util.keystr(path)


def input_of_encoder(net, x):
    variables = drawn(net, x, INDEX)
    found = jax.jit(lambda x: net.apply(variables, x, INDEX, mutable=["intermediates"])[1])(x)
    return found["intermediates"]["encoder"]["input"][0]


@pytest.mark.parametrize(
    ("channels", "mean", "std"),
    [
        (3, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]),
        (1, [0.5], [0.3]),
        (2, [0.4, 0.5], [0.2, 0.3]),
        (5, [0.4, 0.5, 0.6, 0.4, 0.5], [0.2, 0.3, 0.4, 0.2, 0.3]),
    ],
)
def test_the_encoder_sees_images_as_in_its_own_training(channels, mean, std):
    x = picture((2, 8, 8, channels))
    wanted = ((x + 1) / 2 - mean) / std
    np.testing.assert_allclose(input_of_encoder(make(), x), wanted, atol=1e-5)


def test_own_statistics_leave_further_channels_as_they_are():
    x = picture((2, 8, 8, 4))
    got = input_of_encoder(make(mean=(0.1, 0.2), std=(0.3, 0.5)), x)
    np.testing.assert_allclose(
        got[..., :2], ((x[..., :2] + 1) / 2 - [0.1, 0.2]) / [0.3, 0.5], rtol=1e-5
    )
    np.testing.assert_allclose(got[..., 2:], x[..., 2:], atol=1e-6)


def test_normalise_keeps_the_dtype():
    x = picture((1, 2, 2, 3)).astype(jnp.bfloat16)
    assert normalise(jnp.asarray(x), (0.5,) * 3, (0.5,) * 3, own=True).dtype == jnp.bfloat16


def test_both_parts_compute_in_the_dtype_of_the_net():
    net = make(dtype=jnp.bfloat16)
    assert net.encoder.dtype == net.decoder.dtype == jnp.bfloat16
    assert net.clone(classes=7).encoder.dtype == jnp.bfloat16
    assert net.clone(dtype=jnp.float32).decoder.dtype == jnp.float32
    # Flax's norms promote bfloat16 to float32, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        assert shape_of(net, (2, 8, 8, 3)).dtype == jnp.float32
        variables = jax.eval_shape(lambda: start(net, picture((1, 8, 8, 3))))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


class Plain(nn.Module):
    """An encoder without options."""

    strides: ClassVar = (1,)
    mean: ClassVar = (0.5,)
    std: ClassVar = (0.5,)

    def __call__(self, x, index, train=False, drop=False):
        return (x,)


def test_a_part_without_a_dtype_is_left_alone():
    net, x = make(LinearProbe(norm="group"), Plain(), dtype=jnp.bfloat16), picture((2, 3, 5, 4))
    assert net.encoder == Plain()
    with jax.numpy_dtype_promotion("standard"):
        assert shape_of(net, x.shape).shape == (2, 3, 5, 3)


@pytest.mark.parametrize(("strides", "multiple"), [((2, 4, 8), 8), ((14,), 14), ((4, 14), 28)])
def test_sides_are_padded_to_all_strides(strides, multiple):
    assert make(encoder=Encoder(strides=strides)).multiple == multiple


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 0}, "EncoderDecoder needs classes >= 1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"head": 2}, "head must be an odd number, got 2"),
        ({"mean": (0.5,)}, "mean and std must be as long as one another"),
        ({"mean": (0.5,) * 4, "std": (0.2,) * 4}, "mean has 4 numbers, but the input has 3"),
        ({"mean": (0.5,) * 3, "std": (0.2, 0.0, 0.2)}, "std must be above 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        shape_of(make(**options), (2, 8, 8, 3))


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_part_must_be_a_module(part):
    parts = {"encoder": Encoder(), "decoder": FPN()} | {part: {"depth": 18}}
    with pytest.raises(ValueError, match=rf'{part} must be a Flax module.*"jaxseg.nets.{part}s:'):
        EncoderDecoder(**parts)


class Wrong(Encoder):
    """Says strides that its maps do not have."""

    @nn.compact
    def __call__(self, x, index, train=False, drop=False):
        return x[:, ::2, ::2], x[:, ::4, ::4]


def test_maps_must_have_the_strides_that_the_encoder_says():
    with pytest.raises(
        ValueError, match=r"Wrong has strides \(2, 4, 8\).*16 x 24.*\(2, 3\)\]; it gave"
    ):
        shape_of(make(encoder=Wrong()), (2, 9, 17, 3))
