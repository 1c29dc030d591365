import json
import logging
import os

import numpy as np
import pytest
from PIL import Image

from launch import storage
from launch.config import schema
from launch.config.errors import UserError
from launch.data import batches, images, transforms
from launch.data.bad_file import BadFile
from launch.data.pictures import dataset, pictures
from launch.data.pictures.reading import Reading

NAME = "launch.data.pictures:pictures"


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def save(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values)).save(path, **options)
    return path


def noise(number, shape=(8, 8, 3)):
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


def flat(colour, shape=(8, 8)):
    return np.broadcast_to(np.array(colour, np.uint8), (*shape, len(colour)))


@pytest.fixture
def root(tmp_path):
    """Three images for training and one for testing, of the size of examples."""
    for number, split in enumerate(("train", "train", "train", "test")):
        save(tmp_path / "d" / split / f"{number}.png", noise(number))
    return tmp_path / "d"


def test_images_of_the_size_of_examples_stay_as_they_are(root):
    opened = pictures("train", root, size=8)
    assert (len(opened), opened.classes, len(pictures("train+test", root, size=8))) == (3, (), 4)
    for number in range(3):
        example = opened[number]
        assert example.keys() == {"image"}
        assert example["image"].dtype == np.uint8
        np.testing.assert_array_equal(example["image"], noise(number))
    np.testing.assert_array_equal(pictures("train[1:2]", root, size=8)[0]["image"], noise(1))


def test_defaults_are_colour_of_32_pixels_without_classes(root):
    opened = pictures("test", root)
    assert opened[0]["image"].shape == (32, 32, 3)
    assert opened.reading.to_json()["background"] == -1
    assert opened.labels == ()


@pytest.mark.parametrize("wide", [True, False])
def test_the_shorter_side_is_scaled_and_the_centre_square_kept(root, wide):
    parts = [flat((250, 0, 0), (40, 30)), flat((0, 200, 0), (40, 40)), flat((0, 0, 250), (40, 30))]
    image = np.concatenate(parts, 1)
    save(root / "train" / "0.png", image if wide else image.swapaxes(0, 1))
    np.testing.assert_array_equal(
        pictures("train", root, size=16)[0]["image"], flat((0, 200, 0), (16, 16))
    )


def test_scaling_averages_neighbours(root):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2] = 200
    save(root / "train" / "0.png", image)
    found = pictures("train", root, size=8)[0]["image"]
    assert np.all(np.abs(found[:, 1:-1].astype(int) - 100) <= 5)


def test_grey_is_repeated_and_colour_is_turned_grey_by_its_luminance(root):
    save(root / "train" / "0.png", noise(7)[..., 0])
    grey = pictures("train", root, size=8)[0]["image"]
    np.testing.assert_array_equal(grey, np.repeat(noise(7)[..., :1], 3, -1))
    opened = pictures("train", root, size=8, channels=1)
    np.testing.assert_array_equal(opened[0]["image"], noise(7)[..., :1])
    luminance = noise(1) @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(opened[1]["image"][..., 0], luminance, atol=0.51)


def test_images_are_turned_upright(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(root / "train" / "0.png", noise(0), exif=exif)
    opened = pictures("train", root, size=8)
    np.testing.assert_array_equal(opened[0]["image"], np.rot90(noise(0), -1))
    assert any("1 are turned upright" in line for line in opened.reading.lines)


def test_folders_are_classes(tmp_path):
    for number, name in enumerate(("b", "a", "b", "c")):
        save(tmp_path / "train" / name / "more" / f"{number}.png", flat((60 * number,) * 3))
    save(tmp_path / "test" / "c" / "9.png", flat((9, 9, 9)))
    opened = pictures("train", tmp_path, size=8, labels=True)
    assert opened.classes == ("a", "b", "c")
    found = {int(example["image"][0, 0, 0]): int(example["label"]) for example in opened}
    assert found == {60: 0, 0: 1, 120: 1, 180: 2}
    assert opened[0]["label"].dtype == np.int32
    only = pictures("test", tmp_path, size=8, labels=True)
    assert (only.classes, int(only[0]["label"])) == (("a", "b", "c"), 2)
    assert not pictures("train", tmp_path, size=8).classes


def test_sixteen_bits_are_scaled_by_the_range_of_the_whole_folder(root):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 10 + 1000
    for number, path in enumerate(sorted(root.glob("*/*.png"))):
        save(path, values + np.uint16(1000 * number))
    low, high = 1000 + 0.063 * 10, 4000 + 62.937 * 10  # 0.1 and 99.9 percentiles of 64 values
    opened = pictures("train+test", root, size=8)
    assert opened.reading.ranges == pytest.approx(np.array([(low, high)] * 3))
    for number, example in enumerate(sorted(opened, key=lambda one: one["image"].mean())):
        expected = np.clip((values + 1000.0 * number - low) / (high - low), 0, 1) * 255
        np.testing.assert_allclose(example["image"][..., 1], expected, atol=0.51)
    given = pictures("test", root, size=8, intensity=(0, 5100))
    np.testing.assert_allclose(given[0]["image"][..., 0], values / 20, atol=0.51)


def test_transparency_is_laid_on_the_background_that_is_given(root):
    image = np.concatenate([noise(0), np.full((8, 8, 1), 51, np.uint8)], -1)
    path = save(root / "train" / "0.png", image)
    with pytest.raises(BadFile, match=r"0.png: is transparent in parts.*background=255"):
        pictures("train", root, size=8)
    for level in (0, 100, 255):
        found = pictures("train", root, size=8, background=level)
        np.testing.assert_allclose(
            found[0]["image"], noise(0) * 0.2 + level * 0.8, atol=0.51, rtol=0
        )
        np.testing.assert_array_equal(found[1]["image"], noise(1))
    image[..., 3] = 255
    save(path, image)
    np.testing.assert_array_equal(pictures("train", root, size=8)[0]["image"], noise(0))
    with pytest.raises(BadFile, match=r"background=0 has no effect"):
        pictures("train", root, size=8, background=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 0}, "size must be at least 1 pixel, got 0"),
        ({"channels": 2}, r"channels must be 1 \(grey\) or 3, got 2"),
        ({"background": -2}, "background must be 0 to 255, or -1 for none, got -2"),
        ({"background": 256}, "background must be .* got 256"),
        ({"intensity": (5,)}, "intensity must be"),
    ],
)
def test_arguments_out_of_range(root, given, message):
    with pytest.raises(ValueError, match=message):
        pictures("train", root, **given)


