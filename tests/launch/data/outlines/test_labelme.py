import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from launch.data import outlines
from launch.data.bad_file import BadFile


def image(path, width=8, height=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path)
    return path


def shape(label="cat", points=((1, 1), (3, 2)), kind="rectangle", **more):
    return {"label": label, "points": points, "shape_type": kind} | more


def write(path, *shapes, **more):
    document = {"version": "5.5.0", "flags": {}, "shapes": shapes}
    document |= {"imagePath": f"{path.stem}.jpg", "imageData": None}
    document |= {"imageHeight": 6, "imageWidth": 8} | more
    path.write_text(json.dumps(document))


def simple(tmp_path, *shapes, **more):
    image(tmp_path / "a.jpg")
    write(tmp_path / "a.json", *shapes, **more)
    return found(tmp_path)


def found(root):
    (only,) = outlines.find(root)
    return only


def drawn(annotations, size=(6, 8)):
    assert annotations.problems == []
    return outlines.draw(annotations.images[0], size)


def raise_only(annotations):
    (bad,) = annotations.problems
    raise bad


def test_a_file_lies_beside_each_image(tmp_path):
    for name in ("train/a", "validation/b", "images/test/c"):
        image(tmp_path / f"{name}.jpg")
        write(tmp_path / f"{name}.json", shape())
    result = found(tmp_path)
    assert result.title == "labelme (images/test/c.json and 2 more)"
    assert {it.image.name: it.split for it in result.images} == {
        "a.jpg": "train",
        "b.jpg": "val",
        "c.jpg": "test",
    }
    assert all(it.image.is_absolute() and it.source.suffix == ".json" for it in result.images)
    assert result.problems == []


def test_without_a_split_in_the_path_there_is_none(tmp_path):
    (only,) = simple(tmp_path, shape()).images
    assert (only.split, only.size) == ("", (6, 8))


def test_folders_are_searched_two_deep_and_hidden_ones_are_not(tmp_path):
    for name in ("a/b/c/x.jpg", ".cache/x.jpg"):
        write(image(tmp_path / name).with_suffix(".json"), shape())
    assert outlines.find(tmp_path) == []
    assert len(found(tmp_path / "a").images) == 1


def test_classes_are_sorted_by_name(tmp_path):
    result = simple(tmp_path, shape("dog"), shape("cat", [[5, 0], [7, 5]]))
    assert result.names == ("background", "cat", "dog")
    expected = np.zeros((6, 8), np.int32)
    expected[1:3, 1:4] = 2
    expected[:, 5:] = 1
    ids = drawn(result)
    np.testing.assert_array_equal(ids, expected)
    assert ids.dtype == np.int32


def test_later_shapes_lie_on_top_and_ignore_is_void(tmp_path):
    whole = [[0, 0], [7, 5]]
    shapes = shape("a", whole), shape("_background_"), shape("__ignore__", [[0, 5], [1, 5]])
    result = simple(tmp_path, *shapes)
    assert result.names == ("background", "a")
    expected = np.ones((6, 8))
    expected[1:3, 1:4] = 0
    expected[5, :2] = 255
    np.testing.assert_array_equal(drawn(result), expected)
    assert (drawn(simple(tmp_path, *shapes[::-1])) == 1).all()


CORNERS = st.tuples(st.floats(-3, 11), st.floats(-3, 9), st.floats(-3, 11), st.floats(-3, 9))


@given(CORNERS, st.sampled_from(["two", "four", "polygon"]))
def test_a_rectangle_counts_the_pixels_that_contain_its_corners(tmp_path_factory, corners, form):
    left, top, right, bottom = corners
    points = [[left, top], [right, bottom]]
    if form != "two":
        points = [[left, top], [right, top], [right, bottom], [left, bottom]]
    kind = "polygon" if form == "polygon" else "rectangle"
    root = tmp_path_factory.mktemp("box")
    ids = drawn(simple(root, shape(points=points, kind=kind), shape("z", [[7, 5], [7, 5]])))
    y, x = np.mgrid[:6, :8]
    inside = lambda value, one, two: (
        (value >= np.floor(min(one, two))) & (value <= np.floor(max(one, two)))
    )
    expected = (inside(x, left, right) & inside(y, top, bottom)).astype(int)
    expected[5, 7] = 2
    np.testing.assert_array_equal(ids, expected)


