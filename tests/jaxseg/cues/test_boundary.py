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


def step_height_reference(image, sigma):
    """Canny's ridges by scipy.ndimage, in float64."""
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
    return np.where(length >= np.maximum(*beside), length, 0) * sigma * np.sqrt(2 * np.pi)


def canny_reference(image, sigma, low, high):
    height = step_height_reference(image, sigma)
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


def test_canny_by_default_has_the_thresholds_of_its_docstring():
    image = picture(3) * np.linspace(0.2, 1.0, 40, dtype=np.float32)[:, None]
    found, height = jax.jit(lambda x: (boundary.canny(x), boundary.step_height(x)))(image)
    expected = canny_reference(image, 1.4, 0.05, 0.12)
    assert 20 < expected.sum() < 400
    assert np.sum(np.asarray(found) != expected) <= 2
    other = step_height_reference(image, 1.4)
    apart = np.abs(np.asarray(height) - other) > 1e-4
    assert apart.sum() <= 2


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


def test_tensors_have_a_largest_eigenvalue_and_its_direction():
    rows = np.random.default_rng(0).normal(size=(5, 6, 2, 2))
    matrices = rows @ rows.swapaxes(-1, -2)
    values, vectors = np.linalg.eigh(matrices)
    tensors = jnp.asarray(matrices.reshape(5, 6, 4)[..., [0, 1, 3]], jnp.float32)
    np.testing.assert_allclose(boundary.largest(tensors), values[..., 1], rtol=1e-4)
    angle = np.asarray(boundary.direction(tensors))
    along = np.cos(angle) * vectors[..., 0, 1] + np.sin(angle) * vectors[..., 1, 1]
    np.testing.assert_allclose(np.abs(along), 1.0, atol=1e-5)


def test_the_probability_where_all_cues_agree_by_hand(monkeypatch):
    tensors = np.zeros((8, 40, 4, 3, 3), np.float32)
    monkeypatch.setattr(boundary, "cue_tensors", lambda image: jnp.asarray(tensors))
    # Distance 1 along x in every cue at every scale: the weights add up to 16.78, and the
    # odds are (16.78 / 8)^2 = 4.39951.
    tensors[..., 0] = 1
    run = lambda **options: jax.jit(lambda: boundary.strength(None, **options))()
    np.testing.assert_allclose(run(suppress=False), 4.39951 / 5.39951, rtol=1e-5)
    # A band whose distance has sigma 3 sqrt(2), smoothed by 1.5: 16.78 sqrt(18 / 20.25).
    band = np.exp(-0.5 * ((np.arange(40) - 20) / 3) ** 2)
    tensors[..., 0] = band[:, None, None]
    found = np.asarray(run())
    odds = (16.78 / 8) ** 2 * 18 / 20.25
    np.testing.assert_allclose(found[:, 20], odds / (1 + odds), rtol=1e-3)
    assert (np.delete(found, 20, 1) == 0).all()  # thinned by default


@pytest.mark.parametrize(("sigma", "block"), [(1.0, 1), (5.0, 2)])
def test_distances_are_chi_square_between_the_two_sides(sigma, block):
    rng = np.random.default_rng(0)
    cues = [rng.dirichlet(np.ones(bins), (11, 15)).astype(np.float32) for bins in (3, 2)]
    found = jax.jit(lambda *cues: boundary.distance_tensors(cues, sigma))(*cues)
    assert found.shape == (11, 15, 2, 3)

    def linear(values, size, axis):
        place = np.clip((np.arange(size) + 0.5) / block - 0.5, 0, values.shape[axis] - 1)
        line = lambda column: np.interp(place, np.arange(len(column)), column)
        return np.apply_along_axis(line, axis, values)

    for number, cue in enumerate(cues):
        if block == 2:
            cue = np.pad(cue, ((0, 1), (0, 1), (0, 0)), mode="edge")
            cue = cue.reshape(6, 2, 8, 2, -1).mean((1, 3))
        narrow = (sigma / block, sigma / block, 0)
        share, down, right = (
            ndimage.gaussian_filter(cue.astype(float), narrow, order)
            for order in ((0, 0, 0), (1, 0, 0), (0, 1, 0))
        )
        parts = [right * right, right * down, down * down]
        for index, part in enumerate(parts):
            expected = (part * (sigma / block) ** 2 / (share + 1e-3)).sum(-1)
            expected = linear(linear(expected, 11, 0), 15, 1)
            np.testing.assert_allclose(found[..., number, index], expected, atol=1e-5)


