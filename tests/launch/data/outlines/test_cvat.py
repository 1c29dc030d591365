import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from launch.data import outlines
from launch.data.bad_file import BadFile

LABEL = "<label><name>{}</name></label>"
LABELS = f"<meta><task><labels>{LABEL.format('dog')}{LABEL.format('cat')}</labels></task></meta>"
BOX = '<box label="cat" xtl="1" ytl="1" xbr="3.9" ybr="2" z_order="0"></box>'


def image(path, width=8, height=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path)


def entry(*shapes, name="a.jpg", more=""):
    inner = "".join(shapes)
    return f'<image id="0" name="{name}" width="8" height="6" {more}>{inner}</image>'


def write(path, *images, labels=LABELS):
    path.parent.mkdir(parents=True, exist_ok=True)
    start = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
    path.write_text(f"{start}{labels}{''.join(images)}</annotations>")


def simple(tmp_path, *shapes, labels=LABELS):
    image(tmp_path / "images/a.jpg")
    write(tmp_path / "annotations.xml", entry(*shapes), labels=labels)
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


def test_the_labels_of_the_file_give_the_order_of_classes(tmp_path):
    polygon = '<polygon label="dog" points="5.00,0.00; 7.50,0.2;7,5;5,5;" z_order="0"/>'
    result = simple(tmp_path, BOX, polygon, '<tag label="cat"/>')
    assert result.title == "CVAT (annotations.xml)"
    assert result.names == ("background", "dog", "cat")
    expected = np.zeros((6, 8), np.int32)
    expected[1:3, 1:4] = 2
    expected[:, 5:] = 1
    ids = drawn(result)
    np.testing.assert_array_equal(ids, expected)
    assert ids.dtype == np.int32


def test_without_labels_names_are_sorted(tmp_path):
    other = '<box label="ape" xtl="0" ytl="0" xbr="0" ybr="0"/>'
    assert simple(tmp_path, BOX, other, labels="").names == ("background", "ape", "cat")


@pytest.mark.parametrize(
    ("orders", "top"), [((0, 0), 1), ((1, 0), 2), ((-1, 0), 1), ((None, -1), 2), ((2, 10), 1)]
)
def test_the_z_order_says_what_lies_on_top(tmp_path, orders, top):
    shapes = [
        BOX.replace("cat", label).replace('"0"', f'"{order}"')
        if order is not None
        else BOX.replace("cat", label).replace('z_order="0"', "")
        for label, order in zip(("cat", "dog"), orders, strict=True)
    ]
    assert drawn(simple(tmp_path, *shapes))[1, 1] == top


def test_subsets_are_splits(tmp_path):
    parts = {"Train": "images/Train/a.jpg", "Validation": "images/a.jpg", "default": "b.jpg"}
    for path in parts.values():
        image(tmp_path / path)
    names = ("a.jpg", "a.jpg", "b.jpg")
    entries = [
        entry(name=name, more=f'subset="{subset}"')
        for name, subset in zip(names, parts, strict=True)
    ]
    write(tmp_path / "annotations.xml", *entries)
    result = found(tmp_path)
    assert result.problems == []
    where = {it.split: it.image.relative_to(tmp_path).as_posix() for it in result.images}
    assert where == dict(zip(("train", "val", ""), parts.values(), strict=True))


@pytest.mark.parametrize("form", ["train/annotations.xml", "annotations/train.xml"])
def test_the_place_or_name_of_a_file_is_its_split(tmp_path, form):
    image(tmp_path / "train/images/a.jpg")
    write(tmp_path / form, entry(BOX))
    assert [it.split for it in found(tmp_path).images] == ["train"]
    assert drawn(found(tmp_path)).any()


@given(st.integers(1, 2**12 - 1), st.integers(0, 4), st.integers(0, 3))
def test_masks_are_runs_row_by_row_in_a_box(tmp_path_factory, bits, left, top):
    mask = np.array([bits >> place & 1 for place in range(12)]).reshape(3, 4)
    runs, last = [0], 0
    for value in mask.ravel():
        runs += [0] * int(value != last)
        last = value
        runs[-1] += 1
    text = ", ".join(map(str, runs))
    attributes = f'left="{left}" top="{top}" width="4" height="3"'
    root = tmp_path_factory.mktemp("mask")
    ids = drawn(simple(root, f'<mask label="dog" rle="{text}" {attributes} z_order="0"/>'))
    expected = np.zeros((6, 8))
    expected[top : top + 3, left : left + 4] = mask
    np.testing.assert_array_equal(ids, expected)


