import dataclasses
from pathlib import Path

import pytest

from launch.data.bad_file import BadFile
from launch.data.folders.pairs import Pair
from launch.data.folders.survey import Contents
from launch.data.pictures import reading
from launch.data.pictures.reading import Reading

FULL = ((0.0, 255.0),) * 3
COLOUR = Contents((20, 40), "uint8", 3, "", FULL, digest="0")
PLAIN = Reading(8, 3, (), -1)


def pairs(*names):
    return [Pair(name, Path(name), ()) for name in names]


def change(**changes):
    return dataclasses.replace(COLOUR, **changes)


def decide(*contents, options=PLAIN, intensity=()):
    found = pairs(*(f"{number}.png" for number in range(len(contents))))
    by_pair = dict(zip(found, contents, strict=True))
    return reading.decide(Path("d"), by_pair, options, intensity)


def describe(contents, how=PLAIN, splits=None, named=None, root=Path("none")):
    found = pairs(*contents) if isinstance(contents, dict) else None
    by_pair = dict(zip(found, contents.values(), strict=True))
    splits = splits or {"train": list(range(len(found)))}
    splits = {split: [found[number] for number in part] for split, part in splits.items()}
    named = dict(zip(found, named, strict=True)) if named else {}
    return reading.describe(root, splits, ("why",), named, by_pair, how)


def test_values_of_eight_bits_stay():
    assert decide(COLOUR, change(channels=1, ranges=FULL[:1])) == PLAIN


def test_more_bits_have_one_range():
    one = change(dtype="uint16", ranges=((5.0, 50.0), (6.0, 60.0), (7.0, 70.0)))
    two = change(dtype="uint16", ranges=((1.0, 40.0), (8.0, 80.0), (7.0, 71.0)))
    assert decide(one, two).ranges == ((1.0, 50.0), (6.0, 80.0), (7.0, 71.0))
    assert decide(one, two, intensity=(2, 3)).ranges == ((2.0, 3.0),) * 3


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([COLOUR, change(alpha="varies")], r"1.png: is transparent in parts .* own\). Give"),
        ([change(alpha="varies")] * 3, r"0.png: is transparent in parts .*; so are 2 more. Give"),
        ([COLOUR, change(channels=5)], "has 5 channels, where 3 are expected"),
        ([COLOUR, COLOUR, change(dtype="uint16")], "holds values of uint16, most images uint8"),
        ([change(ranges=((3.0, 20.0),) * 3)], r"within 3 and 20 of 0 to 255. Give intensity="),
    ],
)
def test_what_is_improbable_is_refused(contents, message):
    with pytest.raises(BadFile, match=message):
        decide(*contents)


@pytest.mark.parametrize("level", [0, 255])
def test_a_background_is_for_transparency(level):
    given = Reading(8, 3, (), level)
    assert decide(COLOUR, change(alpha="varies"), options=given).background == level
    with pytest.raises(BadFile, match=rf"d: background={level} has no effect: all images"):
        decide(COLOUR, change(alpha="opaque"), options=given)


def test_the_lines():
    contents = {
        "a/1.png": COLOUR,
        "a/2.png": change(size=(40, 80), digest="1", orientation=6),
        "b/3.png": change(size=(30, 10), digest="2"),
    }
    assert describe(contents, splits={"train": [0, 1], "test": [2]}) == (
        "3 images: train 2, test 1; why",
        "images: colour, uint8, values as stored; 40 x 20 (1), 80 x 40 (1), 10 x 30 (1)",
        "        1 are turned upright by their EXIF orientation",
        "examples: 8 x 8 x 3: the shorter side is scaled to 8 pixels (by 0.4, median), the "
        "centre square is kept (50% of an image, median; 33% at least, of b/3.png)",
        "classes: none; labels=True makes the 2 folders classes: a, b",
    )


def lines(contents, **given):
    return "\n".join(describe(contents, **given))


def test_lines_on_sizes():
    sizes = {f"{k}.png": change(size=(k, k), digest=str(k)) for k in range(6, 12)}
    text = lines(sizes)
    assert "9 x 9 (1) and 2 other sizes" in text
    assert "        2 images are smaller than that and are scaled up" in text
    assert "kept (100% of an image, median)" in text
    same = lines({"1.png": COLOUR, "2.png": change(digest="1")})
    assert "; 40 x 20 (2)\n" in same
    assert "smaller" not in same
    assert "classes" not in same


def test_lines_on_channels():
    grey = change(channels=1, ranges=FULL[:1], digest="1")
    both = {"1.png": COLOUR, "2.png": grey, "3.png": change(digest="2")}
    assert "images: 2 in colour and 1 grey, uint8" in lines(both)
    assert "        grey is repeated over 3 channels" in lines(both)
    one = dataclasses.replace(PLAIN, channels=1)
    assert "8 x 8 x 1" in lines(both, how=one)
    assert "colour is turned grey: 0.299 red + 0.587 green + 0.114 blue" in lines(both, how=one)
    assert "repeated" not in lines(both, how=one)
    assert "images: grey, uint8" in lines({"2.png": grey}, how=one)
    assert "turned grey" not in lines({"2.png": grey}, how=one)
    assert "repeated" not in lines({"1.png": COLOUR})


def test_lines_on_values():
    how = Reading(8, 3, ((1.0, 2.5), (1.0, 2.5), (0.0, 9.0)), 0)
    text = lines({"1.png": COLOUR}, how=how)
    assert "scaled so that 1 to 2.5 / 0 to 9 become 0 to 255;" in text
    assert "        transparent parts are laid on grey level 0" in text
    assert "transparent" not in lines({"1.png": COLOUR})


def test_lines_on_classes():
    contents = {f"{k}.png": change(digest=str(k)) for k in range(4)}
    splits = {"train": [0, 1, 2], "test": [3]}
    text = lines(contents, splits=splits, named=["b", "a", "b", "a"])
    assert "classes: 2 folders: a 2, b 2\n        no image of b is in test" in text
    assert "is in train" not in text
    many = {f"{k}/{k}.png": change(digest=str(k)) for k in range(11)}
    named = [chr(ord("a") + k) for k in range(11)]
    assert "classes: 11 folders: a 1, b 1" in lines(many, named=named)
    assert "j 1, ..." in lines(many, named=named)
    assert "the 11 folders classes: 0, 1, 10, 2, ..." in lines(many)
    assert "..." not in lines(dict(list(many.items())[:4]))


def test_lines_on_copies():
    contents = {"1.png": COLOUR, "2.png": COLOUR, "3.png": COLOUR}
    assert "the same" not in lines(contents)
    text = lines(contents, splits={"train": [0, 1], "test": [2]})
    assert "warning: 1 images of two splits are the same, such as 1.png and 3.png" in text


def test_lines_on_other_files(tmp_path):
    for name in ("a.txt", "b.txt", "x/LICENSE", ".hidden", ".git/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    text = lines({"1.png": COLOUR}, root=tmp_path)
    assert "\n        3 other files are not used: .txt (2), LICENSE (1)\n" in text
    assert "other files" not in lines({"1.png": COLOUR})
