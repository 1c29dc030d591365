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
    grey = np.random.default_rng(0).random((12, 14)).astype(np.float32)
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
