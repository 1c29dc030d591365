"""Every figure of `launch.bench`."""

import json
import logging
from types import SimpleNamespace

import jax
import pytest
from ml_collections import ConfigDict

from launch import bench
from launch.benchmarks import streamed_input
from launch.config import schema
from tests.tools import runs

POSITIVE = (
    "compile_seconds",
    "cached_input_images_per_second",
    "resident_1_steps_per_second",
    "resident_10_steps_per_second",
    "resident_100_steps_per_second",
    "peak_memory_mib",
    "gflop_per_step",
    "step_peak_mib",
)


def test_bench_reports_every_figure(data_dir):
    before = jax.config.jax_enable_compilation_cache
    arguments = [*runs.SHORT, f"--config.data.data_dir={data_dir}", "--config.mesh.data=1"]
    arguments += ["--config.train.steps=200", "--seconds=0.2", "--loop_seconds=0.5"]
    try:
        done = runs.call("bench", *arguments)
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["loop_to_bare"] == pytest.approx(
        found["loop_steps_per_second"] / found["bare_steps_per_second"]
    )
    for name in POSITIVE:
        assert found[name] > 0, name
    assert 0 <= found["data_wait"] < 1
    assert found["device"].startswith("1 x ")
    assert 100 < found["peak_memory_mib"] < 100 * 2**10  # the process holds JAX
    assert found["loop_images_per_second"] == pytest.approx(128 * found["loop_steps_per_second"])
    best = max(
        found["bare_steps_per_second"],
        *(found[f"resident_{stride}_steps_per_second"] for stride in (1, 10, 100)),
    )
    assert found["device_busy_share"] == pytest.approx(found["loop_steps_per_second"] / best)
    rate = found["gflop_per_second"] / found["gflop_per_step"]
    assert rate == pytest.approx(found["loop_steps_per_second"])


