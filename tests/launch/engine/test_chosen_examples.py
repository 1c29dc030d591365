import numpy as np
import pytest

from launch.data.batches import Data
from launch.data.sources import Split
from launch.engine import chosen_examples
from launch.reporting.figures import Chosen
from tests.launch.engine.small import one_device

X = np.arange(30, dtype=np.float32)


class Records:
    """Examples that are read one by one, with names of files."""

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return {"x": X[index], "damaged": np.bool_(False)}

    def file_of(self, index):
        return f"{index}.png"


def data(streams=False):
    if streams:
        return Data(Split(Records(), len(X), "numbers"), None, {})
    return Data(Split({"x": X}, len(X), "numbers"), {"x": X}, {})


@pytest.mark.parametrize("streams", [False, True])
def test_the_batch_holds_the_chosen_examples(streams):
    table = np.stack([np.cos(X), np.ones(30)], -1)
    chosen, batch = chosen_examples.choose(data(streams), table, "mean_iou", one_device())
    order = np.argsort(np.cos(X))
    assert batch["index"].tolist() == [one.index for one in chosen]
    assert batch["index"][:3].tolist() == order[:3].tolist()
    assert batch.keys() == {"x", "index", "mask"}
    np.testing.assert_array_equal(batch["x"], X[batch["index"]])
    assert batch["mask"].all()


@pytest.mark.parametrize("process", [0, 1])
def test_each_process_has_its_rows_and_the_last_ones_only_fill_up(process, monkeypatch):
    monkeypatch.setattr(chosen_examples.sharding, "process_place", lambda: (process, 2))
    batch = chosen_examples.rows_at(data(), np.array([7, 3, 9]), 4)
    assert batch["index"].tolist() == [[7, 3], [9, 9]][process]
    assert batch["index"].dtype == np.int32
    assert batch["mask"].tolist() == [[True, True], [True, False]][process]
    np.testing.assert_array_equal(batch["x"], X[batch["index"]])


def test_classes_have_the_names_of_the_first_metrics_by_class():
    metrics = {"loss": 1.0, "iou/wall": 0.5, "iou/and/or": 0.1, "recall/x": 1.0}
    assert chosen_examples.class_names(metrics) == ["wall", "and/or"]
    assert chosen_examples.class_names({"loss": 1.0}) == []


def test_examples_are_titled_by_their_files_where_they_have_some():
    assert chosen_examples.titles(data().split)(1200) == "example 1,200"
    assert chosen_examples.titles(data(True).split)(12) == "12.png"


def images(count=3):
    ids = np.zeros((count, 20, 20, 1), np.uint8)
    return {
        "predictions/image": np.full((count, 20, 20, 3), 50, np.uint8),
        "predictions/truth": ids,
        "predictions/prediction": ids + 1,
    }


def draw(*arguments):
    metrics = {"iou/a": 0.1, "iou/b": 0.2}
    return chosen_examples.draw(*arguments, data(), metrics, "step 3, test")


def test_figures_are_drawn_by_the_process_that_writes_them(monkeypatch):
    one = draw(images(), [Chosen(2, "worst", "mean IoU 0.1")])["predictions"]
    all_rows = draw(images(), [])["predictions"]  # the first ones
    assert one.shape[0] == all_rows.shape[0] == 1
    assert one.shape[1] < all_rows.shape[1]
    monkeypatch.setattr(chosen_examples.sharding, "process_place", lambda: (1, 2))
    assert draw(images(), []) == {}
