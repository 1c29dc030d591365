import json
import math

import numpy as np
from PIL import Image

from launch.reporting import plots


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def test_curves_have_a_panel_for_each_metric(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [
        {
            "step": step,
            "split": split,
            "loss": 1 / step,
            "iou/wall": 0.5,
            "data_wait": 0.0,
            "miou": None if split == "train" else 0.1 * step,
        }
        for step in (1, 2, 3)
        for split in ("train", "test")
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plots.curves(path, tmp_path / "out" / "curves.png")
    two = pixels(tmp_path / "out" / "curves.png")
    assert two.shape[1] > two.shape[0]  # two panels beside each other
    assert (two < 128).any()


def test_bars_are_drawn_by_class_and_only_then(tmp_path):
    plots.bars({"loss": 1.0}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    few = {"iou/wall": 0.5, "iou/ball": math.nan}
    plots.bars(few | {"loss": 1.0}, tmp_path / "few.png")
    plots.bars(few | {f"iou/{k}": 0.1 for k in range(20)}, tmp_path / "many.png")
    few, many = (pixels(tmp_path / f"{name}.png").shape for name in ("few", "many"))
    assert few[0] < many[0]
    assert not list(tmp_path.glob("*.tmp"))


def test_nothing_is_drawn_of_a_run_that_has_not_begun(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    plots.curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
