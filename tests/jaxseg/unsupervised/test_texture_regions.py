from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from jaxseg.bayes import potts
from jaxseg.cues import texture, texture_filters
from jaxseg.metrics import region_scores
from jaxseg.unsupervised import texture_regions

OUTEX = Path(__file__).resolve().parents[4] / "shared" / "data" / "outex"
SIZE = 96


@pytest.fixture(scope="module")
def mosaic():
    """Stripes of two directions above, noise below; and its truth."""
    y, x = np.mgrid[:SIZE, :SIZE]
    rough = np.random.default_rng(0).normal(size=(SIZE, SIZE))
    waves = np.where(x < SIZE // 2, np.sin(1.5 * x), np.sin(1.5 * y))
    truth = np.where(y < SIZE // 2, x // (SIZE // 2), 2)
    image = 0.5 + 0.2 * np.where(truth == 2, rough, waves)
    return image[..., None].astype(np.float32), truth


def test_three_textures(mosaic):
    image, truth = mosaic
    found = texture_regions.segment(image, 3, window=6.0)
    assert found.dtype == np.int32
    assert found.shape == (SIZE, SIZE)
    assert found[0, 0] == 0
    assert found.max() == 2
    scores = region_scores.region_scores(found, truth)
    assert scores["correct_overlap"] > 0.94
    assert scores["correct_segments"] == 1.0
    again = texture_regions.segment(image, 3, window=6.0)
    np.testing.assert_array_equal(found, again)
    # Neither the light nor its contrast is texture; the noise of rounding is all that differs.
    brighter = texture_regions.segment(0.8 * image + 0.1, 3, window=6.0)
    assert np.mean(brighter == found) > 0.98


def test_the_number_of_textures_is_estimated(mosaic):
    image, truth = mosaic
    found = texture_regions.segment(image, window=6.0, max_textures=4)
    assert found.max() == 2
    assert region_scores.region_scores(found, truth)["correct_overlap"] > 0.94


@pytest.mark.parametrize("size", [(1, 1, 1), (9, 40, 3)])
def test_constant_images_are_one_texture(size):
    found = texture_regions.segment(np.full(size, 0.5, np.float32), 2)
    np.testing.assert_array_equal(found, np.zeros(size[:2]))


def test_mistakes_are_told(mosaic):
    image, _ = mosaic
    for wrong, options, message in (
        (image[..., 0], {}, "must be"),
        (image[:0], {}, "must be"),
        (np.full_like(image, np.nan), {}, "not finite"),
        (image, {"textures": 0}, "at least 1"),
        (image, {"window": 0.5}, "window and max_textures"),
        (image, {"max_textures": 0}, "window and max_textures"),
        (np.concatenate([image, image], -1), {}, "must be"),
    ):
        with pytest.raises(ValueError, match=message):
            texture_regions.segment(wrong, **options)


def test_a_mosaic_of_outex():
    if not OUTEX.is_dir():
        pytest.skip(f"needs Outex_US_00000 in {OUTEX}")
    image, truth = (np.asarray(Image.open(OUTEX / name)) for name in ("mosaics/012.png", "gt.png"))
    found = texture_regions.segment(image[..., None] / np.float32(255), 5)
    scores = region_scores.region_scores(found, truth)
    assert scores["correct_overlap"] > 0.93
    assert scores["correct_segments"] == 1.0


def test_textures_weigh_equally_in_the_covariance_whatever_their_size():
    rng = np.random.default_rng(0)
    labels = np.where(np.arange(16 * 16) < 40, 0, np.where(np.arange(16 * 16) < 90, 1, 2))
    points = rng.normal(size=(256, 3)) * np.array([[1.0], [4.0], [0.5]])[labels] + labels[:, None]
    members = np.eye(4)[labels]  # the fourth texture has no place
    means = np.stack([points[labels == k].mean(0) for k in range(3)])
    # The empty texture counts as one of four, with covariance 0.
    covariance = np.sum([np.cov(points[labels == k].T, bias=True) for k in range(3)], 0) / 4
    diagonal = np.diag(np.diag(covariance) + 1e-4)
    inverse = np.linalg.inv(0.95 * covariance + 0.05 * diagonal)
    residuals = points[:, None] - means
    expected = 0.5 * np.einsum("nkf,fg,nkg->nk", residuals, inverse, residuals)
    found = texture_regions._discriminate(
        points.reshape(16, 16, 3).astype(np.float32),
        members.reshape(16, 16, 4).astype(np.float32),
        4,
    )
    found = np.asarray(found).reshape(256, 4)
    np.testing.assert_allclose(found[:, :3], expected, rtol=1e-3, atol=1e-3)
    assert (found[:, 3] == np.inf).all()


def test_solidity_is_the_least_share_of_interior_places():
    labels = np.zeros((20, 20), np.int32)
    labels[:, 10:] = 1
    labels[0:2, 0] = 2  # all border
    assert float(texture_regions._solidity(labels[:, :, None][..., 0], 3)) == 0.0
    halves = np.zeros((20, 20), np.int32)
    halves[:, 10:] = 1
    # Three places on either side of the border are not interior.
    assert float(texture_regions._solidity(halves, 2)) == pytest.approx(0.7)


def test_by_default_windows_are_of_twelve_and_four_pixels_and_textures_at_most_eight(monkeypatch):
    windows, estimates = [], []

    def means(responses, sigma, step):
        windows.append((sigma, step))
        return texture.window_means(responses, sigma, step)

    def estimate(wide, most, key):
        estimates.append((most, key))
        return 1

    monkeypatch.setattr(texture_regions, "_window_means", means)
    monkeypatch.setattr(texture_regions, "_estimate", estimate)
    assert not texture_regions.segment(np.full((9, 40, 3), 0.5, np.float32)).any()
    assert windows == [(12.0, 4), (4.0, 4)]
    assert estimates == [(8, jax.random.key(0))]


def test_responses_are_gabor_magnitudes_and_five_sizes_of_spots():
    image = np.random.default_rng(0).random((9, 40, 1)).astype(np.float32)
    found = np.asarray(texture_regions._responses(image))
    assert found.shape == (9, 40, 4 * 6 + 5)
    kernels = texture_filters.laplacians((0.7, 1.2, 2.0, 3.5, 6.0))
    for number, kernel in enumerate(kernels):
        spots = np.abs(ndimage.correlate(image[..., 0], kernel, mode="reflect"))
        np.testing.assert_allclose(found[..., 24 + number], spots, atol=1e-5)


def test_components_are_principal_and_half_whitened():
    rng = np.random.default_rng(0)
    means = (rng.random((6, 8, 14)) @ rng.random((14, 14))).astype(np.float32)
    means[..., 3] = 0.7 + 1e-4 * rng.random((6, 8))  # varies too little to count
    found = np.asarray(texture_regions._components(means)).reshape(48, 12)
    points = np.sqrt(means.astype(float)).reshape(48, 14)
    points -= points.mean(0)
    points /= points.std(0)
    points[:, 3] = 0
    values, axes = np.linalg.eigh(points.T @ points / 48)
    values, axes = values[::-1][:12], axes[:, ::-1][:, :12]
    expected = points @ axes / values**0.25
    # The direction of an axis is up to its sign.
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=2e-3)


def test_one_more_texture_must_gain_enough_and_leave_all_solid(monkeypatch):
    def best(scatters, solid):
        cluster = lambda wide, textures, key: (textures, scatters[textures - 1])
        monkeypatch.setattr(texture_regions, "_cluster", cluster)
        monkeypatch.setattr(texture_regions, "_solidity", lambda labels, _: solid[labels - 1])
        return texture_regions._estimate(None, len(scatters), None)

    firm = [1.0] * 4
    assert best([100, 50, 25, 12], firm) == 4
    assert best([100, 50, 50 / 1.13, 30], firm) == 4  # the last gain counts, not each
    assert best([100, 50, 50 / 1.13, 50 / 1.13 / 1.13], firm) == 2
    assert best([100, 50, 50 / 1.14, 50 / 1.14 / 1.13], firm) == 3
    assert best([100, 50, 25, 12], [1.0, 0.59, 0.57, 0.58]) == 2
    assert best([100, 99], firm) == 1


def test_parts_near_are_those_within_four_places_that_are_no_seam():
    labels = np.zeros((9, 24), np.int32)
    labels[:, 10:14], labels[:, 14:] = 1, 2  # four wide: a seam
    found = np.asarray(texture_regions._near(jnp.asarray(labels), 3))
    ids = np.moveaxis(np.eye(3)[labels], -1, 0)
    inside = [ndimage.minimum_filter(one, 5, mode="nearest") for one in ids]
    expected = np.stack([ndimage.maximum_filter(one, 9) for one in inside], -1) > 0
    np.testing.assert_array_equal(found, expected)
    assert not found[..., 1].any()
    # Where no part is wide, all are near.
    assert texture_regions._near(jnp.arange(12).reshape(3, 4) % 2, 2).all()


def test_textures_that_are_all_border_keep_it_as_their_interior():
    labels = np.zeros((9, 20), np.int32)
    labels[:, 12:] = 1
    labels[4, 4] = 2
    found = np.asarray(texture_regions._interior(jnp.asarray(labels), 3))
    ids = np.moveaxis(np.eye(3)[labels], -1, 0)
    inner = [ndimage.minimum_filter(one, 7, mode="nearest") for one in ids[:2]]
    np.testing.assert_array_equal(found, np.stack([*inner, ids[2]], -1))


def test_two_rounds_refine_the_borders_with_capped_energies():
    rng = np.random.default_rng(0)
    truth = np.where(np.arange(26) < 13, 0, 1) * np.ones((12, 1), int)
    means = np.exp(rng.normal(size=(12, 26, 2)) + 3 * truth[..., None]).astype(np.float32)
    first = np.roll(truth, 3, 1)
    found = np.asarray(texture_regions._refine(means, jnp.asarray(first), 2))

    @jax.jit
    def round_of(points, labels, near):
        energies = texture_regions._discriminate(points, texture_regions._interior(labels, 2), 2)
        energies = jnp.where(near, energies, jnp.inf)
        least = energies.min(-1, keepdims=True)
        return potts.soft_labels(jnp.clip(energies - least, 0, 8.0) / 10, 2.0)

    points, labels, near = np.log(means + 1e-3), jnp.asarray(first), np.ones((12, 26, 2), bool)
    for _ in range(2):
        soft = round_of(points, labels, near)
        labels = soft.argmax(-1)
        near = texture_regions._near(labels, 2)
    np.testing.assert_allclose(found, soft, atol=1e-4)
    assert np.mean(found.argmax(-1) == truth) > 0.9
