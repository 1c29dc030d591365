import json
import logging

import numpy as np
import pytest
from PIL import Image

from launch.data import images
from launch.data.bad_file import BadFile
from launch.data.folders import survey as shared
from launch.data.folders.pairs import Pair
from launch.data.pictures import survey


def save(path, values):
    Image.fromarray(np.asarray(values)).save(path)
    return Pair(path.name, path, ())


def test_what_is_kept_of_an_image(tmp_path):
    values = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    alpha = np.full((4, 5, 1), 255, np.uint8)
    found = [
        save(tmp_path / "a.png", values),
        save(tmp_path / "b.png", np.concatenate([values, alpha], -1)),
        save(tmp_path / "c.png", np.concatenate([values, alpha - 1], -1)),
        save(tmp_path / "d.png", values[..., 0].astype(np.uint16) * 300),
        save(tmp_path / "e.png", values),
    ]
    a, b, c, d, e = survey.survey(found, tmp_path / "my" / "cache", "s").values()
    assert (a.size, a.dtype, a.channels, a.alpha, a.orientation) == ((4, 5), "uint8", 3, "", 1)
    assert a.ranges == ((0.0, 54.0), (1.0, 55.0), (2.0, 56.0))
    assert (b.channels, b.alpha, b.ranges) == (3, "opaque", a.ranges)
    assert (c.channels, c.alpha) == (3, "varies")
    assert (d.channels, d.dtype, len(d.ranges)) == (1, "uint16", 1)
    assert a.digest == e.digest
    assert len({one.digest for one in (a, b, c, d)}) == 4


def test_images_are_read_once_until_they_change(tmp_path, monkeypatch):
    found = [save(tmp_path / f"{k}.png", np.full((2, 3, 3), k, np.uint8)) for k in range(3)]
    read = []
    original = images.read_pixels
    monkeypatch.setattr(images, "read_pixels", lambda path: read.append(path) or original(path))
    first = survey.survey(found, tmp_path / "my" / "cache", "s")
    assert survey.survey(found, tmp_path / "my" / "cache", "s") == first
    assert len(read) == 3
    for _ in range(2):
        survey.survey(found, tmp_path / "my" / "cache", "other")  # beside the first
    assert len(read) == 6
    assert len(survey.survey(found[:2], tmp_path / "my" / "cache", "s")) == 2
    assert len(read) == 8
    (tmp_path / "my" / "cache" / "survey-s.json").write_text(json.dumps([{"unknown": 1}] * 3))
    assert survey.survey(found, tmp_path / "my" / "cache", "s") == first
    assert len(read) == 11


def test_a_cache_that_cannot_be_written_is_said(tmp_path, caplog):
    found = [save(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))]
    with caplog.at_level(logging.INFO, "segen"):
        assert len(survey.survey(found, tmp_path / "a.png", "s")) == 1
    assert "cannot keep what was read in" in caplog.text


@pytest.mark.parametrize("number", [4, 5])
def test_reading_many_images_is_announced(tmp_path, caplog, monkeypatch, number):
    assert shared.SAID == 500
    monkeypatch.setattr(shared, "SAID", 5)
    found = [save(tmp_path / f"{k}.png", np.zeros((2, 2, 3), np.uint8)) for k in range(number)]
    with caplog.at_level(logging.INFO, "segen"):
        survey.survey(found, tmp_path / "my" / "cache", "s")
    assert ("reading 5 images once" in caplog.text) == (number == 5)


@pytest.mark.parametrize(
    ("number", "rest"),
    [
        (1, ""),
        (2, "; 1 more cannot be used: 1.png"),
        (5, "; 4 more cannot be used: 1.png, 2.png, 3.png, 4.png"),
        (6, "; 5 more cannot be used: 1.png, 2.png, 3.png, 4.png, ..."),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, number, rest):
    found = [save(tmp_path / f"{k}.png", np.full((2, 3, 3), k, np.uint8)) for k in range(8)]
    for pair in found[:number]:
        pair.image.write_bytes(b"")
    with pytest.raises(BadFile) as caught:
        survey.survey(found, tmp_path / "my" / "cache", "s")
    assert caught.value.problem == f"the file is empty{rest}"
    assert (caught.value.path, caught.value.fix) == (
        str(found[0].image),
        "Copy or export it again.",
    )
    assert not (tmp_path / "my" / "cache").exists()


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_opaque(dtype, value):
    assert survey.opaque(np.zeros(2, dtype)) == value
