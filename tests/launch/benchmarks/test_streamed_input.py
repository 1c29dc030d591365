"""Rates of the input of a split that streams."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from launch.benchmarks import streamed_input
from launch.config import schema
from launch.data import batches
from launch.data.folders import examples
from launch.data.sources import Split


def section(path, **changes):
    config = schema.defaults().data
    config.update(name="launch.data.pictures:pictures", path=str(path), kwargs={"size": 4})
    config.update(batch_size=2, cache_mib=0, workers=0, threads=1)
    config.update(changes)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    for number in range(4):
        Image.new("RGB", (6, 5), (number, 50, 90)).save(path / f"{number}.jpg")
    return path


@pytest.mark.parametrize(
    ("streamed", "decode", "needed", "limit"),
    [(750, 1000, 2000, "decode"), (650, 1000, 2000, "input"), (650, 1000, 600, "step")],
)
def test_the_limit_of_a_training(monkeypatch, folder, streamed, decode, needed, limit):
    config = section(folder)
    data = batches.open_data(config, "train")
    asked = []

    def rate(feed, batch_size, seconds, ready):
        assert ready == 4
        asked.append((sorted(next(feed)), batch_size, seconds))
        first, third = len(asked) <= 2, len(asked) in (5, 6)
        return 0 if first else 1e9 if third else (streamed, decode)["nothing" in asked[-1][0]]

    monkeypatch.setattr(streamed_input, "rate", rate)
    found = streamed_input.measure(data, config, 0, 1.5, needed)
    assert found == {
        "streamed_input_images_per_second": streamed,
        "decode_images_per_second": decode,
        "streamed_input_to_decode": streamed / decode,
        "limit": limit,
    }
    both = ["image", "index", "mask"], ["index", "mask", "nothing"]
    assert asked == [(keys, 2, least) for least in (1.5, 0.5, 0.5, 0.5) for keys in both]


def test_the_decode_alone_reads_the_files_of_an_example(monkeypatch, folder):
    opened, original = [], Image.open
    data = batches.open_data(section(folder, damaged=0.1), "train")
    records = streamed_input._innermost(data.split)
    files = streamed_input._files(records)
    assert len(files) == data.split.size
    monkeypatch.setattr(Image, "open", lambda path: opened.append(path) or original(path))
    assert streamed_input.Decoded(files, records.reading, None)[1] == {"nothing": 0}
    assert opened == list(files[1])
    assert opened[0].parent == folder


def test_the_decode_alone_of_other_records_is_their_reading():
    read = []

    class Recorded:
        def __getitem__(self, index):
            read.append(index)
            return {"image": np.zeros((2, 2, 1), np.uint8)}

    split = Split(Recorded(), 3, "made up")
    assert streamed_input._files(streamed_input._innermost(split)) == []
    assert streamed_input.Decoded([], None, split)[2] == {"nothing": 0}
    assert read == [2]


@pytest.mark.parametrize(
    ("reading", "is_photo", "shape"),
    [
        (SimpleNamespace(size=4), True, (4, 4, 3)),
        (SimpleNamespace(canvas=(5, 100)), True, (5, 10, 3)),
        (SimpleNamespace(canvas=(100, 5)), False, (2, 5, 3)),
        (SimpleNamespace(canvas=(100, 100)), True, (10, 20, 3)),
        (None, True, (10, 20, 3)),
    ],
)
def test_the_decode_alone_scales_as_the_examples_are_scaled(reading, is_photo, shape):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 20, 3), np.uint8))
    found = streamed_input.Decoded([], reading, None)._decode(image, is_photo)
    assert found.shape == shape
    if hasattr(reading, "canvas"):  # as `launch.data.folders` does
        planes = np.asarray(image) if is_photo else np.asarray(image)[..., 0]
        expected = examples.fit(planes, reading.canvas, 0)[: shape[0], : shape[1]]
        np.testing.assert_array_equal(found if is_photo else found[..., 0], expected)


def test_a_rate_leaves_out_the_batches_that_are_ready(monkeypatch):
    """Each look at the clock is 3 s after the one before."""
    times = itertools.count(0, 3)
    monkeypatch.setattr(streamed_input.time, "perf_counter", lambda: next(times))
    feed = iter([{}] * 20)
    assert streamed_input.rate(feed, 7, 10.0, 16) == pytest.approx(3 * 7 / 12)
    assert len(list(feed)) == 20 - 16 - 3
