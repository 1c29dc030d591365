from types import SimpleNamespace

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from launch.exported import golden
from launch.exported.tracing import ExportedFunction


def leaf(dtype, *shape):
    return jax.ShapeDtypeStruct(shape, dtype)


def restored_of(task=(), classes=(), devices=2, sample=None):
    """A run whose compiled functions are numpy; it remembers the batches."""
    compiled = SimpleNamespace(sample=sample, put_batch=lambda batch: batch)
    return SimpleNamespace(
        config=ConfigDict({"task": {"name": "mine:task", **dict(task)}}),
        data=SimpleNamespace(split=SimpleNamespace(classes=classes)),
        experiment=SimpleNamespace(compiled=compiled, mesh=SimpleNamespace(size=devices)),
        state="state",
    )


def function_of(rows, inputs, name="sample"):
    return ExportedFunction(name, {}, rows, inputs, None)


def test_inputs_are_the_first_seeds_and_noise_of_their_dtype():
    inputs = {
        "seeds": leaf(np.int32),
        "labels": leaf(np.int32),
        "image": leaf(np.uint8, 8, 9, 3),
        "depth": leaf(np.float32, 8, 9, 1),
        "count": leaf(np.int32, 99),
    }
    found = golden.examples(restored_of({"classes": 3}), function_of({}, inputs), 40)
    assert found["seeds"].tolist() == list(range(40))
    assert set(found["labels"]) == {0, 1, 2}
    assert (found["image"].min(), found["image"].max()) == (0, 255)
    assert 3.5 < found["depth"].max() < 4.0
    assert found["depth"].min() >= 0.0
    assert 3_900 < found["count"].max() <= 4_000
    for name, each in inputs.items():
        assert (found[name].dtype, found[name].shape) == (each.dtype, (40, *each.shape))


@pytest.mark.parametrize(
    ("task", "classes", "name", "expected"),
    [
        ({"classes": 2}, (), "labels", [0, 1]),
        ({}, ("a", "b", "c"), "labels", [0, 1, 2]),
        ({"classes": 2}, (), "segmentation", [0, 1, 255]),
        ({"classes": 3, "ignore": 1}, (), "segmentation", [0, 1, 2]),
        ({"classes": 2}, (), "image", None),
        ({}, (), "labels", None),
    ],
)
def test_allowed_values_are_the_classes(task, classes, name, expected):
    assert golden.allowed(restored_of(task, classes), name) == expected


def test_the_reference_is_computed_on_all_devices_and_cut():
    batches = []

    def sample(state, batch):
        assert state == "state"
        batches.append(batch)
        return batch["index"][:, None].astype(np.float32) / 255

    rows = {"index": leaf(np.int32), "label": leaf(np.int32), "image": leaf(np.uint8, 2)}
    function = function_of(rows, {"seeds": rows["index"], "image": rows["image"]})
    restored = restored_of(sample=sample)
    inputs = {"seeds": np.array([5, 6, 7]), "image": np.ones((3, 2), np.uint8)}
    found = golden.reference(restored, function, inputs)
    assert found["images"].tolist() == [[5], [6], [7]]
    (batch,) = batches
    assert batch["index"].tolist() == [5, 6, 7, 0]
    assert batch["label"].tolist() == [0] * 4
    assert batch["image"].tolist() == [[1, 1]] * 3 + [[0, 0]]


def test_golden_calls_have_one_row_and_three():
    rows = {"index": leaf(np.int32)}
    restored = restored_of(sample=lambda state, batch: batch["index"].astype(np.float32) / 255)
    found = golden.make(restored, function_of(rows, {"seeds": rows["index"]}))
    assert {name: array.tolist() for name, array in found.items()} == {
        "1/in/seeds": [0],
        "1/out/images": [0],
        "3/in/seeds": [1, 2, 3],
        "3/out/images": [1, 2, 3],
    }
