"""Real processes on simulated devices; and the supervisor, with shell scripts as processes."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from launch import checkpoints, evaluate, local, sample, train
from launch.config import loading
from launch.config.errors import PeerLost, UserError
from launch.distributed import child_process
from launch.reporting import metrics_file
from tests.tools import layouts, runs

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes by /proc")

SMALL = "--config=tests/tools/small.py:vae"
STEPS = 300
TRAIN = ["train", SMALL]


def members(folder):
    """{number of a process: its process id} of a run."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().decode().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
        if f"--workdir={folder}" in command and "launch.train" in command:
            found[int(re.search(r"--process=(\d+)", "\n".join(command))[1])] = int(entry.name)
    return found


def wait_for(condition, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.02)


def reached(folder, step):
    lines = metrics_file.read(folder / "metrics.jsonl").lines
    return any(line["step"] >= step for line in lines)


def straight(folder, data, steps):
    """The same run in this process, on some of its devices."""
    config = loading.load("tests/tools/small.py:vae")
    config.train.steps, config.mesh.data = steps, data
    train.train(config, folder)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of one process with one device."""
    folder = tmp_path_factory.mktemp("local") / "alone"
    straight(folder, 1, layouts.STEPS)
    return folder


def test_a_run_moves_between_layouts_and_its_losses_do_not(alone, tmp_path):
    """From two processes with two devices each to one process with four."""
    arguments = [SMALL, "--config.train.steps=9", f"--workdir={tmp_path / 'moved'}"]
    done = runs.run("local", "--processes=2", "--devices=2", "--restarts=0", "--", *arguments)
    assert done.returncode == 0, done.stderr
    straight(tmp_path / "moved", 4, layouts.STEPS)
    before, moved = (layouts.losses(folder) for folder in (alone, tmp_path / "moved"))
    np.testing.assert_allclose(before, moved, atol=1e-5)
    # Only process 0 writes: every step has one line.
    losses = metrics_file.read(tmp_path / "moved" / "metrics.jsonl").series("loss", "train")
    assert [step for step, _ in losses] == list(range(1, layouts.STEPS + 1))
    assert checkpoints.newest_whole(tmp_path / "moved" / "checkpoints") == layouts.STEPS


# Two commands in one process: it can join others only once.
IN_TURN = """
import contextlib, json, sys
from launch import cli, distributed, evaluate, sample

def main(argv):
    parser = cli.parser("local", "")
    distributed.add_arguments(parser)
    with cli.together(parser.parse_args(argv[:-1])) as group:
        cli.together = lambda options: contextlib.nullcontext(group)
        for command, arguments in json.loads(argv[-1]).items():
            {"evaluate": evaluate, "sample": sample}[command].main(arguments)

