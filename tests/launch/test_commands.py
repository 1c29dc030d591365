"""The commands as a person types them."""

import json
import os
import signal
import time

import numpy as np
import pytest
from PIL import Image

from launch import checkpoints
from tests.tools import kill_storm, runs


@pytest.fixture(scope="module")
def data(data_dir):
    return f"--config.data.data_dir={data_dir}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    workdir = tmp_path_factory.mktemp("runs") / "vae"
    done = runs.run("train", *runs.SHORT, data, f"--workdir={workdir}", "--config.train.steps=200")
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_a_run_leaves_what_it_promises(trained):
    workdir, done = trained
    names = {path.name for path in workdir.iterdir()}
    wanted = {".lock", "config.json", "metrics.jsonl", "checkpoints", "figures", "tensorboard"}
    assert names == wanted
    content = json.loads((workdir / "config.json").read_text())
    assert content["config"]["train"]["steps"] == 200
    assert content["versions"]["jax"]
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train"]
    assert [line["step"] for line in train] == list(range(20, 201, 20))
    assert {"loss", "kl", "learning_rate", "images_per_second", "data_wait"} <= train[0].keys()
    assert train[-1]["loss"] < train[0]["loss"]
    assert [line["step"] for line in lines if line["split"] == "test"] == [100, 200]
    figures = sorted(path.name for path in (workdir / "figures").iterdir())
    names = ("interpolation", "reconstructions", "samples")
    drawn = [f"{name}-{step:08d}.png" for name in names for step in (100, 200)]
    assert figures == sorted([*drawn, "curves.png", "samples.webp"])
    for figure in (workdir / "figures").iterdir():
        assert np.asarray(Image.open(figure)).std() > 10
    assert checkpoints.steps(workdir / "checkpoints") == [180, 200]
    assert (workdir / "checkpoints" / "200" / "state").is_dir()
    assert "first step after" in done.stderr
    assert "ETA" in done.stderr
    assert done.stdout == ""


def test_a_finished_run_says_so_and_can_be_given_more_steps(trained, data):
    workdir, _ = trained
    arguments = [*runs.SHORT, data, f"--workdir={workdir}"]
    again = runs.run("train", *arguments, "--config.train.steps=200")
    assert again.returncode == 0
    assert "is done: step 200 of 200" in again.stderr


def test_another_config_in_the_same_workdir_is_refused(trained, data):
    workdir, _ = trained
    before = (workdir / "config.json").read_text()
    arguments = [*runs.SHORT, data, f"--workdir={workdir}", "--config.seed=5"]
    refused = runs.run("train", *arguments)
    assert refused.returncode == 2
    assert "seed: 0 -> 5" in refused.stderr
    assert "another --workdir" in refused.stderr
    assert (workdir / "config.json").read_text() == before


def test_evaluate_prints_json(trained):
    workdir, _ = trained
    results = []
    for batch_size in (7, 1000):
        done = runs.run("evaluate", f"--workdir={workdir}", f"--batch_size={batch_size}")
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))
    assert {result.pop("split") for result in results} == {"digits:1.0.0 test"}
    assert results[0]["examples"] == 359
    assert results[0]["nll"] < results[0]["negative_elbo"]
    assert results[0] == pytest.approx(results[1], rel=1e-6)
    other = runs.run("evaluate", f"--workdir={workdir}", "--step=180", "--split=train[:50]")
    found = json.loads(other.stdout)
    assert (found["step"], found["examples"]) == (180, 50)