def test_one_pixel_is_an_image(root):
    save(root / "train" / "0.png", flat((10, 20, 30), (1, 5)))
    np.testing.assert_array_equal(
        pictures("train", root, size=1)[0]["image"], flat((10, 20, 30), (1, 1))
    )


def test_the_fingerprint_says_what_examples_depend_on(root):
    prints = {pictures("train", root, size=8).fingerprint for _ in range(2)}
    assert len(prints) == 1
    others = ({"size": 9}, {"channels": 1}, {"intensity": (0, 200)}, {"only": "*[01].png"})
    prints |= {pictures("train", root, **{"size": 8} | other).fingerprint for other in others}
    prints.add(pictures("test", root, size=8).fingerprint)
    os.utime(root / "train" / "0.png", (1, 1))
    prints.add(pictures("train", root, size=8).fingerprint)
    assert len(prints) == 7


def test_labels_change_the_fingerprint(tmp_path):
    for number in range(4):
        save(tmp_path / "train" / "ab"[number % 2] / f"{number}.png", noise(number))
    plain, named = (pictures("train", tmp_path, labels=on).fingerprint for on in (False, True))
    assert plain != named


def test_the_reading_is_said_once(root, caplog):
    with caplog.at_level(logging.INFO, "segen"):
        opened = pictures("train", root, size=8)
        pictures("test", root, size=8)
    assert [record.message for record in caplog.records] == [
        f"d: {line}" for line in opened.reading.lines
    ]
    assert "4 images: train 3, test 1" in caplog.text


def section(root, **changes):
    config = schema.defaults().data
    config.update(name=NAME, path=str(root), batch_size=3)
    config.kwargs = {"size": 8, **changes}
    return config


def test_a_run_decodes_once_outside_of_the_folder_and_keeps_the_reading(root, tmp_path):
    before = sorted(root.rglob("*"))
    train, test = batches.open_splits(section(root), "test", tmp_path / "run")
    np.testing.assert_array_equal(train.arrays["image"], [noise(k) for k in range(3)])
    np.testing.assert_array_equal(test.arrays["image"], [noise(3)])
    assert sorted(root.rglob("*")) == before
    assert train.split.folder.is_relative_to(storage.cache_dir() / "pictures")
    assert list(train.split.folder.glob("segen_cache/*train*/image.npy"))
    kept = json.loads(json.dumps(batches.facts(train)))["reading"]
    assert (kept["size"], kept["channels"], kept["ranges"]) == (8, 3, [])
    assert kept["lines"] == list(train.reading["lines"])


def test_a_problem_is_one_message_for_the_user(root, tmp_path):
    (root / "train" / "0.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"0.png: the file is empty. Copy or export it again."):
        batches.open_splits(section(root), "test", tmp_path)
    with pytest.raises(UserError, match=r"reads a folder; give --config.data.path=DIR"):
        batches.open_splits(section(""), "test", tmp_path)


def test_changed_images_are_told_when_a_run_goes_on(root, tmp_path, caplog):
    batches.open_splits(section(root), "test", tmp_path / "run")
    assert "since" not in caplog.text
    save(root / "train" / "1.png", noise(9))
    (root / "test" / "3.png").rename(root / "test" / "4.png")
    batches.open_splits(section(root), "test", tmp_path / "run")
    assert "since this run last started, train has 1 changed: train/1.png" in caplog.text
    assert "test has 1 added: test/4.png" in caplog.text


def test_advice_says_where_an_argument_is_given(root):
    place = "Arguments are --config.data.kwargs.NAME=VALUE in a run."
    with pytest.raises(BadFile, match=rf"only='x'.*{place}$"):
        pictures("train", root, only="x")
    (root / "train" / "0.png").write_bytes(b"")
    with pytest.raises(BadFile, match=r"Copy or export it again.$"):
        pictures("train", root)


def test_the_seed_draws_the_test_images(tmp_path):
    for number in range(30):
        save(tmp_path / f"{number}.png", noise(number))
    drawn = [{pair.name for pair in pictures("test", tmp_path, seed=k).pairs} for k in range(3)]
    assert drawn[0] != drawn[1] != drawn[2]
    assert {pair.name for pair in pictures("test", tmp_path).pairs} == drawn[0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("orientation", [1, 2, 6, 7])
def test_an_image_is_cut_and_scaled_as_an_array_of_it_is(tmp_path, orientation, grey, channels):
    """Pillow's own image takes a shorter way, which gives the same values to the bit."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = noise(orientation, (13, 20)) if grey else noise(orientation, (13, 20, 3))
    path = save(tmp_path / "a.png", values, exif=exif)
    pixels = images.read_pixels(path).values
    if channels == 1 and not grey:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    expected = transforms.square({"image": pixels}, 6)["image"]
    found = dataset.read(path, Reading(6, channels, (), -1))
    assert found.shape == (6, 6, channels)
    np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))
