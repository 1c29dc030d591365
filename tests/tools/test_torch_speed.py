import json
import sys

import pytest

from launch.config.errors import UserError
from tests.tools import in_turn, torch_speed


class Clock:
    """A child that answers with given seconds and notes when it was asked."""

    def __init__(self, name, seconds, asked):
        self.name, self.answers, self.asked = name, iter(seconds), asked

    def seconds(self):
        self.asked.append(self.name)
        return next(self.answers)


def test_rounds_alternate_which_side_begins_and_medians_are_over_rounds(monkeypatch, capsys):
    asked = []
    ours = Clock("ours", [0.5, 0.1, 0.2], asked)
    theirs = Clock("theirs", [0.8, 9.0, 0.4], asked)
    others = iter([1.0] * 6)
    monkeypatch.setattr(in_turn, "seconds_of_others", lambda children: next(others))
    found = in_turn.measure((ours, theirs), 3)
    assert found == (0.2, 0.8, 0.0)
    assert asked == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "round 2: ours 100.00 ms, theirs 9000.00 ms; other programs used 0.00 cores"


def test_the_figures_of_two_times():
    found = torch_speed.figures("unet", ours=0.2, theirs=0.8, others=0.04, batch=4)
    assert found.pop("machine").strip()
    assert found == {
        "net": "unet",
        "ours_images_per_second": 20.0,
        "torch_images_per_second": 5.0,
        "ratio": 4.0,
        "ours_ms": 200.0,
        "torch_ms": 800.0,
        "others_cores": 0.04,
        "batch": 4,
    }


CHILD = """
from tests.tools import in_turn
in_turn.serve(lambda: print("no answer"), {"parameters": 3, "batch": 2}, 0.0)
"""


def test_a_child_says_what_it_is_and_then_how_long_a_step_takes():
    child = in_turn.Child("ours", [sys.executable, "-c", CHILD], cwd=torch_speed.ROOT)
    assert child.facts == {"parameters": 3, "batch": 2}
    assert [0.0 < child.seconds() < 1.0 for _ in range(2)] == [True, True]
    before = in_turn.seconds_of_others((child,))
    sum(range(3_000_000))
    if sys.platform == "linux":
        assert in_turn.seconds_of_others((child,)) >= before + 0.01
    child.process.kill()
    with pytest.raises(in_turn.ChildDied, match=r"ours ended with exit code -9"):
        child.seconds()


def test_a_round_has_at_least_three_steps_after_the_warm_up(monkeypatch, capsys):
    steps = []
    monkeypatch.setattr(sys, "stdin", ["go\n"])
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # put back afterwards
    in_turn.serve(lambda: steps.append(None), {"batch": 2}, seconds=0.0)
    assert len(steps) == 6
    facts, seconds = map(json.loads, capsys.readouterr().out.splitlines())
    assert facts == {"batch": 2}
    assert seconds >= 0.0


def test_both_sides_are_compared_in_turn(monkeypatch, capsys):
    times = {"ours": 0.2, "PyTorch": 0.8}
    closed = []

    class Fake:
        facts = {"parameters": 3, "batch": 4}

        def __init__(self, name, command, cwd):
            self.name, self.command = name, command
            assert command[2].startswith("tests.tools.torch_")
            assert command[0] == {"ours": sys.executable, "PyTorch": "python9"}[name]

        def seconds(self):
            return times[self.name]

        def close(self):
            closed.append(self.name)

    monkeypatch.setattr(in_turn, "Child", Fake)
    monkeypatch.setattr(in_turn, "seconds_of_others", lambda children: 0.0)
    monkeypatch.setattr(torch_speed, "check_torch", lambda python: None)
    torch_speed.main(["--net=edges", "--torch=python9", "--rounds=2"])
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    assert json.loads(line)["ratio"] == 4.0
    assert "3 parameters of ours, 3 in PyTorch" in printed.err
    assert closed == ["ours", "PyTorch"]


def test_a_side_that_dies_is_named_and_the_other_one_ended(monkeypatch):
    command = [sys.executable, "-c", "raise SystemExit(5)"]
    child = in_turn.Child
    monkeypatch.setattr(in_turn, "Child", lambda name, _, cwd: child(name, command, cwd=cwd))
    with pytest.raises(UserError, match=r"--net=unet: ours ended with exit code 5"):
        torch_speed.compare("unet", sys.executable, rounds=1, seconds=0.0)


def test_nets_of_two_sizes_are_refused():
    ours, theirs = {"parameters": 3, "batch": 2}, {"parameters": 4, "batch": 2}
    with pytest.raises(UserError, match=r"--net=dcgan: the sides differ"):
        torch_speed.check_facts("dcgan", ours, theirs)


@pytest.mark.parametrize(
    ("python", "reason"),
    [("/no/such/python", r"does not run \(No such file"), ("false", r"has no PyTorch")],
)
def test_an_interpreter_without_pytorch_is_refused(python, reason):
    with pytest.raises(UserError, match=reason + r".*--torch=PYTHON"):
        torch_speed.main(["--net=unet", f"--torch={python}"])


def test_numbers_that_cannot_work_are_refused():
    with pytest.raises(UserError, match=r"--rounds must be at least 1"):
        torch_speed.main(["--net=unet", "--rounds=0"])


@pytest.mark.parametrize("net", torch_speed.NETS)
def test_every_config_is_plain_training(net):
    config, example = torch_speed.config_of(net)
    assert config.dtype == "float32"
    assert config.data.augment == []
    assert not config.data.resident
    specs = config.optimizer.values() if net == "dcgan" else [config.optimizer]
    assert [spec.to_dict() for spec in specs] == [torch_speed.ADAM] * (2 if net == "dcgan" else 1)
    data = torch_speed.in_memory(example, 2)
    assert data.arrays["image"].shape == (2, *example["image"][0])
