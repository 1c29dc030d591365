"""The command `launch.train`: a run's files, its end, its refusals."""

import json

import numpy as np
import pytest
from PIL import Image

from launch import checkpoints
from tests.tools import runs


@pytest.fixture(scope="module")
def short(data_dir):
    """Arguments of a short run on one device."""
    return [*runs.SHORT, f"--config.data.data_dir={data_dir}", "--config.mesh.data=1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, short):
    """The workdir and the outputs of a finished run, started as a user starts one."""
    workdir = tmp_path_factory.mktemp("runs") / "vae"
    done = runs.run("train", *short, f"--workdir={workdir}", "--config.train.steps=200")
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_a_run_leaves_what_it_promises(trained):
    workdir, done = trained
    names = {path.name for path in workdir.iterdir()}
    assert names == {
        *(".lock", "config.json", "metrics.jsonl", "checkpoints", "figures", "tensorboard"),
    }
    content = json.loads((workdir / "config.json").read_text())
    assert content["config"]["train"]["steps"] == 200
    assert content["versions"]["jax"]
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if line["split"] == "train"]
    assert [line["step"] for line in logged] == list(range(20, 201, 20))
    assert {"loss", "kl", "learning_rate", "images_per_second", "data_wait"} <= logged[0].keys()
    assert logged[-1]["loss"] < logged[0]["loss"]
    assert [line["step"] for line in lines if line["split"] == "test"] == [100, 200]
    figures = sorted(path.name for path in (workdir / "figures").iterdir())
    kinds = ("interpolation", "reconstructions", "samples")
    drawn = [f"{name}-{step:08d}.png" for name in kinds for step in (100, 200)]
    assert figures == sorted([*drawn, "curves.png", "samples.webp"])
    for figure in (workdir / "figures").iterdir():
        assert np.asarray(Image.open(figure)).std() > 10
    assert checkpoints.steps(workdir / "checkpoints") == [180, 200]
    assert (workdir / "checkpoints" / "200" / "state").is_dir()
    assert "first step after" in done.stderr
    assert "ETA" in done.stderr
    assert done.stdout == ""


def test_a_finished_run_says_so(trained, short):
    workdir, _ = trained
    again = runs.call("train", *short, f"--workdir={workdir}", "--config.train.steps=200")
    assert again.returncode == 0
    assert "is done: step 200 of 200" in again.stderr


def test_another_config_in_the_same_workdir_is_refused(trained, short):
    workdir, _ = trained
    before = (workdir / "config.json").read_text()
    refused = runs.call("train", *short, f"--workdir={workdir}", "--config.seed=5")
    assert refused.returncode == 2
    assert "seed: 0 -> 5" in refused.stderr
    assert "another --workdir" in refused.stderr
    assert (workdir / "config.json").read_text() == before


def test_evaluate_prints_json(trained):
    workdir, _ = trained
    results = []
    for batch_size in (7, 1000):
        done = runs.call("evaluate", f"--workdir={workdir}", f"--batch_size={batch_size}")
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))
    assert {result.pop("split") for result in results} == {"digits:1.0.0 test"}
    assert results[0]["examples"] == 359
    assert results[0]["nll"] < results[0]["negative_elbo"]
    assert results[0] == pytest.approx(results[1], rel=1e-6)
    other = runs.call("evaluate", f"--workdir={workdir}", "--step=180", "--split=train[:50]")
    found = json.loads(other.stdout)
    assert (found["step"], found["examples"]) == (180, 50)


def test_a_run_of_many_devices_is_evaluated_on_one(short, tmp_path):
    devices = ["--config.mesh.data=2", "--config.mesh.fsdp=4", "--config.train.steps=20"]
    done = runs.call("train", *short, *devices, f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "8 x cpu (data 2, fsdp 4)" in done.stderr
    done = runs.run("evaluate", f"--workdir={tmp_path}")  # whose process has one device
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["examples"] == 359


def test_an_image_depends_on_its_seed_only(trained, tmp_path):
    workdir, _ = trained
    images = {}
    for seeds in ("0-70", "3", "70,3"):
        out = tmp_path / f"{len(images)}.npy"
        done = runs.call("sample", f"--workdir={workdir}", f"--seeds={seeds}", f"--out={out}")
        assert done.returncode == 0, done.stderr
        images[seeds] = np.load(out)
    assert images["0-70"].shape == (71, 8, 8, 1)
    np.testing.assert_array_equal(images["3"][0], images["0-70"][3])
    np.testing.assert_array_equal(images["70,3"], images["0-70"][[70, 3]])
    done = runs.call("sample", f"--workdir={workdir}", f"--out={tmp_path / 'grid.png'}")
    assert np.asarray(Image.open(tmp_path / "grid.png")).shape == (426, 426, 3)


def test_another_run_starts_from_the_parameters_of_this_one(trained, short, tmp_path):
    workdir, _ = trained
    arguments = [*short, f"--workdir={tmp_path / 'next'}", "--config.train.steps=20"]
    done = runs.call("train", *arguments, f"--config.init_from={workdir}:200")
    assert done.returncode == 0, done.stderr
    assert f"parameters from step 200 of {workdir}" in done.stderr
    lines = (tmp_path / "next" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["loss"] < 30  # a fresh run begins above 40


REFUSED = [
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
        ["--config=configs/vae.py", "--config.data.batch_size=90", "--config.mesh.data=9"],
        "needs 9 devices",
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
        "only gs:// is",
    ),
    ("evaluate", ["--workdir=s3://bucket/run"], "only gs:// is"),
    ("evaluate", ["--workdir=nowhere"], "no such directory"),
    ("evaluate", ["--workdir=WORKDIR", "--step=7"], "has steps [180, 200]"),
    ("evaluate", ["--workdir=WORKDIR", "--batch_size=0"], "--batch_size must be at least 1"),
    ("sample", ["--workdir=WORKDIR", "--seeds=9-3"], "'9-3' is not a range of seeds"),
    ("sample", ["--workdir=WORKDIR", "--out=grid.jpg"], "write a .png or a .npy file"),
    ("sample", ["--workdir=WORKDIR", "--class=3"], "the model has no classes"),
    ("prepare", ["no_such_set"], "no_such_set"),
]


@pytest.mark.parametrize(("module", "arguments", "message"), REFUSED)
def test_bad_input_is_one_clear_message_and_exit_code_2(
    module, arguments, message, trained, tmp_path
):
    # One in a process of its own, as a user meets it; the others in this one.
    start = runs.run if (module, arguments, message) == REFUSED[2] else runs.call
    places = {"WORKDIR": str(trained[0]), "EMPTY": str(tmp_path)}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
        message = message.replace(name, place)
    if module == "train":
        arguments = [*arguments, f"--workdir={tmp_path / 'run'}"]
    done = start(module, *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_an_embedded_data_set_is_prepared_once(tmp_path):
    for _ in range(2):
        done = runs.call("prepare", "digits", f"--data_dir={tmp_path}")
        assert done.returncode == 0, done.stderr
        assert f"digits/1.0.0 is prepared in {tmp_path / 'digits' / '1.0.0'}" in done.stderr


def test_train_needs_a_config():
    done = runs.call("train")
    assert done.returncode == 2
    assert "--config" in done.stderr
