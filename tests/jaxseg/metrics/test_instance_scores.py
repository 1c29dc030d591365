import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseg.metrics import instance_scores

SHAPE, VOID = (7, 8), 65535
sums_of = jax.jit(instance_scores.instance_sums)


def by_sets(prediction, truth):
    """The same sums by sets of pixels, with a best assignment by trying every pair."""
    void = set(np.flatnonzero(truth == VOID))
    pixels = lambda labels, n: set(np.flatnonzero(labels == n))
    true = [pixels(truth, n) for n in np.unique(truth) if n not in (0, VOID)]
    whole = [pixels(prediction, n) for n in np.unique(prediction) if n]
    guess = [one - void for one in whole]
    iou = lambda a, b: len(a & b) / len(a | b)
    pairs = [(i, j) for i, a in enumerate(true) for j, b in enumerate(guess) if a & b]
    excused = {j for j, one in enumerate(whole) if len(one & void) > len(one) / 2}
    sums = {"matched": [], "predicted": [], "true": len(true)}
    for threshold in np.arange(10, 20) / 20:
        hits = [(i, j) for i, j in pairs if iou(true[i], guess[j]) > threshold + 1e-9]
        assert len({i for i, _ in hits}) == len({j for _, j in hits}) == len(hits)
        sums["matched"].append(len(hits))
        sums["predicted"].append(len(set(range(len(guess))) - excused | {j for _, j in hits}))
        if threshold == 0.5:
            sums["iou"] = sum(iou(true[i], guess[j]) for i, j in hits)
            both = [(len(true[i] & guess[j]), len(true[i]) + len(guess[j])) for i, j in hits]
            sums["dice"] = sum(2 * common / total for common, total in both)
    sums["count_error"] = abs(len(true) - len(set(range(len(guess))) - excused))
    everything = set().union(*true), set().union(*guess)
    sums["both_pixels"] = len(everything[0] & everything[1])
    sums["true_pixels"], sums["predicted_pixels"] = map(len, everything)
    return sums


@st.composite
def label_maps(draw):
    """A prediction and a truth that partly agree; ids are not consecutive."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    kind = draw(st.sampled_from(["blocks", "noise", "empty truth", "empty prediction", "full"]))
    coarse = rng.integers(0, 5, (4, 4)).repeat(2, 0).repeat(2, 1)[: SHAPE[0]]
    truth = np.array([0, 7, 300, 65534, 12])[coarse]
    if kind == "full":
        truth = truth + 1
    names = np.array([0, 5, 2, 9, 1])
    prediction = np.where(rng.random(SHAPE) < 0.15, rng.integers(0, 5, SHAPE), names[coarse])
    if kind == "noise":
        prediction = rng.integers(0, 4, SHAPE)
    if kind == "empty truth":
        truth[:] = 0
    if kind == "empty prediction":
        prediction[:] = 0
    truth[rng.random(SHAPE) < draw(st.sampled_from([0.0, 0.2, 0.7]))] = VOID
    return prediction.astype(np.int32), truth.astype(np.int32)


@given(label_maps())
def test_sums_are_those_of_sets_of_pixels(maps):
    found, expected = sums_of(*maps), by_sets(*maps)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_an_iou_of_exactly_one_half_does_not_match():
    truth = np.zeros(SHAPE, np.int32)
    truth[0, :4] = 3
    prediction = np.zeros_like(truth)
    prediction[0, :2] = 1
    sums = sums_of(prediction, truth)
    assert sums["matched"].tolist() == [0] * 10
    prediction[0, 2] = 1  # 3 / 4, which is exactly .75
    sums = sums_of(prediction, truth)
    assert sums["matched"].tolist() == [1] * 5 + [0] * 5


def test_scores_are_ratios_of_sums_over_images():
    truth = np.zeros((2, *SHAPE), np.int32)
    truth[0, :2, :2], truth[0, :2, 4:6], truth[1, 2:4, :3] = 1, 2, 1
    prediction = np.zeros_like(truth)
    # Right; too small (IoU 3 / 4); invented; and one is missed.
    prediction[0, :2, :2], prediction[0, 0, 4:6], prediction[0, 1, 5] = 4, 1, 1
    prediction[1, 0, 0] = 1
    parts = [sums_of(*pair) for pair in zip(prediction, truth, strict=True)]
    sums = {name: sum(np.asarray(part[name], float) for part in parts) for name in parts[0]}
    found = instance_scores.scores(sums, 2)
    expected = {
        "ap50": 2 / 4,  # 2 hits, 1 extra, 1 missed
        "ap75": 1 / 5,
        "ap": (5 * 2 / 4 + 5 * 1 / 5) / 10,
        "pq": 1.75 / 3,
        "sq": 1.75 / 2,
        "rq": 2 / 3,
        "matched_dice": (1 + 6 / 7) / 2,
        "count_error": 0.0,
        "foreground_dice": 2 * 7 / (14 + 8),
    }
    assert found == pytest.approx(expected)
    assert found["pq"] == pytest.approx(found["sq"] * found["rq"])


@pytest.mark.parametrize(("which", "number"), [(0, -1), (0, 57), (1, -1), (1, 65536)])
def test_a_number_out_of_range_makes_the_sums_nan(which, number):
    maps = np.zeros((2, *SHAPE), np.int32)
    assert not np.isnan(sums_of(*maps)["matched"]).any()
    maps[which, 3, 3] = number
    assert all(np.isnan(leaf).all() for leaf in sums_of(*maps).values())


def test_nothing_to_score_is_nan():
    empty = np.zeros(SHAPE, np.int32)
    sums = jax.device_get(sums_of(empty, empty))
    found = instance_scores.scores(sums, 1)
    assert found.pop("count_error") == 0
    assert np.isnan(list(found.values())).all()
