import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from jaxseg import labels
from jaxseg.metrics import contours
from tests.jaxseg.reference import CLASSES, contour

SHAPE = (2, 13, 17)
sums = jax.jit(lambda p, t: contours.contour_sums(p, labels.truth(t, CLASSES), tolerance=0.06))
line_sums = jax.jit(
    lambda p, t: contours.contour_sums(p, labels.truth(t, CLASSES), tolerance=2 / np.hypot(5, 30))
)


def directed(mine, yours):
    return ndimage.distance_transform_edt(~yours)[mine]


@settings(max_examples=30)
@given(st.integers(0, 999), st.sampled_from(["blobs", "one class", "void", "same"]))
def test_scores_equal_a_loop_over_images_and_classes(seed, kind):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, *SHAPE, CLASSES)), (0, 0, 2, 2, 0))
    guess, ids = smooth.argmax(-1)
    if kind == "one class":
        ids[:] = 1
    elif kind == "void":
        ids[:, :5] = 255
    elif kind == "same":
        guess = ids.copy()
    reach = 0.06 * np.hypot(*SHAPE[1:])
    f1, far = {k: [] for k in range(CLASSES)}, {k: [] for k in range(CLASSES)}
    for g, t in zip(guess, ids, strict=True):
        for k in range(CLASSES):
            ours, theirs = contour((g == k) & (t != 255)), contour((t == k) & (t != 255))
            if ours.any() and theirs.any():
                there, back = directed(ours, theirs), directed(theirs, ours)
                precision, recall = (there <= reach).mean(), (back <= reach).mean()
                both = precision + recall
                f1[k].append(2 * precision * recall / both if both else 0.0)
                far[k].append(max(np.percentile(there, 95), np.percentile(back, 95)))
            elif ours.any() or theirs.any():
                f1[k].append(0.0)
    got = contours.contour_scores(jax.device_get(sums(guess, ids)))
    for name, values in {"boundary_f1": f1, "hausdorff95": far}.items():
        means = [np.mean(v) for v in values.values() if v]
        expected = np.mean(means) if means else np.nan
        np.testing.assert_allclose(got[name], expected, rtol=1e-4, atol=1e-5)


def test_an_id_outside_the_contract_never_scores():
    ids = np.zeros(SHAPE, int)
    ids[0, 0, 0] = 77
    assert np.isnan(np.asarray(sums(ids * 0, ids)["f1"])).all()


def test_an_object_that_touches_the_border_has_a_contour_there():
    """MONAI 1.6 and MedPy 0.5 give a distance of 1; without the border's side it would be 29."""
    truth, guess = np.zeros((2, 1, 64, 64), int)
    truth[0, 1:31], guess[0, :31] = 1, 1
    score = jax.jit(lambda p, t: contours.contour_sums(p, labels.truth(t, 2)))
    found = jax.device_get(score(guess, truth))
    assert found["hausdorff95"][1] == 1.0
    # The prediction's contour has 186 pixels, the truth's 184; 122 pixels are of both.
    assert found["f1"][1] == pytest.approx(2 * 122 / (186 + 184), rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_ignored_pixels_around_an_image_change_no_contour(seed):
    """So that an image scores the same by itself and on a larger canvas."""
    smooth = np.random.default_rng(seed).normal(size=(2, *SHAPE, CLASSES))
    guess, ids = ndimage.gaussian_filter(smooth, (0, 0, 2, 2, 0)).argmax(-1)
    around = ((0, 0), (2, 2), (2, 2))
    larger = np.pad(guess, around, mode="edge"), np.pad(ids, around, constant_values=255)

    @jax.jit
    def score(guess, ids):  # of exact hits, as the tolerance is a share of the canvas
        return contours.contour_sums(guess, labels.truth(ids, CLASSES), tolerance=0.0)

    alone, padded = jax.device_get((score(guess, ids), score(*larger)))
    for name, values in alone.items():
        np.testing.assert_allclose(padded[name], values, rtol=1e-5, err_msg=name)


def test_hausdorff95_of_a_line_and_a_point_is_95_percent_of_the_way():
    """A true point and predicted lines that begin there: distances 0, 1, ... n - 1."""
    height, width = 5, 30
    for length in (1, 2, 12, 21):
        truth, guess = np.zeros((2, 1, height, width), int)
        truth[0, 2, 3], guess[0, 2, 3 : 3 + length] = 1, 1
        found = jax.device_get(line_sums(guess, truth))
        assert found["hausdorff95"][1] == pytest.approx(0.95 * (length - 1), abs=1e-5)
        assert found["hausdorff95_images"].tolist() == [1, 1, 0]
        # Within 2 pixels: all of the truth, the first three of the prediction.
        precision = min(length, 3) / length
        assert found["f1"][1] == pytest.approx(2 * precision / (1 + precision), rel=1e-5)


def test_by_default_contours_meet_within_a_benchmarks_share_of_the_diagonal():
    truth = np.zeros((3, 1, 200), int)  # 0.0075 of the diagonal are 1.5 pixels
    truth[:, 0, 50] = 1
    guess = np.stack([np.roll(truth[0], shift, 1) for shift in (1, -1, 2)])
    run = jax.jit(lambda p, t: contours.contour_sums(p, labels.truth(t, 2)))
    found = jax.device_get(run(guess, truth))
    assert found["f1"][1] == 2
    assert found["f1_images"][1] == 3
