from pathlib import Path

import pytest

from launch.config.errors import UserError
from launch.inference import input_files


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names_of(paths):
    return [path.name for path in paths]


def test_a_file_a_folder_and_a_pattern(tmp_path):
    touch(tmp_path, "b.png", "a.JPG", ".hidden.png", "notes.txt", "sub/c.png", "d.png/e.png")
    expand = lambda pattern: names_of(input_files.expand(str(pattern), (".png", ".jpg"), "--x"))
    assert expand(tmp_path / "notes.txt") == ["notes.txt"]
    assert expand(tmp_path) == ["a.JPG", "b.png"]
    assert expand(tmp_path / "*.png") == ["b.png"]  # d.png is a folder
    assert expand(tmp_path / "**" / "*.png") == ["b.png", "e.png", "c.png"]
    with pytest.raises(UserError, match=r"--x=.*none: no such file \(known: .png, .jpg\)"):
        expand(tmp_path / "none")


def test_results_need_names_of_their_own(tmp_path):
    touch(tmp_path, "a.png", "b.jpg")
    assert names_of(input_files.find(str(tmp_path))) == ["a.png", "b.jpg"]
    touch(tmp_path, "a.tif")
    with pytest.raises(UserError, match=r"--images: .*a.png and .*a.tif would share one name"):
        input_files.find(str(tmp_path))


def test_partners_match_without_suffix_case_and_ending(tmp_path):
    touch(tmp_path, "A_mask.png", "b.npy", "b_mask_mask.png", "c_mask.png", ".d.png", "d.txt")
    paths = [Path(name) for name in ("a.jpg", "B.jpg", "c_mask.jpg")]
    found = input_files.partners(paths, tmp_path)
    assert names_of(found) == ["A_mask.png", "b.npy", "c_mask.png"]
    assert input_files.partners(paths, None) == [None] * 3


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "a.jpg: no file of the stem 'a' in"),
        (("a.png", "a.tif"), "2 files of the stem 'a'"),
        (("a_mask.png", "a_gt.png"), "2 files of the stem 'a'"),
        (("a.txt", ".a.png"), "no file of the stem 'a'"),
    ],
)
def test_each_image_needs_one_partner(tmp_path, files, message):
    touch(tmp_path, *files)
    with pytest.raises(UserError, match=message):
        input_files.partners([Path("a.jpg")], tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"no such directory: .*masks"):
        input_files.partners([Path("a.jpg")], tmp_path / "masks")
