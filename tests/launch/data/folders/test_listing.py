import os

import pytest

from launch.data.folders import listing


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("train", ("train", "")),
        ("Validation", ("val", "")),
        ("masks", ("", "mask")),
        ("train_masks", ("train", "mask")),
        ("trainannot", ("train", "mask")),
        ("val-images", ("val", "image")),
        ("test2017", ("test", "")),
        ("leftImg8bit", ("", "image")),
        ("gtFine", ("", "mask")),
        ("SegmentationObject", ("", "instances")),
        ("depth", ("", "depth")),
        ("cell", None),
        ("stage1_train", None),
        ("train_val", None),
        ("masks_images", None),
    ],
)
def test_what_a_folder_says(folder, expected):
    assert listing.meaning(folder) == expected


def test_an_entry_is_read_from_its_path(tmp_path):
    path = tmp_path / "Site A" / "train" / "Masks" / "sub" / "X_1.PNG"
    path.parent.mkdir(parents=True)
    path.touch()
    (entry,) = listing.entries(tmp_path)
    assert entry == (path, "train", "mask", "Masks", ("site a", "sub"), "x_1")
    assert entry.key == "site a/sub/x_1"


def test_the_first_word_of_a_kind_counts(tmp_path):
    for name in ("images/train/masks/a.png", "train/test/b.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    first, second = listing.entries(tmp_path)
    assert (first.split, first.role, first.rest) == ("train", "image", ("masks",))
    assert (second.split, second.role, second.rest) == ("train", "", ("test",))


def test_hidden_files_other_kinds_and_loops_are_left_out(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("b/2.png", "b/1.JPG", ".hidden/3.png", "b/.4.png", "b/notes.txt", "a.npy"):
        (tmp_path / name).touch()
    os.symlink(tmp_path, tmp_path / "b" / "loop")
    found = [path.relative_to(tmp_path).as_posix() for path in listing.files(tmp_path, (".png",))]
    assert found == ["b/2.png"]
    assert [entry.path.name for entry in listing.entries(tmp_path)] == ["a.npy", "1.JPG", "2.png"]
