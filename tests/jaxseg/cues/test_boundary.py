import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxseg.cues import boundary

strength = jax.jit(boundary.strength, static_argnums=1)


def picture(seed=0, shape=(32, 40)):
    """Smooth blobs of two colours with noise: [H, W, 3]."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=shape), 4)
    colours = np.where((field > 0)[..., None], [0.8, 0.6, 0.3], [0.3, 0.4, 0.5])
    return np.clip(colours + rng.normal(0, 0.02, (*shape, 3)), 0, 1).astype(np.float32)


def canny_reference(image, sigma, low, high):
    """Canny by scipy.ndimage, in float64."""
    grey = image.astype(float) @ [0.2126, 0.7152, 0.0722]
    down, right = (
        ndimage.gaussian_filter(grey, sigma, order, mode="reflect") for order in ((1, 0), (0, 1))
    )
    length = np.hypot(down, right)
    rows, columns = np.indices(grey.shape)
    unit = np.stack([down, right]) / np.maximum(length, 1e-12)
    beside = [
        ndimage.map_coordinates(
            length, [rows + s * unit[0], columns + s * unit[1]], order=1, mode="nearest"
        )
        for s in (1, -1)
    ]
    height = np.where(length >= np.maximum(*beside), length, 0) * sigma * np.sqrt(2 * np.pi)
    labels, count = ndimage.label(height > low, np.ones((3, 3)))
    strong = ndimage.maximum(height, labels, np.arange(1, count + 1)) > high
    return np.isin(labels, 1 + np.flatnonzero(strong))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_canny_against_scipy(seed):
    image = picture(seed)
    found = jax.jit(boundary.canny, static_argnums=1)(image, 1.4, 0.1, 0.2)
    expected = canny_reference(image, 1.4, 0.1, 0.2)
    assert 20 < expected.sum() < 400
    # A tie between neighbours may fall either way in float32.
    assert np.sum(np.asarray(found) != expected) <= 2


def test_the_height_of_an_ideal_step():
    image = np.where(np.arange(40) < 20, 0.25, 0.75)[None, :, None] * np.ones((30, 1, 1))
    height = np.asarray(boundary.step_height(jnp.asarray(image, jnp.float32), 2.0))
    np.testing.assert_allclose(height[:, 19:21].max(1), 0.5, rtol=0.05)
    assert height[:, :18].max() < 1e-4


def test_hysteresis_follows_a_winding_line():
    line = np.zeros((20, 20), np.float32)
    line[2, 2:18] = line[2:15, 17] = line[14, 5:18] = 0.3
    line[2, 2] = 0.9
    line[18, :4] = 0.3  # weak, and alone
    found = np.asarray(boundary.hysteresis(jnp.asarray(line), 0.2, 0.5))
    np.testing.assert_array_equal(found, (line > 0) & (np.indices(line.shape)[0] < 18))


@pytest.mark.parametrize("kind", ["lightness", "colour", "texture"])
def test_strength_finds_each_kind_of_boundary(kind):
    left, right = np.zeros((2, 32, 40, 3))
    if kind == "lightness":
        left, right = left + 0.4, right + 0.6
    elif kind == "colour":  # about the same luminance
        left[:], right[:] = [0.6, 0.45, 0.4], [0.4, 0.5, 0.5]
    else:  # stripes down and across, of the same mean
        stripes = 0.5 + 0.2 * np.sign(np.sin(np.arange(40) * np.pi / 2 + 0.5))
        left, right = left + stripes[None, :, None], right + stripes[:32, None, None]
    image = np.where(np.arange(40)[None, :, None] < 20, left, right).astype(np.float32)
    smooth = np.asarray(strength(image, False))
    assert 17 <= smooth[8:-8].mean(0).argmax() <= 22
    assert smooth[8:-8, 18:22].max() > 1.5 * np.median(smooth[8:-8, 2:8])
    assert smooth.min() >= 0
    assert smooth.max() <= 1


def test_strength_turns_with_the_image():
    image = picture(3)
    turned = strength(image[::-1, ::-1], False)[::-1, ::-1]
    np.testing.assert_allclose(turned, strength(image, False), atol=2e-3)


def test_ridges_are_the_middle_of_a_band():
    band = np.exp(-0.5 * ((np.arange(40) - 20) / 3.0) ** 2)[None] * np.ones((32, 1))
    found = np.asarray(boundary.ridges(jnp.asarray(band, jnp.float32)))
    np.testing.assert_array_equal(np.nonzero((found > 0.1).all(0))[0], [20])
    assert (found > 0.1).sum() == 32


def test_channels_have_a_gradient_and_map():
    features = boundary.channels(scales=(1.0,))
    images = jnp.stack([picture(0), np.full((32, 40, 3), 0.5, np.float32)])

    def loss(images):
        found = jax.vmap(lambda image: features({"image": image}))(images)
        return jnp.mean(found**2), found

    gradient, found = jax.jit(jax.grad(loss, has_aux=True))(images)
    assert found.shape == (2, 32, 40, 3)
    assert found.min() >= -1.0
    assert 0.2 < found[0].std() < 3
    assert bool(jnp.isfinite(gradient).all())  # also where nothing changes
    assert float(jnp.abs(gradient[0]).max()) > 0


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 33, 1)])
def test_an_image_of_one_colour_has_no_boundary(shape):
    compiled = jax.jit(lambda image: (boundary.strength(image), boundary.canny(image)))
    for value in (0.0, 0.7, np.nan):
        found, edges = compiled(jnp.full(shape, value, jnp.float32))
        assert float(found.max()) < 1e-3
        assert not bool(edges.any())


@pytest.mark.parametrize("scales", [(), (1.0, -2.0), (0,)])
def test_scales_must_be_positive(scales):
    with pytest.raises(ValueError, match="positive"):
        boundary.channels(scales)
