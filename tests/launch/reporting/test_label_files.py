import numpy as np
import pytest
from PIL import Image

from jaxseg.pictures import palette
from launch.reporting import label_files


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_labels_come_back_from_the_file_and_lie_over_their_image(tmp_path, dtype):
    labels = np.arange(300 * 5).reshape(300, 5).astype(dtype) % 7
    label_files.save_labels(tmp_path / "labels.png", labels)
    image = np.full((300, 5, 3), 100, np.uint8)
    label_files.save_overlay(tmp_path / "overlay.png", image, labels)
    with Image.open(tmp_path / "labels.png") as file, Image.open(tmp_path / "overlay.png") as over:
        assert file.mode == "P"
        np.testing.assert_array_equal(np.asarray(file), labels)
        shown = np.asarray(over).astype(int)
    np.testing.assert_array_equal(shown[labels == 0], 100)
    blend = (palette()[3].astype(int) + 100) // 2
    assert (shown[labels == 3] == blend).all()


def test_more_than_255_regions_are_written_with_16_bits(tmp_path):
    labels = np.arange(400, dtype=np.int32).reshape(20, 20)
    label_files.save_labels(tmp_path / "labels.png", labels)
    with Image.open(tmp_path / "labels.png") as file:
        np.testing.assert_array_equal(np.asarray(file), labels)


def test_more_regions_than_16_bits_are_refused(tmp_path):
    labels = np.array([[0, 65_536]])
    with pytest.raises(ValueError, match="65,536 regions"):
        label_files.save_labels(tmp_path / "labels.png", labels)
    label_files.save_labels(tmp_path / "labels.png", labels - 1 + (labels == 0))


def test_values_are_written_as_grey_levels(tmp_path):
    values = np.array([[-1.0, 0.0, 0.5, 2.0]])
    label_files.save_grey(tmp_path / "grey.png", values)
    label_files.save_heat(tmp_path / "heat.png", np.maximum(values, 0.0))
    label_files.save_heat(tmp_path / "blank.png", np.zeros((1, 4)))
    read = lambda name: np.asarray(Image.open(tmp_path / name)).tolist()
    assert read("grey.png") == [[0, 0, 128, 255]]
    assert read("heat.png") == [[0, 0, 64, 255]]
    assert read("blank.png") == [[0, 0, 0, 0]]
