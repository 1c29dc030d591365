import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxseg.cues import filters


@pytest.mark.parametrize("order", [(0, 0), (0, 1), (1, 0), (2, 0), (1, 1)])
@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (31, 17, 3), (2, filters.MATRIX + 1)])
def test_gaussian_derivatives_are_those_of_scipy(order, shape):
    image = np.random.default_rng(0).random(shape, np.float32)
    ours = filters.smooth(image, 1.5, *([order] if any(order) else []))
    # scipy's second derivative is not that of a parabola.
    theirs = (
        ndimage.gaussian_filter(image, 1.5, (*order, 0)[: image.ndim], axes=(0, 1))
        if (image.ndim == 2)
        else np.stack([ndimage.gaussian_filter(image[..., c], 1.5, order) for c in range(3)], -1)
    )
    np.testing.assert_allclose(ours, theirs, atol=2e-3 if 2 in order else 1e-5)


@pytest.mark.parametrize("sigma", [0.3, 0.5, 0.7, 1.0, 2.0])
def test_a_second_derivative_of_known_functions(sigma):
    x = np.float32(np.arange(41) - 20)
    second = lambda values: np.asarray(filters.smooth(values[:, None], sigma, (2, 0)))[10:-10, 0]
    for values, wanted in ((x * 0 + 1, 0), (x / 10, 0), (x**2 / 2, 1), (x - x**2, -2)):
        np.testing.assert_allclose(second(values), wanted, atol=5e-4)
    # A slow wave keeps its phase and has its frequency's square, damped by the Gaussian.
    wave = -(0.3**2) * np.exp(-((0.3 * sigma) ** 2) / 2) * np.sin(0.3 * x)
    np.testing.assert_allclose(second(np.sin(0.3 * x)), wave[10:-10], atol=1e-3)


def test_kernels_by_hand():
    """Three samples of a Gaussian: 1 and e^-2 twice, over their sum."""
    edge = np.exp(-2) / (1 + 2 * np.exp(-2))
    kernel = lambda order: filters.gaussian_kernel(0.5, order, truncate=1.0)
    np.testing.assert_allclose(kernel(0), [edge, 1 - 2 * edge, edge])
    np.testing.assert_allclose(kernel(1), [-4 * edge, 0, 4 * edge])
    np.testing.assert_allclose(kernel(2), [1, -2, 1])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 40), (33, 16)])
@pytest.mark.parametrize("side", [1, 7])
def test_a_bank_is_a_correlation_with_each_kernel(height, width, side):
    rng = np.random.default_rng(side)
    image, kernels = rng.random((height, width)), rng.normal(size=(2, side, side))
    bank = jax.jit(lambda image: filters.filter_bank(image, kernels))
    ours = np.asarray(bank(np.float32(image)))
    for number, kernel in enumerate(kernels):
        theirs = ndimage.correlate(image, kernel, mode="reflect")
        np.testing.assert_allclose(ours[..., number], theirs, atol=1e-4)


@pytest.mark.parametrize(("sigma", "radius"), [(0.05, 1), (1.35, 5), (1.4, 6), (2.0, 8)])
def test_kernels_reach_four_standard_deviations(sigma, radius):
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    weights /= weights.sum()
    for order, expected in ((0, weights), (1, weights * x / sigma**2)):
        np.testing.assert_allclose(filters.gaussian_kernel(sigma, order), expected)
    second = filters.gaussian_kernel(sigma, 2)
    moments = [second @ x**power for power in range(4)]  # of a constant, a ramp, x^2 and x^3
    np.testing.assert_allclose(moments, [0, 0, 2, 0], atol=1e-9)
    np.testing.assert_allclose(filters.gaussian_kernel(sigma), weights)
    with pytest.raises(ValueError, match="order must be 0, 1 or 2, got 3"):
        filters.gaussian_kernel(sigma, 3)


def test_sizes_of_transforms_have_no_factors_but_two_three_and_five():
    sizes = {1: 1, 7: 8, 11: 12, 13: 15, 17: 18, 21: 24, 26: 27, 49: 50, 121: 125}
    assert {size: filters._smooth_size(size) for size in sizes} == sizes


def test_luminance_weighs_the_primaries():
    primaries = np.eye(4, dtype=np.float32)[None, :, :4]
    np.testing.assert_allclose(filters.luminance(primaries), [[0.2126, 0.7152, 0.0722, 0]])
    np.testing.assert_array_equal(filters.luminance(np.full((2, 2, 1), 0.3)), np.full((2, 2), 0.3))