def test_a_run_of_many_devices_is_evaluated_on_one(data, tmp_path):
    devices = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    arguments = [*runs.SHORT, data, "--config.train.steps=20", "--config.mesh.fsdp=4"]
    process = runs.start("train", *arguments, f"--workdir={tmp_path}", env=devices)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "8 x cpu (data 2, fsdp 4)" in stderr
    done = runs.run("evaluate", f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["examples"] == 359


def test_an_image_depends_on_its_seed_only(trained, tmp_path):
    workdir, _ = trained
    images = {}
    for seeds in ("0-70", "3", "70,3"):
        out = tmp_path / f"{len(images)}.npy"
        done = runs.run("sample", f"--workdir={workdir}", f"--seeds={seeds}", f"--out={out}")
        assert done.returncode == 0, done.stderr
        images[seeds] = np.load(out)
    assert images["0-70"].shape == (71, 8, 8, 1)
    np.testing.assert_array_equal(images["3"][0], images["0-70"][3])
    np.testing.assert_array_equal(images["70,3"], images["0-70"][[70, 3]])
    done = runs.run("sample", f"--workdir={workdir}", f"--out={tmp_path / 'grid.png'}")
    assert np.asarray(Image.open(tmp_path / "grid.png")).shape == (426, 426, 3)


def test_another_run_starts_from_the_parameters_of_this_one(trained, data, tmp_path):
    workdir, _ = trained
    arguments = [*runs.SHORT, data, f"--workdir={tmp_path / 'next'}", "--config.train.steps=20"]
    done = runs.run("train", *arguments, f"--config.init_from={workdir}:200")
    assert done.returncode == 0, done.stderr
    assert f"parameters from step 200 of {workdir}" in done.stderr
    lines = (tmp_path / "next" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["loss"] < 30  # a fresh run begins above 40


def test_kill_9_anywhere_changes_nothing(tmp_path):
    count = kill_storm.storm(3, tmp_path)
    assert count["kills"] == 3
    assert count["identical_state"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path, data, number):
    arguments = [*runs.SHORT, data, "--config.train.steps=100000"]
    process = runs.start("train", *arguments, f"--workdir={tmp_path}")
    deadline = time.monotonic() + 60
    while not checkpoints.steps(tmp_path / "checkpoints") and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 75, stderr
    assert f"{number.name}: saved step" in stderr
    reached = checkpoints.newest_whole(tmp_path / "checkpoints")
    process = runs.start("train", *arguments, f"--workdir={tmp_path}")
    for line in process.stderr:
        if line.startswith("going on from step"):
            assert f"step {reached:,} of" in line
            break
    process.kill()
    process.communicate()


def test_bench_reports_every_figure(data):
    arguments = [*runs.SHORT, data, "--seconds=0.2", "--loop_seconds=0.5"]
    done = runs.run("bench", *arguments, "--config.train.steps=200")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["loop_to_bare"] == pytest.approx(
        found["loop_steps_per_second"] / found["bare_steps_per_second"]
    )
    for name in (
        "compile_seconds",
        "data_wait",
        "cached_input_images_per_second",
        "resident_1_steps_per_second",
        "resident_10_steps_per_second",
        "resident_100_steps_per_second",
        "peak_memory_mib",
        "gflop_per_step",
    ):
        assert found[name] >= 0, name


def test_prepare_says_what_is_missing(data_dir, trained):
    done = runs.run("prepare", "digits", f"--data_dir={data_dir}")
    assert done.returncode == 0
    assert "is prepared in" in done.stderr


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("train", ["--config=nowhere.py"], "no such file: nowhere.py"),
        ("train", ["--config=configs/vae.py:nosuch"], "no variant 'nosuch'"),
        (
            "train",
            ["--config=configs/vae.py", "--config.data.bach_size=3"],
            "unknown key 'data.bach_size'; did you mean 'data.batch_size'?",
        ),
        ("train", ["--config=configs/vae.py", "--config.train.steps=many"], "train.steps"),
        ("train", ["--config=configs/vae.py", "--nonsense"], "unrecognized arguments: --nonsense"),
        (
            "train",
            ["--config=configs/vae.py", "--config.data.batch_size=100", "--config.mesh.data=3"],
            "needs 3 devices",
        ),
        (
            "train",
            ["--config=configs/vae.py:mnist", "--config.data.data_dir=EMPTY"],
            "python -m launch.prepare mnist --data_dir=EMPTY",
        ),
        ("train", ["--config=configs/vae.py", "--config.data.split=train[:0]"], "is empty"),
        ("train", ["--config=configs/vae.py", "--config.data.name=no_such_set"], "no_such_set"),
        (
            "train",
            ["--config=configs/vae.py", "--config.data.data_dir=s3://bucket/data"],
            "only gs:// is known here; mount",
        ),
        ("evaluate", ["--workdir=s3://bucket/run"], "only gs:// is known here; mount"),
        ("evaluate", ["--workdir=nowhere"], "no such directory"),
        ("evaluate", ["--workdir=WORKDIR", "--step=7"], "has steps [180, 200]"),
        ("evaluate", ["--workdir=WORKDIR", "--batch_size=0"], "--batch_size must be at least 1"),
        ("sample", ["--workdir=WORKDIR", "--seeds=9-3"], "'9-3' is not a range of seeds"),
        ("sample", ["--workdir=WORKDIR", "--out=grid.jpg"], "write a .png or a .npy file"),
        ("sample", ["--workdir=WORKDIR", "--class=3"], "the model has no classes"),
        ("prepare", ["no_such_set"], "no_such_set"),
    ],
)
def test_a_mistake_is_one_clear_message_and_exit_code_2(
    module, arguments, message, trained, tmp_path
):
    places = {"WORKDIR": str(trained[0]), "EMPTY": str(tmp_path)}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
        message = message.replace(name, place)
    if module == "train":
        arguments = [*arguments, f"--workdir={tmp_path / 'run'}"]
    done = runs.run(module, *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()
