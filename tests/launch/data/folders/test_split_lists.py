from pathlib import Path
from types import SimpleNamespace

from launch.data.folders import split_lists
from launch.data.folders.pairs import Pair


def lists(root, **contents):
    paths = {}
    for split, text in contents.items():
        paths[split] = root / f"{split}.txt"
        paths[split].write_bytes(text.encode("latin-1"))
    return paths


def pairs(*names):
    return [Pair(name, Path(f"{name}.jpg"), (Path(f"{name}.png"),)) for name in names]


def layout():
    return SimpleNamespace(title="images", notes=[], problems=[])


def test_lists_for_segmentation_are_taken_first_then_near_ones(tmp_path):
    for name in ("ImageSets/Main/train.txt", "ImageSets/Segmentation/train.txt", "a/b/val.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "valid.txt").touch()
    (tmp_path / "trainval.txt").touch()
    found = split_lists.find(tmp_path)
    assert {split: path.parent.name for split, path in found.items()} == {
        "train": "Segmentation",
        "val": "a",
    }
    assert found["val"].name == "valid.txt"


def test_lines_are_names_or_paths_in_the_order_of_the_list(tmp_path):
    known, found = pairs("sub/a", "b.1", "c", "d"), layout()
    given = lists(tmp_path, val="C 1\n\n", train="./images/sub/A.jpg masks/a.png\nb.1\n")
    splits = split_lists.divide(given, known, found)
    assert {split: [pair.name for pair in part] for split, part in splits.items()} == {
        "train": ["sub/a", "b.1"],
        "val": ["c"],
    }
    assert list(splits) == ["train", "val"]
    assert found.title == "images, splits by val.txt, train.txt"
    assert found.notes == ["1 images are in none of val.txt, train.txt and are not used"]
    assert found.problems == []


def test_lines_that_cannot_be_followed_are_named(tmp_path):
    found = layout()
    given = lists(tmp_path, train="a\nx\na\n", val="b\na\n", test="\xff\n")
    splits = split_lists.divide(given, pairs("a", "b"), found)
    assert {split: len(part) for split, part in splits.items()} == {"train": 1, "val": 1, "test": 0}
    assert [(Path(bad.path).name, bad.place, bad.problem) for bad in found.problems] == [
        ("train.txt", "line 2", "no image with a mask is called 'x'"),
        ("train.txt", "line 3", "'a' is also in train.txt, line 1"),
        ("val.txt", "line 2", "'a' is also in train.txt, line 1"),
        ("test.txt", "", "cannot be read (it is not UTF-8 text)"),
    ]
    assert found.notes == []


def test_the_names_of_voc_need_its_name(tmp_path):
    (tmp_path / "VOC2012").mkdir()
    names = split_lists.voc_names(tmp_path / "VOC2012")
    assert (len(names), names[0], names[1], names[15]) == (21, "background", "aeroplane", "person")
    assert split_lists.voc_names(tmp_path) == {}
