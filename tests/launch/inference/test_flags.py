import argparse
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from launch import cli
from launch.config import by_name
from launch.config.errors import UserError
from launch.inference import flags

STEP_BY_STEP = "jaxgen.flows:step_by_step"


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 20)), min_size=1, max_size=4))
def test_seed_ranges(parts):
    text = ",".join(f"{first}-{first + more}" if more else str(first) for first, more in parts)
    expected = [seed for first, more in parts for seed in range(first, first + more + 1)]
    assert flags.seed_range(text) == expected


@pytest.mark.parametrize("text", ["", "a", "3-", "-3", "5-2", "1,,2", "0..4", "1e3", "99999999999"])
def test_what_is_not_a_seed_range(text):
    with pytest.raises(argparse.ArgumentTypeError, match="not a range of seeds"):
        flags.seed_range(text)


def test_the_largest_seed():
    assert flags.seed_range("2147483646-2147483647") == [2**31 - 2, 2**31 - 1]
    with pytest.raises(argparse.ArgumentTypeError, match="not a range of seeds"):
        flags.seed_range("2147483648")


def test_many_seeds_are_read_at_once_and_too_many_are_refused():
    began = time.process_time()
    assert flags.seed_range("0-999999") == list(range(1_000_000))
    assert time.process_time() - began < 1
    assert len(flags.seed_range("5,1-9999999")) == flags.MOST_SEEDS
    for text in ("0-10000000", "5,0-9999999", "0-2147483646"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"more than 10,000,000 seeds"):
            flags.seed_range(text)


def test_steps_by_word_or_number():
    arguments = cli.parser("x", "")
    flags.add_step(arguments.add_argument)
    found = [arguments.parse_args([f"--step={text}"]).step for text in ("best", "newest", "012")]
    assert found == ["best", "newest", 12]
    assert arguments.parse_args([]).step is None
    for text in ("", "-3", "latest", "1.5"):
        with pytest.raises(argparse.ArgumentTypeError, match="write best, newest or a number"):
            flags.step(text)


def flow_with(**sampling):
    return {"name": "jaxgen.flow:flow", "sampling": {"name": STEP_BY_STEP, **sampling}}


def sampling(text, monkeypatch, task=None):
    """What the options in `text` change in a run of a task."""
    task = ConfigDict(task or flow_with(grid={"steps": 9}))
    monkeypatch.setattr(flags.run_config, "read_config", lambda _: ConfigDict({"task": task}))
    arguments = cli.parser("x", "")
    flags.add_sampling(arguments.add_argument)
    options = arguments.parse_args(text.split())
    options.workdir = Path("runs/x")
    return flags.sampling(options)


def test_options_of_samplers_change_the_task(monkeypatch):
    assert sampling("", monkeypatch) == {}
    found = sampling("--sampler=sde --steps=5 --guidance=1.5", monkeypatch)
    named = {"name": "jaxgen.flows:sde"}
    assert found == {
        "sampling.sampler": named,
        "sampling.grid.steps": 5,
        "sampling.guidance": 1.5,
    }
    assert sampling("--weaker=runs/x:9", monkeypatch) == {"sampling.autoguidance": True}
    found = sampling("--interval=0.2,0.8", monkeypatch)
    assert found == {"sampling.interval": (0.2, 0.8)}
    none = dict.fromkeys(("sampler", "steps", "guidance", "interval", "weaker"))
    options = argparse.Namespace(**none, start=0.4, workdir=Path("x"))
    assert flags.sampling(options) == {"sampling.start": 0.4}
    grid = {"name": "jaxgen.flows:even_times", "steps": 4}
    assert sampling("--steps=4", monkeypatch, flow_with(grid=None)) == {"sampling.grid": grid}
    plain = {"name": "jaxgen.flow:flow"}
    assert sampling("--steps=4", monkeypatch, plain) == {
        "sampling": {"name": STEP_BY_STEP, "grid": grid}
    }
    for name in flags.SAMPLERS:
        assert by_name.instantiate({"name": f"jaxgen.flows:{name}"}, "here")


def test_the_few_steps_of_leaps_are_for_no_other_sampler(monkeypatch):
    grid = {"name": "jaxgen.flows:karras_times", "steps": 1, "low": 0.5}
    leaps = flow_with(sampler={"name": "jaxgen.flows:leap"}, grid=grid)
    even = lambda steps: {"name": "jaxgen.flows:even_times", "steps": steps}
    assert sampling("--sampler=heun", monkeypatch, leaps)["sampling.grid"] == even(20)
    found = sampling("--sampler=heun --steps=7", monkeypatch, leaps)
    assert found["sampling.grid"] == even(7)
    assert sampling("--steps=2", monkeypatch, leaps) == {"sampling.grid.steps": 2}


def test_lists_of_numbers():
    assert flags.numbers("1,1.5, 2,1") == [1.0, 1.5, 2.0]
    for text in ("", "1,,2", "1;2", "two"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no list of numbers"):
            flags.numbers(text)


def test_an_interval_has_two_times_from_0_to_1():
    assert flags.interval("0.2, 1") == (0.2, 1.0)
    for text in ("", "0.5", "0.8,0.2", "-0.1,0.5", "0,1.1", "0,0.5,1", "a,b", "nan,1"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"two times .* first: 0\.2,0\.8"):
            flags.interval(text)


def test_an_interval_needs_guidance():
    flags.check_interval((0.2, 0.8), flow_with(guidance=2.0))
    flags.check_interval(None, {})
    for task in ({}, {"sampling": None}, flow_with(), flow_with(guidance=1.0)):
        with pytest.raises(UserError, match="--interval has no effect with a guidance of 1"):
            flags.check_interval((0.2, 0.8), task)


def test_a_file_is_named_after_what_was_asked_for():
    asked = {"guidance": 1.5, "interval": (0.2, 0.8), "ema": "power:0.1"}
    assert flags.asked_for(asked) == "-guidance-1.5-interval-0.2_0.8-ema-power_0.1"


@pytest.mark.parametrize(
    "flag", ["--sampler=heun", "--steps=3", "--guidance=2", "--interval=0,1", "--weaker=x"]
)
def test_models_without_steps_refuse_them(flag, monkeypatch):
    name = flag.partition("=")[0]
    with pytest.raises(UserError, match=f"{name}: jaxgen.gan:gan does not sample step by"):
        sampling(flag, monkeypatch, {"name": "jaxgen.gan:gan"})


def test_a_folder_is_not_called_as_a_file_is(tmp_path):
    assert flags.out_folder("some/v1.2") == Path("some/v1.2")
    (tmp_path / "file").touch()
    for text in ("out.png", "out.JPG", "a/b.zip", str(tmp_path / "file")):
        with pytest.raises(argparse.ArgumentTypeError, match="give that of a folder"):
            flags.out_folder(text)


def test_a_file_ends_as_its_content_does():
    flags.check_ending("--out", Path("a.zip"), (".zip", ".npy"), "an archive")
    with pytest.raises(
        UserError, match=r"--out=a\.onnx: an archive is written; end the name in \.zip or \.npy$"
    ):
        flags.check_ending("--out", Path("a.onnx"), (".zip", ".npy"), "an archive")
