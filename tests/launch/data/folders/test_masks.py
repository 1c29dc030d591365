import numpy as np
import pytest
from PIL import Image

from launch.data.bad_file import BadFile
from launch.data.folders import masks
from launch.data.folders.masks import MaskRule
from launch.data.folders.pairs import Pair

LEFT = np.zeros((4, 6), np.uint8)
LEFT[:, :3] = 255
TOP = np.zeros((4, 6), np.uint8)
TOP[:2] = 1


def pair(root, *arrays, ids=(), **save):
    paths = []
    for number, array in enumerate(arrays):
        paths.append(root / f"{number}.png")
        Image.fromarray(array).save(paths[-1], **save)
    return Pair("a", root / "a.png", tuple(paths), ids=ids)


def test_a_file_of_ids_with_its_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    found, orientation = masks.read(pair(tmp_path, TOP, exif=exif), MaskRule(), (4, 6))
    np.testing.assert_array_equal(found, TOP)
    assert orientation == 6


def test_ids_that_are_mapped_to_classes_leave_the_rest_void(tmp_path):
    ids = np.array([[7, 8, 9, 33, 200]], np.uint8)
    found, _ = masks.read(pair(tmp_path, ids), MaskRule(ids=((7, 0), (33, 18))), None)
    assert found.tolist() == [[0, 255, 255, 18, 255]]
    found, _ = masks.read(
        pair(tmp_path, np.array([[0, 7]], np.uint8)), MaskRule(ids=((7, 3),)), None
    )
    assert found.tolist() == [[255, 3]]


def test_masks_of_one_class_each_are_laid_over_each_other(tmp_path):
    both = pair(tmp_path, LEFT, TOP, ids=(1, 2))
    expected = np.where(TOP, 2, LEFT // 255)
    found, orientation = masks.read(both, MaskRule(), None)
    np.testing.assert_array_equal(found, expected)
    assert orientation == 1
    objects, _ = masks.read_objects(pair(tmp_path, LEFT, TOP, ids=(1, 1)), None)
    np.testing.assert_array_equal(objects, expected)
    full = pair(tmp_path, LEFT * 0 + 255, LEFT * 0, ids=(3, 4))
    assert (masks.read(full, MaskRule(), None)[0] == 3).all()


def test_a_mask_of_one_class_has_one_value(tmp_path):
    soft = LEFT.copy()
    soft[0, 3] = 90
    with pytest.raises(BadFile, match=r"1\.png: a mask of one class with the values 0, 90, 255"):
        masks.read(pair(tmp_path, TOP, soft, ids=(1, 2)), MaskRule(), None)
    cut, _ = masks.read(pair(tmp_path, soft, ids=(2,)), MaskRule("threshold"), None)
    np.testing.assert_array_equal(cut, LEFT // 255 * 2)
    with pytest.raises(BadFile, match=r"a mask of one class with the values 7, 9"):
        masks.read(pair(tmp_path, np.array([[7, 9]], np.uint8), ids=(1,)), MaskRule(), None)
    with pytest.raises(BadFile, match=r"1\.png: is 5 x 4, its image 6 x 4"):
        masks.read(pair(tmp_path, TOP, TOP[:, :5], ids=(1, 2)), MaskRule(), None)


def test_numbers_of_objects(tmp_path):
    numbers = np.array([[0, 3, 3, 9]], np.uint16)
    one = pair(tmp_path, numbers)
    np.testing.assert_array_equal(masks.read_objects(one, None)[0], numbers)
    assert masks.read(one, MaskRule("instances"), None)[0].tolist() == [[0, 1, 1, 1]]


def test_void_between_objects(tmp_path):
    numbers = np.array([[0, 3, 65535, 9]], np.uint16)
    one = pair(tmp_path, numbers)
    np.testing.assert_array_equal(masks.read_objects(one, None)[0], [[0, 3, -1, 9]])
    np.testing.assert_array_equal(masks.read_objects(one, None, ignore=9)[0], [[0, 3, -1, -1]])
    path = tmp_path / "n.tif"
    in_32_bits = Pair("", path, (path,))
    Image.fromarray(np.array([[0, 65535, 65536]], np.int32)).save(path)
    np.testing.assert_array_equal(masks.read_objects(in_32_bits, None)[0], [[0, 65535, 65536]])
    Image.fromarray(np.array([[0, 4, -2]], np.int32)).save(path)
    with pytest.raises(BadFile, match="holds negative numbers of objects"):
        masks.read_objects(in_32_bits, None)
    np.testing.assert_array_equal(masks.read_objects(in_32_bits, None, ignore=-2)[0], [[0, 4, -1]])


def test_id_0_can_be_mapped(tmp_path):
    zero = pair(tmp_path, np.array([[0, 1, 2]], np.uint8))
    assert masks.read(zero, MaskRule(ids=((0, 4), (1, 5))), None)[0].tolist() == [[4, 5, 255]]
