from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jaxseg.pictures import palette
from launch.config.errors import UserError
from launch.inference import conditioning

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def restored_of(key, shape, dtype=np.uint8, classes=("a", "b", "c"), path="", **kwargs):
    leaf = SimpleNamespace(shape=shape, dtype=np.dtype(dtype))
    return SimpleNamespace(
        config=SimpleNamespace(data=SimpleNamespace(path=str(path), kwargs=kwargs)),
        data=SimpleNamespace(split=SimpleNamespace(classes=classes), reading={}),
        experiment=SimpleNamespace(example={key: leaf}),
    )


def saved(folder, array, name="a.png"):
    Image.fromarray(array).save(folder / name)
    return str(folder / name)


def test_images_in_colour_and_grey(tmp_path):
    rgb = np.stack([GREY, GREY + 1, GREY + 2], -1)
    found = conditioning.read(saved(tmp_path, rgb), "image", restored_of("image", (3, 4, 3)))
    np.testing.assert_array_equal(found, rgb[None])
    grey = saved(tmp_path, GREY)
    found = conditioning.read(grey, "image", restored_of("image", (3, 4, 1)))
    np.testing.assert_array_equal(found, GREY[None, ..., None])
    found = conditioning.read(grey, "image", restored_of("image", (3, 4, 1), np.float32))
    assert found.dtype == np.float32


def test_the_files_of_a_folder_are_stacked(tmp_path):
    saved(tmp_path, GREY, "a.png")
    saved(tmp_path, GREY + 5, "b.png")
    found = conditioning.read(str(tmp_path), "image", restored_of("image", (3, 4, 1)))
    np.testing.assert_array_equal(found[..., 0], [GREY, GREY + 5])


def test_masks_hold_the_classes_of_training(tmp_path):
    ids = np.array([[0, 1, 2, 9]] * 3, np.uint8)
    path = saved(tmp_path, ids)
    found = conditioning.read(
        path, "segmentation", restored_of("segmentation", (3, 4, 1), ignore=9)
    )
    np.testing.assert_array_equal(found[0, 0, :, 0], [0, 1, 2, 255])
    with pytest.raises(UserError, match=r"--condition: .*x 3, y 0\): id 9, but there are 3"):
        conditioning.read(path, "segmentation", restored_of("segmentation", (3, 4, 1)))
    unnamed = restored_of("segmentation", (3, 4, 1), classes=())
    np.testing.assert_array_equal(conditioning.read(path, "segmentation", unnamed)[0, ..., 0], ids)


def test_masks_in_the_colours_of_training(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "classes.csv").write_text("0,a,10,0,0\n1,b,0,10,0\n2,c,0,0,10\n")
    ids = np.array([[0, 1, 2, 2]] * 3)
    path = saved(tmp_path, (10 * np.eye(3, dtype=np.uint8))[ids])
    run = restored_of("segmentation", (3, 4, 1), path=tmp_path / "data")
    np.testing.assert_array_equal(conditioning.read(path, "segmentation", run)[0, ..., 0], ids)


def test_depth_is_in_metres(tmp_path):
    np.save(tmp_path / "a.npy", GREY.astype(np.uint16) * 1000)
    run = restored_of("depth", (3, 4, 1), np.float32)
    found = conditioning.read(str(tmp_path), "depth", run)
    np.testing.assert_array_equal(found[0, ..., 0], GREY)


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("image", (4, 3, 3), "is 4 x 3, the model takes 3 x 4. Crop or scale"),
        ("image", (3, 4, 1), r"x 1, y 2\): has 3 channels, such as the colour \(9, 9, 8\)"),
        ("image", (3, 4, 4), "has 3 channels, the model takes 4 of `image`"),
        ("image", (5,), r"starts from `image` as uint8\[5\], not from images"),
    ],
)
def test_what_the_model_does_not_take(tmp_path, key, shape, message):
    rgb = np.repeat(GREY[..., None], 3, -1)
    rgb[2, 1, 2] -= 1
    path = saved(tmp_path, rgb)
    with pytest.raises(UserError, match=message):
        conditioning.read(path, key, restored_of(key, shape))


