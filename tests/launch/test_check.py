import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch import check
from tests.tools import runs


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


def rows(found):
    return {(Path(fault.path).name, fault.place, fault.what) for fault in found}


def test_a_sound_folder(root, capsys):
    check.main([str(root)])
    out = capsys.readouterr().out
    assert "4 pairs: train 2, val 1, test 1" in out
    assert "sizes: 14 x 10 (4)" in out
    mask = np.asarray(Image.open(root / "test" / "masks" / "3.png"))
    line = next(line for line in out.splitlines() if "class 2" in line)
    assert float(line.split()[-2]) == pytest.approx(100 * np.mean(mask == 2), abs=0.005)


def test_depth_is_summed_up(root):
    for path in root.glob("*/images/*.png"):
        depth = np.zeros((10, 14), np.uint16)
        depth[:5] = 1250 + 10 * int(path.stem)
        save(path.parents[1] / "depth" / path.name, depth)
    report = check.check(root)
    assert report.faults == []
    assert "depth: 1.25 to 1.28 m, 50.00 % unknown" in check.summary(report)
    save(root / "val" / "depth" / "2.png", depth.astype(np.uint8))
    (fault,) = check.check(root).faults
    assert "has no unit" in fault.what


def test_every_fault_is_found_in_one_pass(root):
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
    report = check.check(root, classes=3)
    found = rows(report.faults)
    over = "but there are 3 classes (ids 0 to 2)"
    expected = {
        ("ids.png", "x 6, y 4", f"id 7, {over}"),
        ("ids.png", "x 13, y 9", f"id 200, {over}"),
        ("deep.png", "x 0, y 0", f"id 900, {over}"),
        ("size.png", "", "is 13 x 10, its image 14 x 10"),
        ("colour.png", "x 0, y 0", "a mask in colours, such as (0, 0, 1)"),
        ("alone.png", "", "no partner in images"),
        ("lonely.png", "", "no partner in masks"),
        ("3.png", "", "its name comes twice"),
        ("float.tif", "x 0, y 0", "a mask of floats, such as 0.5"),
        ("cut.png", "", "the file is empty"),
    }
    assert expected <= found
    (cut,) = [fault for fault in report.faults if "masks/cut.png" in fault.path]
    assert "cannot be read" in cut.what
    assert len(report.faults) == len(expected) + 1
    assert all(fault.cure for fault in report.faults)


def test_an_odd_id_is_named_though_no_number_of_classes_is_given(root):
    wrong = np.zeros((10, 14), np.uint8)
    wrong[4, 6] = 200
    add(root, "train", "ids", mask=wrong)
    (fault,) = check.check(root).faults
    assert (Path(fault.path).name, fault.place) == ("ids.png", "x 6, y 4")
    assert fault.what == "id 200, but there are 3 classes (ids 0 to 2)"


def test_warnings_do_not_fail(root, capsys):
    image = np.asarray(Image.open(root / "train" / "images" / "0.png"))
    add(root, "test", "same", image=image)
    add(root, "val", "void", mask=np.full((10, 14), 255, np.uint8))
    (root / "classes.txt").write_text("a\nb\nc\nd\n")
    check.main([str(root)])
    out = capsys.readouterr().out
    assert "train/images/0.png" in out
    assert "the same picture as" in out
    assert "all pixels are void (id 255)" in out
    assert "no pixel of d" in out
    assert sum(line.startswith("warning") for line in out.splitlines()) == 5


def test_a_split_that_training_wants_and_a_split_without_depth_are_named(tmp_path):
    root = tmp_path / "d"
    add(root, "train", "a")
    add(root, "test", "b")
    save(root / "train" / "depth" / "a.png", np.full((10, 14), 1000, np.uint16))
    report = check.check(root, classes=3)
    assert report.faults == []
    found = {(fault.place, fault.what, fault.cure) for fault in report.warnings}
    assert ("val", "no examples", "Add some, or train with --config.eval.split=test.") in found
    assert ("test", "no depth, though there is of others", "Add it, or do without depth.") in found
    assert not any(fault.place == "train" for fault in report.warnings)


def test_masks_of_0_and_255_beside_masks_of_0_and_1(root):
    for path in root.glob("*/masks/*.png"):
        save(path, np.asarray(Image.open(path)) // 2)
    assert check.check(root).warnings == []
    add(root, "train", "mixed", mask=np.eye(10, 14, dtype=np.uint8) * 255)
    assert rows(check.check(root).warnings) == {
        ("mixed.png", "", "255 is void here, and nothing is 1")
    }
    for path in root.glob("*/masks/?.png"):
        save(path, np.asarray(Image.open(path)) * np.uint8(255))
    report = check.check(root)
    assert (report.faults, report.warnings, len(report.classes)) == ([], [], 2)


@pytest.mark.parametrize(
    ("build", "what"),
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
def test_no_folder_or_an_empty_one(tmp_path, build, what):
    build(tmp_path / "d")
    faults = check.check(tmp_path / "d").faults
    assert what in {fault.what for fault in faults}


def test_bad_class_file(root):
    (root / "classes.csv").write_text("zero,one\n0,\n")
    (fault,) = check.check(root).faults
    assert (Path(fault.path).name, fault.place) == ("classes.csv", "line 2")
    (root / "classes.csv").write_bytes("0,Wand\n1,Tür\n".encode("latin-1"))
    (fault,) = check.check(root).faults
    assert (fault.place, fault.what) == ("line 2", "is not UTF-8 text")
    (root / "classes.csv").write_text("0,a\n1,b\n2,c\n")
    (fault,) = check.check(root, classes=2).faults
    assert fault.what == "classes=2, but its class file names id 2"


def test_a_closed_pipe_is_no_fault_of_ours(root):
    add(root, "train", "ids", mask=np.arange(140).reshape(10, 14).astype(np.uint8))
    command = f"{sys.executable} -m launch.check {root} | true"
    done = subprocess.run(command, shell=True, cwd=runs.ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_one_pixel_images_are_sound(tmp_path):
    for split in ("train", "val", "test"):
        rng = np.random.default_rng(len(split))
        image = rng.integers(0, 256, (1, 1, 3), np.uint8)
        add(tmp_path, split, "dot", image=image, mask=np.ones((1, 1), np.uint8))
    report = check.check(tmp_path, classes=2)
    assert report.faults == []


def test_the_command(root):
    done = runs.run("check", str(root))
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"{root} is sound\n"
    (root / "train" / "masks" / "0.png").write_bytes(b"")
    (root / "train" / "masks" / "1.png").unlink()
    done = runs.run("check", str(root))
    assert done.returncode == 1
    assert done.stderr.startswith("2 faults, ")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["file", "place", "what", "cure"]
    assert lines[1].startswith("fault")
    assert "train/masks/0.png" in lines[2]
    assert "the file is empty" in lines[2]
    done = runs.run("check", str(root / "nowhere"))
    assert done.returncode == 2
    assert done.stderr == f"no such directory: {root / 'nowhere'}\n"
    done = runs.run("check", str(root), "--classes=300")
    assert done.returncode == 2
    assert "--classes must be 0 to 255" in done.stderr
