import errno
import signal
import sys

import pytest

from launch import cli, distributed
from launch.config import loading
from launch.config.errors import Diverged, Interrupted, UserError
from launch.engine import preemption
from launch.storage import atomic


def test_a_second_interruption_and_an_error_of_the_program():
    assert cli.ending(KeyboardInterrupt()) == ("left at once; nothing was saved", 130)
    assert cli.ending(ValueError("ours")) is None
    assert cli.ending(OSError(errno.ENOENT, "none", "file.txt")) is None


def test_overrides_keep_the_types_of_the_config():
    config = loading.load("configs/vae.py")
    config = loading.override(
        config,
        [
            "--config.data.batch_size=64",
            "--config.optimizer.learning_rate=1e-2",
            "--config.model.encoder.widths=(7,8)",
        ],
    )
    assert config.data.batch_size == 64
    assert config.optimizer.learning_rate == 0.01
    assert tuple(config.model.encoder.widths) == (7, 8)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            "--config.data.bach_size=3",
            "unknown key 'data.bach_size'; did you mean 'data.batch_size'",
        ),
        ("--config.train.steps=many", "train.steps"),
        ("--config.train.steps=2.5", "train.steps"),
        ("--config.data.resident=perhaps", "data.resident"),
        ("--config.data.batch_size=-4", "at least 1"),
    ],
)
def test_bad_overrides_are_named(item, message):
    with pytest.raises(UserError, match=message):
        loading.override(loading.load("configs/vae.py"), [item])


def test_a_mistake_in_the_flags_is_one_message(capsys):
    arguments = cli.parser("train", "")
    arguments.add_argument("--seed", type=int)
    with pytest.raises(SystemExit) as error:
        cli.parse(arguments, ["--seed=x"])
    assert error.value.code == 2
    said = "python -m launch.train: argument --seed: invalid int value: 'x'\n"
    assert capsys.readouterr().err == said + "(--help lists the flags)\n"


def test_both_ways_of_writing_an_override_are_one():
    arguments = cli.parser("train", "")
    arguments.add_argument("--workdir")
    argv = ["--config.seed", "3", "--workdir=w", "--config.log.every=5"]
    options, overrides = cli.parse(arguments, argv)
    assert options.workdir == "w"
    assert overrides == ["--config.seed=3", "--config.log.every=5"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("m"), 2),
        (Diverged("d"), 3),
        (Interrupted("i"), 75),
        (OSError(errno.ENOSPC, "full", "file.txt"), 2),
        (OSError(errno.EROFS, "ro"), 2),
        (KeyboardInterrupt(), 130),
        (preemption.Terminated("SIGHUP"), 75),
    ],
)
def test_exit_codes(error, code, monkeypatch, capsys):
    def main(argv):
        raise error

    monkeypatch.setattr(sys, "argv", ["segen"])
    with pytest.raises(SystemExit) as left:
        cli.run(main)
    assert left.value.code == code
    assert "Traceback" not in capsys.readouterr().err


def test_results_that_cannot_be_written_are_an_error(monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        monkeypatch.setattr(sys, "argv", ["segen"])
        with pytest.raises(SystemExit) as left:
            cli.run(lambda argv: print("{}"))
    assert left.value.code == 2
    assert "cannot write the results to stdout: No space left" in capsys.readouterr().err


def test_a_command_that_is_told_to_end_removes_what_is_half_written(monkeypatch, tmp_path, capsys):
    def main(argv):
        with atomic.replacing(tmp_path / "file") as working:
            working.write_text("half")
            signal.raise_signal(signal.SIGHUP)

    monkeypatch.setattr(sys, "argv", ["segen"])
    with pytest.raises(SystemExit) as left:
        cli.run(main)
    assert left.value.code == 75
    assert "SIGHUP: left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_our_own_faults_keep_their_stack_trace(monkeypatch):
    def main(argv):
        raise RuntimeError("ours")

    monkeypatch.setattr(sys, "argv", ["segen"])
    with pytest.raises(RuntimeError):
        cli.run(main)


def test_memory_that_ran_out_says_what_to_lower():
    message, code = cli.ending(MemoryError("9 GiB"))
    assert message.startswith("out of memory (9 GiB). Less is needed with a smaller batch (--batch")
    assert code == 2


class Recorder(distributed.Group):
    """A group that keeps what its processes are to agree on."""

    processes = 2

    def check_same(self, label, facts):
        self.facts = {label: facts}


@pytest.fixture
def joined(monkeypatch):
    """Has commands join a `Recorder`."""
    group = Recorder()
    monkeypatch.setattr(distributed, "start", lambda options: group)
    return group


def test_processes_of_a_command_agree_on_its_options(joined, tmp_path):
    parser = cli.parser("evaluate", "")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--images")
    parser.add_argument("--seeds", type=lambda text: list(range(int(text))))
    parser.add_argument("--out", type=cli.workdir)
    distributed.add_arguments(parser)
    place = ["--coordinator=a:1", "--processes=2", "--process=1", "--wait=4"]
    options = parser.parse_args(
        ["--samples=5", "--images=a*", "--seeds=9000", f"--out={tmp_path}", *place]
    )
    with cli.together(options) as group:
        assert group is joined
    # The host of each may keep its files elsewhere; which process it is differs anyhow.
    (facts,) = group.facts.values()
    assert len(facts.pop("seeds")) == 64  # SHA-256
    assert facts == {"samples": "5", "out": "a path", "distributed": "False", "processes": "2"}


def test_a_command_that_does_not_save_leaves_at_sigterm(joined, monkeypatch):
    """JAX's own handler would keep the signal, for a training that asks for it."""
    options, calls = cli.parser("sample", "").parse_args([]), []
    before = signal.signal(signal.SIGTERM, lambda *_: calls.append("JAX"))
    try:
        with pytest.raises(preemption.Terminated), cli.together(options):
            signal.raise_signal(signal.SIGTERM)
        with cli.together(options, saves=True):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert calls == ["JAX"]
