import numpy as np
import pytest
from PIL import Image

from launch import predict
from launch.inference import true_masks
from tests.launch.test_predict import COLOURS, Threshold, scene, write


def two_valued(tmp_path, *others):
    """An image of two classes; its mask of 0 and 255; and other masks in the same folder."""
    item = write(tmp_path, 3)
    ids = scene(3)[1] % 2
    Image.fromarray(COLOURS[ids]).save(item.image)
    Image.fromarray(ids * np.uint8(255)).save(item.mask)
    for number, other in enumerate(others):
        Image.fromarray(other).save(item.mask.with_name(f"other{number}.png"))
    return item, ids


@pytest.mark.parametrize(
    ("segmenter", "others", "binary"),
    [
        (Threshold(2), (), True),
        (Threshold(2), (np.zeros((2, 2), np.uint8),), True),
        (Threshold(2), (np.eye(2, dtype=np.uint8),), False),
        (Threshold(2, ignore=9), (), False),
        (Threshold(3), (), False),
        (Threshold(3, binary=True), (), True),
    ],
)
def test_255_is_void_unless_all_masks_of_the_folder_say_0_and_255(
    tmp_path, segmenter, others, binary
):
    item, _ = two_valued(tmp_path, *others)
    (item.mask.parent / "notes.txt").write_text("no mask")
    (item.mask.parent / "bad.png").write_text("reported when its turn comes")
    assert true_masks.is_binary(segmenter, [item]) == binary


def test_in_binary_masks_255_is_1(tmp_path):
    item, ids = two_valued(tmp_path)
    _, sums = predict.predict_one(Threshold(2), item, tmp_path / "out", None, True)
    np.testing.assert_array_equal(sums["confusion"], np.diag(np.bincount(ids.ravel(), minlength=2)))


def test_masks_of_zeros_are_not_binary(tmp_path):
    item, _ = two_valued(tmp_path)
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(item.mask)
    assert not true_masks.is_binary(Threshold(2), [item])
    assert not true_masks.is_binary(Threshold(2), [item._replace(mask=None)])


def test_void_does_not_count(tmp_path):
    item, ids = two_valued(tmp_path, np.eye(2, dtype=np.uint8))
    _, sums = predict.predict_one(Threshold(2), item, tmp_path / "out", None, False)
    np.testing.assert_array_equal(sums["confusion"], [[np.sum(ids == 0), 0], [0, 0]])


def test_numbers_of_objects_are_upright_and_fit_16_bits(tmp_path):
    item = write(tmp_path, 3)
    numbers = np.arange(24 * 32, dtype=np.int32).reshape(24, 32)
    Image.fromarray(numbers.astype(np.uint16)).save(item.mask)
    segmenter = Threshold()
    np.testing.assert_array_equal(true_masks.read_numbers(segmenter, item, (24, 32)), numbers)
    assert true_masks.read_numbers(segmenter, item._replace(mask=None), (24, 32)) is None
    Image.fromarray(numbers * 100).save(item.mask.with_suffix(".tif"))
    with pytest.raises(ValueError, match="numbers of objects are 0 to 65534"):
        true_masks.read_numbers(
            segmenter, item._replace(mask=item.mask.with_suffix(".tif")), (24, 32)
        )
