"""The command, with shell scripts or stand-ins in place of trainings."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from launch import folds, train
from launch.config import loading, planned, run_config
from launch.config.errors import Interrupted, UserError
from launch.data import batches
from launch.distributed import child_process
from tests.tools import runs

UNET = "--config=configs/unet.py:folder"


@pytest.fixture
def scripts(monkeypatch):
    """What a test puts into the list runs in place of trainings; what they were given."""
    left, given = [], []

    def start(arguments):
        given.append(arguments)
        return subprocess.Popen(["sh", "-c", left.pop(0)])

    monkeypatch.setattr(folds, "_start", start)
    return left, given


def train_folds(workdir, count):
    return folds.train_folds([UNET, "--config.seed=1"], workdir, count, [])


def test_folds_are_trained_one_after_the_other_until_one_fails(scripts, tmp_path):
    left, given = scripts
    left.extend(["exit 0", "exit 3", "exit 0"])
    assert train_folds(tmp_path, 3) == 3
    assert left == ["exit 0"]
    rest = [[f"--config.data.fold={k}/3", f"--workdir={tmp_path}/fold{k}"] for k in (1, 2)]
    assert given == [[UNET, "--config.seed=1", *own] for own in rest]
    left.extend(["exit 0", "kill -9 $$"])
    assert train_folds(tmp_path, 3) == 137
    left.extend(["exit 0", "exit 0"])
    assert train_folds(tmp_path, 2) == 0


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGTERM, "TERM"), (signal.SIGINT, "INT"), (signal.SIGHUP, "HUP")]
)
def test_a_signal_reaches_the_training_and_ends_the_command(scripts, tmp_path, number, name):
    left, given = scripts
    ready = tmp_path / "ready"
    waits = f"touch {ready}; while :; do sleep 0.02; done"
    left.extend([f"trap 'exit 75' {name}; {waits}", "exit 0"])
    before = signal.getsignal(number)

    def send():
        while not ready.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    timer = threading.Thread(target=send)
    timer.start()
    assert train_folds(tmp_path, 2) == 75
    timer.join()
    assert len(given) == 1
    assert signal.getsignal(number) is before


def test_a_signal_that_a_training_survives_ends_the_command_after_it(scripts, tmp_path):
    left, given = scripts
    stops = f"trap '' TERM; kill -TERM {os.getpid()}; sleep 0.3"
    left.extend([stops, "exit 0"])
    with pytest.raises(Interrupted, match=r"SIGTERM: fold 1 of 2 is done; the same command goes"):
        train_folds(tmp_path, 2)
    left.insert(1, stops)
    assert train_folds(tmp_path, 2) == 0  # after the last
    assert len(given) == 3


def test_a_training_has_its_signals_from_the_command_alone(monkeypatch):
    monkeypatch.setattr(folds.subprocess, "Popen", lambda command, **given: (command, given))
    command, options = folds._start(["--config=a.py"])
    assert command == [sys.executable, "-m", "launch.train", "--config=a.py"]
    wanted = {"start_new_session": True, "preexec_fn": child_process.die_with_parent}
    assert options == wanted


def test_all_folds_take_the_plan_of_the_first(scripts, tmp_path):
    flags = ["--config.data.path=d", "--config.data.fold=1/2", "--config.eval.every=20"]
    config = loading.override(loading.load("configs/segment.py"), flags)
    values = {
        "data.kwargs.size": (32, 48),
        "data.kwargs.scale": 1 / 3,
        "data.augment": [{"name": "jaxseg.augment:warp", "crop": (32, 32), "rotate": 10.0}],
        "data.resident": True,
        "task.loss.terms": ({"name": "jaxseg.losses:dice"},),
        "model.stem": 2,
        "model.widths": (8, 16),
    }
    numbers = {key: 20 for key in planned.unset(config) if key not in values}
    filled = planned.filled(config, values | numbers)
    run_config.write(tmp_path, run_config.to_json(filled))
    plan = folds.plan_of(tmp_path, planned.unset(config))
    assert f"--config.data.kwargs.scale={1 / 3!r}" in plan
    second = loading.override(loading.load("configs/segment.py"), [*flags, *plan])
    assert not planned.unset(second)
    assert run_config.differences(filled, second) == []
    assert second.optimizer.learning_rate.decay_steps == 20  # follows train.steps
    (tmp_path / "fold1").mkdir()
    run_config.write(tmp_path / "fold1", run_config.to_json(filled))
    left, given = scripts
    left.extend(["exit 0", "exit 0"])
    folds.train_folds(["--config=configs/segment.py"], tmp_path, 2, planned.unset(config))
    assert not set(given[0]) & set(plan)
    assert given[1][1:-2] == plan


def save(folder, step, metrics):
    place = folder / "checkpoints" / str(step)
    for name, content in (("metrics/metrics", metrics), ("run/metadata", {})):
        (place / name).parent.mkdir(parents=True)
        (place / name).write_text(json.dumps(content))


def test_scores_are_those_of_each_best_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("launch.checkpoints.state_files.find_damage", lambda step: None)
    lines = [(0.5, 2.0, float("nan")), (0.25, 4.0, 1.0), (0.75, 9.0, float("inf"))]
    for part, (iou, loss, rare) in enumerate(lines, 1):
        save(tmp_path / f"fold{part}", 10, {"iou": iou, "loss": loss, "iou/rare": rare})
        save(tmp_path / f"fold{part}", 20, {"iou": iou - 0.125, "loss": 0.0, "iou/rare": 0.0})
    results = folds.collect(tmp_path, 3, "-iou")
    assert [run["step"] for run in results["folds"]] == [10, 10, 10]
    assert [run["fold"] for run in results["folds"]] == ["1/3", "2/3", "3/3"]
    assert results["folds"][0]["metrics"]["iou/rare"] is None
    assert results["metrics"]["iou"] == {"mean": 0.5, "deviation": 0.25, "folds": 3}
    assert results["metrics"]["loss"]["deviation"] == pytest.approx(np.std([2, 4, 9], ddof=1))
    assert results["metrics"]["iou/rare"] == {"mean": 1.0, "deviation": None, "folds": 1}
    assert folds.table(results).splitlines() == [
        "      fold1  fold2  fold3  mean  deviation",
        "step     10     10     10",
        "iou     0.5   0.25   0.75   0.5       0.25",
        "loss      2      4      9     5      3.606",
    ]
    save(tmp_path / "fold4", 10, {})
    with pytest.raises(UserError, match=r"checkpoint 10 of .*fold4 holds no scores"):
        folds.collect(tmp_path, 4, "")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Four images of two classes, and one for test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for number, split in enumerate(("train", "train", "train", "val", "test")):
        mask = np.kron(rng.integers(0, 2, (4, 4)), np.ones((8, 8))).astype(np.uint8)
        for kind, array in (
            ("images", mask[..., None] * np.full(3, 200, np.uint8)),
            ("masks", mask),
        ):
            path = tmp_path / "d" / split / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return tmp_path / "d"


def train_quickly(config, workdir, **rest):
    """Opens the data of a run as a training does, and saves what one would, with made-up scores."""
    sizes = [data.split.size for data in batches.open_splits(config.data, "val", workdir)]
    run_config.write(workdir, run_config.to_json(config))
    save(workdir, 5, dict(zip(("train", "val"), sizes, strict=True)))


def test_the_command_from_end_to_end(root, tmp_path, monkeypatch):
    start = lambda arguments, signals: train.main(arguments)
    monkeypatch.setattr(folds, "train_fold", start)
    monkeypatch.setattr(train, "train", train_quickly)
    monkeypatch.setattr("launch.checkpoints.state_files.find_damage", lambda step: None)
    workdir = tmp_path / "runs"
    flags = [f"--config.data.path={root}", f"--workdir={workdir}", "--config.data.batch_size=1"]
    done = runs.call("folds", "--folds=3", UNET, *flags)
    assert done.returncode == 0, done.stderr
    assert "d: 5 pairs, fold 2 of 3: 2 train, 2 val, 1 test" in done.stderr
    (line,) = done.stdout.splitlines()
    results = json.loads(line)
    assert results == json.loads((workdir / "folds.json").read_text())
    for part, run in enumerate(results["folds"], 1):
        assert run_config.read_config(workdir / f"fold{part}").data.fold == f"{part}/3"
        assert run["workdir"] == str(workdir / f"fold{part}")
    assert [run["metrics"]["val"] for run in results["folds"]] == [1, 2, 1]
    assert results["metrics"]["train"]["mean"] == pytest.approx(8 / 3)
    assert folds.table(results) in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([UNET, "--folds=1"], r"--folds must be 2 to 20, got 1"),
        ([UNET, "--folds=21"], r"--folds must be 2 to 20, got 21"),
        ([UNET, "--config.data.fold=2/5"], r"launch\.folds gives each fold itself; leave it out"),
        (
            [UNET, "--config.eval.split=test"],
            r"config\.eval\.split=test: the part .* leaves out is",
        ),
        ([UNET, "--config.data.split=train+val"], r"config\.data\.split=train\+val: the part"),
        (
            ["--config=configs/vae.py"],
            r"config\.data\.fold='1/5' has no effect: config\.data\.name",
        ),
        ([UNET, "--config.train.stepz=3"], r"unknown key .*did you mean 'train\.steps'"),
    ],
)
def test_mistakes_are_refused_before_a_training_starts(scripts, arguments, message):
    with pytest.raises(UserError, match=message):
        folds.main(arguments)
    assert scripts[1] == []


def test_a_run_is_no_folder_of_runs(scripts, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="is a run; give the folds a --workdir of their own"):
        folds.main([UNET, "--config.data.path=d", f"--workdir={tmp_path}"])
    assert scripts[1] == []


def test_the_command_ends_with_the_code_of_a_fold(scripts, tmp_path):
    scripts[0].append("exit 4")
    with pytest.raises(SystemExit) as ended:
        folds.main([UNET, "--config.data.path=d", f"--workdir={tmp_path}"])
    assert ended.value.code == 4
    assert not (tmp_path / "folds.json").exists()
