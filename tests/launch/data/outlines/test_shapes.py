import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.data.bad_file import BadFile
from launch.data.outlines import shapes
from launch.data.outlines.shapes import Annotations, Outlined, Shape


def test_labels_are_numbered_in_their_order():
    names, ids = shapes.number(["cow", "Background", "ape"])
    assert names == ("background", "cow", "ape")
    assert ids == {"cow": 1, "Background": 0, "ape": 2}
    assert shapes.number(["_background_"]) == (("background",), {"_background_": 0})
    assert shapes.number(["backgrounds"])[1] == {"backgrounds": 1}


@given(st.lists(st.floats(-3, 13) | st.integers(-3, 13), min_size=6, max_size=20))
def test_points_are_packed_as_numbers(values):
    values = values[: len(values) // 2 * 2]
    packed = shapes.pack(values, 3, (10, 10), "f", "p")
    np.testing.assert_array_equal(np.frombuffer(packed, np.float64), values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [1, 1, 2, 2],
            r"f \(p\): a blob of 2 points. Draw it again or remove it; a blob needs 3",
        ),
        ([1, 1], r"a blob of 1 point\. "),
        ([], r"a blob of 0 points\. .* each an x and a y"),
        ([1, 1, 2, 2, 3, 3, 4], r"a blob of 7 numbers, an x without y"),
        ([1, 1, 2, 2, 3, None], r"a blob whose points are not numbers"),
        ("111111", r"a blob whose points are not numbers"),
        ([1, 1, 2, 2, 3, float("inf")], r"a blob with a point that is not finite"),
        ([1, -(10**400), 2, 2, 3, 10**400], r"a blob with a point that is not finite"),
        ([1, 2, 2, 2, 3, -(2**31)], r"a blob with a point beyond 2,147,483,648 pixels"),
        ([1e200, 2, 2, 2, 3, 3], r"a blob with a point beyond"),
        ([float("inf"), -float("inf"), 1, 1, 2, 2], r"a blob with a point that is not finite"),
    ],
)
def test_what_is_no_polygon_is_named(values, message):
    with pytest.raises(BadFile, match=message):
        shapes.pack(values, 3, None, "f", "p", "blob")


@pytest.mark.parametrize(
    ("point", "axis"),
    [
        ((-10.1, 5), "x -10.1"),
        ((110.1, 5), "x 110.1"),
        ((5, -10.1), "y -10.1"),
        ((5, 70.1), "y 70"),
    ],
)
def test_points_may_lie_a_tenth_of_the_longer_side_outside(point, axis):
    inside = [-10, -10, 110, 70, 0, 0]
    shapes.pack(inside, 3, (60, 100), "f", "p")
    with pytest.raises(BadFile, match=rf"at {axis}.*far outside of its image, which has 100 x 60"):
        shapes.pack([*inside, *point], 3, (60, 100), "f", "p")
    shapes.pack([*inside, *point], 3, None, "f", "p")


def test_in_small_images_points_may_lie_three_pixels_outside():
    shapes.pack([-3, -3, 7, 9], 2, (6, 4), "f", "p")
    with pytest.raises(BadFile, match=r"a polygon with a point at x 7.1"):
        shapes.pack([-3, -3, 7.1, 9], 2, (6, 4), "f", "p")


def test_names_are_texts_that_can_be_printed():
    assert shapes.is_name("rote Ampel")
    for wrong in ("", "  ", "a\nb", "\ud800", None, 4):
        assert not shapes.is_name(wrong)


def test_sizes_are_whole_pixels():
    assert shapes.pixels(4, 6.0, "f", "p") == (6, 4)
    assert shapes.pixels(2**31 - 1, 1, "f", "p") == (1, 2**31 - 1)
    assert shapes.pixels(1, 1, "f", "p") == (1, 1)
    assert shapes.pixels(None, None, "f", "p") is None
    for wrong in (0, -1, 1.5, "4", None, True, 2**31, float("nan"), float("inf"), [4]):
        with pytest.raises(BadFile, match=r"f \(p\): an image of width .* and height .*Write both"):
            shapes.pixels(4, wrong, "f", "p")
        with pytest.raises(BadFile, match=r"an image of width"):
            shapes.pixels(wrong, 4, "f", "p")


def points(*values):
    return np.array(values, np.float64).tobytes()


@pytest.mark.parametrize(
    ("values", "area"),
    [
        ((0, 0, 4, 0, 4, 3, 0, 3), 12),
        ((0, 3, 4, 3, 4, 0, 0, 0), 12),
        ((1, 1, 5, 1, 1, 4), 6),
        ((1, 1, 2, 2, 3, 3), 0),
    ],
)
def test_the_area_of_a_polygon(values, area):
    assert shapes.enclosed(points(*values)) == area


def outlined(*drawn):
    return Outlined("i", "s.json", "", drawn)


def polygon(*values):
    return Shape("polygon", 1, "p", (points(*values),))


def test_points_that_are_fractions_are_one_problem():
    fraction, corner = polygon(0, 0, 1, 0.5, 0, 1), polygon(0, 0, 1, 0, 1, 1)
    runs = Shape("rle", 1, "p", ((3, 9), 3, 4))
    (bad,) = shapes.check_fractions([outlined(corner, runs), outlined(fraction), outlined(corner)])
    assert str(bad).startswith("s.json: all points lie between 0 and 1, as fractions of an image")
    for other in (polygon(0.5, 0, 1, 1, 1, 1.5), polygon(0.5, -0.5, 1, 1, 0, 0)):
        assert shapes.check_fractions([outlined(fraction), outlined(other)]) == []
    for none in ([], [outlined()], [outlined(corner)], [outlined(runs)]):
        assert shapes.check_fractions(none) == []


def test_what_was_read_does_not_change():
    one = outlined(polygon(0, 0, 1, 1, 2, 2))
    assert hash(one) == hash(outlined(polygon(0, 0, 1, 1, 2, 2)))
    assert one.size is None
    for value, name in (
        (one, "split"),
        (one.shapes[0], "id"),
        (Annotations("", (), (), []), "names"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, 3)
