import itertools
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from launch.config import schema
from launch.config.errors import UserError
from launch.data import batches, damage, sources, streaming, workers

SIZE, BAD = 40, (3, 4, 39)


class Holed:
    """Records of which some cannot be read."""

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        if index in BAD:
            raise OSError("image file is truncated")
        return {"image": np.full((2, 2, 1), index, np.uint8)}


def holed(split):
    return Holed()


def opened(share, **changes):
    config = schema.defaults().data
    config.update(name="tests.launch.data.test_damage:holed", batch_size=8, damaged=share)
    config.update(changes)
    return batches.open_data(config, "train"), config


@pytest.mark.parametrize("cache_mib", [0, 100])
def test_others_stand_in_for_damaged_records_in_training(cache_mib):
    data, config = opened(0.1, cache_mib=cache_mib)
    assert (data.arrays is None) == (cache_mib == 0)
    assert list(data.example) == ["image"]
    stand_in = {3: 5, 4: 5, 39: 0}
    for batch in itertools.islice(batches.train_batches(data, config, seed=1), 12):
        assert batch.keys() == {"image", "index", "mask"}
        assert batch["mask"].all()
        wanted = [stand_in.get(index, index) for index in batch["index"].tolist()]
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], wanted)


@pytest.mark.parametrize("cache_mib", [0, 100])
def test_damaged_records_are_left_out_of_an_evaluation(cache_mib):
    data, _ = opened(0.1, cache_mib=cache_mib)
    seen = [
        int(index)
        for batch in batches.eval_batches(data, 16)
        for index, counts in zip(batch["index"], batch["mask"], strict=True)
        if counts
    ]
    assert seen == [index for index in range(SIZE) if index not in BAD]


def test_damaged_records_are_logged_once_with_their_error(capsys):
    data, config = opened(0.1, cache_mib=0)
    for batch in itertools.islice(batches.train_batches(data, config, seed=1), 12):
        assert batch["mask"].all()
    text = capsys.readouterr().err
    assert 1 <= text.count("are damaged") <= len(BAD)
    assert "3 of 40 records read so far are damaged" in text
    assert "image file is truncated" in text


@pytest.mark.parametrize("cache_mib", [0, 100])
def test_more_damage_than_stated_stops_the_run(cache_mib):
    def read():
        data, config = opened(0.05, cache_mib=cache_mib)
        list(itertools.islice(batches.train_batches(data, config, seed=1), 12))

    with pytest.raises(UserError, match=r"config\.data\.damaged=0\.05 allows.*truncated"):
        read()


class Three:
    """Ten records; those of `bad` cannot be read."""

    def __init__(self, bad):
        self.bad = bad

    def __getitem__(self, index):
        if index in self.bad:
            raise OSError("torn")
        return {"x": np.int32(index)}


def split_of(*bad):
    return damage.tolerate(sources.Split(Three(bad), 10, "ten"))


def test_exactly_the_allowed_share_passes_and_one_more_does_not(capsys):
    tally = damage.Tally(split_of(1, 2, 3), 0.2)
    tally.note(np.array([1, 2]))
    assert "ten: 2 of 10 records read so far are damaged: 1, 2; left out" in capsys.readouterr().err
    tally.note(np.array([2, 1]))  # known
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match=r"3 of 10 .* damaged: 3\. .*damaged=0\.2 allows.*torn"):
        tally.note(np.array([1, 3]))


def test_few_indices_are_listed(capsys):
    damage.Tally(split_of(), 1.0).note(np.arange(damage.SHOWN + 1))
    found = capsys.readouterr().err
    assert "damaged: 0, 1, 2, 3, 4, ...; left out" in found
    assert "It can be read now." in found
    damage.Tally(split_of(), 1.0).note(np.arange(damage.SHOWN))
    assert "damaged: 0, 1, 2, 3, 4; left out" in capsys.readouterr().err


def test_the_next_readable_record_replaces_a_damaged_one():
    records = split_of(8, 9).records
    assert [int(records[index]["x"]) for index in (7, 8, 9)] == [7, 0, 0]
    assert [bool(records[index][damage.KEY]) for index in (7, 8, 9)] == [False, True, True]
    with pytest.raises(UserError, match="example 4 cannot be read"):
        split_of(*range(10)).records[4]


def test_arrays_in_memory_and_unknown_content_need_no_mark():
    arrays = sources.Split({"x": np.arange(3)}, 3, "whole")
    assert damage.tolerate(arrays) is arrays
    assert split_of().fingerprint == ""
    known = sources.Split(Three(()), 10, "ten", "abc")
    assert damage.tolerate(known).fingerprint == "abc-tolerant"


def test_without_a_share_the_first_damaged_record_stops_the_run():
    with pytest.raises(UserError, match=r"example 3 cannot be read.*truncated"):
        opened(0.0)


def test_a_flipped_byte_in_array_record_is_one_record_left_out(data_dir, tmp_path, capsys):
    config = schema.defaults().data
    config.update(data_dir=data_dir, batch_size=32)
    whole = batches.open_data(config, "test")
    folder = tmp_path / "digits" / "1.0.0"
    folder.mkdir(parents=True)
    for path in Path(whole.split.folder).iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    file = next(folder.glob("*test*.array_record*"))
    content = bytearray(file.read_bytes())
    content[33_000] ^= 1  # of the 65,744 bytes that are not padding
    file.write_bytes(content)
    config.update(data_dir=str(tmp_path), damaged=0.01)
    damaged = batches.open_data(config, "test")
    (bad,) = np.flatnonzero(damaged.damaged)
    assert f"are damaged: {bad};" in capsys.readouterr().err
    kept = np.delete(np.arange(len(damaged.damaged)), bad)
    np.testing.assert_array_equal(
        damaged.arrays["image"][kept], np.asarray(whole.arrays["image"])[kept]
    )
    assert sum(batch["mask"].sum() for batch in batches.eval_batches(damaged, 64)) == len(kept)


def test_a_dead_data_worker_is_replaced_and_no_batch_is_lost(data_dir, monkeypatch, capsys):
    started = []

    def start(*arguments):
        started.append(workers.Workers(*arguments))
        return started[0]

    monkeypatch.setattr(streaming, "Workers", start)
    config = schema.defaults().data
    config.update(data_dir=data_dir, batch_size=24, cache_mib=0, workers=1)
    streamed = batches.open_data(config, "train[:100]")
    feed = batches.train_batches(streamed, config, 5)
    found = [next(feed)]
    while not started[0]._idle:  # it starts
        time.sleep(0.01)
    started[0]._processes[0].kill()
    found += itertools.islice(feed, 11)
    feed.close()
    assert "a data worker died; starting another" in capsys.readouterr().err
    assert [process.poll() for process in started[0]._processes] == [-signal.SIGKILL] * 2
    config.update(workers=0)
    plain = batches.train_batches(streamed, config, 5)
    for left, right in zip(found, itertools.islice(plain, 12), strict=True):
        np.testing.assert_array_equal(left["image"], right["image"])
        np.testing.assert_array_equal(left["index"], right["index"])
