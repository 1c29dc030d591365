import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch.benchmarks import bayes
from launch.config.errors import UserError
from launch.data import folders

CAMVID = Path(__file__).resolve().parents[4] / "shared" / "data" / "camvid"
COLOURS = np.array([[48, 112, 208], [48, 176, 80], [208, 48, 48]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sky over grass, a red block that wanders, and a void frame with id 9."""
    root, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            ids = np.zeros((24, 32), np.uint8)
            ids[12:] = 1
            row, column = rng.integers(2, 16), rng.integers(2, 24)
            ids[row : row + 6, column : column + 6] = 2
            pixels = COLOURS[ids] + rng.normal(0, 5, (24, 32, 3))
            ids[0] = 9
            Image.fromarray(np.uint8(pixels)).save(root / split / "images" / f"{number}.png")
            Image.fromarray(ids).save(root / split / "masks" / f"{number}.png")
    return root


def run(capsys, data, *options):
    bayes.main([f"--data={data}", *options])
    return json.loads(capsys.readouterr().out)


SMALL = ("--classes=3", "--ignore=9")


@pytest.mark.parametrize("likelihood", ["histogram", "gaussian", "mixture"])
def test_colours_that_tell_the_classes_apart_find_them(folder, capsys, likelihood):
    options = (f"--likelihood={likelihood}", "--bins=4", "--components=2")
    scores = run(capsys, folder, *SMALL, *options)
    assert scores["mean_iou"] > 0.95
    assert (scores["train_images"], scores["test_images"]) == (6, 3)
    assert 0 <= scores["seconds"] < 600
    assert {"pixel_accuracy", "class_accuracy", "micro_iou", "iou/class 2", "seconds"} <= set(
        scores
    )


def test_priors_alone(folder, capsys):
    spatial = run(capsys, folder, *SMALL, "--likelihood=none")
    # All but the block is where it always is.
    assert 0.5 < spatial["mean_iou"] < 0.7
    assert spatial["pixel_accuracy"] > 0.9
    majority = run(capsys, folder, *SMALL, "--likelihood=none", "--prior=global")
    assert majority["class_accuracy"] == pytest.approx(1 / 3)


def test_pixels_are_shares_and_void_is_255(folder):
    split = folders.folder("test", str(folder), 3, 9, size=1)
    image, ids = next(bayes.examples(split))
    with Image.open(folder / "test" / "images" / "0.png") as file:
        np.testing.assert_allclose(image, np.asarray(file) / 255, atol=1e-6)
    assert (image.dtype, ids.dtype) == (np.float32, np.int32)
    assert (ids[0] == 255).all()
    assert set(np.unique(ids[1:])) == {0, 1, 2}


def test_the_defaults_are_those_of_camvid(monkeypatch, capsys):
    """11 classes and void, 8 bins, 4 components, and a prior of 90 x 120 cells."""
    asked = []
    monkeypatch.setattr(bayes, "measure", lambda options: asked.append(options) or {})
    bayes.main(["--data=d"])
    (options,) = asked
    assert (options.classes, options.ignore, options.bins, options.components) == (11, 11, 8, 4)
    assert (options.train, options.test) == ("train", "test")
    assert (options.likelihood, bayes.GRIDS[options.prior]) == ("histogram", (90, 120))
    with pytest.raises(SystemExit):
        bayes.main([])


def test_mistakes_are_told(folder, capsys):
    with pytest.raises(UserError, match="id 9, but there are 3 classes"):
        bayes.main([f"--data={folder}", "--classes=3", "--ignore=255"])
    with pytest.raises(UserError, match="no such directory"):
        bayes.main(["--data=/nowhere"])
    with pytest.raises(UserError, match="bins >= 1"):
        bayes.main([f"--data={folder}", *SMALL, "--bins=0"])


@pytest.mark.skipif(not CAMVID.is_dir(), reason=f"needs CamVid in {CAMVID}")
def test_a_few_road_scenes(capsys):
    few = ("--train=train[:6]", "--test=test[:2]")
    colour = run(capsys, CAMVID, *few)
    place = run(capsys, CAMVID, *few, "--likelihood=none")
    assert colour["iou/sky"] > 0.7
    assert 0.05 < place["mean_iou"] < colour["mean_iou"] < 0.4
