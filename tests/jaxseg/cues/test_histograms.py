import jax
import numpy as np
from scipy import ndimage

from jaxseg.cues import histograms


def test_lab_of_known_colours():
    colours = np.float32([[[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1], [0.5, 0.5, 0.5]]])
    expected = [
        [100, 0, 0],
        [0, 0, 0],
        [53.24, 80.09, 67.20],
        [32.30, 79.19, -107.86],
        [53.39, 0, 0],
    ]
    np.testing.assert_allclose(jax.jit(histograms.lab)(colours)[0], expected, atol=0.05)


def cie_lab(colour):
    """CIE Lab of sRGB, from the primaries' chromaticities and the standard's 216 / 24389."""
    xy = np.array([[0.64, 0.33], [0.30, 0.60], [0.15, 0.06]])
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in xy]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    matrix = xyz * np.linalg.solve(xyz, white)
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    share = linear @ matrix.T / white
    f = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def test_lab_of_any_colour_dark_ones_too():
    rng = np.random.default_rng(0)
    colours = np.stack([rng.random((40, 3)), 0.1 * rng.random((40, 3))]).astype(np.float32)
    found = jax.jit(histograms.lab)(colours)
    np.testing.assert_allclose(found, cie_lab(colours.astype(float)), atol=0.02)
    more = np.concatenate([colours, colours[..., :1]], -1)  # a fourth channel does not count
    np.testing.assert_array_equal(jax.jit(histograms.lab)(more), found)


def test_lab_of_grey_has_no_colour():
    grey = np.float32(np.random.default_rng(0).random((3, 4, 1)))
    found = np.asarray(jax.jit(histograms.lab)(grey))
    np.testing.assert_allclose(found[..., 1:], 0.0, atol=1e-2)
    assert (np.diff(found[..., 0].ravel()[grey.ravel().argsort()]) >= 0).all()


def test_a_value_is_shared_by_the_two_bins_beside_it():
    values = np.float32([[-9.0, -1.0, 0.25], [1.0, 1.5, 9.0]])
    found = histograms.histogram(values, -1.0, 2.0, 4)  # centres -1, 0, 1, 2
    expected = [
        [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0.75, 0.25, 0]],
        [[0, 0, 1, 0], [0, 0, 0.5, 0.5], [0, 0, 0, 1]],
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_block_means_with_the_last_row_and_column_repeated():
    array = np.random.default_rng(0).random((5, 7, 2)).astype(np.float32)
    found = histograms.block_means(array, 3)
    padded = np.pad(array, ((0, 1), (0, 2), (0, 0)), mode="edge")
    np.testing.assert_allclose(found, padded.reshape(2, 3, 3, 3, 2).mean((1, 3)), rtol=1e-5)


def test_textons_are_the_energies_of_bars():
    # So little contrast that some of it counts as flat.
    grey = 0.3 * np.random.default_rng(0).random((12, 14)).astype(np.float32)
    found = np.asarray(jax.jit(histograms.textons)(grey))
    bars = []
    for sigma in (1.0, 2.0):
        filtered = lambda order, sigma=sigma: ndimage.gaussian_filter(grey, sigma, order) * sigma**2
        yy, xx, xy = filtered((2, 0)), filtered((0, 2)), filtered((1, 1))
        for angle in np.pi * np.arange(4) / 4:
            c, s = np.cos(angle), np.sin(angle)
            bars.append(c * c * xx + 2 * c * s * xy + s * s * yy)
    bars = np.stack(bars, -1)
    energy = np.concatenate([np.maximum(bars, 0), np.maximum(-bars, 0)], -1) ** 2
    total = energy.sum(-1, keepdims=True) + 0.03**2
    # scipy's second derivative is not made to sum to zero.
    np.testing.assert_allclose(found[..., :16], energy / total, atol=5e-3)
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-5)
