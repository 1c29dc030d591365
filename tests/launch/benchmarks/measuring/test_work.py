"""The pieces, with functions in place of child processes."""

import json
import time

import pytest

from launch.benchmarks.measuring import children, plan, work
from launch.benchmarks.measuring.children import Clock, Ended
from launch.benchmarks.measuring.work import Failed, Late


def one(name):
    return plan.choose(name)[0]


class Children:
    """Answers commands, in their order; keeps what was asked."""

    def __init__(self, monkeypatch, *answers):
        self.asked, self._answers = [], list(answers)
        monkeypatch.setattr(children, "run", self._run)

    def _run(self, command, clock, log, environment, stop_early=None):
        self.asked.append((command, environment, stop_early, clock.left()))
        answer = self._answers.pop(0)
        return answer() if callable(answer) else answer


def printed(value, code=0, stopped=False):
    return Ended(code, stopped, value if isinstance(value, str) else json.dumps(value), "last line")


def setting(folder, **values):
    standard = work.Setting(folder, "1 x A", "gpu", {}, False, {"XLA_FLAGS": "--f=1"})
    return standard._replace(**values)


def soon(seconds=10_000.0):
    return Clock(time.monotonic() + seconds)


def steps(*losses, sha256="a"):
    return printed({"losses": losses, "sha256": sha256})


