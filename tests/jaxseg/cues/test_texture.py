import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxseg.cues import filters, texture


def compiled(function, *options):
    """Compiled as a whole: op by op, the first call of each function takes seconds."""
    return jax.jit(lambda image: function(image, *options))


def noise(shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def grating(angle, wavelength, size=48, amplitude=0.25, phase=0.0):
    y, x = np.mgrid[:size, :size]
    along = x * np.cos(angle) + y * np.sin(angle)
    wave = 0.5 + amplitude * np.sin(2 * np.pi * along / wavelength + phase)
    return wave.astype(np.float32)


def inner(features, margin=12):
    return np.asarray(features)[margin:-margin, margin:-margin]


@pytest.mark.parametrize("sigma", [0.7, 3.0, 9.0])
def test_window_means_against_scipy(sigma):
    image = noise((20, 33, 2))
    expected = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="reflect")
    np.testing.assert_allclose(texture.window_means(image, sigma), expected, atol=1e-6)


def test_window_means_on_a_grid():
    image = noise((20, 33, 2))
    full = texture.window_means(image, 3.0)
    found = texture.window_means(image, 3.0, step=3)  # 7 rows, 11 columns
    assert found.shape == (7, 11, 2)
    # 33 / 11 is whole, so columns lie on the pixels 1, 4, 7; 20 / 7 is not.
    rows = (np.arange(7) + 0.5) * 20 / 7 - 0.5
    for channel in range(2):
        at = np.meshgrid(rows, np.arange(1, 33, 3), indexing="ij")
        expected = ndimage.map_coordinates(np.asarray(full[..., channel]), at, mode="reflect")
        np.testing.assert_allclose(found[..., channel], expected, atol=2e-3)


@pytest.mark.parametrize("phase", [0.0, 1.0])
def test_magnitudes_of_a_sine_are_its_amplitude_whatever_the_phase(phase):
    image = grating(0.0, 6.4, phase=phase)
    found = inner(compiled(texture.magnitudes, (6.4, 12.8), 4)(image), 18)
    np.testing.assert_allclose(found[..., 0], 0.25 * np.pi / 4, rtol=0.05)
    assert found[..., 1:].max() < 0.25 * found[..., 0].min()


def test_local_energies_tell_scale_and_direction():
    energies = compiled(texture.local_energies, (4.0, 8.0), 2)
    for index, angle in enumerate((0.0, np.pi / 2)):
        for scale, wavelength in enumerate((4.0, 8.0)):
            found = inner(energies(grating(angle, wavelength)))
            assert np.all(found.argmax(-1) == 2 * scale + index)