def test_a_polygon_counts_its_outline_and_its_inside(tmp_path):
    diamond = shape(points=[[3.5, 0.9], [5.9, 2.2], [3.1, 4.9], [1.0, 2.7]], kind="polygon")
    rows = ["...#....", "..###...", ".#####..", "..###...", "...#....", "........"]
    expected = [[int(letter == "#") for letter in row] for row in rows]
    np.testing.assert_array_equal(drawn(simple(tmp_path, diamond)), expected)
    old = {key: value for key, value in diamond.items() if key != "shape_type"}
    np.testing.assert_array_equal(drawn(simple(tmp_path, old)), expected)


def test_a_circle_counts_the_pixels_whose_centre_is_near(tmp_path):
    ids = drawn(simple(tmp_path, shape(points=[[3.5, 2.5], [5.5, 2.5]], kind="circle")))
    rows = ["...#....", "..###...", ".#####..", "..###...", "...#....", "........"]
    np.testing.assert_array_equal(ids, [[int(letter == "#") for letter in row] for row in rows])
    ids = drawn(simple(tmp_path, shape(points=[[1.5, 4.5], [1.5, 3.4]], kind="circle")))
    assert np.argwhere(ids).tolist() == [[3, 1], [4, 0], [4, 1], [4, 2], [5, 1]]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (shape(kind="linestrip"), r"a.json \(shape 2\): 'cat' is of type linestrip; only polygon,"),
        (shape(kind="line"), r"'cat' is of type line; only"),
        (shape(kind="point"), r"'cat' is of type point; only"),
        (shape(kind=None), r"'cat' is of type None; only"),
        (shape(kind=["box"]), r"'cat' is of type \['box'\]; only"),
        (shape(""), r"\(shape 2\): has the label ''. Give it the name of a class"),
        (shape(None), r"has the label None"),
        (shape("\ud800"), r"has the label '.ud800'"),
        (shape(kind="polygon"), r"\(shape 2\): a polygon of 2 points.*needs 3 points"),
        (shape(points=[[1, 1]]), r"\(shape 2\): a rectangle of 1 point\. .*needs 2 points"),
        (shape(points=[[1, 1]] * 5), r"\(shape 2\): a rectangle of 5 points"),
        (shape(points=[[1, 1]] * 3, kind="circle"), r"\(shape 2\): a circle of 3 points"),
        (shape(points=[[1, 1], [2, 2, 2]]), r"a rectangle whose points are not pairs of numbers"),
        (shape(points=[1, 1, 2, 2]), r"a rectangle whose points are not pairs of numbers"),
        (shape(points=None), r"a rectangle whose points are not pairs of numbers"),
        (shape(points=[[1, 1], [2, "2"]]), r"a rectangle whose points are not numbers"),
        (shape(points=[[1, 1], [2, 90]]), r"a rectangle with a point at y 90, far outside"),
        (5, r"\(shape 2\): 5 in place of a shape"),
    ],
)
def test_a_broken_shape_is_named_and_left_out(tmp_path, broken, message):
    result = simple(tmp_path, shape("a"), broken)
    assert len(result.images[0].shapes) == 1
    with pytest.raises(BadFile, match=message):
        raise_only(result)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"imagePath": "../x/b.jpg"}, r"a.json: belongs to b.jpg \(imagePath\), but .* beside a.j"),
        ({"imageWidth": -8}, r"a.json \(imageWidth, imageHeight\): an image of width -8 and hei"),
        ({"shapes": {}}, r"a.json: shapes is no list. Save it again in labelme"),
    ],
)
def test_a_broken_file_is_named(tmp_path, more, message):
    with pytest.raises(BadFile, match=message):
        raise_only(simple(tmp_path, **more))