@pytest.mark.parametrize(
    ("losses", "passed", "first", "largest"),
    [
        ((40.0, 20.0), True, 0.0, 0.0),
        ((40.003, 20.1), True, 7.5e-5, 0.005),
        ((40.005, 20.0), False, 1.25e-4, 1.25e-4),
        ((40.0, 20.3), False, 0.0, 0.015),
        ((40.0, float("nan")), False, 0.0, float("nan")),
    ],
)
def test_losses_are_compared_with_those_of_the_cpu(
    monkeypatch, tmp_path, losses, passed, first, largest
):
    asked = Children(monkeypatch, steps(*losses), steps(40.0, 20.0)).asked
    found = work.do(one("correctness/losses-vae"), setting(tmp_path), soon())
    assert found["passed"] is passed
    assert found["first"] == pytest.approx(first)
    assert found["largest"] == pytest.approx(largest, nan_ok=True)
    (ours, here, _, _), (theirs, there, _, left) = asked
    assert ours == theirs
    assert {"--config=configs/vae.py", "--config.mesh.data=1", "--steps=20"} <= set(ours)
    assert here == {"XLA_FLAGS": "--f=1", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    assert there == here | {"JAX_PLATFORMS": "cpu"}
    assert left <= work.LONGEST


def test_small_losses_are_compared_absolutely(monkeypatch, tmp_path):
    Children(monkeypatch, steps(0.00105), steps(0.001))
    assert work.do(one("correctness/losses-vae"), setting(tmp_path), soon())["passed"]


def test_an_audit_passes_fails_or_breaks(monkeypatch, tmp_path):
    piece = one("correctness/audit-rnn")
    table = "pass  causality  8 x 8  Jacobian 0\nn/a   units  8 x 8  none\n"
    Children(monkeypatch, printed(table))
    found = work.do(piece, setting(tmp_path), soon())
    assert found == {"passed": True, "counts": {"n/a": 1, "pass": 1}, "failures": []}
    Children(monkeypatch, printed(f"{table}FAIL  step  8 x 8  differs", code=1))
    found = work.do(piece, setting(tmp_path), soon())
    assert found["failures"] == ["step  8 x 8  differs"]
    assert not found["passed"]
    Children(monkeypatch, printed("", code=1))
    with pytest.raises(Failed, match=r"audit-rnn: exit code 1: last line"):
        work.do(piece, setting(tmp_path), soon())


@pytest.mark.parametrize(("second", "passed"), [("a", True), ("b", False)])
def test_two_runs_are_compiled_anew_and_end_with_the_same_bits(
    monkeypatch, tmp_path, second, passed
):
    asked = Children(monkeypatch, steps(sha256="a"), steps(sha256=second)).asked
    found = work.do(one("correctness/repeat-vae"), setting(tmp_path), soon())
    assert found == {"steps": 50, "passed": passed}
    assert all(one[1]["JAX_ENABLE_COMPILATION_CACHE"] == "false" for one in asked)


def test_flags_of_a_piece_come_after_the_users(monkeypatch, tmp_path):
    asked = Children(monkeypatch, printed({})).asked
    work.do(one("throughput/unet-any-order"), setting(tmp_path), soon())
    assert asked[0][1] == {"XLA_FLAGS": "--f=1 --xla_gpu_deterministic_ops=false"}


def test_throughput_is_that_of_the_bench(monkeypatch, tmp_path):
    asked = Children(monkeypatch, printed({"loop_to_bare": 0.9})).asked
    piece = one("throughput/pixelcnn")
    given = setting(tmp_path, data={"mnist": tmp_path / "tfds"})
    assert work.do(piece, given, soon()) == {"loop_to_bare": 0.9}
    assert asked[0][0][:2] == ["launch.bench", "--config=configs/rnn.py:gpu_pixelcnn"]
    assert f"--config.data.data_dir={tmp_path}/tfds" in asked[0][0]


@pytest.mark.parametrize(
    ("answer", "error"), [(printed("", 2), Failed), (printed("", -15, stopped=True), Late)]
)
def test_a_command_that_fails_or_is_stopped(monkeypatch, tmp_path, answer, error):
    Children(monkeypatch, answer)
    with pytest.raises(error, match=r"throughput/vae"):
        work.do(one("throughput/vae"), setting(tmp_path), soon())


RUN = "runs/pixelcnn"


def saves(folder, step, answer):
    """A training that has saved a step."""

    def act():
        (folder / "runs" / "pixelcnn" / "checkpoints" / str(step)).mkdir(parents=True)
        return answer

    return act


def test_a_training_goes_on_in_parts_and_is_scored(monkeypatch, tmp_path):
    stopped, done = printed("", 75, stopped=True), printed("")
    part = lambda step, answer: saves(tmp_path, step, answer)
    score = printed({"step": 60_000, "nll": 81.0, "card": {"x": 1}})
    answers = part(20_000, stopped), part(41_000, stopped), part(60_000, done), score
    asked = Children(monkeypatch, *answers).asked
    given = setting(tmp_path, data={"mnist": tmp_path})
    found = work.do(one(RUN), given, soon())
    assert found.pop("training_seconds") >= 0
    expected = {"step": 60_000, "nll": 81.0, "parts": 3, "trained_on": ["1 x A"]}
    assert found == expected
    assert [one[0][0] for one in asked] == ["launch.train"] * 3 + ["launch.evaluate"]
    run = f"--workdir={tmp_path}/runs/pixelcnn"
    assert asked[0][0] == asked[2][0]
    assert run in asked[0][0]
    assert run in asked[3][0]
    parts = json.loads((tmp_path / "runs" / "pixelcnn.json").read_text())
    assert [(part["from"], part["to"]) for part in parts] == [
        (0, 20_000),
        (20_000, 41_000),
        (41_000, 60_000),
    ]


def test_another_call_and_another_card_go_on(monkeypatch, tmp_path):
    given = setting(tmp_path, data={"mnist": tmp_path})
    clock = soon()

    def first():
        saves(tmp_path, 100, None)()
        monkeypatch.setattr(Clock, "left", lambda self: 100.0)
        return printed("", 75, stopped=True)

    with monkeypatch.context() as patch:
        Children(patch, first)
        with pytest.raises(Late, match=r"stands at step 100 of 60,000"):
            work.do(one(RUN), given, clock)
    monkeypatch.undo()
    Children(monkeypatch, saves(tmp_path, 60_000, printed("")), printed({"nll": 81.0}))
    found = work.do(one(RUN), given._replace(card="1 x B"), soon())
    assert found["trained_on"] == ["1 x A", "1 x B"]
    assert found["parts"] == 2


@pytest.mark.parametrize("answer", [printed("", 3), printed("", 0)])
def test_a_training_that_fails_or_ends_too_early(monkeypatch, tmp_path, answer):
    Children(monkeypatch, answer)
    with pytest.raises(Failed, match=r"runs/pixelcnn: exit code [03]: last line"):
        work.do(one(RUN), setting(tmp_path), soon())


def test_a_trained_run_is_scored_in_a_later_call(monkeypatch, tmp_path):
    saves(tmp_path, 60_000, None)()
    with pytest.raises(Late, match=r"is trained; its score is not computed yet"):
        work.do(one(RUN), setting(tmp_path), soon(30.0))
    Children(monkeypatch, printed("", 1, stopped=True))
    with pytest.raises(Late):
        work.do(one(RUN), setting(tmp_path), soon())


def test_the_first_part_of_a_dry_run_stops_once_it_trains(monkeypatch, tmp_path):
    given = setting(tmp_path, dry=True)
    answers = (
        saves(tmp_path, 1, printed("", 75, stopped=True)),
        saves(tmp_path, 40, printed("")),
        printed({"nll": 1.0}),
    )
    asked = Children(monkeypatch, *answers).asked
    work.do(one(RUN), given, soon())
    assert "--config.data.name=digits" in asked[0][0]
    trains, second = asked[0][2], asked[1][2]
    assert second is None
    assert not trains()
    (tmp_path / "runs" / "pixelcnn" / "metrics.jsonl").write_text("{}\n")
    assert trains()


def test_the_places_of_the_score(monkeypatch, tmp_path):
    piece, given = one("runs/edges"), setting(tmp_path, data={"bsds": tmp_path / "b"})
    (tmp_path / "runs" / "edges" / "checkpoints" / "40000").mkdir(parents=True)
    asked = Children(monkeypatch, printed({"ODS": 0.7})).asked
    work.do(piece, given, soon())
    expected = [f"--data={tmp_path}/b", f"--workdir={tmp_path}/runs/edges"]
    assert asked[0][0] == ["launch.benchmarks.bsds", *expected]


CIFAR = "runs/flow_cifar10"


def cifar(folder):
    return setting(folder, data={"cifar10": folder / "tfds", "inception": folder / "net.pth"})


def test_a_run_may_end_by_the_clock_and_have_several_scores(monkeypatch, tmp_path):
    """40 minutes are four parts of nine and the rest."""
    now, given = [0.0], cifar(tmp_path)
    monkeypatch.setattr(work.time, "monotonic", lambda: now[0])

    def part(step):
        def act():
            now[0] += min(asked[-1][3], work.LONGEST)
            (tmp_path / "runs" / "flow_cifar10" / "checkpoints" / str(step)).mkdir(parents=True)
            return printed("", 75, stopped=True)

        return act

    scores = printed({"step": 500, "fid": 5.0}), printed({"nll_bits_per_dim": 3.1, "card": 1})
    answers = [part(step) for step in range(100, 600, 100)]
    asked = Children(monkeypatch, *answers, *scores).asked
    found = work.do(one(CIFAR), given, Clock(100_000.0))
    assert [round(left) for *_, left in asked[:5]] == [540, 540, 540, 540, 240]
    assert found.pop("training_seconds") == 2400
    assert found["parts"] == 5
    assert (found["step"], found["fid"], found["nll_bits_per_dim"]) == (500, 5.0, 3.1)
    first, second = (command for command, *_ in asked[5:])
    assert f"--inception={tmp_path}/net.pth" in first
    assert {"--split=train", "--samples=50000"} < set(first)
    assert "--config.task.likelihood.name=jaxgen.flows:density" in second
    assert first[:2] == second[:2]
    assert f"--config.data.data_dir={tmp_path}/tfds" in asked[0][0]


def test_a_score_that_is_there_is_not_computed_again(monkeypatch, tmp_path):
    piece, given = one(CIFAR), cifar(tmp_path)
    (tmp_path / "runs" / "flow_cifar10" / "checkpoints" / "100000").mkdir(parents=True)
    Children(monkeypatch, printed({"fid": 5.0}), printed("", -15, stopped=True))
    with pytest.raises(Late):
        work.do(piece, given, soon())
    asked = Children(monkeypatch, printed({"nll_bits_per_dim": 3.1})).asked
    found = work.do(piece, given, soon())
    assert (found["fid"], found["nll_bits_per_dim"], len(asked)) == (5.0, 3.1, 1)
    other = given._replace(data=given.data | {"inception": tmp_path / "other.pth"})
    Children(monkeypatch, printed({"fid": 6.0}))
    assert work.do(piece, other, soon())["fid"] == 6.0


def test_what_a_piece_lacks(tmp_path):
    bare = setting(tmp_path)
    assert work.missing(one(CIFAR), bare) == ["cifar10", "inception"]
    assert work.missing(one(CIFAR), cifar(tmp_path)) == []
    assert work.missing(one("runs/edges"), bare._replace(dry=True)) == ["bsds"]
    assert work.missing(one(CIFAR), bare._replace(dry=True)) == []
    assert work.missing(one("throughput/vae"), bare) == []
