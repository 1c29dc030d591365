import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxgen.metrics import ssim

ms_ssim = jax.jit(ssim.ms_ssim)


def by_scipy(x, y, weights):
    """MS-SSIM of two grey images by scipy's Gaussian filter."""
    weights = np.array(weights) / sum(weights)
    value = 1.0
    for number, weight in enumerate(weights):
        if number:
            x, y = (z.reshape(z.shape[0] // 2, 2, -1, 2).mean((1, 3)) for z in (x, y))
        blur = lambda z: ndimage.gaussian_filter(z, 1.5, radius=5)[5:-5, 5:-5]
        a, b = blur(x), blur(y)
        spread = blur(x * x) - a * a + blur(y * y) - b * b
        structure = (2 * (blur(x * y) - a * b) + 0.0009) / (spread + 0.0009)
        if number == len(weights) - 1:
            structure = structure * (2 * a * b + 0.0001) / (a * a + b * b + 0.0001)
        value *= structure.mean() ** weight
    return value


@pytest.mark.parametrize(
    ("side", "weights"),
    [
        (28, (0.0448, 0.2856)),
        (16, (0.0448,)),
        (176, (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)),
    ],
)
def test_it_is_what_scipy_gives(side, weights):
    rng = np.random.default_rng(side)
    smooth = ndimage.gaussian_filter(rng.uniform(size=(3, side, side)), (0, 2, 2))
    x = np.clip(0.5 + 3 * (smooth - smooth.mean()), 0, 1)
    y = np.clip(0.8 * x + rng.normal(0, 0.05, x.shape), 0, 1)
    assert ssim.scales(side, side) == len(weights)
    found = ms_ssim(x[..., None].astype(np.float32), y[..., None].astype(np.float32))
    np.testing.assert_allclose(
        found, [by_scipy(*pair, weights) for pair in zip(x, y, strict=True)], rtol=2e-4
    )


@pytest.mark.parametrize("shape", [(28, 28, 3), (8, 8, 1), (9, 30, 1)])
def test_bounds_and_symmetry_at_any_size(shape):
    x, y = np.random.default_rng(0).uniform(size=(2, 4, *shape)).astype(np.float32)
    np.testing.assert_allclose(ms_ssim(x, x), 1.0, atol=1e-5)
    found = ms_ssim(x, y)
    np.testing.assert_allclose(found, ms_ssim(y, x), atol=1e-5)
    assert found.max() < 0.7
    assert found.min() >= 0
