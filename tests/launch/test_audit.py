"""The command passes a correct model, and exits with 1 where a check fails."""

import jax
import jax.numpy as jnp
import pytest

from launch import audit, train
from launch.audits.checks import FAIL, NONE, PASS, Finding
from launch.config import loading
from launch.config.errors import CommandExit, UserError
from tests.launch.audits import toy
from tests.launch.distributed.test_processes import everyone, groups


def test_a_correct_model_passes_every_check():
    findings = audit.audit(toy.factory(levels=256))
    assert {one.outcome for one in findings} == {"pass"}, audit.table(findings)
    assert list(toy.outcomes(findings)) == [
        *("causality", "units", "sample by seed", "evaluation", "step", "sum to one", "sampler")
    ]
    details = {one.check: one.detail for one in findings}
    assert "sees all 66 earlier ones" in details["causality"]
    assert details["sum to one"].startswith("65,536 images of 1 x 2 in 256")
    assert "over 12 dimensions" in details["units"]
    assert "all parameters zero: 8.0000" in details["units"]


def test_a_run_is_audited_with_its_own_parameters_too(tmp_path, capsys):
    """Its images are as small as the grid, it has classes, and its samples show means."""
    small = toy.config(classes=3, means=True)
    small.data.kwargs = {"shape": (3, 3, 1)}
    train.train(small, tmp_path / "run")
    capsys.readouterr()
    audit.main([f"--workdir={tmp_path / 'run'}"])
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert all(line.startswith("pass") for line in lines), captured.out
    assert sum("sum to one" in line and " trained, 3 x 3 x 1" in line for line in lines) == 1
    assert sum("sum to one" in line and "untrained, 3 x 3 x 1" in line for line in lines) == 1
    assert sum("(of 2 classes)" in line for line in lines) == 2
    assert captured.err.endswith("9 pass\n")


def test_a_failed_check_is_exit_code_1_after_the_table(monkeypatch, capsys):
    findings = [
        Finding("causality", "untrained, 4 x 3 x 1", NONE, "none"),
        Finding("units", "trained, 1 x 1 x 1", FAIL, "7 nats = 2 bits/dim"),
        Finding("step", "here", PASS, "same"),
        Finding("sampler", "here", PASS, "p 0.5"),
    ]
    monkeypatch.setattr(loading, "load", lambda spec: toy.config())
    monkeypatch.setattr(audit, "audit", lambda factory, group: findings)
    with pytest.raises(
        CommandExit, match=r"autoregressive failed: 2 pass, 1 FAIL, 1 n/a"
    ) as caught:
        audit.main(["--config=mine.py"])
    assert caught.value.exit_code == 1
    assert capsys.readouterr().out.splitlines() == [
        "n/a   causality  untrained, 4 x 3 x 1  none",
        "FAIL  units      trained, 1 x 1 x 1    7 nats = 2 bits/dim",
        "pass  step       here                  same",
        "pass  sampler    here                  p 0.5",
    ]


def test_products_are_in_full_float32(monkeypatch):
    """Accelerators round them to fewer bits, which a check would take for a fault of the model."""
    programs = []

    def step(own):
        program = jax.jit(lambda x: x @ x).lower(jnp.ones((2, 2)))
        programs.append(program.as_text())
        return Finding("step", own.title, PASS, "")

    monkeypatch.setattr(audit, "CHECKS", (step,))
    audit.audit(toy.factory(levels=2))
    assert "precision = [HIGHEST, HIGHEST]" in programs[0]


def test_several_processes_share_the_checks_out(monkeypatch, capsys):
    """Each check is done once; all have the findings that one process has."""
    alone, done = audit.audit(toy.factory(levels=2)), []

    def counted(check):
        return lambda *given: done.append(check) or check(*given)

    monkeypatch.setattr(audit, "CHECKS", tuple(map(counted, audit.CHECKS)))
    monkeypatch.setattr(audit, "total_probability", counted(audit.total_probability))
    factory = toy.factory(levels=2)
    together = everyone(groups(2), lambda group: audit.audit(factory, group))
    assert together == [alone, alone]
    assert len(done) == 4
    capsys.readouterr()
    for group in groups(2):
        audit._report(alone, "toy", group)
    assert capsys.readouterr().out == f"{audit.table(alone)}\n"


@pytest.mark.parametrize("arguments", [[], ["--config=a.py", "--workdir=b"]])
def test_one_thing_at_a_time_is_audited(arguments):
    with pytest.raises(UserError, match="give either --config or --workdir"):
        audit.main(arguments)


def test_a_task_that_generates_nothing_is_refused():
    with pytest.raises(UserError, match=r"silent is no generative task"):
        audit.audit(toy.factory(name="silent"))


@pytest.mark.parametrize(
    ("shape", "smallest", "checked"),
    [
        ((32, 32, 1), 1, (32, 32, 1)),
        ((33, 32, 1), 1, (8, 8, 1)),
        ((33, 32, 1), 65, (16, 16, 1)),
        ((33, 32, 1), 257, None),
    ],
)
def test_causality_of_a_large_image_is_checked_at_a_smaller_size(
    shape, smallest, checked, monkeypatch
):
    monkeypatch.setattr(audit.checks, "causality", lambda model: model.shape)
    monkeypatch.setattr(audit.ModelFactory, "at", at := small_model(shape, smallest))
    found = audit._causality(audit.ModelFactory(None, None), at(None))
    if checked:
        assert found == checked
    else:
        why = "too large, and the net takes no 16 x 16 x 1: small"
        assert found == Finding("causality", "own", NONE, why)


def small_model(own, smallest):
    """`ModelFactory.at` of a net that refuses images of fewer values than `smallest`."""

    def at(self, shape=None, untrained=False):
        height, width, channels = shape or own
        if height * width * channels < smallest:
            raise ValueError("small")
        task = toy.Task(*[None] * 5, conditionals=True)
        return audit.AuditedModel(task, None, {"image": Shaped(shape or own)}, 1, "own")

    return at


class Shaped:
    def __init__(self, shape):
        self.shape = shape
