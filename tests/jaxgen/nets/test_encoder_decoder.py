import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgen import nets
from jaxgen.nets import encoder_decoder
from tests.jaxgen.nets.test_masked import normal, parameters

SHAPES = [(8, 8, 1), (28, 28, 1), (7, 13, 3), (5, 4, 1)]
KEY = jax.random.key(0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["MLP", "Conv"])
@pytest.mark.parametrize("conditional", [False, True])
def test_any_image_size(kind, shape, conditional):
    """Shapes only: nothing is computed."""
    encoder = getattr(nets, f"{kind}Encoder")(latents=6, widths=(8, 4))
    decoder = getattr(nets, f"{kind}Decoder")(widths=(8, 4))
    condition = jnp.zeros((2, 3)) if conditional else None

    def both(key):
        (mean, log_std), _ = encoder.init_with_output(key, jnp.zeros((2, *shape)), condition)
        return mean, log_std, decoder.init_with_output(key, mean, shape)[0]

    mean, log_std, decoded = jax.eval_shape(both, KEY)
    assert mean.shape == log_std.shape == (2, 6)
    assert decoded.shape == (2, *shape)


@pytest.mark.parametrize("kind", ["MLP", "Conv"])
def test_bfloat16_computes_with_float32_parameters(kind):
    encoder = getattr(nets, f"{kind}Encoder")(latents=3, dtype=jnp.bfloat16)
    decoder = getattr(nets, f"{kind}Decoder")(dtype=jnp.bfloat16)
    x, z = np.abs(normal(2, 8, 8, 1)), jnp.zeros((2, 3))
    init = lambda key: decoder.init_with_output(key, z, (8, 8, 1))
    decoded, variables = jax.eval_shape(init, KEY)
    params = parameters(encoder, x, size=0.05)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, variables))} == {np.dtype("float32")}

    @jax.jit
    def means(x):
        whole = getattr(nets, f"{kind}Encoder")(latents=3)
        return [net.apply({"params": params}, x)[0] for net in (encoder, whole)]

    mean, full = means(x)
    assert mean.dtype == decoded.dtype == jnp.float32
    assert 0 < np.abs(full - mean).max() < 0.05 * np.abs(full).max()


def test_widths_where_none_are_given():
    def kernels(net, *arguments):
        params = jax.eval_shape(lambda: net.init(KEY, *arguments))["params"]
        return [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim > 1]

    x, z, shape = jnp.zeros((1, 8, 8, 1)), jnp.zeros((1, 3)), (8, 8, 1)
    assert kernels(nets.MLPEncoder(3), x) == [(64, 500), (500, 6)]
    assert kernels(nets.MLPDecoder(), z, shape) == [(3, 500), (500, 64)]
    assert kernels(nets.ConvEncoder(3), x) == [(3, 3, 1, 32), (3, 3, 32, 64), (4 * 64, 6)]
    found = kernels(nets.ConvDecoder(), z, shape)
    assert found == [(4, 4, 64, 32), (4, 4, 32, 1), (3, 4 * 64)]


def dense(x, params):
    return x @ params["kernel"] + params["bias"]


def test_mlps_are_dense_layers():
    x, condition = normal(2, 3, 2, 1), np.eye(2, dtype=np.float32)
    encoder, decoder = nets.MLPEncoder(3, (5, 4)), nets.MLPDecoder((5,), activation="tanh")
    params = parameters(encoder, x, condition)
    h = np.concatenate([x.reshape(2, -1), condition], axis=1)
    for number in range(2):
        h = np.maximum(dense(h, params[f"Dense_{number}"]), 0)
    wanted = dense(h, params["posterior"])
    mean, log_std = encoder.apply({"params": params}, x, condition)
    np.testing.assert_allclose(mean, wanted[:, :3], atol=1e-5)
    np.testing.assert_allclose(log_std, wanted[:, 3:], atol=1e-5)
    z = normal(2, 3)
    params = parameters(decoder, z, (3, 2, 1))
    wanted = dense(np.tanh(dense(z, params["Dense_0"])), params["Dense_1"])
    found = decoder.apply({"params": params}, z, (3, 2, 1))
    np.testing.assert_allclose(found, wanted.reshape(2, 3, 2, 1), atol=1e-5)


