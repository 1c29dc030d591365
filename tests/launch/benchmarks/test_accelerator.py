import logging
import time
from types import SimpleNamespace

import pytest

from launch.benchmarks import accelerator
from launch.benchmarks.measuring import children, plan, work
from launch.benchmarks.measuring.children import Clock, Ended
from launch.benchmarks.measuring.record import Record
from launch.benchmarks.measuring.work import Failed, Late
from launch.config.errors import CommandExit, UserError
from tests.tools import runs

PASSED = {"passed": True, "steps": 1, "first": 0.0, "largest": 0.0}
GPU = {"platform": "gpu", "kind": "NVIDIA H100 80GB HBM3"}


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(accelerator, "look_for_device", lambda log: GPU)


@pytest.fixture
def do(monkeypatch):
    """Stands in for the work: keeps the names of the pieces, gives results or raises them."""
    asked, answers = [], {}

    def answer(piece, setting, clock):
        asked.append(piece.name)
        found = answers.get(piece.name, PASSED)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(work, "do", answer)
    return SimpleNamespace(asked=asked, answers=answers)


def call(tmp_path, *arguments):
    accelerator.main([f"--workdir={tmp_path}/w", *arguments])


def test_a_machine_without_a_device_is_refused(monkeypatch, tmp_path):
    cpu = {"platform": "cpu", "kind": "cpu"}
    monkeypatch.setattr(accelerator, "look_for_device", lambda log: cpu)
    with pytest.raises(UserError, match=r"no GPU or TPU on this machine.*--dry_run") as refusal:
        call(tmp_path)
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes=-1"], r"--minutes must be a number above 0, got -1"),
        (["--minutes=nan"], r"--minutes must be a number above 0, got nan"),
        (["--pieces=speed"], r"no piece begins with 'speed'"),
        (["--camvid=/nowhere/at/all"], r"--camvid=/nowhere/at/all: no such directory"),
        (["--inception=/nowhere.pth"], r"--inception=/nowhere\.pth: no such file"),
        (["--config.train.steps=3"], r"takes no config"),
    ],
)
def test_mistakes_are_refused_before_anything_starts(gpu, do, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        call(tmp_path, *arguments)
    assert not do.asked


def test_pieces_are_done_once_and_printed_at_every_call(gpu, do, tmp_path, capsys):
    call(tmp_path, "--pieces=correctness/losses-vae,correctness/losses-gan")
    assert do.asked == ["correctness/losses-vae", "correctness/losses-gan"]
    first = capsys.readouterr().out
    assert first.startswith("## 1 x NVIDIA H100 80GB HBM3, segen ")
    call(tmp_path, "--pieces=correctness/losses-vae,correctness/losses-gan")
    assert len(do.asked) == 2
    assert capsys.readouterr().out == first
    call(tmp_path, "--pieces=correctness/losses-vae", "--again")
    assert do.asked[2:] == ["correctness/losses-vae"]


def test_runs_are_never_repeated(gpu, do, tmp_path):
    do.answers["runs/iwae"] = {"parts": 1, "trained_on": [], "training_seconds": 1.0}
    for _ in range(2):
        call(tmp_path, "--pieces=runs/iwae", "--again", f"--data_dir={tmp_path}")
    assert do.asked == ["runs/iwae"]


def test_failures_and_what_is_left(gpu, do, tmp_path, caplog):
    do.answers["correctness/losses-vae"] = PASSED | {"passed": False}
    do.answers["correctness/losses-gan"] = Failed("correctness/losses-gan: exit code 1: bang")
    do.answers["correctness/losses-rnn"] = Late("correctness/losses-rnn was stopped")
    with caplog.at_level(logging.INFO, "segen"), pytest.raises(CommandExit) as ended:
        call(tmp_path, "--pieces=correctness/losses")
    assert ended.value.exit_code == 1
    assert str(ended.value).splitlines() == [
        "correctness/losses-gan: exit code 1: bang",
        "correctness/losses-vae: the check failed, see its row",
    ]
    text = caplog.text
    assert "correctness/losses-rnn: correctness/losses-rnn was stopped" in text
    assert "correctness/losses-edges: skipped: it needs bsds" in text
    assert "bsds: add --bsds=DIR to this command" in text
    assert do.asked[-1] == "correctness/losses-cnn"  # the rest went on


def test_a_piece_begins_only_if_the_time_is_enough(tmp_path, do):
    chosen = plan.choose("correctness/losses-vae,runs/iwae")  # which need 150 and 120 seconds
    setting = work.Setting(tmp_path, "1 x A", "gpu", {"mnist": tmp_path}, False, {})
    record = Record(tmp_path, "1 x A", {})
    clock = Clock(time.monotonic() + 140)
    left, failures = accelerator.perform(chosen, setting, record, clock)
    assert do.asked == ["runs/iwae"]
    assert left == {chosen[0]: "no time left"}
    assert not failures


def test_the_time_that_a_run_still_needs(tmp_path):
    (piece,) = plan.choose("runs/pixelcnn")
    setting = work.Setting(tmp_path, "1 x A", "gpu", {}, False, {})
    lines = lambda: "\n".join(accelerator.remaining({piece: "no time left"}, setting))
    assert "no time left (60,000 steps)" in lines()
    (tmp_path / "runs" / "pixelcnn" / "checkpoints" / "20000").mkdir(parents=True)
    kept = '[{"from": 0, "to": 5000, "seconds": 60}, {"from": 5000, "to": 20000, "seconds": 60}]'
    (tmp_path / "runs" / "pixelcnn.json").write_text(kept)
    assert "(40,000 steps, about 4 min)" in lines()
    (tmp_path / "runs" / "pixelcnn" / "checkpoints" / "60000").mkdir()
    assert "no time left\n" in lines()
    assert accelerator.remaining({}, setting) == ["everything that was asked for is done"]


def test_files_that_a_piece_needs_are_named(gpu, do, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "segen"):
        call(tmp_path, "--pieces=runs/flow_cifar10", f"--cifar10={tmp_path}")
    assert "runs/flow_cifar10: skipped: it needs inception (40 min of training)" in caplog.text
    assert "inception: add --inception=FILE to this command (the weights of pub" in caplog.text
    weights = tmp_path / "net.pth"
    weights.touch()
    do.answers["runs/flow_cifar10"] = {"parts": 1, "trained_on": [], "training_seconds": 1.0}
    call(tmp_path, "--pieces=runs/flow_c", f"--cifar10={tmp_path}", f"--inception={weights}")
    assert do.asked == ["runs/flow_cifar10"]


def test_the_devices_are_looked_at_by_another_process(monkeypatch, tmp_path):
    """The first line of the answer may be one of a library."""
    ended = Ended(0, False, 'hello\n{"platform": "tpu", "kind": "TPU v4"}\n', "")
    monkeypatch.setattr(children, "run", lambda command, clock, log: ended)
    assert accelerator.look_for_device(tmp_path / "x.log")["kind"] == "TPU v4"
    broken = Ended(1, False, "", "RuntimeError: no driver")
    monkeypatch.setattr(children, "run", lambda command, clock, log: broken)
    with pytest.raises(UserError, match=r"cannot open its devices: RuntimeError: no driver"):
        accelerator.look_for_device(tmp_path / "x.log")


def test_a_dry_run_of_one_piece(monkeypatch, tmp_path, data_dir, capsys):
    """The child's command itself, in this process."""

    def run(command, clock, log, environment, **options):
        assert environment["JAX_PLATFORMS"] == "cpu"
        module = command[0].removeprefix("launch.")
        done = runs.call(module, *command[1:], f"--config.data.data_dir={data_dir}")
        return Ended(done.returncode, False, done.stdout, done.stderr)

    monkeypatch.setattr(children, "run", run)
    call(tmp_path, "--dry_run", "--pieces=correctness/losses-vae")
    printed = capsys.readouterr().out
    assert printed.startswith("## DRY RUN, NO RESULTS: 1 x cpu")
    assert "relative difference 0.0e+00 at the first step, at most 0.0e+00 in 4 steps" in printed
    assert list((tmp_path / "w" / "dry_run" / "results").rglob("*.json"))
