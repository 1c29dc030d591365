from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