def test_the_defaults_and_the_cue_are_those_of_the_docstrings():
    image = noise((18, 22))

    @jax.jit
    def run(image):
        return (
            texture.magnitudes(image, (4.0, 8.0, 16.0), 4),
            texture.local_energies(image),
            texture.channels()({"image": image[..., None]}),
            texture.magnitudes(image),
            texture.magnitudes(image, (3.5, 6.0, 11.0, 20.0), 6),
        )

    plain, energies, channels, default, chosen = jax.device_get(run(image))
    # Each smoothed by half its wavelength: four orientations of 4, 8 and 16 pixels.
    expected = [
        ndimage.gaussian_filter(plain[..., number], 2 * 2 ** (number // 4), mode="reflect")
        for number in range(12)
    ]
    np.testing.assert_allclose(energies, np.stack(expected, -1), atol=1e-5)
    np.testing.assert_allclose(channels, (np.log(energies + 0.005) + 4.2) / 0.7, atol=1e-4)
    np.testing.assert_allclose(default, chosen, atol=1e-6)


def test_maximum_responses_turn_with_the_image():
    image, responses = noise((32, 32)), compiled(texture.maximum_responses)
    turned, expected = responses(np.rot90(image)), np.rot90(responses(image))
    assert turned.shape == (32, 32, 8)
    np.testing.assert_allclose(turned, expected, atol=1e-5)


def test_weber_is_the_published_formula():
    responses = np.array([[0.3, -0.4], [0.0, 0.0]])
    expected = np.array([[0.6, -0.8], [0, 0]]) * np.log(1 + 0.5 / 0.03)
    np.testing.assert_allclose(texture.weber(jnp.asarray(responses)), expected, atol=1e-5)


def riu2_by_loops(image, points, radius):
    """Pixel by pixel, with scipy's interpolation of the differences."""
    codes = np.zeros(image.shape, int)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            angles = 2 * np.pi * np.arange(points) / points
            places = np.round([y - radius * np.sin(angles), x + radius * np.cos(angles)], 12)
            difference = image.astype(np.float64) - float(image[y, x])
            values = ndimage.map_coordinates(difference, places, order=1, mode="reflect")
            bits = [int(value >= -1e-9) for value in values]
            changes = sum(bits[i] != bits[i - 1] for i in range(points))
            codes[y, x] = sum(bits) if changes <= 2 else points + 1
    return codes


@pytest.mark.parametrize(
    ("points", "radius", "options"),
    [(8, 1.0, ()), (16, 2.0, (16, 2.0)), (8, 1.5, (8, 1.5)), (3, 1.0, (3,)), (12, 1.0, (12,))],
)
def test_local_binary_pattern_against_loops(points, radius, options):
    image = noise((13, 10), seed=points)
    pattern = compiled(texture.local_binary_pattern, *options)
    found = pattern(image)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, riu2_by_loops(image, points, radius))
    # Few grey levels, so that many neighbours are exactly as bright as the pixel.
    for seed in range(4):
        grey = np.random.default_rng(seed).integers(0, 4, (13, 10))
        wanted = riu2_by_loops(grey, points, radius)
        for scale in (1, 1 / 255, 1000):
            levels = np.float32((grey + 200) * scale)
            np.testing.assert_array_equal(pattern(levels), wanted, err_msg=f"{seed} {scale}")


def test_local_binary_pattern_tells_a_difference_beyond_rounding():
    pattern = compiled(texture.local_binary_pattern)
    bright = np.full((9, 9), 0.5, np.float32)
    bright[4, 4] += 2e-7
    bright[0, 0] = 1e6  # far away: it blurs no other pixel
    assert pattern(bright)[4, 4] == 0


def test_local_binary_pattern_of_known_shapes():
    spot = np.zeros((5, 5), np.float32)
    spot[2, 2] = 1
    pattern = compiled(texture.local_binary_pattern)
    assert pattern(spot)[2, 2] == 0
    assert pattern(1 - spot)[2, 2] == 8
    for size in ((4, 4), (1, 1), (3, 17)):
        flat = pattern(jnp.full(size, 0.3))
        np.testing.assert_array_equal(flat, np.full(size, 8))
    for options in ({"points": 2}, {"radius": 0.0}):
        with pytest.raises(ValueError, match="3 points"):
            texture.local_binary_pattern(jnp.asarray(spot), **options)


tensor = compiled(texture.structure_tensor, 4.0)


@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 2, -1.1])
def test_structure_tensor_of_a_grating(angle):
    found = tensor(grating(angle, 8.0))
    turned = np.angle(np.exp(2j * (inner(found.orientation) - angle))) / 2
    np.testing.assert_allclose(turned, 0.0, atol=0.02)
    np.testing.assert_allclose(inner(found.coherence), 1.0, atol=0.01)
    # The mean square of the derivative, after smoothing of sigma 1.
    frequency = 2 * np.pi / 8
    energy = (0.25 * frequency) ** 2 / 2 * np.exp(-(frequency**2))
    np.testing.assert_allclose(inner(found.energy), energy, rtol=0.05)


def test_structure_tensor_without_direction():
    assert inner(tensor(noise((48, 48))).coherence).mean() < 0.3
    flat = np.full((48, 48), 0.5, np.float32)
    assert all(np.all(np.abs(part) < 1e-9) for part in tensor(flat))


def test_structure_tensor_has_a_gradient_where_nothing_changes():
    def total(image):
        return sum(part.sum() for part in texture.structure_tensor(image, 0.5, 0.5))

    assert np.isfinite(jax.jit(jax.grad(total))(jnp.full((8, 8), 0.5))).all()


def windows_of(values, sigma):
    """Mean and deviation in float64: E[x^2] - E[x]^2 of scipy's windows."""
    mean = lambda x: ndimage.gaussian_filter(np.float64(x), sigma, mode="reflect")
    return np.stack([mean(values), np.sqrt(mean(values**2) - mean(values) ** 2)], -1)


@pytest.mark.parametrize("sigma", [0.6, 2.0, 9.0])
def test_local_statistics_against_scipy(sigma):
    image = noise((20, 24))
    found = compiled(texture.local_statistics, sigma)(image)
    np.testing.assert_allclose(found, windows_of(np.float64(image), sigma), atol=1e-5)


