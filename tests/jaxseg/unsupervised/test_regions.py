import numpy as np
import pytest
from scipy import ndimage
from scipy.cluster.hierarchy import fcluster

from jaxseg.unsupervised import regions


def rooms():
    """Four rooms of 20 x 20 with walls of different strength, and their labels."""
    distance = np.abs(np.arange(40) - 19.5)
    wall = np.exp(-0.5 * (distance / 1.5) ** 2)
    strength = np.zeros((40, 40))
    strength += 0.9 * wall[None, :]
    strength = np.maximum(strength, np.where(np.arange(40) < 20, 0.3, 0.6)[None, :] * wall[:, None])
    truth = 2 * (np.arange(40) >= 20)[:, None] + (np.arange(40) >= 20)[None, :]
    return strength, truth


def noise(seed, shape=(30, 41)):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 2)
    return (field - field.min()) / np.ptp(field)


def same(first, second):
    """Whether two label maps are one partition."""
    pairs = np.unique(np.stack([first.ravel(), second.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(first)) == len(np.unique(second))


def test_rooms_are_found_exactly_and_merge_in_order():
    strength, truth = rooms()
    found = [regions.regions_at(strength, t) for t in (0.1, 0.45, 0.7, 0.95)]
    assert same(found[0], truth)
    assert same(found[1], np.array([0, 1, 0, 2])[truth])  # the wall of 0.3 is down
    assert same(found[2], truth % 2)
    assert same(found[3], np.zeros_like(truth))
    assert {part.dtype for part in found} == {np.dtype(np.int32)}


def test_watershed_against_walking_down_pixel_by_pixel():
    relief = noise(0, (15, 17))
    labels = regions.watershed(relief, smooth=0)
    ends = {}
    for y, x in np.ndindex(relief.shape):
        place, before = (y, x), None
        while place != before:
            before = place
            window = [
                (r, c)
                for r in range(place[0] - 1, place[0] + 2)
                for c in range(place[1] - 1, place[1] + 2)
                if 0 <= r < 15 and 0 <= c < 17
            ]
            place = min(window, key=lambda p: relief[p])
        ends[y, x] = 17 * place[0] + place[1]
    assert same(labels, np.array(list(ends.values())).reshape(15, 17))


def test_a_relief_is_smoothed_by_one_pixel():
    rough = np.random.default_rng(5).random((30, 41))
    relief = ndimage.gaussian_filter(rough, 1.0, mode="nearest")
    np.testing.assert_array_equal(regions.watershed(rough), regions.watershed(relief, smooth=0))


@pytest.mark.parametrize("seed", [0, 1])
def test_partitions_are_nested_and_those_of_the_contours(seed):
    strength = noise(seed)
    contours = regions.ucm(strength)
    before = None
    for threshold in (0.0, 0.2, 0.4, 0.6, 0.8):
        parts = regions.regions_at(strength, threshold)
        if before is not None:  # each finer region lies in one coarser region
            pairs = np.unique(np.stack([before.ravel(), parts.ravel()]), axis=1)
            assert pairs.shape[1] == before.max()
        before = parts
        # Contours are closed: they are all that separates the regions.
        divided = np.zeros(parts.shape, bool)
        divided[:-1] |= parts[:-1] != parts[1:]
        divided[:, :-1] |= parts[:, :-1] != parts[:, 1:]
        if threshold:
            np.testing.assert_array_equal(contours >= threshold, divided)


def test_the_tree_is_a_linkage_that_scipy_reads():
    strength = noise(3)
    labels, tree = regions.segment(strength)
    assert len(tree) == labels.max() - 1
    assert (np.diff(tree[:, 2]) >= 0).all()
    threshold = np.median(tree[:, 2]) + 1e-9
    linkage = np.concatenate([tree, np.full((len(tree), 1), 2.0)], 1)
    expected = fcluster(linkage, threshold, "distance")[labels - 1]
    assert 2 < expected.max() < labels.max()
    assert same(regions.regions_at(strength, threshold), expected)


def test_the_first_merge_has_the_weakest_mean_boundary():
    strength, labels = noise(4), regions.watershed(noise(4))
    means = {}
    for axis in (0, 1):
        cut = [slice(None), slice(None)]
        cut[axis] = slice(None, -1)
        after = [slice(None), slice(None)]
        after[axis] = slice(1, None)
        for a, b, s, t in zip(
            *(v[tuple(c)].ravel() for v in (labels, strength) for c in (cut, after)), strict=True
        ):
            if a != b:
                means.setdefault((min(a, b), max(a, b)), []).append(max(s, t))
    weakest = min(means, key=lambda pair: np.mean(means[pair]))
    first = regions.hierarchy(strength, labels)[0]
    assert tuple(sorted(first[:2] + 1)) == weakest
    assert first[2] == pytest.approx(np.mean(means[weakest]))


@pytest.mark.parametrize("shape", [(1, 1), (17, 101)])
def test_a_flat_map_is_one_region(shape):
    assert regions.watershed(np.zeros(shape)).max() == 1
    assert regions.ucm(np.zeros(shape)).max() == 0
    assert regions.regions_at(np.full(shape, 0.5), 0.3).max() == 1


@pytest.mark.parametrize("bad", [np.full((3, 4), np.nan), np.full((3, 4), 2.0), np.zeros((0, 3))])
def test_what_is_no_boundary_map_is_refused(bad):
    with pytest.raises(ValueError, match="strength must"):
        regions.watershed(bad)
