import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from jaxseg.inference import postprocess

IGNORE = 255


@st.composite
def label_maps(draw):
    """Small maps with regions of all sizes, some with ignored pixels."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    ids = draw(st.sampled_from([(0, 1), (0, 1, 2), (0, 3, IGNORE)]))
    cells = st.lists(st.sampled_from(ids), min_size=height * width, max_size=height * width)
    return np.array(draw(cells), np.int32).reshape(height, width)


def flood(labels, connectivity):
    """Regions by flood fill, the plain way: numbered in raster order."""
    height, width = labels.shape
    steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y or x)]
    steps = [s for s in steps if connectivity == 8 or 0 in s]
    found, count = np.full(labels.shape, -1), 0
    for start in np.ndindex(*labels.shape):
        if found[start] >= 0:
            continue
        stack, found[start] = [start], count
        while stack:
            y, x = stack.pop()
            for dy, dx in steps:
                v, u = y + dy, x + dx
                inside = 0 <= v < height and 0 <= u < width
                if inside and found[v, u] < 0 and labels[v, u] == labels[y, x]:
                    found[v, u] = count
                    stack.append((v, u))
        count += 1
    return found


def absorbed(labels, parts, stays):
    """The stated rule of absorption, pixel by pixel."""
    label = {p: int(labels[parts == p][0]) for p in np.unique(parts)}
    done = {p for p in label if stays(p) or label[p] == IGNORE}
    while True:
        chosen = {}
        for part in label.keys() - done:
            border = {}
            for y, x in zip(*np.nonzero(parts == part), strict=True):
                for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                    if 0 <= v < labels.shape[0] and 0 <= u < labels.shape[1]:
                        other = parts[v, u]
                        if other != part and other in done and label[other] != IGNORE:
                            border[label[other]] = border.get(label[other], 0) + 1
            if border:
                chosen[part] = min(border, key=lambda k: (-border[k], k))
        if not chosen:
            return np.vectorize(label.get)(parts)
        label |= chosen
        done |= chosen.keys()


@given(label_maps(), st.sampled_from([4, 8]))
def test_regions_are_those_of_a_flood_fill(labels, connectivity):
    np.testing.assert_array_equal(
        postprocess.regions(labels, connectivity), flood(labels, connectivity)
    )


@given(label_maps(), st.integers(0, 12), st.sampled_from([4, 8]))
def test_remove_small_follows_its_rule(labels, min_size, connectivity):
    parts = flood(labels, connectivity)
    sizes = np.bincount(parts.ravel())
    counted = [p for p in range(len(sizes)) if labels[parts == p][0] != IGNORE]
    stay = {p for p in counted if sizes[p] >= min_size}
    stay = stay or set(sorted(counted, key=lambda p: (-sizes[p], p))[:1])
    found = postprocess.remove_small(labels, min_size, connectivity=connectivity)
    np.testing.assert_array_equal(found, absorbed(labels, parts, stay.__contains__))
    assert ((found == IGNORE) == (labels == IGNORE)).all()
    if IGNORE not in labels:
        assert np.bincount(flood(found, connectivity).ravel()).min() >= min(min_size, sizes.max())


@given(label_maps(), st.sampled_from([4, 8]))
def test_largest_component_follows_its_rule(labels, connectivity):
    parts = flood(labels, connectivity)
    sizes = np.bincount(parts.ravel())
    stay = {p for p in range(len(sizes)) if labels[parts == p][0] != 1}
    ones = sorted(set(range(len(sizes))) - stay, key=lambda p: (-sizes[p], p))
    found = postprocess.largest_component(labels, (1,), connectivity=connectivity)
    np.testing.assert_array_equal(
        found, absorbed(labels, parts, (stay | set(ones[:1])).__contains__)
    )
    assert len(np.unique(flood(found, connectivity)[found == 1])) == min(1, len(ones))


@given(label_maps())
def test_fill_holes_of_one_class_is_that_of_scipy(labels):
    filled = ndimage.binary_fill_holes(labels == 0)
    expected = np.where(filled & (labels != IGNORE), 0, labels)
    np.testing.assert_array_equal(postprocess.fill_holes(labels, (0,)), expected)


def rings():
    """Squares of 1, 2 and 3, each inside the one before, on 0."""
    labels = np.zeros((11, 12), np.int32)
    for number in (1, 2, 3):
        labels[number:-number, number:-number] = number
    return labels


def test_the_outer_class_covers_the_inner():
    labels = rings()
    disc = np.where(labels > 0, 1, 0)
    np.testing.assert_array_equal(postprocess.fill_holes(labels, (1, 2, 3)), disc)
    np.testing.assert_array_equal(
        postprocess.fill_holes(labels, (2,)), np.where(labels == 3, 2, labels)
    )


def test_holes_have_a_largest_size():
    labels = rings()
    inner = int((labels == 3).sum())
    found = postprocess.fill_holes(labels, (1, 2), max_size=inner)
    np.testing.assert_array_equal(found, np.where(labels == 3, 2, labels))
    np.testing.assert_array_equal(
        postprocess.fill_holes(labels, (1, 2), max_size=inner - 1), labels
    )


def test_a_speck_takes_the_label_of_its_longest_border():
    labels = np.zeros((6, 8), np.int32)
    labels[:, 4:] = 1
    labels[2:4, 4] = 2  # borders: two pixels of 0, four of 1
    assert set(postprocess.remove_small(labels, 3)[2:4, 4]) == {1}


def test_by_default_corners_do_not_connect():
    corners = np.eye(3, dtype=np.int32)
    assert postprocess.regions(corners).max() == 4  # three of 1, and 0 on either side
    lines = np.where(np.eye(4, 6, dtype=bool), 2, 0).astype(np.int32)
    assert not (postprocess.remove_small(lines, 3) == 2).any()
    assert (postprocess.remove_small(lines, 3, connectivity=8) == 2).sum() == 4
    assert (postprocess.largest_component(lines, (2,)) == 2).sum() == 1


def test_the_first_of_the_largest_stays_where_all_are_small_and_ignored_ones_do_not_count():
    assert postprocess.remove_small(np.array([[IGNORE, 3, 4]]), 5).tolist() == [[IGNORE, 3, 3]]
    assert postprocess.largest_component(np.array([[2, 1, 2, 1]]), (1,)).tolist() == [[2, 1, 2, 2]]


def test_they_compose():
    labels = rings()
    labels[5, 5] = 0
    found = postprocess.largest_component(
        postprocess.fill_holes(postprocess.remove_small(labels, 2), (2,)), (1,)
    )
    np.testing.assert_array_equal(found, np.minimum(rings(), 2))


@pytest.mark.parametrize("shape", [(1, 1), (1, 301), (17, 301)])
@pytest.mark.parametrize("label", [0, 7, IGNORE])
def test_constant_maps_stay(shape, label):
    labels = np.full(shape, label, np.uint8)
    for found in (
        postprocess.remove_small(labels, 10**6),
        postprocess.largest_component(labels, (0, 7, IGNORE)),
        postprocess.fill_holes(labels, (0, 7)),
    ):
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize(
    "labels", [np.zeros((2, 2)), np.zeros((1, 2, 2), int), np.zeros((0, 3), int)]
)
def test_what_is_no_label_map_is_refused(labels):
    for function in (
        lambda: postprocess.remove_small(labels, 3),
        lambda: postprocess.largest_component(labels, (0,)),
        lambda: postprocess.fill_holes(labels, (0,)),
        lambda: postprocess.regions(labels),
    ):
        with pytest.raises(ValueError, match="integers"):
            function()
    with pytest.raises(ValueError, match="4 or 8"):
        postprocess.regions(np.zeros((2, 2), int), 6)
