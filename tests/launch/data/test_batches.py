import itertools
import json
import time

import numpy as np
import pytest

from launch.config import schema
from launch.config.errors import UserError
from launch.data import batches


def data_config(data_dir, **changes):
    config = schema.defaults().data
    config.update(data_dir=data_dir, batch_size=24, **changes)
    return config


def first(iterator, count=3):
    return list(itertools.islice(iterator, count))


def same(left, right):
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
            assert a[key].dtype == b[key].dtype


def reserved(split):
    return {"image": np.zeros((4, 2, 2, 1), np.uint8), "index": np.arange(4)}


def test_resident_indices_are_those_of_the_batches(data_dir):
    config = data_config(data_dir)
    data = batches.open_data(config, "train")
    whole = first(batches.train_batches(data, config, 7, 10), 6)
    indices = first(batches.index_batches(data, config, 7, 10, 3), 2)
    found = np.concatenate([feed["index"] for feed in indices])
    np.testing.assert_array_equal(found, [batch["index"] for batch in whole])


def test_a_feed_starts_at_any_step(data_dir):
    config = data_config(data_dir)
    data = batches.open_data(config, "train")
    (batch,) = first(batches.train_batches(data, config, 3, 7), 1)
    same([next(batches.feed(data, config, 3, 7))], [batch])
    config.resident = True
    indices = next(batches.feed(data, config, 3, 7, 2))["index"]
    assert indices.shape == (2, 24)
    assert indices[0].tolist() == batch["index"].tolist()


def test_a_feed_begins_with_single_steps(data_dir):
    config = data_config(data_dir)
    data = batches.open_data(config, "train")
    same([next(batches.train_batches(data, config, 3))], first(batches.feed(data, config, 3, 0), 1))
    config.resident = True
    assert next(batches.feed(data, config, 3, 0))["index"].shape == (1, 24)


@pytest.mark.parametrize(("size", "count"), [(48, 2), (49, 3), (23, 1)])
def test_an_evaluation_has_no_more_batches_than_needed(data_dir, size, count):
    data = batches.open_data(data_config(data_dir), f"test[:{size}]")
    masks = [batch["mask"] for batch in batches.eval_batches(data, 24)]
    assert (len(masks), np.sum(masks)) == (count, size)


def test_a_record_keeps_how_files_were_read():
    facts = {"example": {"image": ["uint8", 4, 5, 3]}, "classes": ["a"], "reading": {"scale": 2}}
    data = batches.recorded(facts)
    assert (data.reading, data.split.classes) == ({"scale": 2}, ("a",))
    assert data.example["image"].shape == (4, 5, 3)
    assert batches.facts(data)["reading"] == {"scale": 2}
    assert batches.Data(data.split, None, {}).reading == {}


def test_hosts_together_see_the_batches_of_one(data_dir):
    config = data_config(data_dir)
    data = batches.open_data(config, "train")
    whole = first(batches.train_batches(data, config, 7, 4))
    parts = [first(batches.train_batches(data, config, 7, 4, host, 3)) for host in range(3)]
    for step, batch in enumerate(whole):
        joined = {k: np.concatenate([parts[host][step][k] for host in range(3)]) for k in batch}
        same([joined], [batch])
    indices = [
        first(batches.index_batches(data, config, 7, 4, 2, h, 3))[0]["index"] for h in range(3)
    ]
    np.testing.assert_array_equal(np.concatenate(indices, 1), [b["index"] for b in whole[:2]])


def test_a_batch_is_what_its_spec_says(data_dir):
    config = data_config(data_dir)
    data = batches.open_data(config, "train")
    (batch,) = first(batches.train_batches(data, config, 0), 1)
    spec = batches.batch_spec(data.example, 24)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        k: (v.shape, v.dtype) for k, v in spec.items()
    }


def test_a_single_batch_is_that_of_its_step(data_dir):
    config = data_config(data_dir)
    data = batches.open_data(config, "train")
    (batch,) = first(batches.train_batches(data, config, 3, 7), 1)
    one = batches.batch_at(data, config, 3, 7)
    assert one.pop("index").tolist() == batch["index"].tolist()
    np.testing.assert_array_equal(one["image"], batch["image"])
    streamed = batches.open_data(data_config(data_dir, cache_mib=0), "train")
    np.testing.assert_array_equal(batches.batch_at(streamed, config, 3, 7)["image"], batch["image"])


def test_a_record_of_the_data_is_enough_to_know_an_example(data_dir):
    data = batches.open_data(data_config(data_dir), "train")
    facts = json.loads(json.dumps(batches.facts(data)))
    recorded = batches.recorded(facts)
    assert recorded.example == data.example
    assert (recorded.reading, recorded.split.size) == ({}, 0)
    with pytest.raises(UserError, match="says nothing of the data"):
        batches.recorded({})


