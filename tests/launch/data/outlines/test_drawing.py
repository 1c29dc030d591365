import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.data.bad_file import BadFile
from launch.data.outlines.drawing import draw, pycocotools
from launch.data.outlines.shapes import Outlined, Shape

SIZE = (6, 8)


def shape(kind, *values, id=1, place="shape 1"):
    return Shape(kind, id, place, (np.array(values, np.float64).tobytes(),))


def drawn(*shapes, size=SIZE, said=None):
    return draw(Outlined(Path("/d/a.jpg"), Path("/d/a.json"), "", shapes, said), size)


def rows(*lines):
    return [[int(letter == "#") for letter in line] for line in lines]


def test_nothing_is_background():
    ids = drawn()
    assert ids.dtype == np.int32
    assert ids.shape == SIZE
    assert not ids.any()


def test_later_shapes_lie_on_top():
    ids = drawn(shape("box", 0, 0, 7, 5, id=3), shape("box", 0, 0, 0, 0, id=300))
    assert ids[0, 0] == 300
    assert (ids == 3).sum() == 47


@given(st.tuples(st.floats(-3, 11), st.floats(-3, 9), st.floats(-3, 11), st.floats(-3, 9)))
def test_boxes_and_upright_polygons_count_from_corner_to_corner(corners):
    left, top, right, bottom = corners
    y, x = np.mgrid[:6, :8]
    (left_, right_), (top_, bottom_) = sorted((left, right)), sorted((top, bottom))
    expected = (x >= np.floor(left_)) & (x <= np.floor(right_))
    expected &= (y >= np.floor(top_)) & (y <= np.floor(bottom_))
    np.testing.assert_array_equal(drawn(shape("box", *corners)), expected)
    polygon = shape("polygon", left, top, right, top, right, bottom, left, bottom)
    np.testing.assert_array_equal(drawn(polygon), expected)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), min_size=3, max_size=3))
def test_triangles_hold_what_is_inside_and_nothing_a_pixel_away(corners):
    corners = np.array(corners)
    (x1, y1), (x2, y2) = corners[1:] - corners[0]
    if x1 * y2 < y1 * x2:
        corners = corners[::-1]
    y, x = np.mgrid[:21, :31]
    distances = []  # of each pixel to each edge, positive inside
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, 0), strict=True):
        length = max(np.hypot(x2 - x1, y2 - y1), 1e-9)
        distances.append(((x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)) / length)
    nearest = np.min(distances, 0)
    ids = drawn(shape("polygon", *np.ravel(corners)), size=(21, 31))
    assert ids[nearest > 0].all()
    assert not ids[nearest < -1].any()


def test_a_polygon_counts_the_pixels_that_contain_its_points():
    diamond = shape("polygon", 3.5, 0.9, 5.9, 2.2, 3.1, 4.9, 1.0, 2.7)
    shown = rows("...#....", "..###...", ".#####..", "..###...", "...#....", "........")
    np.testing.assert_array_equal(drawn(diamond), shown)
    ring = shape("polygon", -0.5, 2, 9.9, 2, 9.9, 2.5)  # -0.5 lies in pixel -1
    assert drawn(ring)[2].all()
    assert drawn(ring).sum() == 8


def test_a_circle_counts_the_pixels_whose_centre_is_near():
    shown = rows("...#....", "..###...", ".#####..", "..###...", "...#....", "........")
    np.testing.assert_array_equal(drawn(shape("circle", 3.5, 2.5, 5.5, 2.5)), shown)
    np.testing.assert_array_equal(drawn(shape("circle", 3.5, 2.5, 3.5, 0.5)), shown)
    shown = rows("........", "........", "........", ".#......", "###.....", ".#......")
    np.testing.assert_array_equal(drawn(shape("circle", 1.5, 4.5, 2.2, 3.7)), shown)


def test_runs_fill_a_box_row_by_row():
    runs = Shape("runs", 2, "p", ((1, 3, 2), 4, 1, 3, 2))
    shown = rows("........", ".....##.", "....#...", "........", "........", "........")
    np.testing.assert_array_equal(drawn(runs), np.multiply(shown, 2))


def test_rle_runs_down_the_columns():
    rle = Shape("rle", 255, "p", ((7, 3, 38), 6, 8))
    shown = rows("........", ".#......", ".#......", ".#......", "........", "........")
    np.testing.assert_array_equal(drawn(rle), np.multiply(shown, 255))


def test_polygons_of_coco_count_the_centres_inside():
    squares = np.array([1, 1, 4, 1, 4, 3, 1, 3.0]).tobytes(), np.array([6, 4, 8, 4, 8, 6, 6, 6.0])
    both = Shape("polygons", 1, "p", (squares[0], squares[1].tobytes()))
    shown = rows("........", ".###....", ".###....", "........", "......##", "......##")
    np.testing.assert_array_equal(drawn(both), shown)


def test_another_size_is_named_with_both():
    message = (
        r"/d/a.json: says that a.jpg has 8 x 6 pixels \(width x height\), but it has 9 x 6. "
        r"Export the annotations and the images at the same size"
    )
    with pytest.raises(BadFile, match=message):
        drawn(size=(6, 9), said=(6, 8))
    with pytest.raises(BadFile, match=r"it has 8 x 7. Export"):
        drawn(size=(7, 8), said=(6, 8))
    with pytest.raises(BadFile, match=r"it has 6 x 8. One of them lies on its side: export both"):
        drawn(size=(8, 6), said=(6, 8))
    assert drawn(size=(6, 8), said=(6, 8)).shape == (6, 8)


def test_shapes_that_do_not_fit_the_image_are_named():
    with pytest.raises(BadFile, match=r"a.json \(shape 1\): a box with a point at x 90, far out"):
        drawn(shape("box", 1, 1, 90, 2))
    with pytest.raises(BadFile, match=r"a.json \(p\): says that a.jpg has 4 x 2 pixels"):
        drawn(Shape("rle", 1, "p", ((8,), 2, 4)))
    with pytest.raises(BadFile, match=r"a.json \(p\): a broken RLE \(.*\). Export this object"):
        drawn(Shape("rle", 1, "p", ("abc0", 6, 8)))


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    message = r"x.json: COCO's outlines need pycocotools.*Install it: pip install '\.\[coco\]'"
    with pytest.raises(BadFile, match=message):
        pycocotools("x.json")
    assert drawn(shape("box", 1, 1, 2, 2)).sum() == 4  # needs none