MASK = '<mask label="dog" rle="{}" left="{}" top="{}" width="{}" height="{}"/>'


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            '<polyline label="cat" points="1,1;2,2"/>',
            r"image a.jpg, shape 2\): 'cat' is of type polyl",
        ),
        ('<points label="cat" points="1,1"/>', r"'cat' is of type points; only"),
        ('<cuboid label="cat"/>', r"'cat' is of type cuboid; only polygon, box and m"),
        (BOX.replace("cat", "cow"), r"shape 2\): has the label 'cow', which is not among <labels>"),
        ("<box/>", r"has the label None"),
        ('<polygon label="cat" points="1,1;2,2"/>', r"shape 2\): a polygon of 2 points"),
        ('<polygon label="cat" points="1,1;2,2;3,x"/>', r"a polygon whose points are not numbers"),
        ('<polygon label="cat" points="1,1;2,2;3"/>', r"a polygon of 5 numbers, an x without y"),
        ('<polygon label="cat" points="1,1;2,2;3,nan"/>', r"with a point that is not finite"),
        ('<polygon label="cat"/>', r"a polygon whose points are not numbers"),
        ('<polygon label="cat" points="1,1;2,2;80,3"/>', r"a polygon with a point at x 80, far"),
        (
            '<box label="cat" xtl="1" ytl="1" xbr="3"/>',
            r"shape 2\): a box whose points are not",
        ),
        (BOX.replace("z_", 'rotation="30" z_'), r"shape 2\): 'cat' is a box that is turned. Draw"),
        (BOX.replace('"0"', '"high"'), r"shape 2\): has the z_order 'high', which is no whole"),
        (BOX.replace('"0"', '"0.5"'), r"has the z_order '0.5', which is no whole number"),
        (MASK.format("1, 1", 0, 0, 3, 1), r"a mask of 3 x 1 pixels whose rle has 2"),
        (MASK.format("x", 0, 0, 3, 1), r"a mask of the rle 'x'"),
        (MASK.format("", 0, 0, 3, 1), r"a mask of the rle ''"),
        (MASK.format("3,-1,1", 0, 0, 3, 1), r"a mask of the rle '3,-1,1'"),
        (MASK.format("3", 6, 0, 3, 1), r"a mask of 3 x 1 pixels at x 6, y 0, outside of its image"),
        (MASK.format("3", 0, 4, 1, 3), r"a mask of 1 x 3 pixels at x 0, y 4, outside"),
        (MASK.format("3", -1, 0, 3, 1), r"at x -1, y 0, outside"),
        (MASK.format("3", "", 0, 3, 1), r"has the left '', which is no whole number"),
        ('<mask label="dog" rle="3"/>', r"has the left None, which is no whole number"),
    ],
)
def test_a_broken_shape_is_named_and_left_out(tmp_path, shape, message):
    result = simple(tmp_path, BOX, shape)
    assert len(result.images[0].shapes) == 1
    with pytest.raises(BadFile, match=message):
        raise_only(result)


def test_masks_reach_the_border_and_boxes_may_say_that_they_are_not_turned(tmp_path):
    shapes = MASK.format("0, 2", 7, 4, 1, 2), BOX.replace("z_", 'rotation="0.0" z_')
    assert drawn(simple(tmp_path, *shapes))[:, 7].tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (entry(name="x.jpg"), r"\(image x.jpg\): names the image 'x.jpg', which does not exist"),
        (entry(BOX), r"\(image a.jpg\): is already in annotations.xml. Remove one"),
        ('<image name="a.jpg" width="8"/>', r"\(image a.jpg\): an image of width 8.0 and height"),
        ('<image name="a.jpg"/>', r"\(image a.jpg\): an image without width and height"),
        ('<image name="a.jpg" width="8" height="six"/>', r"an image of width 8.0 and height 'six'"),
        ('<image width="8" height="6"/>', r"names the image '', which does not exist"),
    ],
)
def test_a_broken_image_is_named_and_left_out(tmp_path, extra, message):
    image(tmp_path / "images/a.jpg")
    write(tmp_path / "annotations.xml", entry(BOX), extra)
    result = found(tmp_path)
    assert len(result.images) == 1
    with pytest.raises(BadFile, match=message):
        raise_only(result)


def test_files_that_name_other_labels_are_a_problem(tmp_path):
    for split, labels in (("train", LABELS), ("val", LABELS.replace("cat", "cow")), ("test", "")):
        image(tmp_path / split / "a.jpg")
        write(tmp_path / split / "annotations.xml", entry(), labels=labels)
    result = found(tmp_path)
    assert result.title == "CVAT (test/annotations.xml and 2 more)"
    assert result.names == ("background", "dog", "cat", "cow")
    message = r"val/annotations.xml: names other labels than annotations.xml, such as 'cat'"
    with pytest.raises(BadFile, match=message):
        raise_only(result)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '<!DOCTYPE a [<!ENTITY b "cccc">]><annotations>&b;</annotations>',
            r"annotations.xml: has a DOCTYPE, which CVAT does not write. Delete the DOCTYPE",
        ),
        ("<annotations>\n <image", r"\(line 2, column 2\): is not valid XML \(unclosed token"),
        ("<annotations>\xfc</annotations>", r"is not valid XML \(not well-formed"),
        ('<?xml version="1.0" encoding="x"?><annotations/>', r"is not valid XML \("),
        ("<annotations><track/></annotations>", r"is CVAT for video, whose tracks name no image"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, content, message):
    for code in ("latin-1", "utf-16"):
        if code == "utf-16" and ("\xfc" in content or "encoding" in content):
            continue
        (tmp_path / "annotations.xml").write_bytes(content.encode(code))
        result = found(tmp_path)
        assert (result.names, result.images) == (("background",), ())
        with pytest.raises(BadFile, match=message):
            raise_only(result)


@pytest.mark.parametrize("content", ["", "<annotation/>", "<a><annotations/></a>", "annotations"])
def test_other_xml_is_skipped(tmp_path, content):
    (tmp_path / "annotations.xml").write_text(content)
    assert outlines.find(tmp_path) == []


def test_another_size_is_named_when_it_is_drawn(tmp_path):
    (outlined,) = simple(tmp_path, BOX).images
    with pytest.raises(BadFile, match=r"annotations.xml: says that a.jpg has 8 x 6 pixels"):
        outlines.draw(outlined, (6, 9))


def test_kinds_are_found_side_by_side(tmp_path):
    simple(tmp_path, BOX)
    image(tmp_path / "b.jpg")
    (tmp_path / "b.json").write_text('{"shapes": [], "imagePath": "b.jpg"}')
    (tmp_path / "c.json").write_text(
        '{"images": [], "annotations": [], "categories": [], "file_name": 0}'
    )
    titles = [annotations.title for annotations in outlines.find(tmp_path)]
    assert titles == ["COCO (c.json)", "labelme (b.json)", "CVAT (annotations.xml)"]
