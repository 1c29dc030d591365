import json

import numpy as np
import pytest
from PIL import Image

from launch.benchmarks import outex
from launch.config.errors import UserError

SIZE = 64


@pytest.fixture
def data(tmp_path):
    """Two mosaics of two textures: upright stripes beside noise."""
    (tmp_path / "d" / "mosaics").mkdir(parents=True)
    _, x = np.mgrid[:SIZE, :SIZE]
    for number in range(2):
        rough = np.random.default_rng(number).normal(size=(SIZE, SIZE))
        image = 128 + 40 * np.where(x < SIZE // 2, np.sin(1.5 * x), rough)
        path = tmp_path / "d" / "mosaics" / f"{number:03d}.png"
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path)
    Image.fromarray(np.where(x < SIZE // 2, 0, 255).astype(np.uint8)).save(tmp_path / "d/gt.png")
    return tmp_path / "d"


def test_scores_and_pictures(data, tmp_path, capsys):
    outex.main([f"--data={data}", "--textures=2", f"--out={tmp_path / 'out'}"])
    streams = capsys.readouterr()
    result = json.loads(streams.out)
    assert result["images"] == 2
    assert result["textures"] == 2
    assert result["correct_overlap"] > 0.85
    assert {"correct_segments", "over_segmentation", "under_segmentation"} <= result.keys()
    assert [line[:3] for line in streams.err.splitlines()] == ["000", "001"]
    picture = np.asarray(Image.open(tmp_path / "out" / "001.png"))
    assert picture.shape == (SIZE, SIZE)
    assert set(np.unique(picture)) == {0, 255}


def test_chosen_images(data, capsys):
    outex.main([f"--data={data}", "--textures=2", "--images=1"])
    assert json.loads(capsys.readouterr().out)["images"] == 1


def test_mistakes_are_told(data, tmp_path):
    with pytest.raises(UserError, match=r"has no 007\.png"):
        outex.main([f"--data={data}", "--images=7"])
    with pytest.raises(UserError, match="cannot read"):
        outex.main([f"--data={tmp_path}"])
    with pytest.raises(UserError, match="--textures"):
        outex.main([f"--data={data}", "--textures=-1"])
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(data / "gt.png")
    with pytest.raises(UserError, match="but the truth is"):
        outex.main([f"--data={data}"])
