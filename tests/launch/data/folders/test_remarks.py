from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch.data.folders import doubts, open_folder, remarks
from launch.data.folders.options import Options


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def check(root, **options):
    return open_folder(root, Options(**options))


def warnings(root, **options):
    return list(remarks.remarks(check(root, **options)))


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array)).save(path)
    return path


def add(root, split, name, image=None, mask=None):
    rng = np.random.default_rng(list(name.encode()))
    image = rng.integers(0, 256, (10, 14, 3), np.uint8) if image is None else image
    mask = rng.integers(0, 3, (10, 14)).astype(np.uint8) if mask is None else mask
    save(root / split / "images" / f"{name}.png", image)
    return save(root / split / "masks" / f"{name}.png", mask)


@pytest.fixture
def root(tmp_path):
    for number, split in enumerate(("train", "train", "val", "test")):
        add(tmp_path / "d", split, f"{number}")
    return tmp_path / "d"


def rows(problems):
    return {(Path(bad.path).name, bad.place, bad.problem) for bad in problems}


def test_the_contents_of_a_folder(root):
    opened = check(root)
    assert (opened.problems, warnings(root)) == ([], [])
    assert opened.reading.classes == ("class 0", "class 1", "class 2")
    sizes = {split: len(part) for split, part in opened.layout.splits.items()}
    assert sizes == {"train": 2, "val": 1, "test": 1}
    mask = np.asarray(Image.open(root / "test" / "masks" / "3.png"))
    counts = remarks.class_counts(opened)["test"]
    assert [counts[k] for k in range(3)] == np.bincount(mask.ravel()).tolist()
    assert opened.contents[2].size == (10, 14)
    assert opened.contents[2].depth is None


def test_depth_is_summed_up(root):
    for path in root.glob("*/images/*.png"):
        depth = np.zeros((10, 14), np.uint16)
        depth[:5] = 1250 + 10 * int(path.stem)
        depth[:1] = 3000
        save(path.parents[1] / "depth" / path.name, depth)
    opened = check(root)
    assert opened.problems == []
    assert opened.contents[2].depth == pytest.approx((1.27, 3.0, 0.5))
    save(root / "val" / "depth" / "2.png", depth.astype(np.uint8))
    (bad,) = check(root).problems
    assert "has no unit" in bad.problem


def test_every_error_is_found_in_one_pass(root):
    wrong = np.zeros((10, 14), np.uint8)
    wrong[4, 6], wrong[9, 13] = 7, 200
    add(root, "train", "ids", mask=wrong)
    add(root, "train", "deep", mask=np.full((10, 14), 900, np.uint16))
    add(root, "val", "size", mask=np.zeros((10, 13), np.uint8))
    add(root, "val", "colour", mask=np.dstack([wrong, wrong, wrong + np.uint8(1)]))
    save(root / "test" / "masks" / "alone.png", wrong)
    save(root / "test" / "images" / "lonely.png", wrong)
    save(root / "test" / "images" / "3.bmp", wrong)
    add(root, "test", "float")
    save(root / "test" / "masks" / "float.tif", np.full((10, 14), 0.5, np.float32))
    (root / "test" / "masks" / "float.png").unlink()
    path = add(root, "test", "cut")
    path.write_bytes(path.read_bytes()[:-40])
    (root / "test" / "images" / "cut.png").write_bytes(b"")
    problems = check(root, classes=3).problems
    over = "but there are 3 classes (ids 0 to 2)"
    expected = {
        ("ids.png", "x 6, y 4", f"id 7, {over}"),
        ("ids.png", "x 13, y 9", f"id 200, {over}"),
        ("deep.png", "x 0, y 0", f"id 900, {over}"),
        ("size.png", "", "is 13 x 10, its image 14 x 10"),
        ("colour.png", "x 0, y 0", "a mask in colours, such as (0, 0, 1)"),
        ("alone.png", "", "no partner in images"),
        ("lonely.png", "", "no partner in masks"),
        ("3.png", "", "its name occurs twice"),
        ("float.tif", "x 0, y 0", "a mask of floats, such as 0.5"),
        ("cut.png", "", "the file is empty"),
    }
    assert expected <= rows(problems)
    (cut,) = [bad for bad in problems if "masks/cut.png" in bad.path]
    assert "cannot be read" in cut.problem
    assert len(problems) == len(expected) + 1
    assert all(bad.fix for bad in problems)


def test_an_odd_id_is_named_though_no_number_of_classes_is_given(root):
    wrong = np.zeros((10, 14), np.uint8)
    wrong[4, 6] = 200
    add(root, "train", "ids", mask=wrong)
    (bad,) = check(root).problems
    assert (Path(bad.path).name, bad.place) == ("ids.png", "x 6, y 4")
    assert bad.problem == "id 200, but there are 3 classes (ids 0 to 2)"


def test_ids_that_most_masks_hold_are_doubted_as_a_whole(tmp_path):
    for name in "ab":
        ids = np.resize(np.array([0, 1, 2, 9, 200, 250], np.uint8), (10, 14))
        add(tmp_path, "train", name, mask=ids)
    (bad,) = check(tmp_path).problems
    assert bad.problem == "its masks hold 0, 1, 2, 9, 200, 250, which may not be ids of classes"