class Clock:
    """Time that goes on by a second a look."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(bench.time, "perf_counter", self.tick)

    def tick(self):
        self.now += 1.0
        return self.now


def test_the_rate_of_the_input(monkeypatch):
    """Looks at 1 s to begin, then 2, 3, 4 and 5 s: three batches in 5 seconds."""
    Clock(monkeypatch)
    assert bench.input_rate(iter([{}] * 9), 20, 4.0) == pytest.approx(3 * 20 / 5)


@pytest.mark.parametrize(("stride", "dispatches"), [(10, 5), (100, 1)])
def test_the_rate_of_the_bare_step(monkeypatch, stride, dispatches):
    Clock(monkeypatch)
    steps = []

    def train(state, batch, done):
        steps.append(done)
        return state, SimpleNamespace(sums=batch)

    compiled = SimpleNamespace(load=lambda state: state, put_feed=lambda feed: feed, train=train)
    monkeypatch.setattr(bench.experiments, "initial_state", lambda experiment: 0.0)
    experiment = SimpleNamespace(compiled=compiled)
    rate, more = bench.bare_rate(experiment, iter([1.0, 2.0]), stride, 4.0)
    done = 3 * dispatches * stride
    assert steps == [0, *range(0, done, stride)]
    assert rate == pytest.approx(done / 5)
    assert more == pytest.approx(1 - stride / rate)


@pytest.mark.parametrize(
    ("kind", "dtype", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "float32", 495e12),
        ("NVIDIA H200", "bfloat16", 989e12),
        ("TPU v5 lite", "float32", 197e12),
        ("NVIDIA A100-SXM4-40GB", "bfloat16", 312e12),
        ("cpu", "float32", None),
    ],
)
def test_operations_are_counted_over_all_devices(monkeypatch, kind, dtype, peak):
    asked = {}
    program = SimpleNamespace(
        memory_analysis=lambda: SimpleNamespace(
            temp_size_in_bytes=5 * 2**20,
            argument_size_in_bytes=4 * 2**20,
            output_size_in_bytes=3 * 2**20,
            alias_size_in_bytes=2 * 2**20,
        ),
    )
    lowered = SimpleNamespace(compile=lambda: program)
    lower = lambda template, spec, step: lowered
    train = SimpleNamespace(function=lambda template, spec, step: None)
    compiled = SimpleNamespace(lower_train=lower, template=None, train=train)
    experiment = SimpleNamespace(compiled=compiled, mesh=SimpleNamespace(size=4))
    monkeypatch.setattr(bench.schema, "with_values", lambda config, values: asked.update(values))
    monkeypatch.setattr(bench.experiments, "build", lambda config, data: experiment)
    monkeypatch.setattr(bench.batches, "batch_spec", lambda example, size: None)
    monkeypatch.setattr(bench.flops, "count", lambda *step: 12e12)
    monkeypatch.setattr(bench.jax, "devices", lambda: [SimpleNamespace(device_kind=kind)])
    config = ConfigDict({"data": {"batch_size": 32}, "dtype": dtype})
    found = bench.step_costs(config, SimpleNamespace(example=None), 2.0)
    assert asked == {"data.resident": False, "train.steps_per_dispatch": 1, "parallel": "jit"}
    assert found.pop("model_flops_utilisation", None) == (
        peak and pytest.approx(4 * 3e12 * 2 / (4 * peak))
    )
    assert found == {
        "gflop_per_step": pytest.approx(12_000),
        "gflop_per_second": pytest.approx(24_000),
        "step_temporaries_mib": pytest.approx(5),
        "step_peak_mib": pytest.approx(5 + 4 + 3 - 2),
    }


def test_the_peaks_of_the_data_sheets():
    """Dense TFLOP/s, float32 inputs (TF32 on NVIDIA) and bfloat16."""
    assert {kind: (a / 1e12, b / 1e12) for kind, (a, b) in bench.PEAK_FLOPS.items()} == {
        "NVIDIA H200": (495, 989),
        "NVIDIA H100": (495, 989),
        "NVIDIA A100": (156, 312),
        "TPU v4": (275, 275),
        "TPU v5 lite": (197, 197),
        "TPU v5p": (459, 459),
        "TPU v6 lite": (918, 918),
    }


@pytest.mark.parametrize(
    ("of_device", "expected"), [({"peak_bytes_in_use": 3 * 2**20}, 3), ({}, 7)]
)
def test_the_peak_is_of_the_device_if_it_counts(monkeypatch, of_device, expected):
    device = SimpleNamespace(memory_stats=lambda: of_device)
    usage = SimpleNamespace(ru_maxrss=7 * 2**10)  # in KiB
    monkeypatch.setattr(bench.jax, "local_devices", lambda: [device])
    monkeypatch.setattr(bench.resource, "getrusage", lambda who: usage)
    assert bench.peak_memory() == expected


@pytest.mark.parametrize(
    ("least", "steps"), [(1.0, 30), (30.0, 30), (31.0, 60), (75.9, 90), (500.0, 100)]
)
def test_the_loop_runs_whole_periods(monkeypatch, least, steps):
    """Of 30 steps, the longest interval; but not longer than the training."""
    Clock(monkeypatch)
    asked = []

    def run_loop(*arguments, schedule, speed, **options):
        asked.append(schedule)
        speed.waited = 0.25

    parts = ("Evaluator", "CheckpointWriter", "MetricsWriter", "standard_sinks")
    blank = SimpleNamespace(close=lambda: None)
    for name in parts:
        monkeypatch.setattr(bench, name, lambda *arguments, **options: blank)
    monkeypatch.setattr(bench, "partial", lambda *a, **o: lambda metrics: lambda state, step: None)
    monkeypatch.setattr(bench, "Speed", lambda size: SimpleNamespace(waited=0.0))
    monkeypatch.setattr(bench, "run_loop", run_loop)
    monkeypatch.setattr(bench.experiments, "initial_state", lambda experiment: 0.0)
    monkeypatch.setattr(bench.batches, "feed", lambda *arguments: None)
    config = ConfigDict(
        {
            "log": {"every": 5},
            "eval": {"every": 30, "batch_size": 8, "split": "test"},
            "checkpoint": {"every": 10, "keep": 1, "best": ""},
            "train": {"steps": 100, "steps_per_dispatch": 5},
            "data": {"batch_size": 4},
            "seed": 0,
        }
    )
    compiled = SimpleNamespace(load=lambda state: state, all_finite=lambda state: state)
    found = bench.loop_rate(config, SimpleNamespace(compiled=compiled), None, None, least)
    assert tuple(asked[0])[:2] == (steps, 5)
    assert found == {"rate": pytest.approx(steps), "wait": pytest.approx(0.25)}  # of one second


@pytest.mark.parametrize(("limit", "said"), [("decode", 1), ("step", 0)])
def test_a_split_that_streams_is_measured_beside_its_decode(monkeypatch, caplog, limit, said):
    asked = []

    def measure(data, section, seed, seconds, needed):
        asked.append((seconds, needed))
        return {"streamed_input_images_per_second": 70.0, "limit": limit}

    monkeypatch.setattr(streamed_input, "measure", measure)
    data = SimpleNamespace(split=None, arrays=None)
    device = SimpleNamespace(size=1)
    monkeypatch.setattr(bench.batches, "open_data", lambda *arguments: data)
    monkeypatch.setattr(bench.batches, "feed", lambda *arguments: None)
    monkeypatch.setattr(bench.experiments, "with_classes", lambda config, split: config)
    monkeypatch.setattr(bench.experiments, "build", lambda *a: SimpleNamespace(mesh=device))
    monkeypatch.setattr(bench, "bare_rate", lambda *arguments: (20.0, 1.0))
    monkeypatch.setattr(bench, "loop_rate", lambda *arguments: {"rate": 10.0, "wait": 0.5})
    monkeypatch.setattr(bench, "step_costs", lambda *arguments: {})
    config = schema.defaults()
    config.data.batch_size = 8
    with caplog.at_level(logging.INFO, "segen"):
        found = bench.measure(config, 1.0, 1.0)
    assert asked == [(1.0, 8 * 20.0)]
    assert found["limit"] == limit
    assert found["streamed_input_images_per_second"] == 70
    assert "cached_input_images_per_second" not in found
    line = "the decode limits training: 160 images/s would keep the step busy, 70 come"
    assert caplog.text.count(line) == said


def test_the_command_measures_for_5_and_60_seconds(monkeypatch, capsys, caplog):
    asked = []

    def measure(config, *seconds):
        asked.append(seconds)
        return {"device": "1 x cpu", "rate": 12345.678}

    monkeypatch.setattr(bench.loading, "load", lambda spec: ConfigDict())
    monkeypatch.setattr(bench.loading, "override", lambda config, overrides: config)
    monkeypatch.setattr(bench, "measure", measure)
    settings = {}
    monkeypatch.setattr(bench.jax.config, "update", settings.__setitem__)
    with caplog.at_level(logging.INFO, "segen"):
        bench.main(["--config=a.py"])
    assert asked == [(5.0, 60.0)]
    assert settings["jax_enable_compilation_cache"] is False
    assert f"{'rate':36} 1.235e+04" in caplog.text
    assert json.loads(capsys.readouterr().out) == {"device": "1 x cpu", "rate": 12345.678}
    with pytest.raises(SystemExit):
        bench.main([])
