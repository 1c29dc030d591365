"""A trained flow teaches a mean flow: from a command line to images."""

import shutil

import jax
import numpy as np
import pytest

from launch import sample, train
from launch.config.errors import UserError
from launch.engine import trained_runs
from launch.inference import parts, teachers

SMALL = [
    "--config.train.steps=20",
    "--config.train.steps_per_dispatch=10",
    "--config.eval.every=20",
    "--config.checkpoint.every=10",
    "--config.model.width=16",
    "--config.model.layers=1",
    "--config.mesh.data=1",
]
RUN = "--config.task.mean_flow.teacher.run="


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "flow"
    train.main(["--config=configs/flow.py", *SMALL, f"--workdir={folder}"])
    return folder


def parameters(workdir, step):
    return jax.device_get(trained_runs.restore(workdir, [], step, None).state.params)


def test_a_mean_flow_of_a_teacher_trains_goes_on_and_makes_images(run, tmp_path):
    own, whole, again = (tmp_path / name for name in ("own", "whole", "again"))
    shutil.copytree(run, own)
    command = ["--config=configs/flow.py:distilled", *SMALL, f"--config.init_from={own}:10"]
    train.main([*command, f"{RUN}{own}:20", f"--workdir={whole}"])
    # Neither run changes the teacher, and a run that goes on has the same one.
    shutil.copytree(whole, again)
    shutil.rmtree(again / "checkpoints" / "20")
    with pytest.raises(UserError, match=r"config.task.mean_flow.teacher.run"):
        train.main([*command, f"{RUN}{own}:10", f"--workdir={again}"])
    train.main([*command, f"{RUN}{own}:20", f"--workdir={again}"])
    jax.tree.map(np.testing.assert_array_equal, parameters(again, 20), parameters(whole, 20))
    jax.tree.map(np.testing.assert_array_equal, parameters(own, 20), parameters(run, 20))

    images = [f"--workdir={whole}", f"--out={tmp_path / 'images.npy'}", "--seeds=0-2"]
    sample.main(images)
    found = np.load(tmp_path / "images.npy")
    assert found.shape == (3, 8, 8, 1)
    assert np.ptp(found) > 0
    shutil.rmtree(own)
    parts.opened.cache_clear()
    with pytest.raises(UserError, match=r"teacher.run=.*own:20: no such directory(.|\n)*=None"):
        sample.main(images)
    sample.main([*images, "--config.task.mean_flow.teacher=None"])
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), found)


def test_what_is_no_teacher_is_refused(run, tmp_path):
    with pytest.raises(UserError, match=r"teacher.run: give a trained flow as DIR:STEP"):
        teachers.teacher("")
    with pytest.raises(UserError, match=rf"teacher.run={run}: give the step too, as {run}:20"):
        teachers.teacher(str(run))
    with pytest.raises(UserError, match=r"teacher.run=.*flow:30: .*has steps.*10, 20"):
        teachers.teacher(f"{run}:30")
    flags = [*SMALL[:4], f"{RUN}{run}:20", f"--workdir={tmp_path / 'student'}"]
    with pytest.raises(UserError, match="teacher: it has classes=0, and this flow classes=10"):
        train.main(["--config=configs/flow.py:distilled", "--config.task.classes=10", *flags])
    assert not (tmp_path / "student" / "checkpoints").exists()
