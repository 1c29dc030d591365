import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from launch import check
from launch.config.errors import CommandExit, UserError
from launch.data.bad_file import BadFile
from launch.data.folders.options import Options
from tests.launch.data.folders.test_remarks import add
from tests.tools import runs


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def root(tmp_path):
    for number, split in enumerate(("train", "train", "val", "test")):
        add(tmp_path / "d", split, f"{number}")
    return tmp_path / "d"


def test_a_folder_without_errors(root, capsys):
    check.main([str(root)])
    streams = capsys.readouterr()
    assert streams.err == f"{root}: no errors\n"
    lines = streams.out.splitlines()
    assert lines[:6] == [
        "4 pairs: train 2, val 1, test 1",
        "layout: images in images/ and masks in masks/",
        "images: 3 channels of uint8, values as stored; 14 x 10 (4)",
        "examples: 14 x 10 pixels",
        "classes: 3, without a list of names",
        "masks:  ids of classes; 255 is void",
    ]
    assert lines[6].split() == ["id", "name", "train", "val", "test"]
    mask = np.asarray(Image.open(root / "val" / "masks" / "2.png"))
    assert lines[8].split()[:3] == ["1", "class", "1"]
    assert f"{100 * np.mean(mask == 1):.2f} %" in lines[8]


def test_warnings_exit_with_0(root, capsys):
    (root / "classes.txt").write_text("a\nb\nc\nd\n")
    check.main([str(root)])
    streams = capsys.readouterr()
    assert streams.err == f"{root}: no errors, 3 warnings\n"
    assert sum(line.startswith("warning") for line in streams.out.splitlines()) == 3


def test_errors_exit_with_1(root, capsys):
    (root / "train" / "masks" / "0.png").write_bytes(b"")
    (root / "train" / "masks" / "1.png").unlink()
    with pytest.raises(CommandExit, match=r"^2 errors, 0 warnings$") as stop:
        check.main([str(root), "--classes=3"])
    assert stop.value.exit_code == 1
    lines = capsys.readouterr().out.splitlines()
    start = next(row for row, line in enumerate(lines) if not line) + 1
    assert lines[start].split() == ["file", "place", "problem", "fix"]
    assert lines[start + 1].startswith("error  train/images/1.png")
    assert lines[start + 2].startswith("error  train/masks/0.png")
    assert lines[start + 2].endswith("the file is empty    Copy or export it again.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{root}/nowhere"], "no such directory: .*nowhere"),
        (["{root}", "--classes=256"], r"classes must be 0 \(find out\) to 255, got 256"),
        (["{root}", "--classes=-1"], r"classes must be 0 .*, got -1"),
    ],
)
def test_mistakes_are_named(root, arguments, message):
    with pytest.raises(UserError, match=message):
        check.main([argument.format(root=root) for argument in arguments])


def test_the_table_is_sorted_and_leaves_the_folder_out(tmp_path):
    errors = [BadFile(f"{tmp_path}/b.png", f"like {tmp_path}/a.png", "Fix.", "x 1, y 2")]
    errors.append(BadFile(f"{tmp_path}/a.png", "odd", "Mend."))
    warnings = [BadFile(tmp_path, "none", "Add.", "val")]
    assert [line.split() for line in check.table(errors, warnings, tmp_path).splitlines()] == [
        ["file", "place", "problem", "fix"],
        ["error", "a.png", "odd", "Mend."],
        ["error", "b.png", "x", "1,", "y", "2", "like", "a.png", "Fix."],
        ["warning", str(tmp_path), "val", "none", "Add."],
    ]
    assert check.table([], [], tmp_path) == ""


def test_the_exit_code_and_a_closed_pipe(root):
    add(root, "train", "ids", mask=np.arange(140).reshape(10, 14).astype(np.uint8))
    command = f"{sys.executable} -m launch.check {root} --classes=3; echo $? >&2"
    done = subprocess.run(
        f"({command}) | true", shell=True, cwd=runs.ROOT, capture_output=True, text=True
    )
    assert done.stderr.splitlines() == ["6 errors, 0 warnings", "1"]


def test_what_the_user_says_reaches_the_reading(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(check, "open_folder", lambda *given: asked.append(given) or 1 / 0)
    flags = "--classes=4 --ignore=7 --layout=folders --masks=_a,_b --values=threshold"
    flags += " --orientation=stored --channels=5 --intensity=(3,9) --val=0.2 --limit=64 --scale=0.5"
    flags += " --target=labels --fold=2/5 --group=(a)"
    for arguments in ([], flags.split()):
        with pytest.raises(ZeroDivisionError):
            check.main([str(tmp_path), *arguments])
    assert asked[0] == (tmp_path, Options())
    first = 4, 7, (0, 0), 64, 0.5, 0, "folders", "_a,_b", "threshold", "stored", 5, (3, 9)
    options = Options(*first, "labels", 0.2, "2/5", "(a)")
    assert asked[1] == (tmp_path, options)


@pytest.mark.parametrize(
    ("target", "words"), [("objects", "the number of its object"), ("labels", "a yes or no")]
)
def test_other_targets_are_read_as_in_training(root, capsys, target, words):
    check.main([str(root), f"--target={target}"])
    assert words in capsys.readouterr().out


def test_a_fold_is_one_of_training_and_validation_images(root, capsys):
    for number in range(4, 9):
        add(root, "train", f"{number}")
    check.main([str(root), "--fold=1/2"])
    first = capsys.readouterr().out.splitlines()[0]
    check.main([str(root), "--fold=2/2"])
    second = capsys.readouterr().out.splitlines()[0]
    assert first != second
    assert first.startswith(second[:8])  # of as many pairs


def test_a_split_that_training_needs_is_an_error(root, capsys):
    for path in (*root.glob("train/*/1.png"), *root.glob("val/*/*.png")):
        path.unlink()
    with pytest.raises(CommandExit, match=r"^1 error, "):
        check.main([str(root), "--classes=3"])
    assert "has no split 'val'" in capsys.readouterr().out