@pytest.mark.parametrize("path", ["C:\\mine\\a.jpg", "../images/a.jpg", "a.png", "", None])
def test_the_path_of_another_computer_is_accepted(tmp_path, path):
    assert drawn(simple(tmp_path, shape(), imagePath=path)).any()


@pytest.mark.parametrize(("said", "used"), [("a.jpg", "a.jpg"), ("x\\a.png", "a.png")])
def test_of_two_images_the_file_names_its_own(tmp_path, said, used):
    image(tmp_path / "a.png")
    result = simple(tmp_path, shape(), imagePath=said)
    assert [it.image.name for it in result.images] == [used]


@pytest.mark.parametrize("said", ["a.tif", None])
def test_two_images_of_one_name_are_refused(tmp_path, said):
    image(tmp_path / "a.png")
    result = simple(tmp_path, shape(), imagePath=said)
    with pytest.raises(BadFile, match=r"but lies beside a.jpg and a.png. Give it the name"):
        raise_only(result)
    assert result.images == ()


def test_an_image_without_a_file_is_named_where_others_have_one(tmp_path):
    image(tmp_path / "others/z.jpg")
    image(tmp_path / "b.jpg")
    with pytest.raises(BadFile, match=r"b.jpg: has no annotation. Annotate it"):
        raise_only(simple(tmp_path, shape()))
    (tmp_path / "b.json").write_text('{"shapes": [3]}')
    with pytest.raises(BadFile, match=r"b.jpg: has no annotation: b.json is no labelme file"):
        raise_only(found(tmp_path))
    write(tmp_path / "b.json")
    assert [len(it.shapes) for it in found(tmp_path).images] == [1, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"shapes": [{"label": "ca', r"a.json \(line 1, column 23\): is not valid JSON"),
        (b'{"shapes": [\n\xff', r"a.json \(line 2\): is not UTF-8"),
        (b'{"shapes": ' + b"[" * 100_000, r"a.json: cannot be parsed \(nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_named(tmp_path, content, message):
    image(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(BadFile, match=message):
        raise_only(found(tmp_path))


@pytest.mark.parametrize(
    "content", ["", "{}", '{"shapes": 4}', '["shapes"]', '{"shapes": [[1, 2]]}', "x"]
)
def test_other_json_beside_an_image_is_skipped(tmp_path, content):
    image(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(content)
    assert outlines.find(tmp_path) == []


def test_another_size_is_named_when_it_is_drawn_and_none_is_not(tmp_path):
    (outlined,) = simple(tmp_path, shape()).images
    with pytest.raises(BadFile, match=r"a.json: says that a.jpg has 8 x 6 pixels"):
        outlines.draw(outlined, (6, 9))
    (outlined,) = simple(tmp_path, shape(), imageHeight=None, imageWidth=None).images
    assert outlines.draw(outlined, (6, 9)).sum() == 6


def test_capital_suffixes_and_a_byte_order_mark_are_read(tmp_path):
    image(tmp_path / "A.JPG")
    write(tmp_path / "A.json", shape(), imagePath="A.JPG")
    text = (tmp_path / "A.json").read_text()
    (tmp_path / "A.json").unlink()
    (tmp_path / "A.JSON").write_text(text, "utf-8-sig")
    assert drawn(found(tmp_path)).any()


def test_fractions_in_place_of_pixels_are_named(tmp_path):
    result = simple(tmp_path, shape(points=[[0.25, 0.25], [0.5, 1]]))
    with pytest.raises(BadFile, match=r"all points lie between 0 and 1.*Multiply x by the width"):
        raise_only(result)
