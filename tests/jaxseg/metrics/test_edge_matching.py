import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from jaxseg.metrics import edge_matching

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
    np.testing.assert_array_equal(edge_matching.thin(edges), thinned_by_hand(edges))


def test_thinning_draws_the_middle_line():
    edges = np.zeros((9, 20), bool)
    edges[3:6, 2:18] = True
    found = edge_matching.thin(edges)
    assert set(np.nonzero(found)[0]) == {4}
    assert found.sum() >= 13


@given(st.integers(0, 2**31), st.floats(0.02, 0.3), st.floats(0.02, 0.3), st.floats(0.03, 0.2))
def test_matching_is_the_best_assignment(seed, first, second, reach):
    rng = np.random.default_rng(seed)
    predicted, truth = rng.random((14, 17)) < first, rng.random((14, 17)) < second
    hit, met = edge_matching.match(predicted, truth, reach)
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
    assert edge_matching.match(predicted, truth, 0.03)[0].sum() == 60
    assert edge_matching.match(predicted, truth, 0.029)[0].sum() == 0


def test_by_default_pixels_match_within_the_benchmarks_distance():
    truth = np.zeros((120, 160), bool)  # 0.0075 of the diagonal are 1.5 pixels
    truth[:, 40] = True
    for shift, matched in ((1, 120), (2, 0)):
        assert edge_matching.match(np.roll(truth, shift, 1), truth)[1].sum() == matched
