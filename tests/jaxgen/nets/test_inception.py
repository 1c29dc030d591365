"""The net against PyTorch's, whose outputs for weights by rule are written down here."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxgen.nets import inception


def weight(name, shape):
    """Weights by rule, the same here as where PyTorch's outputs were taken."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.random(shape, np.float32)
    if name.endswith("running_var") or ".bn.weight" in name:
        return 0.5 + values
    if len(shape) == 1:
        return 0.2 * values - 0.1
    # Uniform with the variance 2 / inputs.
    return (2 * values - 1) * np.float32(np.sqrt(6 / np.prod(shape[1:])))


def image(height, width, channels):
    rng = np.random.default_rng(height)
    return rng.integers(0, 256, (1, height, width, channels)).astype(np.float32) / 255


# Of image(28, 28, 1), one row each of torch-fidelity 0.4.0 and pytorch-fid 0.3.0 under
# torch 2.13: features at PLACES, their mean, and of the former some logits.
PLACES = [0, 1, 319, 320, 700, 1087, 1500, 1855, 1856, 2047]
EXPECTED = {
    "torch-fidelity": (
        [3.01214, 0.0, 3.40337, 11.59996, 4.61054, 0.0, 8.54043, 6.56917, 0.98442, 0.01523],
        2.610054,
    ),
    "pytorch-fid": (
        [3.05919, 0.0, 3.55212, 11.37678, 4.53526, 0.0, 8.54538, 6.47973, 1.29445, 0.01103],
        2.623778,
    ),
}
LOGITS = {0: -2.86957, 500: -15.62437, 1007: -2.8211}


@pytest.fixture(scope="module")
def tensors():
    return {name: weight(name, shape) for name, shape in inception.layout().items()}


def test_features_and_logits_are_those_of_both_tools(tensors):
    x = image(28, 28, 1)
    prepared = np.concatenate([inception.prepare(x, tool) for tool in EXPECTED])
    variables = inception.from_port(tensors)
    features, logits = jax.device_get(jax.jit(inception.InceptionV3().apply)(variables, prepared))
    for row, (values, mean) in enumerate(EXPECTED.values()):
        np.testing.assert_allclose(features[row, PLACES], values, atol=1e-4)
        assert features[row].mean() == pytest.approx(mean, abs=1e-5)
    for place, value in LOGITS.items():
        assert logits[0, place] == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("shape", [(28, 28, 1), (40, 33, 3), (320, 350, 3)])
def test_images_are_resized_as_the_tools_do(shape):
    x = image(*shape)
    squares = jax.image.resize(x, (1, 299, 299, shape[2]), "bilinear", antialias=False)
    wanted = np.broadcast_to(2 * squares - 1, (1, 299, 299, 3))
    np.testing.assert_allclose(inception.prepare(x, "pytorch-fid"), wanted, atol=1e-4)
    places = np.meshgrid(*(np.arange(299) * side / 299 for side in shape[:2]), indexing="ij")
    for channel in range(3):
        plane = x[0, ..., min(channel, shape[2] - 1)] * 255
        points = ndimage.map_coordinates(plane, places, order=1, mode="nearest")
        found = inception.prepare(x)[0, ..., channel]
        np.testing.assert_allclose(found, (points - 128) / 128, atol=1e-4)


def test_the_layout_is_that_of_the_port():
    layout = inception.layout()
    assert len(layout) == 472
    assert sum(np.prod(shape) for shape in layout.values()) == 23_885_392
    assert layout["Conv2d_1a_3x3.conv.weight"] == (32, 3, 3, 3)
    assert layout["Mixed_6c.branch7x7_2.conv.weight"] == (160, 160, 1, 7)
    assert layout["Mixed_7c.branch3x3dbl_3b.bn.running_var"] == (384,)
    assert layout["fc.weight"] == (1008, 2048)


def test_the_first_tensor_that_differs_is_named(tensors):
    some = dict(tensors)
    del some["Mixed_7c.branch_pool.bn.bias"]
    with pytest.raises(ValueError, match=r"Mixed_7c.branch_pool.bn.bias is missing.*\[192\]"):
        inception.from_port(some)
    some["Mixed_5b.branch1x1.conv.weight"] = np.zeros((64, 192, 3, 3))
    with pytest.raises(ValueError, match=r"Mixed_5b.*\[64, 192, 3, 3\].*\[64, 192, 1, 1\]"):
        inception.from_port(some)


def test_other_images_and_tools_are_refused():
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        inception.prepare(jnp.zeros((1, 8, 8, 2)))
    with pytest.raises(ValueError, match="torch-fidelity, pytorch-fid"):
        inception.prepare(jnp.zeros((1, 8, 8, 1)), "clean-fid")