def conv(x, params, stride=1):
    """A convolution with SAME padding, one pixel after another."""
    size, sides = params["kernel"].shape[0], x.shape[1:3]
    out = [-(-side // stride) for side in sides]
    before = [
        max((new - 1) * stride + size - side, 0) // 2 for new, side in zip(out, sides, strict=True)
    ]
    padded = np.pad(x, ((0, 0), (before[0], size), (before[1], size), (0, 0)))
    found = np.zeros((len(x), *out, params["bias"].size), np.float32)
    for i, j in np.ndindex(*out):
        patch = padded[:, stride * i : stride * i + size, stride * j : stride * j + size]
        found[:, i, j] = np.einsum("bhwc,hwcf->bf", patch, params["kernel"]) + params["bias"]
    return found


@pytest.mark.parametrize("shape", [(8, 6, 1), (5, 7, 2)])
def test_the_encoder_is_strided_convolutions_and_a_dense_layer(shape):
    x, condition = normal(2, *shape), np.eye(2, dtype=np.float32)
    net = nets.ConvEncoder(3, (4, 5))
    params = parameters(net, x, condition, size=0.2)
    h = x
    for number in range(2):
        h = np.maximum(conv(h, params[f"Conv_{number}"], stride=2), 0)
    wanted = dense(np.concatenate([h.reshape(2, -1), condition], axis=1), params["posterior"])
    found = jax.jit(functools.partial(net.apply, {"params": params}))(x, condition)
    np.testing.assert_allclose(np.concatenate(found, axis=1), wanted, atol=1e-4)


def doubled(x, params):
    """A transposed 4 x 4 convolution of stride 2: each pixel adds a block of 4 x 4 pixels."""
    batch, height, width, _ = x.shape
    found = np.zeros((batch, 2 * height + 2, 2 * width + 2, params["bias"].size), np.float32)
    kernel = params["kernel"][::-1, ::-1]
    for i, j in np.ndindex(height, width):
        block = np.einsum("bc,hwcf->bhwf", x[:, i, j], kernel)
        found[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += block
    return found[:, 1:-1, 1:-1] + params["bias"]


@pytest.mark.parametrize("shape", [(8, 4, 1), (5, 7, 2)])
def test_the_decoder_doubles_and_crops(shape):
    z, net = normal(2, 3), nets.ConvDecoder((4, 5))
    params = parameters(net, z, shape, size=0.2)
    sizes = [tuple(-(-side // 2**level) for side in shape[:2]) for level in range(3)]
    h = np.maximum(dense(z, params["Dense_0"]), 0).reshape(2, *sizes[2], 5)
    for number, size in enumerate((sizes[1], sizes[0])):
        h = doubled(h, params[f"ConvTranspose_{number}"])[:, : size[0], : size[1]]
        h = np.maximum(h, 0) if number == 0 else h
    found = jax.jit(lambda z: net.apply({"params": params}, z, shape))(z)
    np.testing.assert_allclose(found, h, atol=1e-4)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 6))
def test_sizes_halve_rounding_up_or_are_refused(height, width, halvings):
    if min(height, width) < 2**halvings:
        with pytest.raises(ValueError, match=rf"at least {2**halvings} pixels; got"):
            encoder_decoder.sizes((height, width, 1), halvings)
        return
    found = encoder_decoder.sizes((height, width, 1), halvings)
    wanted = [(-(-height // 2**k), -(-width // 2**k)) for k in range(halvings + 1)]
    assert found == wanted


def test_images_too_small_are_refused_by_name():
    with pytest.raises(ValueError, match=r"halve the image 3 times.*at least 8 pixels; got 7 x 9"):
        nets.ConvEncoder(latents=2, widths=(4, 4, 4)).init(KEY, jnp.zeros((1, 7, 9, 1)))
    with pytest.raises(ValueError, match="halve the image 3 times"):
        nets.ConvDecoder(widths=(4, 4, 4)).init(KEY, jnp.zeros((1, 2)), (9, 7, 1))


def test_unknown_activation_is_refused_by_name():
    with pytest.raises(ValueError, match="no activation 'rleu'"):
        nets.MLPDecoder(activation="rleu").init(KEY, jnp.zeros((1, 2)), (4, 4, 1))
