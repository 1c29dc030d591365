"""Data workers: threads stand in for the processes, but for one test."""

import contextlib
import gc
import multiprocessing
import os
import pickle
import threading
import time

import numpy as np
import pytest

from launch.config.errors import UserError
from launch.data import cache, workers
from launch.data.sources import Split

SIZE = 12


class Records:
    """Examples of several dtypes and shapes."""

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        if index == SIZE - 1:
            raise OSError("image file is truncated")
        image = np.full((3, 5, 1), index, np.uint8)
        return {"image": image, "label": np.int32(index), "mean": np.float32([index, 0.5])}


class Homeless(Records):
    """Records that another process cannot make."""

    def __reduce__(self):
        return _fail, ()


def _fail():
    raise ImportError("no module named there")


SPLIT = Split(Records(), SIZE, "made up train")


class Service:
    """Launches threads in place of processes; each answers `served` batches, then hangs up."""

    def __init__(self, served=10**9):
        self.served, self.launched = served, 0

    def __call__(self, owner):
        ours, theirs = multiprocessing.Pipe()
        left = [self.served + 1]  # and the split
        close, theirs_send = theirs.close, theirs.send

        class Connection:
            recv_bytes, recv = theirs.recv_bytes, theirs.recv

            def send(self, answer):
                left[0] -= 1
                if left[0] < 0:
                    close()
                    raise EOFError
                theirs_send(answer)

        def serve():
            with contextlib.suppress(EOFError, OSError):
                workers.serve(Connection(), owner._file)
            close()

        self.launched += 1
        threading.Thread(target=serve, daemon=True).start()
        return ours


@pytest.fixture
def start(monkeypatch):
    opened = []

    def run(split=SPLIT, count=1, held=3, served=10**9, ready=True):
        service = Service(served)
        monkeypatch.setattr(workers.Workers, "_launch", lambda owner: service(owner))
        opened.append(workers.Workers(split, 4, count, held))
        while ready and len(opened[-1]._idle) < count:
            time.sleep(0.001)
        return opened[-1], service

    yield run
    for one in opened:
        for connection in one._idle:
            connection.close()
        one.close()


def same(found, index):
    expected = cache.read_rows(SPLIT, index)
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == array.dtype


def place(batch):
    return batch["image"].__array_interface__["data"][0]


def test_batches_are_those_that_this_process_reads(start):
    pool, _ = start(count=2)
    index = np.array([3, 0, 9, 3])
    same(pool.read(index), index)
    found = pool.read(index[::-1])
    same(found, index[::-1])
    assert place(found) % 64 == 0
    found["image"][:] = 7  # may be written to


def test_memory_is_used_again_only_when_no_array_needs_it(start):
    pool, _ = start(held=3)
    index = np.arange(4)
    held = [pool.read(index + number) for number in range(6)]  # twice as many as fit
    for number, batch in enumerate(held):
        same(batch, index + number)
    places = [place(batch) for batch in held]
    assert len(set(places)) == 6
    part, _ = held[1]["image"][2:], held.clear()
    gc.collect()
    again = [pool.read(index + 6) for _ in range(2)]
    assert {place(batch) for batch in again} == {places[0], places[2]}  # of the three shared
    assert (part == np.array([3, 4])[:, None, None, None]).all()


def test_a_record_that_cannot_be_read_is_named_and_others_go_on(start):
    pool, _ = start(held=1)
    for _ in range(3):
        with pytest.raises(UserError, match=r"made up train: example 11 .*image file is trunc"):
            pool.read(np.array([0, 11]))
    gc.collect()
    same(pool.read(np.arange(4)), np.arange(4))


def test_the_first_batches_do_not_wait_for_a_process(monkeypatch):
    monkeypatch.setattr(workers.Workers, "_launch", lambda owner: multiprocessing.Pipe()[0])
    pool = workers.Workers(SPLIT, 4, 1, 2)
    same(pool.read(np.arange(4)), np.arange(4))
    pool.close()


def test_dead_workers_are_replaced_a_few_times(start, caplog):
    """Each answers for two batches: the third worker replaces the second for batch 5."""
    pool, service = start(served=2)
    for first in range(8):
        same(pool.read(np.arange(first, first + 4) % 11), np.arange(first, first + 4) % 11)
    assert service.launched == 4
    assert caplog.text.count("a data worker died; starting another") == 3
    with pytest.raises(UserError, match=r"made up train: data workers died .* smaller .* than 1"):
        pool.read(np.arange(4))


def test_workers_that_cannot_start_are_no_obstacle(start, caplog):
    pool, _ = start(Split(Homeless(), SIZE, "made up train"), ready=False)
    while "cannot start" not in caplog.text:
        time.sleep(0.001)
    assert "(ImportError: no module named there); this process reads in its place" in caplog.text
    same(pool.read(np.arange(4)), np.arange(4))


def test_a_split_that_cannot_be_sent_is_refused():
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        workers.Workers(Split([{"image": np.zeros(2)}], 1, "", classes=threading.Lock()), 4, 1, 2)


def test_errors_of_other_types_are_told(start, monkeypatch):
    monkeypatch.setattr(cache, "read_rows", lambda *arguments: 1 / 0)
    pool, _ = start()
    with pytest.raises(RuntimeError, match=r"ZeroDivisionError: division by zero"):
        pool.read(np.arange(4))


def test_a_file_without_memory_of_the_system(monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    file = workers._shared_file(100)
    assert os.fstat(file).st_size == 100
    os.close(file)
