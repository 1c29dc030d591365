import itertools
from types import SimpleNamespace

import pytest

from launch.config.errors import UserError
from launch.data import batches, streaming
from tests.launch.data.test_batches import data_config, first, same


def test_streamed_batches_are_the_cached_ones(data_dir):
    config = data_config(data_dir)
    cached = batches.open_data(config, "train")
    config = data_config(data_dir, cache_mib=0, threads=3)
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


class Flaky:
    """Stands in for Grain: gives two batches, then a worker dies."""

    def __init__(self):
        self.starts = []

    def __call__(self, split, config, seed, start, process, processes):
        self.starts.append(start)
        yield from ({"step": step} for step in (start, start + 1))
        raise RuntimeError("worker 3 terminated unexpectedly")


def test_dead_workers_are_started_again_a_few_times(monkeypatch):
    grain = Flaky()
    monkeypatch.setattr(streaming, "_grain", grain)
    stream = streaming.stream(None, SimpleNamespace(workers=5), 0, 10)
    with pytest.raises(UserError, match=r"last at step 18: .* than 5"):
        list(stream)
    assert grain.starts == [10, 12, 14, 16]  # nothing is given twice, nothing is left out


def test_other_errors_of_workers_are_not_repeated(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("another")
        yield

    monkeypatch.setattr(streaming, "_grain", fail)
    with pytest.raises(RuntimeError, match="another"):
        next(streaming.stream(None, SimpleNamespace(workers=5), 0, 10))


def test_steps_are_random_access(data_dir):
    data = batches.open_data(data_config(data_dir), "train")
    items = streaming.StepBatches(data.split, 24, 5, 3, 0, 1)
    wanted = list(itertools.islice(batches.train_batches(data, data_config(data_dir), 5, 3), 3))
    same([items[2]], [wanted[2]])
    assert len(items) > 10**15