@pytest.mark.parametrize("count", [5, 6, 8])
def test_five_wrong_ids_of_a_mask_are_listed_and_the_others_counted(root, count):
    wrong = np.zeros((10, 14), np.uint8)
    wrong[0, :count] = 100 + np.arange(count)
    add(root, "train", "ids", mask=wrong)
    problems = sorted(bad.problem for bad in check(root, classes=3).problems)
    assert doubts.IDS_LISTED == 5
    assert sum(problem.startswith("id 1") for problem in problems) == 5
    rest = [problem for problem in problems if not problem.startswith("id 1")]
    more = f"{count - 5} more ids out of range, up to {99 + count}"
    assert rest == ([more] if count > 5 else [])


def test_warnings(root):
    image = np.asarray(Image.open(root / "train" / "images" / "0.png"))
    add(root, "test", "same", image=image)
    add(root, "train", "same in one split", image=image)
    add(root, "val", "void", mask=np.full((10, 14), 255, np.uint8))
    (root / "classes.txt").write_text("a\nb\nc\nd\n")
    assert check(root).problems == []
    assert rows(warnings(root)) == {
        ("same.png", "", f"the same image as {root / 'train' / 'images' / '0.png'}"),
        ("void.png", "", "all pixels are void (id 255)"),
        *((("d", split, "no pixel of d")) for split in ("train", "val", "test")),
    }


def test_a_split_without_depth_is_named(tmp_path):
    root = tmp_path / "d"
    add(root, "train", "a")
    add(root, "train", "c")
    add(root, "test", "b")
    for name in "ac":
        save(root / "train" / "depth" / f"{name}.png", np.full((10, 14), 1000, np.uint16))
    assert [bad.problem for bad in check(root, classes=3).problems] == ["no partner in depth"]


def test_masks_of_0_and_255_beside_masks_of_0_and_1(root):
    for path in root.glob("*/masks/*.png"):
        save(path, np.asarray(Image.open(path)) // 2)
    assert warnings(root) == []
    add(root, "train", "mixed", mask=np.eye(10, 14, dtype=np.uint8) * 255)
    assert rows(warnings(root)) == {("mixed.png", "", "255 is void here, and nothing is 1")}
    for path in root.glob("*/masks/?.png"):
        save(path, np.asarray(Image.open(path)) * np.uint8(255))
    opened = check(root)
    assert (opened.problems, warnings(root), len(opened.reading.classes)) == ([], [], 2)
    assert set(remarks.class_counts(opened)["train"]) == {0, 1}


def test_bad_class_file(root):
    (root / "classes.csv").write_text("zero,one\n0,\n")
    (bad,) = check(root).problems
    assert (Path(bad.path).name, bad.place) == ("classes.csv", "line 1")
    (root / "classes.csv").write_text("0,a\n1,b\n2,c\n")
    (bad,) = check(root, classes=2).problems
    assert bad.problem == "classes=2, but its class file names id 2"
    assert check(root, classes=3).problems == []


def test_one_pixel_images(tmp_path):
    for split in ("train", "val", "test"):
        rng = np.random.default_rng(len(split))
        image = rng.integers(0, 256, (1, 1, 3), np.uint8)
        mask = np.full((1, 1), split == "val", np.uint8)
        add(tmp_path, split, "dot", image=image, mask=mask)
    assert check(tmp_path, classes=2).problems == []


def test_objects_that_vanish_where_images_are_scaled_down(tmp_path):
    for split in ("train", "val"):
        mask = np.zeros((40, 60), np.uint8)
        mask[2:22, 2:30] = 1
        mask[30, 1], mask[30, 41], mask[33, 11] = 2, 2, 1
        image = np.random.default_rng(len(split)).integers(0, 256, (40, 60, 3), np.uint8)
        add(tmp_path / "d", split, "a", image=image, mask=mask)
    assert warnings(tmp_path / "d") == []
    (bad,) = warnings(tmp_path / "d", limit=15)
    before = "objects vanish where images are scaled down by 0.25: "
    assert bad.problem == before + "class 1 2 of 4, class 2 4 of 4"
    assert bad.fix == "Give a larger limit or size, or scale=1, which cuts the images into tiles."


@pytest.mark.parametrize("target", ["objects", "labels"])
def test_vanishing_objects_are_found_whatever_is_learnt(tmp_path, target):
    for split in ("train", "val"):
        mask = np.zeros((40, 60), np.uint8)
        mask[2:22, 2:30], mask[30, 1] = 1, 2
        image = np.random.default_rng(len(split)).integers(0, 256, (40, 60, 3), np.uint8)
        add(tmp_path / "d", split, "a", image=image, mask=mask)
    bad = warnings(tmp_path / "d", limit=15, target=target)[-1]
    assert bad.problem.startswith("objects vanish where images are scaled down by 0.25")


def test_fifty_masks_are_looked_at(tmp_path):
    ids = np.zeros((8, 8), np.uint8)
    ids[2, 2], ids[4:, 4:] = 1, 1
    for number in range(102):
        image = np.full((8, 8, 3), 2 * number, np.uint8)
        image[0] = 0
        add(tmp_path / "d", "train" if number else "val", f"{number}", image=image, mask=ids)
    (bad,) = warnings(tmp_path / "d", limit=4)
    assert bad.problem.endswith("class 1 34 of 68 (in 34 masks)")
