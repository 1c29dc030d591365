import json

import numpy as np
import pytest
from PIL import Image
from scipy import io

from launch.benchmarks import bsds
from launch.config.errors import UserError
from tests.launch.data.test_bsds import write


def test_perfect_maps_score_one(tmp_path, capsys):
    write(tmp_path)
    maps = tmp_path / "maps"
    maps.mkdir()
    for name, shape in {"one": (20, 30), "two": (30, 20)}.items():
        strength = np.zeros(shape)
        strength[[5, 9]] = 0.9
        np.save(maps / f"{name}.npy", strength)
    bsds.main([f"--data={tmp_path}", f"--maps={maps}", "--processes=1", "--thresholds=9"])
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["ODS"] == found["OIS"] == 1.0
    assert (found["images"], found["thresholds"], found["split"]) == (2, 9, "val")
    assert "2 of 2 images" in err


def test_maps_are_read_from_any_kind_of_file(tmp_path):
    strength = np.round(np.random.default_rng(0).random((6, 9)) * 255) / 255
    np.save(tmp_path / "a.npy", strength)
    Image.fromarray((strength * 255).round().astype(np.uint8)).save(tmp_path / "b.png")
    Image.fromarray((strength * 65535).round().astype(np.uint16)).save(tmp_path / "c.png")
    double = np.zeros((13, 19))
    double[2::2, 2::2] = strength
    io.savemat(tmp_path / "d.mat", {"ucm2": double})
    io.savemat(tmp_path / "e.mat", {"anything": strength})
    for stem in "abcde":
        np.testing.assert_allclose(bsds.read_map(tmp_path, stem), strength, atol=1e-5)
    with pytest.raises(UserError, match="has no f"):
        bsds.read_map(tmp_path, "f")


def test_portraits_are_turned_and_turned_back():
    image = np.arange(6 * 4 * 3).reshape(6, 4, 3)
    shapes = []

    def middle(image):
        shapes.append(image.shape)
        return image[..., 1]

    np.testing.assert_array_equal(bsds.as_landscape(middle, image), image[..., 1])
    np.testing.assert_array_equal(bsds.as_landscape(middle, image[:3]), image[:3, :, 1])
    assert shapes == [(4, 6, 3), (3, 4, 3)]


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match="give one of them"):
        bsds.main([f"--data={tmp_path}", "--method=canny", f"--maps={tmp_path}"])
    with pytest.raises(UserError, match="no such folder"):
        bsds.main([f"--data={tmp_path}", f"--maps={tmp_path}"])
    with pytest.raises(UserError, match="at least 1"):
        bsds.main([f"--data={tmp_path}", "--limit=0", f"--maps={tmp_path}"])
