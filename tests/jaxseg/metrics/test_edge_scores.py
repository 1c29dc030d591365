import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import io

from jaxseg.metrics import edge_scores

OFFICIAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "bsds500" / "official"


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


def test_the_benchmark_has_ninety_nine_thresholds():
    np.testing.assert_allclose(edge_scores.levels(), np.arange(0.01, 1.0, 0.01)[:99])
    assert edge_scores.levels(1).tolist() == [0.5]
    counts = edge_scores.score(np.eye(9), [np.eye(9, dtype=bool)])
    assert [part.shape for part in counts] == [(99,)] * 4


def test_of_equally_good_thresholds_an_image_takes_the_last():
    # Recall 1 and precision 1/2, then the other way about; then worse.
    rows = ([10, 5, 1], [10, 10, 10], [10, 5, 1], [20, 5, 5])
    chosen = edge_scores._at_best(edge_scores.Counts(*np.array(rows)))
    assert tuple(chosen) == (5, 10, 5, 5)


def test_a_curve_of_one_recall_has_no_area():
    rows = ([5, 5], [10, 10], [5, 5], [5, 5])
    assert edge_scores.average_precision(edge_scores.Counts(*np.array(rows))) == 0.0


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
