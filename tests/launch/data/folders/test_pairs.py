from pathlib import Path

import pytest

from launch.data.folders import pairs
from launch.data.folders.listing import Entry


def entry(name, rest=(), split="", folder="masks"):
    path = Path("/d", folder, *rest, f"{name}.png")
    return Entry(path, split, "mask", folder, tuple(part.lower() for part in rest), name.lower())


def images(*names, **where):
    return [entry(name, folder="images", **where) for name in names]


def masks(*names, **where):
    return [entry(name, **where) for name in names]


def matched(result):
    return [(pair.name, *(path.stem for path in pair.masks)) for pair in result.pairs.get("", ())]


@pytest.mark.parametrize(
    ("image", "mask"),
    [("a", "a"), ("A", "a"), ("a_b", "a_b_mask"), ("a", "a-x.y"), ("x_image", "x_label")],
)
def test_an_ending_of_the_mask_is_left_out(image, mask):
    result = pairs.match(images(image, image + "2_image"), masks(mask, "zz"), [])
    found = [path for pair in result.pairs.get("", ()) for path in pair.masks]
    if image == "x_image":  # two images are needed to see the ending that they share
        assert [path.stem for path in found] == ["x_label"]
    else:
        assert [path.stem for path in found] == [mask]


def test_the_longest_name_of_an_image_wins():
    result = pairs.match(images("a", "a_b"), masks("a_m", "a_b_m"), [])
    assert matched(result) == [("a", "a_m"), ("a_b", "a_b_m")]
    assert (result.how, result.problems) == ("", [])


def test_files_without_a_partner_and_twice():
    result = pairs.match(images("a", "b", "B"), masks("a", "c"), masks("a", "d"))
    assert matched(result) == [("a", "a")]
    assert [(Path(bad.path).stem, bad.problem) for bad in result.problems] == [
        ("B", "its name occurs twice"),
        ("c", "no partner in images"),
        ("d", "no partner in images"),
        ("b", "no partner in masks"),
        ("b", "no partner in depth"),
    ]
    (pair,) = result.pairs[""]
    assert pair.depth == Path("/d/masks/a.png")
    assert pair.files == (pair.image, pair.mask, pair.depth)


def test_splits_do_not_mix():
    given = images("a", split="train") + images("a", split="val")
    result = pairs.match(given, masks("a", split="train") + masks("a", split="val"), [])
    assert {split: len(part) for split, part in result.pairs.items()} == {"train": 1, "val": 1}


def test_one_of_several_masks_is_chosen():
    given = masks("a_x", "b_x", "a_Y", "b_Y")
    (bad,) = pairs.match(images("a", "b"), given, []).problems
    assert bad.problem == "images have several masks, which differ by '_x' (2), '_Y' (2)"
    assert bad.fix.startswith("Give masks=_x to take one of them, or masks=_x,_Y if each")
    result = pairs.match(images("a", "b"), given, [], ("_y",))
    assert matched(result) == [("a", "a_Y"), ("b", "b_Y")]
    assert result.how == "masks '_Y', not '_x'"
    (bad,) = pairs.match(images("a", "b"), given, [], ("_z",)).problems
    assert bad.problem == "no masks '_z'"
    plain = pairs.match(images("a"), masks("a", "a_x"), [])
    assert plain.problems[0].fix == "Give masks=_x to take one of them."


def test_each_mask_a_class():
    given = masks("a_x", "b_x", "a_Y", "b_background")
    result = pairs.match(images("a", "b"), given, [], ("_Y", "_background", "_x"))
    assert result.names == {0: "background", 1: "Y", 2: "x"}
    assert [pair.ids for pair in result.pairs[""]] == [(1, 2), (0, 2)]
    assert result.how == "one mask for each class: Y, x"


def test_folders_of_classes():
    given = masks("a", rest=("Cell",)) + masks("a", "b", rest=("wall",))
    result = pairs.match(images("a", "b"), given, [])
    assert result.names == {0: "background", 1: "Cell", 2: "wall"}
    assert [pair.ids for pair in result.pairs[""]] == [(1, 2), (2,)]


def test_objects_in_the_folder_of_their_image():
    given = masks("p", "q", rest=("x",)) + masks("r", rest=("y",))
    photos = images("x", rest=("x",)) + images("y", rest=("y",))
    result = pairs.match(photos, given, [])
    assert [pair.ids for pair in result.pairs[""]] == [(1, 1), (1,)]
    assert result.how == "one mask for each object"
    two = pairs.match(photos + images("z", rest=("x",)), given, [])
    assert two.pairs == {}
    assert len(two.problems) == 6
