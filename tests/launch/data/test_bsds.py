import numpy as np
import pytest
from PIL import Image
from scipy import io

from launch.config.errors import UserError
from launch.data import bsds


def write(root, split="val", truth="groundTruth"):
    """Two images, one upright, with two annotators each: a line in row 5, and one in row 9."""
    for name, shape in {"one": (20, 30), "two": (30, 20)}.items():
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
        (root / truth / split).mkdir(parents=True, exist_ok=True)
        image = np.arange(shape[0])[:, None, None] * np.ones((*shape, 3))
        Image.fromarray(image.astype(np.uint8)).save(root / "images" / split / f"{name}.png")
        cells = np.empty((1, 2), object)
        for k, row in enumerate((5, 9)):
            marks = np.zeros(shape, np.uint8)
            marks[5] = marks[row] = 1
            cells[0, k] = {"Boundaries": marks, "Segmentation": marks.astype(np.uint16)}
        io.savemat(root / truth / split / f"{name}.mat", {"groundTruth": cells})
    return root


@pytest.mark.parametrize("truth", ["groundTruth", "ground_truth"])
def test_examples_agree_in_shape(tmp_path, truth):
    records = bsds.bsds("val", str(write(tmp_path, truth=truth)), size=(20, 30))
    assert len(records) == 2
    for example, turned in zip((records[0], records[1]), (False, True), strict=True):
        image, edges = example["image"], example["edges"]
        assert (image.shape, image.dtype) == ((20, 30, 3), np.uint8)
        assert (edges.shape, edges.dtype) == ((20, 30, 1), np.uint8)
        line, other = (edges[:, 5], edges[:, 9]) if turned else (edges[5], edges[9])
        values = image[:, 5] if turned else image[5]
        assert set(line.ravel()) == {255}
        assert set(other.ravel()) == {128}  # one of two annotators
        assert set(values.ravel()) == {5}  # image and edges are turned alike


def test_splits_add_up(tmp_path):
    write(tmp_path, "train")
    write(tmp_path, "val")
    assert len(bsds.bsds("train+val", tmp_path, (20, 30))) == 4


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match="images/val: no such folder"):
        bsds.bsds("val", tmp_path)
    write(tmp_path)
    with pytest.raises(ValueError, match=r"one\.png is \(20, 30\), not \(321, 481\)"):
        bsds.bsds("val", tmp_path)[0]
    truth = tmp_path / "groundTruth" / "val" / "two.mat"
    io.savemat(truth, {"other": np.zeros(3)})
    with pytest.raises(ValueError, match=r"two\.mat is not a ground truth"):
        bsds.read_annotations(truth)
    truth.unlink()
    with pytest.raises(UserError, match=r"two\.mat is missing"):
        bsds.bsds("val", tmp_path)
