"""Images by seed in aligned blocks, and their layout."""

import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.config.errors import UserError
from launch.data import cache
from launch.inference import sampling
from tests.launch.scoring import stand_ins


def restored(devices=1, classes=0, label=True, **functions):
    """A run of plain functions."""
    experiment = stand_ins.experiment(devices, **functions)
    experiment.example = {"image": None} | ({"label": None} if label else {})
    task = {"name": "mine"} | ({"classes": classes} if classes else {})
    config = SimpleNamespace(task=SimpleNamespace(get=task.get, **task))
    return SimpleNamespace(config=config, experiment=experiment, state=3)


def recorder(batches):
    """A function that gives its index and a column, and keeps every batch."""

    def function(state, batch):
        batches.append(jax.device_get(batch))
        return np.stack([batch["index"], batch["end"], batch["index"] * state], 1)

    return function


def test_rows_come_in_blocks_aligned_to_the_batch_size():
    batches, seeds = [], [9, 2, 3, 9, 5]
    columns = {"end": np.arange(10, 15, dtype=np.int32)}
    results = sampling.run_by_seed(restored(2), recorder(batches), seeds, columns, 3)
    np.testing.assert_array_equal(
        results, [[9, 10, 27], [2, 11, 6], [3, 12, 9], [9, 13, 27], [5, 14, 15]]
    )
    blocks = [batch["index"].tolist() for batch in batches]  # 3 rows are 4 on two devices
    assert blocks == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [8, 9, 10, 11]]
    assert batches[0]["end"].tolist() == [0, 0, 11, 12]  # rows that nobody asks for are 0
    assert batches[0]["end"].dtype == np.int32


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(1, 8))
def test_blocks_hold_each_seed_once_and_every_place_once(seeds, size):
    blocks = sampling._blocks(np.array(seeds), size)
    assert sorted(place for places in blocks for place in places) == list(range(len(seeds)))
    turns = {}
    keys = []
    for places in blocks:
        (block,) = {seeds[place] // size for place in places}
        turns[block] = turns.get(block, -1) + 1
        keys.append((block, turns[block]))
        for place in places:  # its turn is how often its seed stands before it
            assert seeds[:place].count(seeds[place]) == turns[block]
    assert keys == sorted(keys)


def test_a_million_seeds_are_cut_into_blocks_at_once():
    began = time.process_time()
    seeds = np.arange(1_000_000)[::-1]
    blocks = sampling._blocks(seeds, 64)
    assert time.process_time() - began < 5
    assert len(blocks) == 15_625
    assert sorted(seeds[blocks[-1]]) == list(range(999_936, 1_000_000))


def test_results_lie_where_the_caller_wants_them(tmp_path):
    columns = {"end": np.arange(3, dtype=np.int32)}
    allocate = lambda shape, dtype: cache.create(tmp_path / "a.npy", shape, dtype)
    sampling.run_by_seed(restored(1), recorder([]), [7, 1, 2], columns, 2, allocate)
    expected = [[7, 0, 21], [1, 1, 3], [2, 2, 6]]
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected)


def test_a_long_sampling_says_how_long_the_rest_takes(monkeypatch, capsys):
    clock = iter([100.0, 102.0, 103.0, 104.0, 163.0, 164.0, 165.0])
    monkeypatch.setattr(sampling.time, "perf_counter", lambda: next(clock))
    progress = sampling._Progress(1000)
    for _ in range(6):  # the first block compiles, and does not count
        progress.add(100)
    progress.add(400)
    assert capsys.readouterr().err.splitlines() == [
        "300 of 1,000 images; the rest takes about 00:10",
        "500 of 1,000 images; the rest takes about 01:18",
    ]


def test_samples_have_the_class_that_is_asked_for_or_classes_by_turns():
    run = restored(classes=3, sample=stand_ins.sample)
    seeds = [4, 11, 0]
    by_turns = sampling.sample_images(run, seeds, None, 4)
    label = np.array([1, 2, 0])
    wanted = stand_ins.sample(3, {"index": np.array(seeds), "label": label})
    np.testing.assert_array_equal(by_turns, wanted)
    one = sampling.sample_images(run, [4], 2, 4)
    np.testing.assert_allclose(one - by_turns[:1], 20 / 255, atol=1e-6)
    with pytest.raises(UserError, match=r"mine has no sample\(\)"):
        sampling.sample_images(restored(), seeds, None, 4)


def test_classes_of_label_maps_are_not_those_of_images():
    assert sampling.class_count(restored(classes=3)) == 3
    assert sampling.class_count(restored(classes=3, label=False)) == 0
    assert sampling.class_count(restored()) == 0


@pytest.mark.parametrize(
    ("label", "classes", "labels"),
    [(None, 3, [2, 0, 1]), (None, 0, [0, 0, 0]), (0, 3, [0] * 3), (2, 3, [2] * 3)],
)
def test_labels_of_seeds(label, classes, labels):
    found = sampling.labels_by_seed([5, 9, 4], label, classes)
    assert found.tolist() == labels
    assert found.dtype == np.int32


@pytest.mark.parametrize(
    ("label", "classes", "message"),
    [
        (10, 10, "--class=10: the model has 10 classes, 0 to 9"),
        (-1, 10, "--class=-1: the model has 10 classes, 0 to 9"),
        (0, 0, "--class=0: the model has no classes"),
    ],
)
def test_a_class_that_is_not_there_is_refused(label, classes, message):
    with pytest.raises(UserError, match=message):
        sampling.labels_by_seed([1], label, classes)


def test_images_stand_in_the_column_of_their_label():
    images = np.arange(5.0)[:, None, None, None] + 1
    table = sampling.column_per_class(images, np.array([2, 0, 2, 2, 0]), 3)
    np.testing.assert_array_equal(table[..., 0, 0, 0], [[2, 0, 1], [5, 0, 3], [0, 0, 4]])


def test_pairs_stand_side_by_side():
    pictures = (
        np.full((3, 2, 2, 1), 51, np.uint8) * np.arange(1, 4, dtype=np.uint8)[:, None, None, None]
    )
    images = np.arange(3.0)[:, None, None, None] * np.ones((2, 2, 3))
    table = sampling.side_by_side(pictures, images)
    assert table.shape == (2, 4, 2, 2, 3)
    # Two pairs a row; the last place stays black.
    wanted = [[0.2, 0, 0.4, 1], [0.6, 2, 0, 0]]
    np.testing.assert_allclose(table[..., 1, 1, 2], wanted, rtol=1e-6)
    floats = sampling.side_by_side(pictures / 255, images)
    np.testing.assert_allclose(floats, table, rtol=1e-6)


def test_images_of_another_size_than_the_given_stand_alone():
    images = np.zeros((3, 4, 2, 1))
    assert sampling.side_by_side(np.zeros((3, 2, 2, 1)), images) is images
