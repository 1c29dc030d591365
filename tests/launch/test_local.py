"""Real processes on simulated devices: one run, however many hold it, whatever happens to them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from launch import checkpoints, local
from tests.tools import layouts, runs

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes by /proc")

SMALL = "--config=tests/tools/small.py:vae"


def start(folder, *arguments, processes=2, restarts=3):
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "launch.local",
            f"--processes={processes}",
            f"--restarts={restarts}",
            "--",
            SMALL,
            f"--workdir={folder}",
            *arguments,
        ],
        cwd=runs.ROOT,
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def members(folder):
    """Process ids of the run's processes, by their place."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().decode().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
        if f"--workdir={folder}" in command and "launch.train" in command:
            found[int(re.search(r"--process=(\d+)", "\n".join(command))[1])] = int(entry.name)
    return found


def wait_for(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def reached(folder, step):
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return any(f'"step": {number},' in line for line in lines for number in range(step, step + 9))


def test_a_run_moves_between_layouts_and_its_losses_do_not(tmp_path):
    layouts.train(tmp_path / "alone", "vae", "1x1", layouts.STEPS)
    layouts.train(tmp_path / "moved", "vae", "2x2", 9)
    layouts.train(tmp_path / "moved", "vae", "1x4", layouts.STEPS)
    alone, moved = (layouts.losses(tmp_path / name) for name in ("alone", "moved"))
    np.testing.assert_allclose(alone, moved, atol=1e-5)
    # Only the first process writes: every step has one line.
    lines = (tmp_path / "moved" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines if '"train"' in line]
    assert steps == list(range(1, layouts.STEPS + 1))
    assert checkpoints.newest_whole(tmp_path / "moved" / "checkpoints") == layouts.STEPS


def test_kills_and_preemptions_change_nothing(tmp_path):
    """A kill of one process, SIGTERM to one, SIGTERM to the supervisor: all end as one."""
    arguments = [
        "--config.train.steps=1000",
        "--config.checkpoint.every=25",
        "--config.eval.every=1000",
        "--config.log.every=5",
    ]
    straight, hit = tmp_path / "straight", tmp_path / "hit"
    done = start(straight, *arguments)
    _, stderr = done.communicate(timeout=200)
    assert done.returncode == 0, stderr
    supervisor = start(hit, *arguments)
    for step, place, number in ((30, 1, signal.SIGKILL), (200, 1, signal.SIGTERM)):
        wait_for(lambda step=step: reached(hit, step) and len(members(hit)) == 2)
        before = members(hit)
        os.kill(before[place], number)
        began = time.monotonic()
        wait_for(lambda before=before: not set(before.values()) & set(members(hit).values()))
        assert time.monotonic() - began < 15
    wait_for(lambda: reached(hit, 400) and len(members(hit)) == 2)
    supervisor.terminate()
    _, stderr = supervisor.communicate(timeout=15)
    assert supervisor.returncode == 75, stderr
    assert not members(hit)
    assert stderr.count("all 2 processes start again") == 2
    assert stderr.count("ended with code 75") == 1
    # Each of the two stops saved one step, which both processes tell.
    told = re.findall(r"saved step (\d+); the same command goes on from there", stderr)
    assert len(set(told)) == 2
    assert checkpoints.steps(hit / "checkpoints")[-1] == int(told[-1])
    again = start(hit, *arguments)
    _, stderr = again.communicate(timeout=200)
    assert again.returncode == 0, stderr
    assert runs.state_hash(straight, 1000) == runs.state_hash(hit, 1000)


def pair(folders, extra=((), ()), wait=60):
    """Two processes started by hand; their exit codes and messages."""
    port = local._free_port()
    started = []
    for number, (folder, more) in enumerate(zip(folders, extra, strict=True)):
        place = [f"--coordinator=127.0.0.1:{port}", "--processes=2", f"--process={number}"]
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
        arguments = [SMALL, f"--workdir={folder}", *place, f"--wait={wait}", *more]
        started.append(runs.start("train", *arguments, env=environment))
    outputs = [process.communicate(timeout=100) for process in started]
    return [process.returncode for process in started], [text for _, text in outputs]


def test_a_process_that_cannot_open_its_data_ends_all(tmp_path):
    shared = [tmp_path / "a"] * 2
    (tmp_path / "file").touch()
    codes, (first, _) = pair(shared, ((), (f"--config.data.data_dir={tmp_path}/file/x",)))
    assert codes == [2, 2]
    assert re.search(r"process 1 of 2 .*: cannot write", first), first


def test_a_process_that_never_comes_is_named(tmp_path):
    place = [f"--coordinator=127.0.0.1:{local._free_port()}", "--processes=2", "--process=0"]
    done = runs.run("train", SMALL, f"--workdir={tmp_path / 'run'}", *place, "--wait=4")
    assert done.returncode == 76, done.stderr
    assert "process 1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes=2"], "behind --"),
        (["--processes=0", "--", SMALL], "at least 1"),
        (["--processes=2", "--devices=1", "--", "--config=nowhere.py"], "no such file"),
    ],
)
def test_mistakes(arguments, message):
    done = runs.run("local", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([0, 0], 0),
        ([75, 75], 75),
        ([-9, -9], -9),
        ([-9, 2], 2),
        ([-6, -9], -6),
        ([0, -9], -9),
        ([3, 75], 3),
    ],
)
def test_the_code_that_says_what_happened(codes, code):
    assert local.worst(codes) == code
