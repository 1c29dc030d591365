import json

import numpy as np
import pytest
from PIL import Image

from launch.benchmarks import outex
from launch.config.errors import UserError

SIZE = 64


@pytest.fixture(autouse=True)
def segment(monkeypatch):
    """Stands in for the segmentation, which has tests of its own: finds bright pixels."""
    calls = []

    def threshold(image, textures):
        assert image.shape == (SIZE, SIZE, 1)
        assert image.dtype == np.float32
        calls.append(textures)
        return (image[..., 0] > 0.5).astype(np.int32)

    monkeypatch.setattr(outex.texture_regions, "segment", threshold)
    return calls


@pytest.fixture
def data(tmp_path):
    """Two mosaics of a dark and a bright half; of the second, the bright part is smaller."""
    (tmp_path / "d" / "mosaics").mkdir(parents=True)
    _, x = np.mgrid[:SIZE, :SIZE]
    for number in range(2):
        image = np.where(x < SIZE // 2 + 4 * number, 100, 150)
        path = tmp_path / "d" / "mosaics" / f"{number:03d}.png"
        Image.fromarray(image.astype(np.uint8)).save(path)
    Image.fromarray(np.where(x < SIZE // 2, 0, 255).astype(np.uint8)).save(tmp_path / "d/gt.png")
    return tmp_path / "d"


def test_scores_and_pictures(data, tmp_path, capsys, segment):
    outex.main([f"--data={data}", "--textures=2", f"--out={tmp_path / 'out'}"])
    streams = capsys.readouterr()
    result = json.loads(streams.out)
    assert result["images"] == 2
    assert result["textures"] == 2
    # All pixels of the first image, and all but 4 columns of the second.
    assert result["correct_overlap"] == pytest.approx((1 + 60 / 64) / 2, abs=1e-4)
    assert segment == [2, 2]
    assert {"correct_segments", "over_segmentation", "under_segmentation"} <= result.keys()
    assert [line[:3] for line in streams.err.splitlines()] == ["000", "001"]
    picture = np.asarray(Image.open(tmp_path / "out" / "001.png"))
    assert picture.shape == (SIZE, SIZE)
    assert set(np.unique(picture)) == {0, 255}


def test_chosen_images(data, capsys, segment):
    outex.main([f"--data={data}", "--textures=0", "--images=1"])
    assert segment == [None]  # their number is estimated
    assert json.loads(capsys.readouterr().out)["images"] == 1


def test_the_greys_of_labels_are_spread(tmp_path):
    for labels, greys in (
        ([0, 1, 2], [0, 127, 254]),
        ([0, 0, 0], [0, 0, 0]),
        ([4, 0, 1], [252, 0, 63]),
    ):
        outex._write(tmp_path / "new" / "a.png", np.array([labels]))
        with Image.open(tmp_path / "new" / "a.png") as file:
            assert np.asarray(file).tolist() == [greys]


def test_five_textures_unless_told_otherwise(data, capsys, segment):
    outex.main([f"--data={data}", "--images=0"])
    assert segment == [5]
    assert json.loads(capsys.readouterr().out)["seconds"] < 600
    with pytest.raises(SystemExit):
        outex.main([])


def test_mistakes_are_told(data, tmp_path):
    with pytest.raises(UserError, match=r"has no 007\.png"):
        outex.main([f"--data={data}", "--images=7"])
    with pytest.raises(UserError, match=r"gt.png: no such file"):
        outex.main([f"--data={tmp_path}"])
    with pytest.raises(UserError, match="--textures"):
        outex.main([f"--data={data}", "--textures=-1"])
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(data / "gt.png")
    with pytest.raises(UserError, match="but the truth is"):
        outex.main([f"--data={data}"])