def test_histograms_of_lightness_and_colour_are_compared_at_four_scales(monkeypatch):
    seen = {}

    def record(cues, scale):
        seen[scale] = cues
        return jnp.zeros((2, 3, 3, 3))

    monkeypatch.setattr(boundary, "distance_tensors", record)
    image = np.random.default_rng(0).random((2, 3, 3)).astype(np.float32)
    image[0, 0] = np.nan

    @jax.jit
    def run(image):
        assert boundary.cue_tensors(image).shape == (2, 3, 4, 3, 3)
        lab = boundary.histograms.lab(jnp.nan_to_num(image))
        return seen[4.0], lab, boundary.histograms.textons(lab[..., 0] / 100)

    (lightness, colour, textons), lab, bars = jax.device_get(run(image))
    assert list(seen) == [1.0, 2.0, 4.0, 8.0]

    def bins(values, low, high, count):
        place = (values.clip(low, high) - low) / (high - low) * (count - 1)
        return np.maximum(0, 1 - np.abs(place[..., None] - np.arange(count)))

    np.testing.assert_allclose(lightness, bins(lab[..., 0], 0, 100, 12), atol=1e-4)
    np.testing.assert_allclose(colour[..., :9], bins(lab[..., 1], -40, 40, 9), atol=1e-4)
    np.testing.assert_allclose(colour[..., 9:], bins(lab[..., 2], -40, 40, 9), atol=1e-4)
    np.testing.assert_allclose(textons, bars, atol=1e-4)


def test_channels_are_four_distances_less_one_scale_by_scale(monkeypatch):
    tensors = np.zeros((2, 3, 2, 3, 3), np.float32)
    tensors[..., 2] = np.random.default_rng(0).random((2, 3, 2, 3))
    scales = []
    given = lambda image, at: scales.append(at) or jnp.asarray(tensors)
    monkeypatch.setattr(boundary, "cue_tensors", given)
    found = boundary.channels()({"image": None})
    np.testing.assert_allclose(found, (4 * tensors[..., 2] ** 0.5 - 1).reshape(2, 3, 6), atol=1e-5)
    assert scales == [(1.0, 4.0)]


def test_ridges_are_those_of_the_strongest_curvature_at_two_pixels():
    soft = ndimage.gaussian_filter(np.random.default_rng(0).random((40, 48)), 1.0)
    found = np.asarray(jax.jit(boundary.ridges)(soft.astype(np.float32)))
    xx, xy, yy = (ndimage.gaussian_filter(soft, 2.0, order) for order in ((0, 2), (1, 1), (2, 0)))
    values, vectors = np.linalg.eigh(np.stack([xx, xy, xy, yy], -1).reshape(40, 48, 2, 2))
    strongest = np.abs(values).argmax(-1)[..., None, None]
    right, down = np.moveaxis(np.take_along_axis(vectors, strongest, -1)[..., 0], -1, 0)
    rows, columns = np.indices(soft.shape)
    beside = [
        ndimage.map_coordinates(
            soft, [rows + s * down, columns + s * right], order=1, mode="nearest"
        )
        for s in (1, -1)
    ]
    expected = np.where(soft >= np.maximum(*beside), soft, 0)
    # scipy's second derivative is not made to sum to zero.
    assert np.mean((found > 0) != (expected > 0)) < 0.01


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
