"""Facts of a folder: widths of objects, shares of classes, top and bottom."""

import numpy as np
import pytest
from PIL import Image

from launch.data.bad_file import BadFile
from launch.data.folders import opening
from launch.data.folders.options import Options
from launch.planning import facts


def test_widths_of_lines_and_of_discs():
    ids = np.zeros((200, 300), np.uint8)
    ids[20:26] = 1  # a line of 6 pixels
    y, x = np.mgrid[:200, :300]
    ids[(y - 120) ** 2 + (x - 100) ** 2 <= 40**2] = 2
    widths = facts.widths_of(ids, 4)
    assert widths[1] == pytest.approx(6, rel=0.03)
    assert widths[2] == pytest.approx(40, rel=0.15)
    assert widths[3] == 0


def _write(folder, split, number, mask):
    image = np.full((*mask.shape, 3), 40 * number + 1, np.uint8)
    for kind, array in (("images", image), ("masks", mask.astype(np.uint8))):
        path = folder / split / kind / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Six images of 20 x 30 pixels, two of them to check on, sky above ground and a pole."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(6):
        split = "val" if number > 3 else "train"
        mask = np.repeat([0, 1], 10)[:, None] * np.ones((1, 30), np.uint8)
        mask[:, 7:9] = 2
        _write(tmp_path / "d", split, number, mask)
    return opening.usable(opening.open_folder(tmp_path / "d", Options()))


def test_facts_of_a_folder(opened):
    found = facts.of_folder(opened, "train", "val")
    assert (found.images, found.held_out, found.channels) == (4, 2, 3)
    assert found.size == found.largest == (20, 30)
    np.testing.assert_allclose(found.shares, [280 / 600, 280 / 600, 40 / 600])
    assert found.widths[2] == pytest.approx(2)
    assert found.upright == pytest.approx(280 / 300)
    levels = (40 * np.arange(4) + 1) / 255  # of the training images
    np.testing.assert_allclose(found.mean, [levels.mean()] * 3, rtol=1e-6)
    np.testing.assert_allclose(found.std, [levels.std()] * 3, rtol=1e-5)
    assert found.width == pytest.approx(np.median(found.widths[1:]))


@pytest.mark.parametrize(
    ("only_in_val", "message"),
    [(2, "wire: pixels in 'val', none in 'train'"), (1, "hold road alone")],
)
def test_refuses_what_training_does_not_show(tmp_path, monkeypatch, only_in_val, message):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(6):
        mask = np.zeros((20, 30))
        mask[:10] = min(1, only_in_val - 1)
        mask[5] = only_in_val if number > 3 else mask[5]
        _write(tmp_path / "d", "val" if number > 3 else "train", number, mask)
    (tmp_path / "d" / "classes.txt").write_text("road\npole\nwire\n")
    opened = opening.usable(opening.open_folder(tmp_path / "d", Options()))
    with pytest.raises(BadFile, match=message):
        facts.of_folder(opened, "train", "val")


def test_classes_that_lie_over_each_other_are_all_seen(tmp_path, monkeypatch):
    """Cells within tissue: each class counts where it lies, whichever mask is read last."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    masks = {"cell": np.zeros((20, 30), np.uint8), "tissue": np.zeros((20, 30), np.uint8)}
    masks["cell"][4:10, 5:9] = 255
    masks["tissue"][:12] = 255
    for number in range(6):
        folder = tmp_path / "d" / ("val" if number > 3 else "train")
        image = np.full((20, 30, 3), 40 * number + 1, np.uint8)
        for name, array in {"images": image, **{f"masks/{k}": v for k, v in masks.items()}}.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / name / f"{number}.png")
    options = Options(target="labels")
    opened = opening.usable(opening.open_folder(tmp_path / "d", options))
    assert opened.reading.classes[1:] == ("cell", "tissue")
    found = facts.of_folder(opened, "train", "val")
    np.testing.assert_allclose(found.shares, np.array([240, 24, 360]) / 624)
    assert found.widths[1] == pytest.approx(2 * 24 / 16)
    assert found.upright == pytest.approx(0.8)  # (0, 24, 300) above, (240, 0, 60) below


def test_objects_in_training_are_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(6):
        mask = np.zeros((20, 30))
        mask[5:9, 4:8], mask[5:9, 8:12] = 2 * (number > 3), 3 * (number > 3)
        _write(tmp_path / "d", "val" if number > 3 else "train", number, mask)
    opened = opening.usable(opening.open_folder(tmp_path / "d", Options(target="objects")))
    with pytest.raises(BadFile, match="no mask of 'train' numbers an object"):
        facts.of_folder(opened, "train", "val")
