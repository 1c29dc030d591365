import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nets import attention


def reference(centre, stride, variance, size, length):
    """Equations of section 3.2, one weight after another."""
    bank = np.zeros((size, length))
    for i in range(1, size + 1):
        mean = centre + (i - size / 2 - 0.5) * stride
        for a in range(1, length + 1):
            bank[i - 1, a - 1] = np.exp(-((a - mean) ** 2) / (2 * variance))
    return bank / bank.sum(1, keepdims=True)


@pytest.mark.parametrize(("size", "length"), [(1, 9), (4, 6), (5, 1)])
def test_filters_are_normalised_gaussians(size, length):
    rng = np.random.default_rng(size)
    centre, stride, variance = rng.uniform([[-1], [0.1], [0.5]], [[10], [4], [9]], (3, 20))
    found = attention.filterbank(centre, stride, variance, size, length)
    wanted = [reference(*one, size, length) for one in zip(centre, stride, variance, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_filter_far_outside_rests_on_the_edge():
    far = attention.filterbank(jnp.array([-1e4, 1e4]), jnp.ones(2), jnp.full(2, 1e-3), 2, 6)
    np.testing.assert_array_equal(far[0], np.eye(6)[[0, 0]])
    np.testing.assert_array_equal(far[1], np.eye(6)[[5, 5]])


def test_zeros_stand_for_the_whole_image():
    zeros = jnp.zeros((1, attention.PARAMETERS))
    window = attention.window(zeros, (7, 13, 1), 4)
    assert [float(x[0]) for x in window] == [4, 7, 4, 1, 1]  # centre, (13 - 1) / (4 - 1), 1, 1
    assert float(attention.window(zeros, (7, 13, 1), 1).stride[0]) == 12


def test_read_and_write_are_products_with_the_filters():
    rng = np.random.default_rng(0)
    image, patch = rng.normal(size=(2, 6, 9, 3)), rng.normal(size=(2, 4, 4, 3))
    window = attention.window(jnp.asarray(rng.normal(size=(2, 5)) * 0.3), image.shape[1:], 4)
    found, written = attention.read(image, window, 4), attention.write(patch, window, (6, 9, 3))
    assert written.shape == (2, 6, 9, 3)
    for row in range(2):
        y, x, stride, variance, intensity = (float(value[row]) for value in window)
        down = reference(y, stride, variance, 4, 6)
        across = reference(x, stride, variance, 4, 9)
        for channel in range(3):
            seen = intensity * down @ image[row, ..., channel] @ across.T
            np.testing.assert_allclose(found[row, ..., channel], seen, atol=1e-4)
            drawn = down.T @ patch[row, ..., channel] @ across / intensity
            np.testing.assert_allclose(written[row, ..., channel], drawn, atol=1e-4)


def test_a_narrow_window_on_whole_pixels_copies_them():
    image = jnp.arange(42.0).reshape(1, 6, 7, 1)
    one = jnp.ones(1)
    window = attention.Window(3 * one, 5 * one, one, 1e-3 * one, 2 * one)
    np.testing.assert_allclose(
        attention.read(image, window, 3)[0, ..., 0],
        2 * np.arange(42.0).reshape(6, 7)[1:4, 3:6],
        rtol=1e-6,
    )
    back = attention.write(attention.read(image, window, 3), window, (6, 7, 1))[0, ..., 0]
    inside = np.zeros((6, 7), bool)
    inside[1:4, 3:6] = True
    np.testing.assert_allclose(back, np.where(inside, image[0, ..., 0], 0), atol=1e-5)
