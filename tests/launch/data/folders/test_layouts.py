import numpy as np
import pytest
from PIL import Image

from launch.data import pairs


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(path)


def problems_of(root):
    return [(bad.path.removeprefix(f"{root}/"), bad.problem) for bad in pairs.find(root)[1]]


def test_a_folder_without_splits_is_divided_for_good(tmp_path):
    for number in range(150):
        touch(tmp_path / "images" / f"photo {number}.png")
        touch(tmp_path / "masks" / f"photo {number}_mask.png")
    parts, problems = pairs.find(tmp_path)
    assert not problems
    sizes = {split: len(part) for split, part in parts.items()}
    assert sum(sizes.values()) == 150
    assert 105 < sizes["train"] < 135
    assert min(sizes["val"], sizes["test"]) >= 7
    for path in [*tmp_path.glob("images/*[3-9].png"), *tmp_path.glob("masks/*[3-9]_mask.png")]:
        path.unlink()
    fewer, _ = pairs.find(tmp_path)
    assert sum(map(len, fewer.values())) == 45
    assert all(set(fewer[split]) <= set(parts[split]) for split in parts)
    assert pairs.find(tmp_path, seed=1)[0] != fewer


def test_names_match_without_suffix_case_and_ending(tmp_path):
    for image, mask in [
        ("A 1.PNG", "a 1_mask.png"),
        ("b_gt.png", "B_GT.png"),
        ("c.png", "c-labels.tif"),
        ("sub/d.png", "sub/d.gif"),
        ("e_mask.png", "e_mask_label.png"),
        ("f.png", "f.PNG"),
    ]:
        touch(tmp_path / "train" / "images" / image)
        touch(tmp_path / "train" / "masks" / mask)
    (tmp_path / "train" / "masks" / "Thumbs.db").write_text("not an image")
    (tmp_path / "train" / "masks" / ".hidden.png").write_text("nor this")
    folder = tmp_path / "train" / "images"
    touch(folder / ".ipynb_checkpoints" / "g.png")
    (folder / "sub" / "back").symlink_to(folder)
    parts, problems = pairs.find(tmp_path)
    assert not problems
    assert [pair.image.name for pair in parts["train"]] == [
        "A 1.PNG",
        "b_gt.png",
        "c.png",
        "e_mask.png",
        "f.png",
        "d.png",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a_mask", "a"),
        ("a-LabelIds", "a"),
        ("a.depth", "a"),
        ("a seg", "a"),
        ("amask", "amask"),
        ("mask", "mask"),
        ("a_mask_2", "a_mask_2"),
    ],
)
def test_endings(name, expected):
    assert pairs.without_ending(name) == expected


def test_files_without_a_partner_are_named(tmp_path):
    for name in ("images/a.png", "images/b.png", "masks/a.png", "masks/c.png"):
        touch(tmp_path / "val" / name)
    for name in ("a.png", "c.png"):
        touch(tmp_path / "val" / "depth" / name)
    parts, _ = pairs.find(tmp_path)
    (pair,) = parts["val"]
    assert [path.parent.name for path in pair.files] == ["images", "masks", "depth"]
    assert problems_of(tmp_path) == [
        ("val/images/b.png", "no partner in masks"),
        ("val/masks/c.png", "no partner in images"),
        ("val/images/b.png", "no partner in depth"),
        ("val/depth/c.png", "no partner in images"),
    ]


def test_names_that_occur_twice_are_named(tmp_path):
    for name in ("images/a.png", "images/a.jpg", "masks/a.png", "masks/a_mask.png"):
        touch(tmp_path / name)
    assert problems_of(tmp_path) == [
        ("images/a.png", "its name occurs twice"),
        ("masks/a_mask.png", "its name occurs twice"),
    ]


def test_folders_that_are_missing_or_empty(tmp_path):
    root = tmp_path / "d"
    assert problems_of(root) == [(str(root), "no such directory")]
    root.mkdir()
    assert problems_of(root) == [(str(root), "has no folder images (it holds nothing)")]
    (root / "photos").mkdir()
    assert problems_of(root) == [(str(root), "has no folder images (it holds photos)")]
    (root / "images").mkdir()
    empty, missing = problems_of(root)
    assert empty == ("images", "holds no images")
    assert missing == (str(root), "has images, but no folder masks")