cli.run(main)
"""


def in_turn(commands):
    """Runs {command: arguments} on two processes with two devices; what process 0 prints."""
    started, port = [], local._free_port()
    for number in range(2):
        place = [f"--coordinator=127.0.0.1:{port}", "--processes=2", f"--process={number}"]
        command = [sys.executable, "-c", IN_TURN, *place, json.dumps(commands)]
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(
            subprocess.Popen(command, cwd=runs.ROOT, env=environment, text=True, **pipes)
        )
    outputs = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    lines = [[line for line in text.splitlines() if "[Gloo]" not in line] for text, _ in outputs]
    assert lines[1] == []
    return "\n".join(lines[0])


def test_scores_and_samples_of_two_processes_are_those_of_one(alone, tmp_path, capsys):
    """Process 0 alone prints and writes them."""
    features = "--config.score.features.name=launch.scoring.features:random"
    kinds = ["--samples=60", "--completions", "--reals=100", "--neighbours=4"]
    scores = [f"--workdir={alone}", *kinds, features, "--config.score.features.size=16"]
    samples = [f"--workdir={alone}", "--seeds=0-8,70,3", "--batch_size=8"]

    def files():
        """What evaluate has written into the run, taken away."""
        names = ("scores/samples+completions-00000020.json", "figures/neighbours-00000020.png")
        found = [(alone / name).read_bytes() for name in names]
        for name in names:
            (alone / name).unlink()
        return json.loads(found[0]), found[1]

    evaluate.main([*scores, "--config.mesh.data=1"])
    one = json.loads(capsys.readouterr().out)
    sample.main([*samples, f"--out={tmp_path / '1.npy'}", "--config.mesh.data=1"])
    written, figure = files()
    samples.append(f"--out={tmp_path / '2.npy'}")
    two = json.loads(in_turn({"evaluate": scores, "sample": samples}))
    assert two.pop("card") == one.pop("card")
    assert two.pop("split") == one.pop("split")
    assert two == pytest.approx(one, rel=1e-5)
    written_too, figure_too = files()
    assert written_too.keys() == written.keys()
    assert figure_too == figure
    images = [np.load(tmp_path / f"{number}.npy") for number in (1, 2)]
    assert images[0].shape == (11, 8, 8, 1)
    np.testing.assert_allclose(*images, atol=1e-6)


def hit_one(workdir, step, number):
    """Sends a signal to process 1 after a step; all processes must end within 15 seconds."""
    wait_for(lambda: reached(workdir, step) and len(members(workdir)) == 2)
    before = members(workdir)
    os.kill(before[1], number)
    began = time.monotonic()
    wait_for(lambda: not set(before.values()) & set(members(workdir).values()))
    assert time.monotonic() - began < 15


def test_kills_and_preemptions_change_nothing(tmp_path):
    """A kill of one process, then SIGTERM to one: all end together, and start again."""
    arguments = [
        SMALL,
        f"--config.train.steps={STEPS}",
        "--config.checkpoint.every=25",
        f"--config.eval.every={STEPS}",
        "--config.log.every=5",
    ]
    never_hit, hit = ([*arguments, f"--workdir={tmp_path / name}"] for name in ("a", "b"))
    workdir = tmp_path / "b"
    done = runs.run("local", "--processes=2", "--", *never_hit)
    assert done.returncode == 0, done.stderr
    with runs.start("local", "--processes=2", "--", *hit) as supervisor:
        try:
            for step, number in ((30, signal.SIGKILL), (120, signal.SIGTERM)):
                hit_one(workdir, step, number)
            _, stderr = supervisor.communicate(timeout=200)
        finally:
            supervisor.kill()
    assert supervisor.returncode == 0, stderr
    assert not members(workdir)
    assert stderr.count("all 2 processes start again") == 2
    assert stderr.count("ended with code 75") == 1
    # Both processes save the same step.
    saved = re.findall(r"saved step (\d+); the same command goes on from there", stderr)
    assert len(set(saved)) == 1
    assert f"going on from step {saved[0]} of" in stderr
    assert runs.state_hash(tmp_path / "a", STEPS) == runs.state_hash(workdir, STEPS)


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
    with pytest.raises(PeerLost, match="did not come: process 1 of 2"):
        train.main([SMALL, f"--workdir={tmp_path / 'run'}", *place, "--wait=0.5"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes=2"], "launch.train after --"),
        (["evaluate"], "launch.evaluate after --: -- --workdir=runs/x"),
        (["--processes=0", "--", SMALL], "--processes must be at least 1, got 0"),
        (["--devices=0", "--", SMALL], "--devices must be at least 1, got 0"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(UserError, match=message):
        local.main(arguments)


def test_the_command_ends_with_the_code_of_its_processes(monkeypatch):
    calls = []
    monkeypatch.setattr(local, "supervise", lambda *given: calls.append(given) or 3)
    for arguments in (["--processes=4", "--devices=2", "--restarts=1"], []):
        with pytest.raises(SystemExit) as ended:
            local.main([*arguments, "--", "--config=a.py", "--processes=9"])
        assert ended.value.code == 3
    training = ["train", "--config=a.py", "--processes=9"]
    assert calls == [(training, 4, 2, 1), (training, 2, 1, 3)]
    with pytest.raises(SystemExit):
        local.main(["--devices=2", "evaluate", "--", "--workdir=a"])
    assert calls[2:] == [(["evaluate", "--workdir=a"], 2, 2, 3)]
    with pytest.raises(SystemExit):
        local.main(["bench", "--", "--workdir=a"])
    assert calls[3:] == []


def test_the_command_of_a_process(monkeypatch):
    monkeypatch.setattr(local.subprocess, "Popen", lambda command, **given: (command, given))
    command, options = local._start(["sample", "--seeds=1"], 1, 3, 4, 99)
    place = ["--coordinator=127.0.0.1:99", "--processes=3", "--process=1"]
    assert command[1:] == ["-m", "launch.sample", "--seeds=1", "--distributed", *place]
    assert options["env"]["JAX_PLATFORMS"] == "cpu"
    assert options["env"]["JAX_NUM_CPU_DEVICES"] == "4"
    assert options["start_new_session"]  # Ctrl-C reaches only the supervisor
    assert options["preexec_fn"] is child_process.die_with_parent


@pytest.fixture
def scripts(monkeypatch):
    """Has the supervisor start shell scripts; what a test puts into the list, in turn."""
    left, signals = [], {number: signal.getsignal(number) for number in (15, 2)}

    def start(command, number, processes, devices, port):
        shell = ["sh", "-c", left.pop(0)]
        pipe = subprocess.PIPE
        return subprocess.Popen(shell, stdout=pipe, stderr=pipe, text=True)

    monkeypatch.setattr(local, "_start", start)
    yield left
    for number, handler in signals.items():
        signal.signal(number, handler)


def test_what_processes_print_is_passed_on(scripts, capfd):
    scripts.extend(["echo one; echo three >&2", "echo '[Gloo] Rank 0 is connected'; echo two >&2"])
    assert local.supervise(TRAIN, 2, 1, 3) == 0
    streams = capfd.readouterr()
    assert streams.out == "one\n"
    assert sorted(streams.err.splitlines()) == ["[1] two", "three"]


@pytest.mark.parametrize("code", [0, 2, 3, 4, 130])
def test_a_final_code_ends_the_supervisor(scripts, code):
    scripts.extend([f"exit {code}", "exit 0"])
    assert local.supervise(TRAIN, 1, 1, 3) == code
    assert len(scripts) == 1


def test_a_failed_audit_is_final(scripts):
    scripts.extend(["exit 1", "exit 0"])
    assert local.supervise(["audit", "--config=a.py"], 1, 1, 3) == 1
    assert scripts == ["exit 0"]


def test_other_failures_are_started_again_until_there_are_too_many(scripts, capfd):
    scripts.extend(["exit 1", "exit 75", "kill -9 $$", "exit 76", "exit 0"])
    assert local.supervise(TRAIN, 1, 1, 2) == 76
    assert scripts == ["exit 0"]
    assert "giving up after 3 failures in a row" in capfd.readouterr().err


def test_a_start_that_lasts_forgets_earlier_failures(scripts, monkeypatch):
    monkeypatch.setattr(local, "SUCCESS", 0.3)
    scripts.extend(["exit 1", "sleep 0.5; exit 1", "exit 1", "exit 0"])
    assert local.supervise(TRAIN, 1, 1, 1) == 1
    assert scripts == ["exit 0"]


def test_a_process_that_fails_ends_the_others(scripts, monkeypatch):
    monkeypatch.setattr(local, "GRACE", 0.3)
    scripts.extend(["exec sleep 60", "exit 3"])
    began = time.monotonic()
    assert local.supervise(TRAIN, 2, 1, 3) == 3
    assert 0.3 < time.monotonic() - began < 10


def test_a_killed_process_ends_the_others_at_once(scripts):
    scripts.extend(["exec sleep 60", "kill -9 $$"])
    began = time.monotonic()
    assert local.supervise(TRAIN, 2, 1, 0) == -9
    assert time.monotonic() - began < local.GRACE - 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_process_zero_to_save_and_ends_the_supervisor(scripts, number):
    saves = "trap 'exit 75' TERM; while :; do sleep 0.05; done"
    scripts.extend([saves, "sleep 0.6; exit 75", "exit 0"])
    timer = threading.Timer(0.3, os.kill, (os.getpid(), number))
    timer.start()
    assert local.supervise(TRAIN, 2, 1, 3) == 75
    assert scripts == ["exit 0"]
    timer.join()


def test_the_times_are_those_of_the_help():
    """--restarts: counted anew once a start lasts a minute."""
    assert (local.SUCCESS, local.GRACE) == (60.0, 8.0)


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
        ([75, 3], 3),
        ([1, 76], 1),
    ],
)
def test_the_code_that_explains_the_end(codes, code):
    assert local.exit_code(codes) == code
