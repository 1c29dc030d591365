from pathlib import Path

import pytest

from launch.config.errors import UserError
from launch.inference import input_files
from launch.inference.input_files import Named


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


def named(pattern, *arguments):
    return [name for _, name in input_files.find_named(str(pattern), *arguments)]


def test_results_keep_the_folders_of_their_images(tmp_path, capsys):
    touch(
        tmp_path, "b.png", "mon/a.png", "mon/b.v2.png", "tue/day/a.jpg", ".git/a.png", "mon/x.txt"
    )
    (tmp_path / "tue" / "loop").symlink_to(tmp_path)
    assert named(tmp_path) == ["b", "mon/a", "mon/b.v2", "tue/day/a"]
    said = capsys.readouterr().err
    assert f"4 images in {tmp_path} (1), {tmp_path}/mon (2), {tmp_path}/tue/day (1)" in said
    assert named(tmp_path / "mon") == ["a", "b.v2"]
    assert named(tmp_path / "mon" / "*.png") == ["a", "b.v2"]
    assert named(tmp_path / "mon" / "a.png") == ["a"]
    assert capsys.readouterr().err == ""
    assert named(tmp_path / "*" / "a.png") == ["mon/a"]
    assert named(tmp_path / "tue" / "d*" / "*") == ["day/a"]


def test_a_pattern_without_a_folder(tmp_path, monkeypatch):
    touch(tmp_path, "a.png", "sub/a.png")
    monkeypatch.chdir(tmp_path)
    assert named("*.png") == named("a.png") == ["a"]
    assert named("**/*.png") == ["a", "sub/a"]
    assert named("sub") == ["a"]
    assert named(".") == ["a", "sub/a"]


def test_no_result_is_written_twice(tmp_path):
    touch(tmp_path, "mon/a.png", "mon/a.tif", "tue/a.png")
    with pytest.raises(UserError, match=r"mon/a.png and .*mon/a.tif would share one name"):
        named(tmp_path)


def test_files_can_be_left_out(tmp_path):
    touch(tmp_path, "a.png", "out/masks/a.png")
    leave_out = lambda path: "out" in path.parts
    assert named(tmp_path, leave_out) == ["a"]
    with pytest.raises(UserError, match="no such file"):
        named(tmp_path / "out", leave_out)


def test_partners_lie_in_the_same_folders_or_in_none(tmp_path):
    touch(tmp_path, "mon/a_mask.png", "tue/a.png", "c.png")
    images = [Named(Path(f"x/{name}.jpg"), name) for name in ("mon/a", "tue/a", "wed/c")]
    found = input_files.partners(images, tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "mon/a_mask.png",
        "tue/a.png",
        "c.png",
    ]
    with pytest.raises(UserError, match=r"x/tue/b.jpg: no file of the stem 'b' in .*tue"):
        input_files.partners([Named(Path("x/tue/b.jpg"), "tue/b")], tmp_path)
    two = [Named(Path(f"x/{name}.jpg"), name) for name in ("wed/c", "thu/c")]
    with pytest.raises(UserError, match=r"x/wed/c.jpg and x/thu/c.jpg would share .*c.png; arr"):
        input_files.partners(two, tmp_path)


def test_partners_match_without_suffix_case_and_ending(tmp_path):
    touch(tmp_path, "A_mask.png", "b.npy", "b_mask_mask.png", "c_mask.png", ".d.png", "d.txt")
    images = [Named(Path(name), Path(name).stem) for name in ("a.jpg", "B.jpg", "c_mask.jpg")]
    found = input_files.partners(images, tmp_path)
    assert names_of(found) == ["A_mask.png", "b.npy", "c_mask.png"]
    assert input_files.partners(images, None) == [None] * 3


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
        input_files.partners([Named(Path("a.jpg"), "a")], tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"no such directory: .*masks"):
        input_files.partners([Named(Path("a.jpg"), "a")], tmp_path / "masks")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["disc/a.png", "open water/a.png", "disc/b.png"], [(0, 1), (2, None)]),
        (["Disc/a_mask.png", "open_water/a.tif", "disc_/b.png"], [(0, 1), None]),
        (["a.disc.png", "a.open_water.png", "b.disc.png"], [(0, 1), (2, None)]),
        (["a_disc.png", "b-open water.png", "a.txt"], [(0, None), (None, 1)]),
        (["a.png", "b_mask.png"], [0, 1]),
    ],
)
def test_masks_of_classes_that_overlap(tmp_path, files, expected):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    images = [Named(Path(f"{stem}.jpg"), stem) for stem in "ab"]
    find = lambda: input_files.class_partners(images, tmp_path, ("disc", "open water"))
    if None in expected:
        with pytest.raises(UserError, match="no mask of the stem 'b' of any class"):
            find()
        return
    place = lambda number: None if number is None else tmp_path / files[number]
    assert find() == [
        tuple(map(place, one)) if isinstance(one, tuple) else place(one) for one in expected
    ]


def test_masks_of_classes_keep_the_folders_of_their_images(tmp_path):
    for file in ("disc/mon/a.png", "disc/tue/a.png", "disc/tue/a_mask.png"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    images = [Named(Path("mon/a.jpg"), "mon/a")]
    found = input_files.class_partners(images, tmp_path, ("disc",))
    assert found == [(tmp_path / "disc" / "mon" / "a.png",)]
    images = [Named(Path("tue/a.jpg"), "tue/a")]
    with pytest.raises(UserError, match=r"a\.png and .*a_mask\.png are both masks of 'disc'"):
        input_files.class_partners(images, tmp_path, ("disc",))


def test_a_mask_belongs_to_one_image_and_a_class_without_any_is_said(tmp_path, caplog):
    caplog.set_level("INFO", "segen")
    for file in ("disc/a.png", "b_disc_mask.png", "discs/a.png"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    images = [Named(Path(f"{stem}.jpg"), stem) for stem in "ab"]
    found = input_files.class_partners(images, tmp_path, ("disc", "wall"))
    assert found == [(tmp_path / "disc/a.png", None), (tmp_path / "b_disc_mask.png", None)]
    assert "--masks: no mask of class 'wall', which counts as nowhere" in caplog.text
    twice = [Named(Path(f"{day}/a.jpg"), f"{day}/a") for day in ("mon", "tue")]
    with pytest.raises(UserError, match=r"mon/a\.jpg and tue/a\.jpg would share .*disc/a\.png"):
        input_files.class_partners(twice, tmp_path, ("disc",))
