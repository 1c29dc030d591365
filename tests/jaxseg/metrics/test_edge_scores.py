import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import io
from scipy.optimize import linear_sum_assignment

from jaxseg.metrics import edge_scores

OFFICIAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "bsds500" / "official"

small_maps = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def thinned_by_hand(edges):
    """The published conditions, pixel by pixel; x1 is E, and on against the clock."""
    grid = np.pad(edges, 1)
    steps = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]
    changed = True
    while changed:
        changed = False
        for half in (0, 1):
            gone = []
            for y, x in zip(*np.nonzero(grid), strict=True):
                n = [None] + [bool(grid[y + dy, x + dx]) for dy, dx in steps]
                n.append(n[1])
                crossing = sum(not n[2 * i - 1] and (n[2 * i] or n[2 * i + 1]) for i in range(1, 5))
                n1 = sum(n[2 * k - 1] or n[2 * k] for k in range(1, 5))
                n2 = sum(n[2 * k] or n[2 * k + 1] for k in range(1, 5))
                side = [(n[2] or n[3] or not n[8]) and n[1], (n[6] or n[7] or not n[4]) and n[5]]
                if crossing == 1 and 2 <= min(n1, n2) <= 3 and not side[half]:
                    gone.append((y, x))
            for place in gone:
                grid[place] = False
                changed = True
    return grid[1:-1, 1:-1]


@given(small_maps)
def test_thinning_is_the_published_rule(edges):
    np.testing.assert_array_equal(edge_scores.thin(edges), thinned_by_hand(edges))


def test_thinning_draws_the_middle_line():
    edges = np.zeros((9, 20), bool)
    edges[3:6, 2:18] = True
    found = edge_scores.thin(edges)
    assert set(np.nonzero(found)[0]) == {4}
    assert found.sum() >= 13


@given(st.integers(0, 2**31), st.floats(0.02, 0.3), st.floats(0.02, 0.3), st.floats(0.03, 0.2))
def test_matching_is_the_best_assignment(seed, first, second, reach):
    rng = np.random.default_rng(seed)
    predicted, truth = rng.random((14, 17)) < first, rng.random((14, 17)) < second
    hit, met = edge_scores.match(predicted, truth, reach)
    a, b = np.argwhere(predicted), np.argwhere(truth)
    distance = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1))
    allowed = distance <= reach * np.hypot(14, 17)
    rows, columns = linear_sum_assignment(np.where(allowed, distance, 1e3))
    size = int(allowed[rows, columns].sum())
    assert hit.sum() == met.sum() == size
    assert not (hit & ~predicted).any()
    assert not (met & ~truth).any()
    if size:  # pairing just these pixels costs no more than the best there is
        among = np.where(allowed, distance, 1e3)[hit[predicted]][:, met[truth]]
        own = among[linear_sum_assignment(among)].sum()
        best = distance[rows, columns][allowed[rows, columns]].sum()
        assert own == pytest.approx(best, abs=0.005 * size)


def test_a_shifted_line_matches_within_the_tolerance_only():
    truth, predicted = np.zeros((2, 60, 80), bool)
    truth[:, 40] = True
    predicted[:, 43] = True  # the diagonal is 100
    assert edge_scores.match(predicted, truth, 0.03)[0].sum() == 60
    assert edge_scores.match(predicted, truth, 0.029)[0].sum() == 0


def test_counts_of_two_annotators():
    first, second = np.zeros((2, 40, 40), bool)
    first[:, 10], second[:, 30] = True, True
    strength = np.where(first, 0.9, np.where(second, 0.4, 0.0))
    strength[5:15, 20] = 0.2
    counts = edge_scores.score(strength, [first, second], 9)
    low, middle, high = 0, 2, 8  # thresholds 0.1, 0.3, 0.9
    assert [counts.predicted[i] for i in (low, middle, high)] == [90, 80, 40]
    assert [counts.right[i] for i in (low, middle, high)] == [80, 80, 40]
    assert [counts.found[i] for i in (low, middle, high)] == [80, 80, 40]
    assert set(counts.annotated) == {80}
    summary = edge_scores.summarise([counts])
    assert summary["ODS"] == summary["OIS"] == 1.0
    assert 0.2 < summary["ODS_threshold"] <= 0.4


def test_summary_by_hand():
    make = lambda *rows: edge_scores.Counts(*np.array(rows, np.int64))
    # F: 2/3, 1/2 and 1/3, 1; so one threshold for both is worse than two.
    images = [
        make([10, 5], [10, 10], [10, 5], [20, 10]),
        make([10, 10], [10, 10], [10, 10], [50, 10]),
    ]
    summary = edge_scores.summarise(images)
    assert summary["OIS"] == pytest.approx(2 * (20 / 30) * 1 / (20 / 30 + 1))
    # Total: recall 1, 0.75 and precision 2/7, 0.75; the curve between is linear.
    d = np.linspace(0, 1, 100)
    r, p = 1 - 0.25 * d, 2 / 7 * (1 - d) + 0.75 * d
    assert summary["ODS"] == pytest.approx((2 * r * p / (r + p)).max())
    recalls = np.arange(75, 101) / 100
    area = np.interp(recalls, [0.75, 1.0], [0.75, 2 / 7]).sum() * 0.01
    assert summary["AP"] == pytest.approx(area)


@pytest.mark.parametrize("shape", [(1, 1), (17, 301), (30, 20)])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_degenerate_maps(shape, value):
    counts = edge_scores.score(np.full(shape, value), [np.zeros(shape, bool)], 3)
    summary = edge_scores.summarise([counts])
    assert summary["ODS"] == summary["OIS"] == summary["AP"] == 0.0


def test_what_cannot_be_scored_is_refused():
    strength, truth = np.zeros((4, 5)), np.zeros((4, 5), bool)
    with pytest.raises(ValueError, match="not finite"):
        edge_scores.score(np.full((4, 5), np.nan), [truth])
    with pytest.raises(ValueError, match="no annotation"):
        edge_scores.score(strength, [])
    with pytest.raises(ValueError, match="of that shape"):
        edge_scores.score(strength, [truth.T])
    with pytest.raises(ValueError, match="at least 1"):
        edge_scores.score(strength, [truth], 0)
    with pytest.raises(ValueError, match="same number"):
        edge_scores.summarise([edge_scores.score(strength, [truth], n) for n in (2, 3)])


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"needs the official maps in {OFFICIAL}")
@pytest.mark.parametrize("name", ["108069", "141012"])
def test_official_score_of_a_published_map(name):
    strength = io.loadmat(OFFICIAL / "ucm2" / f"{name}.mat")["ucm2"][2::2, 2::2]
    truth = io.loadmat(OFFICIAL / "ground_truth" / f"{name}.mat")["groundTruth"][0]
    annotations = [cell["Boundaries"][0, 0].astype(bool) for cell in truth]
    best = edge_scores.best_point(edge_scores.score(strength, annotations))
    with open(OFFICIAL / "per_image_scores.csv") as file:
        rows = {row["image_id"]: row for row in csv.DictReader(file)}
    assert best.f == pytest.approx(float(rows[name]["f_measure"]), abs=0.002)
    assert best.recall == pytest.approx(float(rows[name]["recall"]), abs=0.01)
    assert best.precision == pytest.approx(float(rows[name]["precision"]), abs=0.01)
