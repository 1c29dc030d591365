import json
import os
import shutil

import pytest
from ml_collections import ConfigDict

from launch import inspect, train
from launch.config import run_config
from launch.config.errors import CommandExit, UserError
from tests.launch.exported import families


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of 40 steps that keeps two of its saves."""
    config = families.config_of("spots")
    config.update_from_flattened_dict(
        {"train.steps": 40, "eval.every": 20, "checkpoint.every": 10, "log.every": 20}
    )
    folder = tmp_path_factory.mktemp("inspected") / "run"
    train.train(config, folder)
    return folder


def lines(capsys, *arguments):
    inspect.main([*map(str, arguments)])
    return capsys.readouterr().out.splitlines()


def test_a_whole_run(capsys, workdir):
    found = lines(capsys, workdir)
    name = "tests.launch.exported.families"
    assert found[0] == f"{workdir}: {name}:spots on {name}:images; 40 of 40 steps saved"
    steps = [line.split() for line in found[1:3]]
    assert [step[:2] for step in steps] == [["step", "30"], ["step", "40"]]
    assert [step[3:5] for step in steps] == [["MiB", "whole"]] * 2
    assert steps[1][5:] == ["loss", "8"]  # of the evaluation at this step
    assert "versions: as installed now" in found
    metrics = [line.split() for line in found[found.index("metrics:") + 1 : -1]]
    assert ["test", "loss", "8", "->", "8"] in metrics
    assert not any("images_per_second" in line or "data_wait" in line for line in metrics)
    assert found[-1] == f"curves: {workdir / 'figures' / 'curves.png'}"


def test_damage_is_named_and_ends_with_1(capsys, workdir):
    files = (path for path in (workdir / "checkpoints" / "40").rglob("*") if path.is_file())
    file = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    whole = file.read_bytes()
    file.write_bytes(content)
    try:
        with pytest.raises(CommandExit, match=r"damaged: step 40$") as stop:
            lines(capsys, workdir)
    finally:
        file.write_bytes(whole)
    assert stop.value.exit_code == 1
    assert f"the content of {file.relative_to(workdir / 'checkpoints' / '40')} has changed" in (
        capsys.readouterr().out
    )


def test_versions_and_keys_that_differ_are_listed(capsys, workdir, monkeypatch):
    path = workdir / "config.json"
    before = path.read_text()
    config = run_config.read_config(workdir)
    with monkeypatch.context() as older:
        older.setattr(run_config.importlib.metadata, "version", lambda package: "0.1")
        run_config.write(workdir, run_config.to_json(config))
    try:
        found = lines(capsys, workdir, "--config=configs/vae.py", "--config.seed=3")
    finally:
        path.write_text(before)
    assert any(line.startswith("  jax: 0.1 then, ") for line in found)
    assert "  seed: 0 here, 3 there" in found


def test_a_config_that_is_the_same(capsys, workdir):
    record = json.loads((workdir / "config.json").read_text())
    other = inspect.ConfigDict(record["config"])
    assert inspect.differences(workdir, record, other)[-1] == "config: the same"


def test_the_first_and_the_last_value_of_each_metric(tmp_path):
    written = [
        {"step": 1, "split": "train", "loss": 2.0, "data_wait": 0.5, "iou/sky": 0.5},
        {"step": 2, "split": "train", "loss": None},
        {"step": 3, "split": "test", "loss": 7},
        {"step": 4, "split": "train", "loss": 0.123456, "kl": 1e-7},
    ]
    text = "\n".join(map(json.dumps, written))
    (tmp_path / "metrics.jsonl").write_text(text)
    expected = ["metrics:", "  train loss  2 -> 0.1235", "  test loss   7 -> 7"]
    expected.append("  train kl    1e-07 -> 1e-07")
    assert inspect.describe_metrics(tmp_path) == expected
    (tmp_path / "metrics.jsonl").write_text(text + "\n{\n[]\n")
    assert inspect.describe_metrics(tmp_path)[-1].startswith("  2 lines of metrics.jsonl cannot be")
    (tmp_path / "metrics.jsonl").unlink()
    assert inspect.describe_metrics(tmp_path) == ["no metrics yet"]


def test_half_a_line_and_files_that_a_run_leaves_are_listed(capsys, tmp_path, workdir):
    (tmp_path / "config.json").write_text((workdir / "config.json").read_text())
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train", "loss": 2.0}\n{"st')
    (tmp_path / "checkpoints" / "10.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "damaged" / "20").mkdir(parents=True)
    (tmp_path / "nonfinite").mkdir()
    (tmp_path / "nonfinite" / "step-00000007.npz").touch()
    found = "\n".join(lines(capsys, tmp_path))
    assert "none of 40 steps saved" in found
    assert "10.orbax-checkpoint-tmp: an interrupted save" in found
    assert "damaged/20: set aside" in found
    assert "nonfinite/step-00000007.npz: a batch whose loss was not finite" in found
    assert "  1 line of metrics.jsonl cannot be read" in found


def test_nothing_is_saved_yet(tmp_path):
    assert inspect.describe_steps(tmp_path) == ([], ["  nothing is saved yet"])


def test_a_folder_that_is_not_a_run_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match=r"is not a run: it has no config\.json"):
        inspect.main([str(tmp_path)])


def test_lines_of_metrics_that_have_changed_are_damage(capsys, workdir):
    path = workdir / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"20", b"21", 1))
    try:
        with pytest.raises(CommandExit, match=r"damaged: metrics\.jsonl$"):
            lines(capsys, workdir)
    finally:
        path.write_bytes(whole)
    assert "has changed since it was written" in capsys.readouterr().out
    assert inspect.find_metrics_damage(workdir) is None
    assert inspect.find_metrics_damage(workdir / "none") is None


def test_a_step_that_is_being_removed_is_not_damaged(workdir, tmp_path, monkeypatch):
    shutil.copytree(workdir / "checkpoints", tmp_path / "checkpoints")
    find_damage = inspect.state_files.find_damage

    def race(step):
        if step.name == "30":
            shutil.rmtree(step)
        return find_damage(step)

    monkeypatch.setattr(inspect.state_files, "find_damage", race)
    damaged, found = inspect.describe_steps(tmp_path)
    assert damaged == []
    assert found[0] == "  step        30  removed just now by the run, which trains"
    assert "whole" in found[1]


def test_pipes_in_a_run_are_not_opened(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "run")
    os.mkfifo(tmp_path / "run" / "checkpoints" / "40" / "pipe")
    with pytest.raises(UserError, match=r"checkpoints/40/pipe is not a regular file"):
        inspect.main([str(tmp_path / "run")])


def test_the_step_that_commands_take_is_marked(capsys, workdir):
    found = lines(capsys, workdir)
    taken = "commands take step 40: the newest (config.checkpoint.best is not set)"
    assert found[found.index(taken) - 1].startswith("  step        40")
    assert "commands take step 30 with --step=30: as asked for" in lines(
        capsys, workdir, "--step=30"
    )
    with pytest.raises(UserError, match=r"--step=7: .* has steps \[30, 40\]"):
        lines(capsys, workdir, "--step=7")


def test_flags_of_a_config_need_a_config(workdir):
    with pytest.raises(UserError, match=r"--config\.seed=3: give --config too"):
        inspect.main([str(workdir), "--config.seed=3"])


def test_a_config_without_the_name_of_a_task_is_shown(tmp_path):
    run_config.write(tmp_path, run_config.to_json(ConfigDict({"task": {}})))
    assert inspect.about(tmp_path)[0].endswith(": None on digits; none of 1,000 steps saved")
