import json
import math
import sys

import google_crc32c
import numpy as np
import pytest
from PIL import Image

from launch.reporting import sinks
from launch.reporting.sinks import FigureSink, JsonlSink, TensorBoardSink, TerminalSink

TRAIN = {"loss": 0.25, "images_per_second": 80.0, "data_wait": 0.125}


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lines_after_the_resumed_step_are_dropped(tmp_path):
    sink = JsonlSink(tmp_path / "run", 0)
    for step in (1, 2, 3):
        sink.write(step, "train", {"loss": float(step)})
    sink.flush()
    sink.close()
    with (tmp_path / "run" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 4, "spl')  # what a killed process leaves
    sink = JsonlSink(tmp_path / "run", 2)
    sink.write(3, "train", {"loss": 30.0})
    sink.close()
    found = [(line["step"], line["loss"]) for line in lines(tmp_path / "run")]
    assert found == [(1, 1), (2, 2), (3, 30)]
    content = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    checksum = f"{google_crc32c.value(content):08x}"
    assert sink.facts() == {"metrics": {"bytes": len(content), "crc32c": checksum}}


def test_numbers_that_json_cannot_hold_become_null(tmp_path):
    sink = JsonlSink(tmp_path, 0)
    sink.write(5, "test", {"loss": math.nan, "fid": math.inf, "kl": 1.5})
    assert lines(tmp_path) == [{"step": 5, "split": "test", "loss": None, "fid": None, "kl": 1.5}]
    sink.close()


class Board:
    """Takes the place of tensorboardX's writer."""

    def __init__(self, folder, **options):
        self.folder, self.options, self.calls = folder, options, []

    def add_scalar(self, *call):
        self.calls.append(call)

    def add_image(self, name, picture, step, dataformats):
        self.calls.append((name, picture.shape, step, dataformats))

    def close(self):
        self.calls.append("close")


def test_tensorboard_takes_numbers_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "SummaryWriter", Board)
    sink = TensorBoardSink(tmp_path, 7)
    sink.write(8, "test", {"loss": math.nan, "kl": 1.5})
    sink.write_image(8, "samples", np.zeros((4, 5, 3), np.uint8))
    sink.close()
    board = sink._board
    assert (board.folder, board.options["purge_step"]) == (str(tmp_path / "tensorboard"), 8)
    assert board.calls == [("test/kl", 1.5, 8), ("samples", (4, 5, 3), 8, "HWC"), "close"]


def test_figures_are_written_under_their_name_and_step(tmp_path):
    sink = FigureSink(tmp_path)
    for step in (10, 20, 30):
        sink.write_image(step, "samples", np.full((60, 60, 3), step, np.uint8))
    sink.write(30, "train", TRAIN | {"iou/wall": 0.5})
    sink.write(30, "test", {"iou/wall": 0.5, "iou/ball": 0.25})
    sink.close()
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    pictures = [f"samples-{step:08d}.png" for step in (10, 20, 30)]
    assert names == ["bars-00000030.png", *pictures, "samples.webp"]
    with Image.open(tmp_path / "figures" / "samples.webp") as animation:
        assert animation.n_frames == 3


def test_curves_are_drawn_now_and_then_and_at_the_end(tmp_path, monkeypatch):
    now, drawn = [0.0], []
    monkeypatch.setattr(sinks.time, "perf_counter", lambda: now[0])

    def curves(path, out, best):
        assert (path, out) == (tmp_path / "metrics.jsonl", tmp_path / "figures" / "curves.png")
        assert best == "-mean_iou"
        drawn.append(now[0])
        now[0] += 2.0  # a drawing takes two seconds, so the next is 200 s later at the earliest

    monkeypatch.setattr(sinks.plots, "curves", curves)
    sink = FigureSink(tmp_path, "-mean_iou")
    for seconds in (59.0, 60.0, 261.0, 262.0, 300.0):
        now[0] = seconds
        sink.write(1, "test", {"loss": 1.0})
    assert drawn == [60.0, 262.0]
    sink.close()
    assert drawn == [60.0, 262.0, 300.0]


@pytest.fixture
def clock(monkeypatch):
    now = [50.0]
    monkeypatch.setattr(sinks.time, "perf_counter", lambda: now[0])
    return now


def test_a_plain_line_a_report_has_the_rate_and_the_time_left(capsys, clock):
    sink = TerminalSink(steps=1000, batch_size=8)
    sink.write(100, "train", TRAIN | {"images_per_second": math.nan})
    clock[0] += 10.0
    sink.write(200, "train", TRAIN)
    sink.write(200, "test", {"loss": 0.5, "iou/wall": 0.1})
    sink.close()
    assert capsys.readouterr().err.splitlines() == [
        "step 100/1,000  10%  loss 0.25  data wait 12.5%  ETA --:--",
        "step 200/1,000  20%  10.0 steps/s  loss 0.25  80 images/s  data wait 12.5%  ETA 01:20",
        "step 200: test: loss 0.5",
    ]


def test_the_first_report_estimates_by_its_own_speed(capsys, clock):
    TerminalSink(steps=1000, batch_size=8).write(100, "train", TRAIN)
    assert "10.0 steps/s" in (line := capsys.readouterr().err)
    assert line.endswith("ETA 01:30\n")


@pytest.mark.parametrize(("seconds", "step"), [(0.0, 200), (10.0, 100)])
def test_without_time_or_steps_between_reports_the_speed_is_theirs(capsys, clock, seconds, step):
    sink = TerminalSink(steps=1000, batch_size=8)
    sink.write(100, "train", TRAIN)
    clock[0] += seconds
    sink.write(step, "train", TRAIN)
    left = (1000 - step) // 10
    assert capsys.readouterr().err.endswith(f"ETA {left // 60:02}:{left % 60:02}\n")


def test_what_recovery_reports_is_told_by_its_own_log_line_alone(capsys):
    sink = TerminalSink(steps=1000, batch_size=8)
    sink.write(7, "nonfinite", {"skipped": 1})
    sink.write(8, "collapse", {"rollback_to": 4})
    assert capsys.readouterr().err == ""


def test_a_terminal_has_one_live_line(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    sink = TerminalSink(steps=1000, batch_size=8)
    sink.write(100, "train", TRAIN)
    sink.write(200, "train", TRAIN)
    sink.write(200, "test", {"loss": 0.5})
    sink.close()
    text = capsys.readouterr().err
    assert "step 200/1000  20%" in text
    assert "loss 0.25  80 images/s  data wait 12.5%" in text
    assert "step 200: test: loss 0.5\n" in text
    assert text.count("\n") == 2  # the evaluation's line, and the end


def test_figures_of_a_folder_that_was_removed_make_no_other(tmp_path):
    folder = tmp_path / "run"
    sink = FigureSink(folder)  # which was there, and was renamed since
    sink.write(5, "test", {"iou/wall": 0.5, "iou/sky": 0.25})
    sink.write_image(5, "samples", np.zeros((4, 4, 3), np.uint8))
    sink.close()
    assert not folder.exists()
