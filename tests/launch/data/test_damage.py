import itertools
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from launch.config import schema
from launch.config.errors import UserError
from launch.data import batches

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


def opened(share, said=None, **changes):
    config = schema.defaults().data
    config.update(name="tests.launch.data.test_damage:holed", batch_size=8, damaged=share)
    config.update(changes)
    say = lambda line: said is not None and said.append(line)
    return batches.open_data(config, "train", "config.data", say), config


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


def test_what_is_left_out_is_said_once_with_its_fault():
    said = []
    data, config = opened(0.1, said, cache_mib=0)
    for batch in itertools.islice(batches.train_batches(data, config, seed=1), 12):
        assert batch["mask"].all()
    assert sum(line.count("are damaged") for line in said) <= len(BAD)
    text = "\n".join(said)
    assert "3 of 40 records met so far are damaged" in text
    assert "image file is truncated" in text


@pytest.mark.parametrize("cache_mib", [0, 100])
def test_more_damage_than_stated_stops_the_run(cache_mib):
    def read():
        data, config = opened(0.05, cache_mib=cache_mib)
        list(itertools.islice(batches.train_batches(data, config, seed=1), 12))

    with pytest.raises(UserError, match=r"config\.data\.damaged=0\.05 allows.*truncated"):
        read()


def test_without_a_share_the_first_damaged_record_stops_the_run():
    with pytest.raises(UserError, match=r"example 3 cannot be read.*truncated"):
        opened(0.0)


def test_a_flipped_byte_in_array_record_is_one_record_left_out(data_dir, tmp_path):
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
    said = []
    damaged = batches.open_data(config, "test", "config.data", said.append)
    (bad,) = np.flatnonzero(damaged.damaged)
    assert any(f"are damaged: {bad};" in line for line in said)
    kept = np.delete(np.arange(len(damaged.damaged)), bad)
    np.testing.assert_array_equal(
        damaged.arrays["image"][kept], np.asarray(whole.arrays["image"])[kept]
    )
    assert sum(batch["mask"].sum() for batch in batches.eval_batches(damaged, 64)) == len(kept)


def workers():
    """Data workers of this process, by /proc."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"spawn_main" in command or b"forkserver" in command:
                found.append(int(child))
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers by /proc")
def test_a_dead_data_worker_is_replaced_and_no_batch_is_lost(data_dir):
    config = schema.defaults().data
    config.update(data_dir=data_dir, batch_size=24, cache_mib=0, workers=1)
    streamed = batches.open_data(config, "train[:100]")
    feed = batches.train_batches(streamed, config, 5)
    found = [next(feed)]
    for pid in workers():
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    found += itertools.islice(feed, 11)
    feed.close()
    config.update(workers=0)
    plain = batches.train_batches(streamed, config, 5)
    for left, right in zip(found, itertools.islice(plain, 12), strict=True):
        np.testing.assert_array_equal(left["image"], right["image"])
        np.testing.assert_array_equal(left["index"], right["index"])
