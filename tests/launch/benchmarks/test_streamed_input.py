"""Rates of the input of a split that streams."""

import itertools

import numpy as np
import pytest
from PIL import Image

from launch.benchmarks import streamed_input
from launch.config import schema
from launch.data import batches
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
    [(950, 1000, 2000, "decode"), (850, 1000, 2000, "input"), (850, 1000, 800, "step")],
)
def test_the_limit_of_a_training(monkeypatch, folder, streamed, decode, needed, limit):
    config = section(folder)
    data = batches.open_data(config, "train")
    asked = []

    def rate(feed, batch_size, seconds):
        asked.append((sorted(next(feed)), batch_size, seconds))
        feed.close()
        return (streamed, decode)[len(asked) - 1]

    monkeypatch.setattr(streamed_input, "rate", rate)
    found = streamed_input.measure(data, config, 0, 1.5, needed)
    assert found == {
        "streamed_input_images_per_second": streamed,
        "decode_images_per_second": decode,
        "streamed_input_to_decode": streamed / decode,
        "limit": limit,
    }
    assert asked == [(["image", "index", "mask"], 2, 1.5), (["index", "mask", "nothing"], 2, 1.5)]


def test_the_decode_alone_reads_the_files_of_an_example(monkeypatch, folder):
    opened, original = [], Image.open
    data = batches.open_data(section(folder, damaged=0.1), "train")
    files = streamed_input._files(data.split)
    assert len(files) == data.split.size
    monkeypatch.setattr(Image, "open", lambda path: opened.append(path) or original(path))
    assert streamed_input.Decoded(files, None)[1] == {"nothing": 0}
    assert opened == list(files[1])
    assert opened[0].parent == folder


def test_the_decode_alone_of_other_records_is_their_reading():
    read = []

    class Recorded:
        def __getitem__(self, index):
            read.append(index)
            return {"image": np.zeros((2, 2, 1), np.uint8)}

    split = Split(Recorded(), 3, "made up")
    assert streamed_input._files(split) == []
    assert streamed_input.Decoded([], split)[2] == {"nothing": 0}
    assert read == [2]


def test_a_rate_is_taken_after_a_warm_up(monkeypatch):
    """The first batch takes 11 s, each of the others 3 s."""
    times = itertools.chain([0, 0, 11, 11], itertools.count(11, 3))
    monkeypatch.setattr(streamed_input.time, "perf_counter", lambda: next(times))
    closed = []

    def batches_of_two():
        try:
            while True:
                yield {}
        finally:
            closed.append(True)

    assert streamed_input.rate(batches_of_two(), 7, 10.0) == pytest.approx(7 / 3)
    assert closed == [True]
