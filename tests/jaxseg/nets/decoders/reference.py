"""Maps, parameters and slow numpy layers for the tests of decoders."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

INDEX = np.array([3, 7], np.int32)


def maps_of(size, strides, channels, batch=2, seed=0):
    """Random maps of an image of `size`, one for each stride."""
    rng = np.random.default_rng(seed)
    shape = lambda stride, width: (batch, size[0] // stride, size[1] // stride, width)
    return tuple(
        rng.normal(size=shape(stride, width)).astype(np.float32)
        for stride, width in zip(strides, channels, strict=True)
    )


def variables_of(decoder, maps, strides):
    """Variables of a decoder, see `drawn`."""
    return drawn(decoder, maps, strides, INDEX[: len(maps[0])])


def drawn(net, *arguments):
    """Variables of a net, each drawn anew: with fresh ones an unused scale is invisible."""
    rng = np.random.default_rng(1)
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    shapes = jax.eval_shape(lambda: net.init(rngs, *arguments))

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            return rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        return rng.uniform(0.5, 1.5, leaf.shape) - (name in ("bias", "mean"))

    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float32), jax.tree_util.tree_map_with_path(draw, shapes)
    )


def decoded(decoder, maps, strides):
    """What a decoder makes of maps, and its variables."""
    variables = variables_of(decoder, maps, strides)
    return np.asarray(jax.jit(lambda v, m: decoder.apply(v, m, strides, INDEX))(variables, maps)), (
        jax.tree.map(np.asarray, variables)
    )


def convolve(x, layer, dilation=1):
    """A convolution with zeros around the map, one of each channel if the kernel is so."""
    kernel = layer["kernel"]
    far = dilation * (kernel.shape[0] // 2)
    padded = np.pad(x, ((0, 0), (far, far), (far, far), (0, 0)))
    total = 0.0
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            rows, columns = i * dilation, j * dilation
            seen = padded[:, rows : rows + x.shape[1], columns : columns + x.shape[2]]
            each = kernel.shape[2] == 1 and x.shape[-1] > 1
            total = total + (seen * kernel[i, j, 0] if each else seen @ kernel[i, j])
    return total + layer.get("bias", 0.0)


def batch_norm(x, layer, stats):
    """A batch norm by its running statistics."""
    return (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * layer["scale"] + layer["bias"]


def conv_norm(x, variables, name, dilation=1):
    """The `ConvNorm` called `name` of a decoder."""
    layer, stats = variables["params"][name], variables["batch_stats"][name]
    for number in range(2 if "Conv_1" in layer else 1):
        x = convolve(x, layer[f"Conv_{number}"], dilation if number == 0 else 1)
    normed = batch_norm(x, layer["Norm_0"]["BatchNorm_0"], stats["Norm_0"]["BatchNorm_0"])
    return np.maximum(normed, 0.0)


def bilinear(x, height, width):
    """Bilinear enlargement by scipy."""
    zoom = (1, height / x.shape[1], width / x.shape[2], 1)
    return ndimage.zoom(x, zoom, order=1, mode="nearest", grid_mode=True)


def same(got, wanted):
    """Asserts that two maps are equal but for rounding, and not trivial."""
    assert got.std() > 0.05
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