HALF = np.array([[0, 0, 255, 255]] * 3, np.uint8)  # the left half stays


def read_keep(masks, pattern, shape=(3, 4, 1)):
    return conditioning.read_keep(str(masks), str(pattern), "image", shape)


@pytest.mark.parametrize(
    "array", [HALF, HALF > 0, np.stack([HALF] * 3, -1), np.stack([HALF, 0 * HALF + 255], -1)]
)
def test_white_is_made_anew_and_black_stays(tmp_path, array, caplog):
    found = read_keep(saved(tmp_path, array), "unused")
    np.testing.assert_array_equal(found, (HALF == 0)[None, ..., None])
    assert not caplog.records


def test_masks_of_a_folder_are_those_of_the_images_by_name(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        saved(tmp_path / "images", GREY, f"{name}.png")
    saved(tmp_path / "masks", HALF, "b_mask.png")
    with pytest.raises(UserError, match=r"a.png: no file of the stem 'a' in .*masks"):
        read_keep(tmp_path / "masks", tmp_path / "images")
    saved(tmp_path / "masks", 255 - HALF, "a.png")
    found = read_keep(tmp_path / "masks", tmp_path / "images")
    np.testing.assert_array_equal(found[..., 0], [HALF > 0, HALF == 0])


def test_greys_are_told_and_cut_at_the_half(tmp_path, caplog):
    soft = HALF.copy()
    soft[0] = [0, 100, 127, 128]
    found = read_keep(saved(tmp_path, soft), "unused")
    np.testing.assert_array_equal(found[0, :, :, 0], soft < 128)
    assert "3 of 12 pixels are grey; those lighter than 127 are made anew" in caplog.text


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (HALF.T, "a.png: is 3 x 4, the model takes 4 x 3. Crop or scale"),
        (0 * HALF, r"no white pixel \(the lightest is 0 of 255\). Paint white what is to be made"),
        (HALF // 255, "the lightest is 1 of 255"),
        (0 * HALF + 255, "is all white, so that nothing stays as given. Paint black what is to"),
        (np.stack([HALF, HALF, 0 * HALF], -1), "has colours. Save it in black, where the image"),
        (np.stack([HALF, HALF], -1), "has transparent pixels. Save it in black, where"),
        (HALF.astype(np.uint16), "holds values of uint16, not of 8 bits"),
        (None, "--mask=.*nothing.png: no such file; give one for all images, or a folder"),
    ],
)
def test_a_mask_that_cannot_be_used_is_named(tmp_path, array, message):
    path = tmp_path / "nothing.png" if array is None else saved(tmp_path, array)
    with pytest.raises(UserError, match=message) as caught:
        read_keep(path, "unused")
    assert str(caught.value).startswith("--mask")


def test_what_is_made_anew_is_shown_grey():
    keep = (HALF == 0)[None, ..., None]
    found = conditioning.with_holes(GREY[None, ..., None], keep)
    np.testing.assert_array_equal(found[0, ..., 0], np.where(HALF == 0, GREY, 128))
    assert found.dtype == np.uint8
    found = conditioning.with_holes(np.ones((1, 3, 4, 3), np.float32), keep)
    assert (found.dtype, found.min(), found.max()) == (np.float32, 0.5, 1.0)


def test_conditions_are_shown_as_images():
    ids = np.array([[[[0], [2]]]])
    np.testing.assert_array_equal(conditioning.shown("segmentation", ids), palette()[[[[0, 2]]]])
    depth = np.array([[[[1.0], [4.0]]]])
    np.testing.assert_array_equal(conditioning.shown("depth", depth), depth / 4)
    assert not conditioning.shown("depth", 0 * depth).any()
    assert conditioning.shown("image", GREY) is GREY