def test_local_deviations_of_a_ramp_an_edge_and_a_bright_flat_image():
    deviation = lambda image: np.asarray(compiled(texture.local_statistics, 2.0)(image))[..., 1]
    # Far from the border a ramp deviates by its slope times sigma, less what the windows cut.
    ramp = np.broadcast_to(np.float32(0.025 * np.arange(40)), (30, 40))
    for image in (ramp, ramp.T):
        np.testing.assert_allclose(inner(deviation(image), 10), 0.025 * 2, rtol=2e-3)
    # Windows that hold one grey level alone deviate by nothing, however bright they are.
    steps = np.where(np.arange(40) < 20, 0.1, 900.3)[None] * np.ones((30, 1))
    assert deviation(np.float32(steps))[:, [0, 11, 28, 39]].max() < 1e-3
    halves = deviation(np.float32(steps))[:, 19:21]  # a share p of the window beyond the edge
    p = windows_of(np.float64(np.arange(40) < 20), 2.0)[19, 0]
    np.testing.assert_allclose(halves, 900.2 * np.sqrt(p * (1 - p)), rtol=1e-4)
    # The root of a little more than the variance has a derivative where nothing changes.
    flat = compiled(texture.local_statistics, 2.0)(np.full((20, 24), 0.5, np.float32))
    np.testing.assert_allclose(flat[..., 1], 1e-6, rtol=0.1)


def test_local_histograms_against_one_hot():
    """Where values lie on the centres, a histogram is smoothed indicators."""
    ids = np.random.default_rng(0).integers(0, 5, (20, 24, 2))
    found = compiled(texture.local_histograms, 5, (-1.0, 1.0), 2.0)(ids / np.float32(2) - 1)
    for channel in range(2):
        for value in range(5):
            indicator = (ids[..., channel] == value).astype(np.float32)
            expected = ndimage.gaussian_filter(indicator, 2.0, mode="reflect")
            np.testing.assert_allclose(found[..., channel, value], expected, atol=1e-5)


def test_local_histograms_sum_to_one_and_keep_the_mean():
    values = 3 * noise((16, 16, 1)) - 1
    found = np.asarray(compiled(texture.local_histograms, 7, (-0.5, 1.5), 2.0)(values))
    np.testing.assert_allclose(found.sum(-1), 1.0, atol=1e-5)
    mean = compiled(filters.smooth, 2.0)(np.clip(values, -0.5, 1.5))
    np.testing.assert_allclose((found * np.linspace(-0.5, 1.5, 7)).sum(-1), mean, atol=1e-5)
    halves = np.asarray(texture.local_histograms(np.full((1, 1, 1), 0.5), 2, (0.25, 0.75), 2.0))
    np.testing.assert_allclose(halves, [[[[0.5, 0.5]]]], rtol=1e-6)
    for bins, limits in ((1, (0.0, 1.0)), (3, (1.0, 1.0))):
        with pytest.raises(ValueError, match="2 bins"):
            texture.local_histograms(values, bins, limits, 2.0)


@pytest.mark.parametrize("shape", [(1, 1, 3), (17, 40, 1)])
def test_channels_of_any_image(shape):
    features = jax.jit(texture.channels((4.0, 8.0), 3))
    for image in (noise(shape), np.full(shape, 0.5, np.float32)):
        found = features({"image": image})
        assert found.shape == (*shape[:2], 6)
        assert found.dtype == jnp.float32
        assert np.isfinite(found).all()


def test_channels_of_a_batch_and_their_gradient():
    features = jax.jit(texture.channels((4.0, 8.0), 3))
    images = np.stack([noise((16, 16, 1)), np.zeros((16, 16, 1), np.float32)])
    batch = jax.jit(jax.vmap(features))({"image": images})
    np.testing.assert_allclose(batch[0], features({"image": images[0]}), atol=1e-4)
    weights = noise(batch.shape[1:], seed=1)

    @jax.jit
    @jax.value_and_grad
    def total(image):
        return (features({"image": image}) * weights).sum()

    assert np.isfinite(total(images[1])[1]).all()
    step = 1e-2 * (noise(images.shape[1:], seed=2) - 0.5)
    difference = total(images[0] + step)[0] - total(images[0] - step)[0]
    predicted = 2 * (total(images[0])[1] * step).sum()
    np.testing.assert_allclose(predicted, difference, rtol=0.05)


def test_channels_refuse_what_pixels_cannot_carry():
    with pytest.raises(ValueError, match="wavelengths"):
        texture.channels((1.0,))
