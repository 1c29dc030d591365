import json
import time

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from launch.config.errors import Diverged
from launch.reporting import metrics_writer


def finish(sums):
    return {"loss": float(sums["loss"] / sums["count"])}


def make(folder, start=0):
    return metrics_writer.MetricsWriter(folder, finish, 100, 8, start, time.perf_counter())


def record(journal, step, losses):
    losses = jnp.asarray(losses, jnp.float32)
    journal.record(
        step, {"loss": losses, "count": jnp.ones_like(losses)}, {"learning_rate": losses}
    )


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_window_is_the_sum_of_its_steps(tmp_path):
    journal = make(tmp_path)
    for step in range(1, 7):
        record(journal, step, [step])
        if step % 3 == 0:
            journal.close_window()
    journal.flush()
    journal.close()
    assert [(line["step"], line["split"], line["loss"]) for line in lines(tmp_path)] == [
        (3, "train", 2.0),
        (6, "train", 5.0),
    ]
    assert lines(tmp_path)[1]["learning_rate"] == 6.0
    assert lines(tmp_path)[1]["images_per_second"] > 0
    assert 0 <= lines(tmp_path)[1]["data_wait"] <= 1
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_dispatches_of_many_steps_count_each(tmp_path):
    journal = make(tmp_path)
    record(journal, 3, [1, 2, 3])
    record(journal, 6, [4, 5, 6])
    journal.flush()
    assert lines(tmp_path)[0]["loss"] == 3.5
    journal.close()


def test_the_first_step_that_is_not_finite_is_named(tmp_path):
    journal = make(tmp_path)
    record(journal, 4, [1, 2, 3, 4])
    record(journal, 8, [5, 6, np.inf, np.nan])
    with pytest.raises(Diverged, match="not finite at step 7"):
        journal.flush()
    journal.close()


def test_lines_after_the_resumed_step_are_dropped(tmp_path):
    journal = make(tmp_path)
    for step in (1, 2, 3):
        record(journal, step, [step])
        journal.flush()
    journal.close()
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 4, "spl')  # what a killed process leaves
    journal = make(tmp_path, start=2)
    record(journal, 3, [30])
    journal.flush()
    journal.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(1, 1), (2, 2), (3, 30)]


def test_numbers_that_json_cannot_hold_become_null(tmp_path):
    journal = make(tmp_path)
    journal.evaluation(5, "test", {"loss": float("nan"), "kl": 1.5})
    journal.close()
    assert lines(tmp_path) == [{"step": 5, "split": "test", "loss": None, "kl": 1.5}]


def test_waiting_counts_only_while_the_device_is_idle(tmp_path):
    journal = make(tmp_path)
    with journal.waiting_for_data():
        time.sleep(0.05)  # nothing was dispatched yet
    record(journal, 1, [1.0])
    journal.flush()
    assert journal.totals["waited"] == 0
    record(journal, 2, [1.0])
    with journal.waiting_for_data():
        time.sleep(0.05)
    record(journal, 3, [1.0])
    journal.flush()
    assert journal.totals["waited"] >= 0.045
    journal.close()


def test_figures_are_written_under_their_name_and_step(tmp_path):
    journal = make(tmp_path)
    journal.figures(12, {"samples": np.zeros((4, 8, 8, 1), np.uint8)})
    journal.close()
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["samples-00000012.png"]


def test_samples_of_all_steps_are_joined_to_an_animation(tmp_path):
    journal = make(tmp_path)
    for step in (10, 20, 30):
        journal.figures(step, {"samples": np.full((4, 8, 8, 1), step, np.uint8)})
    journal.close()
    with Image.open(tmp_path / "figures" / "samples.webp") as animation:
        assert animation.n_frames == 3


def test_curves_are_drawn_now_and_then_and_at_the_end(tmp_path, monkeypatch):
    drawn = []
    curves = lambda path, out: drawn.append(len(path.read_text().splitlines()))
    monkeypatch.setattr(metrics_writer.charts, "curves", curves)
    journal = make(tmp_path)
    for step in (10, 20, 30):
        journal.evaluation(step, "test", {"loss": 1.0})
    assert drawn == []
    journal._next_chart -= metrics_writer.CHARTED
    journal.evaluation(40, "test", {"loss": 1.0})
    journal.evaluation(50, "test", {"loss": 1.0})
    journal.close()
    assert drawn == [4, 5]
