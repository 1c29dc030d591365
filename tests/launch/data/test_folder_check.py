from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch.data import folder_check
from launch.data.folder_check import check


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
    report = check(root)
    assert (report.errors, report.warnings) == ([], [])
    assert report.classes == ("class 0", "class 1", "class 2")
    assert {split: len(part) for split, part in report.examples.items()} == {
        "train": 2,
        "val": 1,
        "test": 1,
    }
    mask = np.asarray(Image.open(root / "test" / "masks" / "3.png"))
    assert [report.counts["test"][k] for k in range(3)] == np.bincount(mask.ravel()).tolist()
    assert report.examples["val"][0].size == (10, 14)
    assert report.examples["val"][0].depth is None


def test_depth_is_summed_up(root):
    for path in root.glob("*/images/*.png"):
        depth = np.zeros((10, 14), np.uint16)
        depth[:5] = 1250 + 10 * int(path.stem)
        depth[:1] = 3000
        save(path.parents[1] / "depth" / path.name, depth)
    report = check(root)
    assert report.errors == []
    assert report.examples["val"][0].depth == pytest.approx((1.27, 3.0, 0.5))
    save(root / "val" / "depth" / "2.png", depth.astype(np.uint8))
    (bad,) = check(root).errors
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
    report = check(root, classes=3)
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
    assert expected <= rows(report.errors)
    (cut,) = [bad for bad in report.errors if "masks/cut.png" in bad.path]
    assert "cannot be read" in cut.problem
    assert len(report.errors) == len(expected) + 1
    assert all(bad.fix for bad in report.errors)


def test_an_odd_id_is_named_though_no_number_of_classes_is_given(root):
    wrong = np.zeros((10, 14), np.uint8)
    wrong[4, 6] = 200
    add(root, "train", "ids", mask=wrong)
    (bad,) = check(root).errors
    assert (Path(bad.path).name, bad.place) == ("ids.png", "x 6, y 4")
    assert bad.problem == "id 200, but there are 3 classes (ids 0 to 2)"


@pytest.mark.parametrize(("ids", "classes"), [((5, 9, 200), 1), ((0, 1, 2, 9, 200, 250, 254), 3)])
def test_the_ids_up_to_a_gap_are_taken_for_classes(tmp_path, ids, classes):
    add(tmp_path, "train", "a", mask=np.resize(np.array(ids, np.uint8), (10, 14)))
    report = check(tmp_path)
    assert len(report.classes) == classes
    wrong = [number for number in ids if number >= classes]
    assert [bad.problem.split(",")[0] for bad in report.errors] == [f"id {k}" for k in wrong]


def test_void_is_255_and_the_classes_are_found_unless_said(root):
    assert len(check(root).classes) == len(check(root, classes=0, ignore=255).classes) == 3
    assert check(root).ignore == 255
    empty = folder_check.Report()
    assert (empty.ignore, empty.classes, empty.errors) == (255, (), [])


@pytest.mark.parametrize("count", [5, 6, 8])
def test_five_wrong_ids_of_a_mask_are_listed_and_the_others_counted(root, count):
    wrong = np.zeros((10, 14), np.uint8)
    wrong[0, :count] = 100 + np.arange(count)
    add(root, "train", "ids", mask=wrong)
    problems = sorted(bad.problem for bad in check(root, classes=3).errors)
    assert folder_check.IDS_LISTED == 5
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
    report = check(root)
    assert report.errors == []
    assert rows(report.warnings) == {
        ("same.png", "", f"the same image as {root / 'train' / 'images' / '0.png'}"),
        ("void.png", "", "all pixels are void (id 255)"),
        *((("d", split, "no pixel of d")) for split in ("train", "val", "test")),
    }


def test_an_empty_default_split_and_a_split_without_depth_are_named(tmp_path):
    root = tmp_path / "d"
    add(root, "train", "a")
    add(root, "test", "b")
    save(root / "train" / "depth" / "a.png", np.full((10, 14), 1000, np.uint16))
    report = check(root, classes=3)
    assert report.errors == []
    found = {(bad.place, bad.problem, bad.fix) for bad in report.warnings}
    assert ("val", "no examples", "Add some, or train with --config.eval.split=test.") in found
    assert (
        "test",
        "no depth, but other splits have it",
        "Add it, or train without depth.",
    ) in found
    assert not any(bad.place == "train" for bad in report.warnings)


def test_masks_of_0_and_255_beside_masks_of_0_and_1(root):
    for path in root.glob("*/masks/*.png"):
        save(path, np.asarray(Image.open(path)) // 2)
    assert check(root).warnings == []
    add(root, "train", "mixed", mask=np.eye(10, 14, dtype=np.uint8) * 255)
    assert rows(check(root).warnings) == {("mixed.png", "", "255 is void here, and nothing is 1")}
    for path in root.glob("*/masks/?.png"):
        save(path, np.asarray(Image.open(path)) * np.uint8(255))
    report = check(root)
    assert (report.errors, report.warnings, len(report.classes)) == ([], [], 2)
    assert set(report.counts["train"]) == {0, 1}


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda root: None, "no such directory"),
        (lambda root: root.mkdir(), "has no folder images (it holds nothing)"),
        (lambda root: (root / "images").mkdir(parents=True), "has images, but no folder masks"),
        (
            lambda root: [
                (root / "train" / name).mkdir(parents=True) for name in ("images", "masks")
            ],
            "holds no images",
        ),
    ],
)
def test_no_folder_or_an_empty_one(tmp_path, build, problem):
    build(tmp_path / "d")
    assert problem in {bad.problem for bad in check(tmp_path / "d").errors}


def test_bad_class_file(root):
    (root / "classes.csv").write_text("zero,one\n0,\n")
    (bad,) = check(root).errors
    assert (Path(bad.path).name, bad.place) == ("classes.csv", "line 2")
    (root / "classes.csv").write_text("0,a\n1,b\n2,c\n")
    (bad,) = check(root, classes=2).errors
    assert bad.problem == "classes=2, but its class file names id 2"
    assert check(root, classes=3).errors == []


def test_one_pixel_images(tmp_path):
    for split in ("train", "val", "test"):
        rng = np.random.default_rng(len(split))
        image = rng.integers(0, 256, (1, 1, 3), np.uint8)
        add(tmp_path, split, "dot", image=image, mask=np.ones((1, 1), np.uint8))
    assert check(tmp_path, classes=2).errors == []
