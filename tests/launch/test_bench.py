"""Every figure of `launch.bench`."""

import json

import jax
import pytest

from tests.tools import runs

POSITIVE = (
    "compile_seconds",
    "cached_input_images_per_second",
    "resident_1_steps_per_second",
    "resident_10_steps_per_second",
    "resident_100_steps_per_second",
    "peak_memory_mib",
    "gflop_per_step",
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