def test_keys_that_the_engine_adds_are_refused(data_dir):
    config = data_config(data_dir, name="tests.launch.data.test_batches:reserved")
    with pytest.raises(UserError, match=r"the engine adds \['index'\]"):
        batches.open_data(config, "train")


@pytest.mark.parametrize("resident", [False, True])
def test_mnist_is_gathered_fast(mnist_dir, resident):
    """Half of the 300,000 images/s that we promise, as the machine may be busy."""
    config = data_config(mnist_dir, name="mnist")
    config.batch_size = 128
    data = batches.open_data(config, "test")
    feed = (
        batches.index_batches(data, config, 0, 0, 1)
        if resident
        else batches.train_batches(data, config, 0)
    )
    next(feed)
    began = time.perf_counter()
    first(feed, 500)
    assert 500 * 128 / (time.perf_counter() - began) > 150_000


@pytest.mark.parametrize("rows", [4, 5])
def test_fewer_examples_than_a_batch_are_said(tmp_path, rows, caplog):
    config = schema.defaults().data
    config.update(name="tests.launch.data.test_batches:few", batch_size=rows)
    batches.open_splits(config, "test", tmp_path)
    said = "few train: 4 examples are fewer than config.data.batch_size=5"
    assert (said in caplog.text) == (rows == 5)


def few(split):
    return {"image": np.zeros(({"train": 4, "test": 1}[split], 2, 2, 1), np.uint8)}


def masks_of(void, last):
    """Three masks that are void but for one pixel of the last one."""
    masks = np.full((3, 2, 2, 1), void, np.uint8)
    masks[2, 1, 1] = last
    return {"image": np.zeros((3, 2, 2, 3), np.uint8), "segmentation": masks}


def masks(split, void=255):
    return masks_of(void, void if split == "nothing" else 1)


def streamed_masks(split):
    arrays = masks(split)
    return [{key: array[row] for key, array in arrays.items()} for row in range(3)]


@pytest.mark.parametrize("name", ["masks", "streamed_masks"])
def test_masks_of_void_alone_are_refused(tmp_path, name):
    config = data_config("", name=f"{__name__}:{name}", split="train", cache_mib=0)
    assert len(batches.open_splits(config, "train", tmp_path)) == 2
    message = r"nothing: every pixel of all 3 masks is void \(id 255\)\. Check the masks"
    with pytest.raises(UserError, match=message):
        batches.open_splits(config, "nothing", tmp_path)
    config.split = "nothing"
    with pytest.raises(UserError, match=message):
        batches.open_splits(config, "train", tmp_path)
    assert (
        len(batches.open_splits(config, "train", tmp_path, {"ignore": 254})) == 2
    )  # 255 is a class there


def test_the_id_of_void_is_the_tasks(tmp_path):
    config = data_config("", name=f"{__name__}:masks", split="train", kwargs={"void": 0})
    assert len(batches.open_splits(config, "train", tmp_path, {"ignore": 0})) == 2
    with pytest.raises(UserError, match=r"void \(id 0\)"):
        batches.open_splits(config, "nothing", tmp_path, {"ignore": 0})


class Listed(list):
    """Examples that say which files they come from."""

    inventory = {"a.png": "1"}


def listed(split):
    return Listed([{"image": np.zeros((2, 2, 3), np.uint8)}] * 3)


@pytest.mark.parametrize("process", [0, 1])
def test_one_process_keeps_which_files_there_are(tmp_path, monkeypatch, process):
    monkeypatch.setattr(batches.jax, "process_index", lambda: process)
    config = data_config("", name=f"{__name__}:listed", split="train")
    batches.open_splits(config, "test", tmp_path)
    assert (tmp_path / "data.json").is_file() == (process == 0)
    if process == 0:
        kept = json.loads((tmp_path / "data.json").read_text())
        assert kept == {"train": {"a.png": "1"}, "test": {"a.png": "1"}}


@pytest.mark.parametrize(
    "change",
    [
        {"example": "text"},
        {"example": {"image": [2**31, 4]}},
        {"example": {"image": ["uint8", "4"]}},
        {"example": {"image": None}},
        {"classes": 3},
        {"reading": 3},
        {"reading": None},
    ],
)
def test_a_damaged_record_of_the_data_is_named(change):
    facts = {"example": {"image": ["uint8", 4, 5, 3]}, "classes": [], "reading": {}} | change
    with pytest.raises(UserError, match="damaged in what it says of the data"):
        batches.recorded(facts)
