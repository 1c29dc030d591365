import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from launch import check
from launch.config.errors import CommandExit
from launch.data.bad_file import BadFile
from launch.data.folders import folder, open_folder, reading
from launch.data.folders.options import Options


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (3, 0)}, "give both sides"),
        ({"size": (1, 2, 3)}, "whole pixels"),
        ({"limit": 0}, "whole pixels"),
        ({"classes": 256}, "classes must be 0"),
        ({"ignore": 2**31}, "ignore is an id of at most 31 bits, got 2147483648"),
        ({"ignore": -(2**31)}, "ignore is an id of at most"),
        ({"values": "soft"}, "values must be ids, threshold, instances, alpha or empty"),
        ({"orientation": "up"}, "orientation must be upright or stored"),
        ({"val": 1.0}, r"val must be a share in \[0, 1\), got 1.0"),
        ({"val": -0.1}, "val must be a share"),
        ({"channels": -1}, "channels must be 1 or more"),
        ({"intensity": (5, 5)}, "intensity must be"),
        ({"intensity": (1, 2, 3)}, "intensity must be"),
        ({"intensity": (0, float("inf"))}, r"both within 1e\+37, got \(0, inf\)"),
        ({"intensity": (-1e38, 0)}, "both within"),
        ({"intensity": (float("nan"), 1)}, "intensity must be"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        Options(**arguments).check()


def test_config_json_keeps_a_reading(tmp_path):
    make(tmp_path, np.random.default_rng(0), "shapes", "rgb", "folders", 8)
    kept = open_folder(tmp_path, Options()).reading
    assert reading.from_json(json.loads(json.dumps(kept.to_json()))) == kept
    assert reading.from_json({}) is None
    assert kept.colours == ()
    (tmp_path / "classes.csv").write_text("\n".join(f"{n},c{n},{9 * n},5,{n}" for n in range(7)))
    kept = open_folder(tmp_path, Options()).reading
    assert kept.colours == tuple((9 * n, 5, n) for n in range(7))
    assert reading.from_json(json.loads(json.dumps(kept.to_json()))) == kept


def test_folders_of_classes_name_the_classes_and_a_list_names_them_anew(tmp_path):
    for number in range(4):
        for kind, value in (("images", 90), ("masks/cell", 255), ("masks/wall", 1)):
            array = np.zeros((6, 8), np.uint8)
            array[: 2 + (kind == "masks/wall"), number:] = value
            array = array if value != 90 else np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
            (tmp_path / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / kind / f"{number}.png")
    found = folder("train", tmp_path)
    assert found.classes == ("background", "cell", "wall")
    number = int(found.pairs[0].name)
    expected = np.zeros((6, 8), np.uint8)
    expected[:3, number:] = 2  # walls lie on cells
    np.testing.assert_array_equal(found[0]["segmentation"][..., 0], expected)
    assert "named by images in images/ and masks in masks/" in "\n".join(found.reading.lines)
    (tmp_path / "classes.txt").write_text("ground\na\nb\nc\n")
    assert folder("train", tmp_path).classes == ("ground", "a", "b", "c")


def test_the_lines_say_sizes_scale_and_void(tmp_path):
    rng = np.random.default_rng(0)
    make(tmp_path, rng, "noise", "grey", "split", 3)
    for number, size in enumerate([(20, 30), (8, 9), (7, 7), (6, 6), (5, 5)]):
        for kind in ("images", "masks"):
            array = rng.integers(0, 4, size, np.uint8) * np.uint8(60 if kind == "images" else 1)
            Image.fromarray(array).save(tmp_path / "train" / kind / f"x{number}.png")
    lines = open_folder(tmp_path, Options(limit=15, ignore=3)).reading.lines
    assert "no split val" in lines[2]
    assert "grey of uint8, repeated over 3 channels, values as stored; 16 x 12 (3)" in lines[3]
    assert lines[3].endswith("and 2 other sizes")
    # Of 8 factors: 0.5, three of 10 / 12, and four of 1.
    small = "images scaled down by 0.917 (median)"
    assert lines[4] == f"examples: 15 x 10 pixels, {small}, padded with void"
    assert lines[6] == "masks:  ids of classes; 3 is void"


def make(root, rng, kind, image, layout, count):
    """A folder of some kind; most kinds are sound, some are not."""
    for number in range(count):
        y, x = np.ogrid[:12, :16]
        shape = np.hypot(y - rng.integers(4, 8), x - rng.integers(4, 12)) - rng.integers(2, 4)
        mask = {
            "shapes": (shape < 0).astype(np.uint8),
            "binary": np.where(shape < 0, 255, 0).astype(np.uint8),
            "soft": np.uint8(np.clip(0.5 - shape / 3, 0, 1) * 255),
            "empty": np.zeros((12, 16), np.uint8),
            "hole": np.where(shape < 0, 2, 0).astype(np.uint8),
            "noise": rng.integers(0, 4, (12, 16), np.uint8),
            "small": (shape < 0).astype(np.uint8)[:11],
        }[kind]
        pixels = {
            "rgb": rng.integers(0, 256, (12, 16, 3), np.uint8),
            "grey": rng.integers(0, 256, (12, 16), np.uint8),
            "deep": rng.integers(0, 900, (12, 16)).astype(np.uint16),
            "dark": rng.integers(0, 9, (12, 16, 3), np.uint8),
            "alpha": rng.integers(0, 256, (12, 16, 4), np.uint8),
        }[image]
        names = {
            "folders": (f"images/{number}.png", f"masks/{number}.png"),
            "split": (f"train/images/{number}.png", f"train/masks/{number}.png"),
            "endings": (f"{number}.png", f"{number}_mask.png"),
            "alone": (f"images/{number}.png", f"notes/{number}.png"),
        }[layout]
        for name, array in zip(names, (pixels, mask), strict=True):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / name)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 999),
    st.sampled_from(["shapes", "shapes", "binary", "soft", "empty", "hole", "noise", "small"]),
    st.sampled_from(["rgb", "rgb", "grey", "deep", "dark", "alpha"]),
    st.sampled_from(["folders", "folders", "split", "endings", "alone"]),
    st.sampled_from([1, 2, 9]),
    st.sampled_from([{}, {}, {"values": "threshold"}, {"classes": 3}, {"channels": 3}]),
)
def test_check_and_training_agree(tmp_path_factory, seed, kind, image, layout, count, options):
    root = tmp_path_factory.mktemp("data")
    make(root, np.random.default_rng(seed), kind, image, layout, count)
    flags = [f"--{key}={value}" for key, value in options.items()]
    sound = True
    try:
        check.main([str(root), *flags])
    except CommandExit:
        sound = False
    try:
        for split in ("train", "val"):
            found = folder(split, str(root), **options)
            example = found[len(found) - 1]
            assert example["image"].dtype == example["segmentation"].dtype == np.uint8
            ids = set(np.unique(example["segmentation"]))
            assert ids <= {*range(len(found.classes)), 255}
        trains = True
    except BadFile:
        trains = False
    assert sound == trains
