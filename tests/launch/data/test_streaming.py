import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from launch.config.errors import UserError
from launch.data import batches, cache, order, streaming
from launch.data.sources import Split
from tests.launch.data.test_batches import data_config, first, same


def test_streamed_batches_are_the_cached_ones(data_dir):
    config = data_config(data_dir)
    cached = batches.open_data(config, "train")
    config = data_config(data_dir, cache_mib=0, workers=0, threads=3)
    streamed = batches.open_data(config, "train")
    assert cached.arrays is not None
    assert streamed.arrays is None
    assert cached.example == streamed.example
    # 1,438 examples: step 58 crosses into the second epoch.
    for start in (0, 58):
        same(
            first(batches.train_batches(cached, config, 5, start)),
            first(batches.train_batches(streamed, config, 5, start)),
        )
    same(
        list(batches.eval_batches(cached, 200)),
        list(batches.eval_batches(streamed, 200)),
    )


def test_worker_processes_give_the_same_batches(data_dir):
    config = data_config(data_dir, cache_mib=0, workers=2)
    streamed = batches.open_data(config, "train[:100]")
    plain = data_config(data_dir)
    cached = batches.open_data(plain, "train[:100]")
    iterator = batches.train_batches(streamed, config, 5, 2)
    same(first(iterator, 5), first(batches.train_batches(cached, plain, 5, 2), 5))
    iterator.close()


def test_a_split_that_cannot_be_sent_to_processes_is_read_by_threads(data_dir, caplog):
    caplog.set_level("INFO", "segen")
    images = np.arange(60, dtype=np.uint8).reshape(-1, 1, 1, 1)
    records = [{"image": image, "note": (lambda: 0)} for image in images]
    section = data_config(data_dir, cache_mib=0, workers=2)
    (batch,) = first(streaming.stream(Split(records, 60, "made up"), section, 0, 0), 1)
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["index"])
    assert "made up: threads read it, as it cannot be sent to processes (" in caplog.text


@pytest.mark.parametrize(
    ("asked", "cores", "started"), [(-1, 3, 3), (-1, 64, 16), (5, 2, 5), (0, 2, None)]
)
def test_the_number_of_workers(monkeypatch, asked, cores, started):
    made = []
    monkeypatch.setattr(streaming, "Workers", lambda *arguments: made.append(arguments))
    monkeypatch.setattr(streaming, "cores", lambda: cores)
    section = SimpleNamespace(workers=asked, threads=7, batch_size=12)
    assert streaming.readers(section) == (started or 7)
    streaming._start_workers(None, section, 3)
    assert [count for _, _, count, _ in made] == ([started] if started else [])
    for _, rows, count, held in made:
        assert rows == 4
        assert held > streaming.ready(section) >= max(count, 4)


def test_few_batches_are_read_ahead(monkeypatch):
    """Photos of 500 batches would fill the memory."""
    read = []
    monkeypatch.setattr(cache, "read_rows", lambda split, index: read.append(index) or {})
    section = SimpleNamespace(workers=0, threads=1, batch_size=2)
    feed = streaming.stream(Split((), 100, "made up"), section, 0, 7)
    assert len(list(itertools.islice(feed, 3))) == 3
    feed.close()
    assert 3 <= len(read) <= 3 + streaming.PREFETCH


class Broken(list):
    """Records of which the last cannot be read."""

    def __getitem__(self, index):
        if index == len(self) - 1:
            raise OSError("image file is truncated")
        return super().__getitem__(index)


def test_an_error_of_a_record_reaches_the_one_who_takes_its_batch():
    section = SimpleNamespace(workers=0, threads=2, batch_size=2)
    records = Broken([{"image": np.zeros(2, np.uint8)}] * 10)
    index = [number for step in range(5) for number in order.train_rows(step, 2)]
    bad = order.examples_at(np.array(index), 0, 10).tolist().index(9) // 2
    feed = streaming.stream(Split(records, 10, "made up"), section, 0, 0)
    assert len(list(itertools.islice(feed, bad))) == bad
    with pytest.raises(UserError, match=r"made up: example 9 cannot be read"):
        next(feed)
