import json

import numpy as np
import pytest
from PIL import Image

from launch import segment
from launch.config.errors import UserError


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def call(*arguments):
    segment.main(list(map(str, arguments)))


@pytest.fixture
def halves(tmp_path):
    """A picture whose halves differ in brightness, and a depth map of the same halves."""
    picture = np.full((40, 48, 3), 60, np.uint8)
    picture[:, 24:] = 190
    Image.fromarray(picture).save(tmp_path / "picture.png")
    depth = np.full((40, 48), 1000, np.uint16)
    depth[:, 24:] = 3000
    depth[5:8, 5:8] = 0
    Image.fromarray(depth).save(tmp_path / "depth.png")
    return tmp_path


def test_boundaries_divide_the_halves(halves):
    arguments = (f"--images={halves}/picture.png", f"--out={halves}/out", "--threshold=0.2")
    call("--cue=boundary", *arguments)
    labels = read(halves / "out" / "regions" / "picture.png")
    assert len(np.unique(labels)) == 2
    assert (labels[:, :23] == labels[0, 0]).all()
    assert (labels[:, 25:] == labels[0, 47]).all()
    canny = read(halves / "out" / "canny" / "picture.png")
    assert canny[5:-5, 22:26].any(1).all()
    assert not canny[:, 30:].any()
    names = {path.name for path in (halves / "out").iterdir()}
    assert names == {"strength", "canny", "contours", "regions", "overlays", "report.json"}


def test_depth_has_layers_and_unknown_pixels_none(halves):
    call("--cue=depth", f"--images={halves}/depth.png", f"--out={halves}/out", "--layers=2")
    labels = read(halves / "out" / "regions" / "depth.png")
    assert (labels[5:8, 5:8] == 255).all()
    with Image.open(halves / "out" / "regions" / "depth.png") as file:
        assert set(file.convert("RGB").getpixel((6, 6))) == {128}  # unknown is grey
    assert (labels[10:, :24] == 0).all()
    assert (labels[:, 24:] == 1).all()
    assert len(np.unique(read(halves / "out" / "surfaces" / "depth.png"))) == 3
    assert read(halves / "out" / "normals" / "depth.png").shape[-1] == 3


def test_textures_are_found(tmp_path):
    rng = np.random.default_rng(0)
    picture = np.empty((96, 96), np.uint8)
    stripes = 127 + 100 * np.sin(np.arange(96) * 1.2)
    picture[:, :48] = np.broadcast_to(stripes, (96, 96))[:, :48]
    picture[:, 48:] = rng.integers(27, 227, (96, 48))
    Image.fromarray(picture).save(tmp_path / "t.png")
    call("--cue=texture", f"--images={tmp_path}/t.png", f"--out={tmp_path}/out", "--textures=2")
    labels = read(tmp_path / "out" / "regions" / "t.png")
    truth = np.arange(96) >= 48
    agree = (labels == truth).mean()
    assert max(agree, 1 - agree) > 0.93
    overlay = read(tmp_path / "out" / "overlays" / "t.png")
    assert (overlay != picture[..., None]).any(-1).mean() > 0.99  # the first has a colour too


def test_one_bad_image_does_not_cost_the_others(halves):
    (halves / "in").mkdir()
    (halves / "in" / "bad.png").write_bytes(b"not a picture")
    (halves / "depth.png").rename(halves / "in" / "depth.png")
    with pytest.raises(UserError, match=r"1 of 2 images.*\n.*bad.png"):
        call("--cue=depth", f"--images={halves}/in", f"--out={halves}/out")
    report = json.loads((halves / "out" / "report.json").read_text())
    assert [entry["regions"] for entry in report["images"]] == [3]
    assert len(report["failed"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cue=texture", "--images=nowhere"], "no such file"),
        (["--cue=boundary", "--images=.", "--threshold=2"], "threshold"),
        (["--cue=depth", "--images=.", "--layers=-1"], "layers"),
        (["--cue=depth", "--images=.", "--config.seed=1"], "takes no config"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        call(*arguments, "--out=unused")
