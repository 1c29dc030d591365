from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseg.unsupervised import layers


def scene():
    """Ground, two boxes and a far wall, with true layers by distance: 2, 5 and 40 m."""
    depth = np.full((40, 48), 40.0, np.float32)
    depth[20:36, 4:16] = 2.0
    depth[18:30, 24:44] = 5.0
    noisy = depth * (1 + 0.01 * np.random.default_rng(0).normal(size=depth.shape))
    return np.float32(noisy), np.searchsorted([3, 10], depth)


@given(st.lists(st.floats(0.5, 50), min_size=4, max_size=9), st.integers(1, 3))
def test_layers_are_the_best_of_all_cuts(depths, count):
    # Depths are told apart to 1/256 of the range of their logs.
    values = np.sort(np.log(np.float32(depths)).astype(np.float64))

    def cost(parts):
        return sum(((part - part.mean()) ** 2).sum() for part in parts if len(part))

    best = min(
        cost(np.split(values, places))
        for places in combinations(range(1, len(values)), min(count, len(values)) - 1)
    )
    labels = layers.layers(np.exp(values)[None], count)[0]
    found = cost([values[labels == label] for label in np.unique(labels)])
    slack = len(values) * np.ptp(values) ** 2 / 256 + 1e-6
    assert found <= best + slack
    assert (np.diff(labels) >= 0).all()
    assert labels.max() < count


def test_the_number_of_layers_is_estimated():
    depth, truth = scene()
    np.testing.assert_array_equal(layers.layers(depth), truth)
    np.testing.assert_array_equal(layers.layers(depth, 3), truth)
    assert layers.layers(depth, 2).max() == 1
    ramp = layers.layers(np.geomspace(1, 100, 4000)[None])
    # A layer of a uniform ramp spreads by its width / sqrt(12), so it takes nine.
    assert ramp.max() + 1 == np.ceil(np.log(100) / np.sqrt(12) / 0.15)


def test_unknown_and_constant_depth():
    depth, truth = scene()
    gaps = np.random.default_rng(1).random(depth.shape) < 0.2
    found = layers.layers(np.where(gaps, np.nan, depth))
    np.testing.assert_array_equal(found, np.where(gaps, 255, truth))
    assert (layers.layers(np.zeros((3, 4))) == 255).all()
    assert (layers.layers(np.full((1, 1), 2.0)) == 0).all()
    assert (layers.layers(np.full((5, 4), 2.0), 3) == 0).all()
    with pytest.raises(ValueError, match="count=0"):
        layers.layers(depth, 0)


def test_surfaces_are_what_depth_edges_separate():
    depth, truth = scene()
    found = layers.surfaces(depth)
    assert found.dtype == np.int32
    # Numbered as they are met: the wall, the middle box, the near one.
    np.testing.assert_array_equal(found, 3 - truth)


def test_a_ramp_is_one_surface_and_specks_join():
    ramp = np.float32(1 / np.linspace(0.02, 1, 40))[:, None] + np.zeros((1, 30), np.float32)
    assert (layers.surfaces(ramp) == 1).all()
    ramp[20, 10] = 9.0
    assert (layers.surfaces(ramp) == 1).all()
    assert layers.surfaces(ramp, min_size=1).max() > 1


def test_unknown_pixels_belong_to_no_surface():
    depth, _ = scene()
    depth[:, 20] = 0
    found = layers.surfaces(depth)
    assert (found[:, 20] == 0).all()
    assert sorted(np.unique(found)) == [0, 1, 2, 3, 4]
    assert (layers.surfaces(np.zeros((4, 5))) == 0).all()
    assert (layers.surfaces(np.ones((1, 1))) == 1).all()


def test_a_layer_may_be_a_single_bin_and_a_cut_lies_between_bins():
    # Bins 0, 1 and 255 of the 256 between the logarithms 0 and 1.
    found = layers.layers(np.exp([[0.0, 1.5 / 256, 1.0]]), 3)
    assert found.tolist() == [[0, 1, 2]]
    assert layers.layers(np.exp([[0.0, 1.5 / 256, 1.0]]), 2).tolist() == [[0, 0, 1]]


def test_as_many_layers_as_bins_less_one_are_allowed():
    ramp = np.exp((np.arange(256) + 0.5) / 256)[None]
    assert layers.layers(ramp, 255).max() == 254
    assert layers.layers(ramp, 1).max() == 0


def test_surfaces_of_twenty_pixels_stay():
    for size, surfaces in ((19, 1), (20, 2)):
        depth = np.full((40, 48), 4.0, np.float32)
        depth[3, 2 : 2 + size] = 2.0
        assert layers.surfaces(depth).max() == surfaces


@pytest.mark.parametrize("count", [-1, 0, layers.BINS])
def test_counts_out_of_range_are_refused(count):
    with pytest.raises(ValueError, match=f"count={count}"):
        layers.layers(np.ones((2, 2)), count)


def test_a_jump_of_more_than_ten_percent_separates():
    for ratio, surfaces in ((1.09, 1), (1.12, 2)):
        depth = np.where(np.arange(12) < 6, 2.0, 2.0 * ratio) * np.ones((8, 1))
        assert layers.surfaces(np.float32(depth)).max() == surfaces
