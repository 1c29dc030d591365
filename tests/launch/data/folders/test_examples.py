import numpy as np
import pytest
from PIL import Image

from launch.data.bad_file import BadFile
from launch.data.folders import examples
from launch.data.folders.masks import MaskRule
from launch.data.folders.pairs import Pair
from launch.data.folders.reading import Reading

HOW = {
    "channels": 3,
    "dtype": "uint8",
    "ranges": (),
    "alpha": False,
    "stored": False,
    "classes": ("a", "b"),
    "ignore": 255,
    "binary": False,
    "values": "ids",
    "ids": (),
    "canvas": (4, 4),
    "scale": 1.0,
}
GREY = np.arange(20, dtype=np.uint8).reshape(4, 5)


def image(root, array, how=None, **save):
    Image.fromarray(array).save(root / "a.png", **save)
    return examples.read_image(root / "a.png", Reading(**HOW | (how or {})))


def test_images_are_read_as_the_folder_is(tmp_path):
    np.testing.assert_array_equal(image(tmp_path, GREY), np.dstack([GREY] * 3))
    np.testing.assert_array_equal(image(tmp_path, GREY, {"channels": 1}), GREY[..., None])
    rgba = np.dstack([GREY, GREY + 1, GREY + 2, GREY + 3])
    np.testing.assert_array_equal(image(tmp_path, rgba), rgba[..., :3])
    np.testing.assert_array_equal(image(tmp_path, rgba, {"channels": 4}), rgba)
    exif = Image.Exif()
    exif[0x0112] = 3
    np.testing.assert_array_equal(image(tmp_path, GREY, exif=exif)[..., 0], GREY[::-1, ::-1])
    found = image(tmp_path, GREY, {"stored": True}, exif=exif)
    np.testing.assert_array_equal(found[..., 0], GREY)
    deep = {"dtype": "uint16", "ranges": ((100, 355),) * 3}
    found = image(tmp_path, GREY.astype(np.uint16) + 100, deep)
    np.testing.assert_array_equal(found[..., 2], GREY)


def test_images_of_another_kind_are_refused(tmp_path):
    with pytest.raises(BadFile, match="holds values of uint16, the data of training uint8"):
        image(tmp_path, GREY.astype(np.uint16))
    with pytest.raises(BadFile, match="has 3 channels, the data of training 1"):
        image(tmp_path, np.dstack([GREY] * 3), {"channels": 1})
    with pytest.raises(BadFile, match="has 1 channels, the data of training 5"):
        image(tmp_path, GREY, {"channels": 5})


@pytest.mark.parametrize(("ignore", "expected"), [(255, [0, 1, 1, 255]), (1, [0, 255, 1, 255])])
def test_void_between_objects_is_void_in_training_and_prediction(tmp_path, ignore, expected):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 1, 2, 65535]], np.uint16)).save(path)
    Image.fromarray(np.zeros((1, 4, 3), np.uint8)).save(tmp_path / "i.png")
    how = Reading(**HOW | {"values": "instances", "ignore": ignore})
    assert examples.read_ids(path, how, None).tolist() == [expected]
    pair = Pair("", tmp_path / "i.png", (path,))
    arrays = examples.read_pair(pair, MaskRule("instances"), how)
    assert arrays["segmentation"].tolist() == [expected]
    arrays = examples.read_pair(
        pair, MaskRule("instances"), Reading(**vars(how) | {"target": "objects"})
    )
    assert (arrays["instances"] == 65535).tolist() == [[value == 255 for value in expected]]


def test_ids_of_masks_elsewhere_are_read_as_those_of_training(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    path = tmp_path / "m.png"
    Image.fromarray(GREY).save(path, exif=exif)
    np.testing.assert_array_equal(examples.read_ids(path, None, None), GREY[::-1, ::-1])
    stored = Reading(**HOW | {"stored": True, "ids": ((7, 1), (8, 0))})
    expected = np.where(GREY == 7, 1, np.where(GREY == 8, 0, 255))
    np.testing.assert_array_equal(examples.read_ids(path, stored, None), expected)
    half = Reading(**HOW | {"values": "threshold"})
    assert not examples.read_ids(path, half, None).any()
    Image.fromarray(np.dstack([GREY, GREY, GREY + 1])).save(path)
    colours = {(int(k), int(k), int(k) + 1): int(k) + 50 for k in GREY.flat}
    np.testing.assert_array_equal(examples.read_ids(path, None, colours), GREY + 50)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_scaling_keeps_every_channel_apart(channels):
    array = np.zeros((8, 8, channels), np.uint8) + np.arange(channels, dtype=np.uint8) * 9
    small = examples.fit(array, (4, 6), 0)
    assert small.shape == (4, 6, channels)
    np.testing.assert_array_equal(small[:4, :4], array[:4, :4])
    assert not small[:, 4:].any()


def test_a_side_never_vanishes():
    thin = np.full((1, 40), 7, np.uint8)
    found = examples.fit(thin, (4, 10), 255)
    assert (found[0] == 7).all()
    assert (found[1:] == 255).all()
    found = examples.fit(thin.T, (10, 4), 255)
    assert (found[:, 0] == 7).all()
