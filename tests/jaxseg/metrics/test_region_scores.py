from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseg.metrics import region_scores


def labelled(regions):
    return st.lists(st.integers(0, regions - 1), min_size=24, max_size=24).map(
        lambda ids: np.array(ids, np.int32).reshape(4, 6)
    )


def best_agreement(prediction, truth):
    """Every one-to-one renaming of the found labels, the best of them."""
    size = 1 + max(prediction.max(), truth.max())
    return max(np.mean(np.array(p)[prediction] == truth) for p in permutations(range(size)))


@given(labelled(5), labelled(4))
def test_correct_overlap_is_the_best_renaming(prediction, truth):
    table = region_scores.overlaps(prediction, truth)
    assert table.sum() == truth.size
    found = region_scores.correct_overlap(table)
    assert found == pytest.approx(best_agreement(prediction, truth))


@given(labelled(4), labelled(4))
def test_segments_against_pixel_sets(prediction, truth):
    """Hoover's definitions in the words of sets."""
    regions = [set(np.flatnonzero(truth == label)) for label in np.unique(truth)]
    machine = [set(np.flatnonzero(prediction == label)) for label in np.unique(prediction)]
    correct = over = under = 0
    for region in regions:
        correct += any(
            len(region & other) >= 0.75 * max(len(region), len(other)) for other in machine
        )
        inside = [other for other in machine if len(other & region) >= 0.75 * len(other)]
        covered = sum(len(other & region) for other in inside)
        over += len(inside) >= 2 and covered >= 0.75 * len(region)
        for other in machine:
            members = [r for r in regions if len(r & other) >= 0.75 * len(r)]
            total = sum(len(r & other) for r in members)
            under += region in members and len(members) >= 2 and total >= 0.75 * len(other)
    scores = region_scores.region_scores(prediction, truth)
    assert scores["correct_segments"] == pytest.approx(correct / len(regions))
    assert scores["over_segmentation"] == pytest.approx(over / len(regions))
    assert scores["under_segmentation"] == pytest.approx(under / len(regions))


@given(labelled(4), st.permutations(range(4)))
def test_names_of_labels_do_not_matter(truth, names):
    renamed = 7 - 3 * np.array(names, np.int32)[truth]
    scores = region_scores.region_scores(renamed, truth)
    assert list(scores.values()) == [1.0, 1.0, 0.0, 0.0]


def test_a_region_in_two_halves_and_two_regions_as_one():
    halves = np.repeat(np.int32([[0, 0, 1, 1]]), 4, 0)
    whole = np.zeros((4, 4), np.uint8)
    split = region_scores.region_scores(halves, whole)
    merged = region_scores.region_scores(whole, halves)
    assert list(split.values()) == [0.5, 0.0, 1.0, 0.0]
    assert list(merged.values()) == [0.5, 0.0, 0.0, 1.0]


def test_one_pixel():
    one = np.zeros((1, 1), np.int32)
    assert region_scores.region_scores(one, one)["correct_overlap"] == 1.0


def test_the_edge_of_75_percent_counts():
    truth = np.int32([[0, 0, 0, 0, 1, 1, 1, 1]])
    prediction = np.int32([[0, 0, 0, 2, 1, 1, 1, 1]])
    assert region_scores.region_scores(prediction, truth)["correct_segments"] == 1.0


def test_ignored_pixels_do_not_count():
    truth = np.int32([[0, 0, 1, 1, 255, 255]])
    prediction = np.int32([[5, 5, 6, 6, 5, 7]])
    assert region_scores.region_scores(prediction, truth, ignore=255)["correct_overlap"] == 1.0
    assert region_scores.region_scores(prediction, truth)["correct_overlap"] == pytest.approx(5 / 6)


def test_mistakes_are_told():
    labels = np.zeros((2, 2), np.int32)
    with pytest.raises(ValueError, match="but truth is"):
        region_scores.overlaps(labels, labels[:1])
    with pytest.raises(ValueError, match="integer labels"):
        region_scores.overlaps(labels / 2, labels)
    with pytest.raises(ValueError, match="no pixel counts"):
        region_scores.overlaps(labels, labels, ignore=0)
    with pytest.raises(ValueError, match="overlap must be"):
        region_scores.correct_segments(np.eye(2), overlap=0.5)


@pytest.mark.parametrize(
    ("score", "table", "expected"),
    [
        (region_scores.correct_segments, [[3, 0], [1, 4]], 1.0),  # 3 of 4 predicted pixels
        (region_scores.correct_segments, [[3, 1], [0, 4]], 1.0),  # 3 of 4 true pixels
        (region_scores.correct_segments, [[5, 0], [2, 5]], 0.0),  # 5 of 7
        (region_scores.over_segmentation, [[3, 3], [1, 1]], 0.5),  # each piece 3 of 4
        (region_scores.over_segmentation, [[3, 3, 2], [0, 0, 8]], 0.5),  # 6 of 8 covered
        (region_scores.over_segmentation, [[3, 3, 3], [0, 0, 8]], 0.0),  # 6 of 9 covered
        (region_scores.under_segmentation, [[3, 1], [3, 1]], 1.0),
        (region_scores.under_segmentation, [[3, 0], [3, 0], [2, 8]], 2 / 3),
        (region_scores.under_segmentation, [[3, 0], [3, 0], [3, 8]], 0.0),
    ],
)
def test_an_overlap_of_exactly_75_percent_counts(score, table, expected):
    assert score(np.array(table)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "score",
    [
        region_scores.correct_segments,
        region_scores.over_segmentation,
        region_scores.under_segmentation,
    ],
)
def test_overlaps_that_could_count_a_region_twice_are_refused(score):
    for overlap in (0.5, 1.01):
        with pytest.raises(ValueError, match="overlap must be"):
            score(np.eye(2), overlap)
    score(np.eye(2), 1.0)
