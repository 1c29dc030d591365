"""python -m launch.bench --config=configs/vae.py

Where the time goes: the bare compiled step, the whole loop around it, the input,
compilation and memory. A table on stderr, JSON on stdout.
"""

import json
import logging
import resource
import statistics
import tempfile
import time
from pathlib import Path

import jax

from launch import cli
from launch import train as training
from launch.checkpoints.writer import CheckpointWriter
from launch.config import loading
from launch.data import batches
from launch.engine import experiments, loop, sharding
from launch.reporting.metrics_writer import MetricsWriter

logger = logging.getLogger("segen")

# Dense peak of one device in FLOP/s at the precision a matmul runs in by default,
# (float32 inputs, bfloat16): from the vendors' data sheets. TF32 on NVIDIA.
PEAK_FLOPS = {
    "NVIDIA H200": (495e12, 989e12),
    "NVIDIA H100": (495e12, 989e12),
    "NVIDIA A100": (156e12, 312e12),
    "TPU v4": (275e12, 275e12),
    "TPU v5 lite": (197e12, 197e12),
    "TPU v5p": (459e12, 459e12),
    "TPU v6 lite": (918e12, 918e12),
}


def main(argv: list[str]) -> None:
    """Parses the command line and measures."""
    arguments = cli.parser("bench", "Where the time of a training goes.")
    arguments.add_argument("--config", required=True, help="FILE.py or FILE.py:VARIANT")
    arguments.add_argument("--seconds", type=float, default=5.0, help="per measurement")
    arguments.add_argument(
        "--loop_seconds",
        type=float,
        default=60.0,
        help="least length of the whole loop, cut to config.train.steps",
    )
    options, overrides = cli.parse(arguments, argv)
    config = loading.override(loading.load(options.config), overrides)
    sharding.set_up_jax()
    jax.config.update("jax_enable_compilation_cache", False)
    results = measure(config, options.seconds, options.loop_seconds)
    for name, value in results.items():
        shown = f"{value:,.4g}" if isinstance(value, float) else value
        logger.info(f"{name:36} {shown}")
    print(json.dumps(results))


def measure(config, seconds: float, loop_seconds: float) -> dict:
    """All figures of a config: {name: value}, rates per second, memory in MiB.

    Args:
      config: a complete, checked config.
      seconds: least duration of each short measurement.
      loop_seconds: least duration of the whole loop.
    """
    data = batches.open_data(config.data, config.data.split, "config.data")
    held_out = batches.open_data(config.data, config.eval.split, "config.eval")
    experiment = experiments.build(config, data)
    device = jax.devices()[0]
    found = {"device": f"{experiment.mesh.size} x {device.device_kind}"}
    bare, found["compile_seconds"] = bare_rate(config, experiment, data, seconds)
    found["bare_steps_per_second"] = bare
    looped, again = [], [bare]
    for _ in range(2):
        looped.append(loop_rate(config, experiment, data, held_out, bare * loop_seconds))
        again.append(bare_rate(config, experiment, data, seconds)[0])
    found["bare_steps_per_second"] = bare = statistics.fmean(again)
    found["loop_steps_per_second"] = rate = statistics.fmean(x["rate"] for x in looped)
    found["loop_to_bare"] = rate / bare
    found["loop_images_per_second"] = rate * config.data.batch_size
    found["data_wait"] = statistics.fmean(x["wait"] for x in looped)
    if data.arrays is not None:
        found["cached_input_images_per_second"] = input_rate(config, data, seconds)
        found |= resident_rates(config, data, seconds)
    best = max([bare, *(v for k, v in found.items() if k.startswith("resident"))])
    found["device_busy_share"] = rate / best
    found |= flops(config, data, rate)
    found["peak_memory_mib"] = peak_memory()
    return found


def bare_rate(
    config, experiment: experiments.Experiment, data: batches.Data, seconds: float
) -> tuple[float, float]:
    """Steps per second of the compiled step on a feed that is on the device already.

    Returns:
      The rate, and the seconds that the first call took longer than a step.
    """
    program = experiment.compiled
    state = program.load(experiments.initial_state(experiment))
    feed = program.put_feed(next(training.feed(config, data, 0)))
    stride = config.train.steps_per_dispatch
    began = time.perf_counter()
    state, sums, _ = jax.block_until_ready(program.train(state, feed, 0))
    first = time.perf_counter() - began
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(max(1, 50 // stride)):
            state, sums, _ = program.train(state, feed, done)
            done += stride
        jax.block_until_ready(sums)
    rate = done / (time.perf_counter() - began)
    return rate, first - stride / rate


def loop_rate(
    config, experiment: experiments.Experiment, data, held_out, least_steps: float
) -> dict[str, float]:
    """Steps per second of the loop as `launch.train` runs it, everything compiled.

    Logging, metrics, evaluations, figures and saves at the config's own cadence
    count; the number of steps is rounded up to whole periods of these.
    """
    period = max(config.eval.every, config.checkpoint.every, config.log.every)
    steps = min(config.train.steps, -(-int(least_steps) // period) * period)
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        state = experiments.initial_state(experiment)
        quiet = MetricsWriter(
            workdir / "warm", experiment.task.finish, steps, 1, 0, time.perf_counter()
        )
        training.evaluator(config, experiment, held_out, quiet)(state, 0)
        jax.block_until_ready(experiment.compiled.all_finite(state))
        quiet.close()
        writer = CheckpointWriter(
            workdir / "checkpoints", config.checkpoint.keep, config.checkpoint.best
        )
        began = time.perf_counter()
        journal = MetricsWriter(
            workdir, experiment.task.finish, steps, config.data.batch_size, 0, time.perf_counter()
        )
        loop.train(
            experiment.compiled,
            training.plan(config)._replace(steps=steps),
            training.feed(config, data, 0),
            experiment.compiled.load(state),
            0,
            training.evaluator(config, experiment, held_out, journal),
            writer,
            {},
            journal,
        )
        took = time.perf_counter() - began
        journal.close()
        writer.close()
    return {"rate": steps / took, "wait": journal.totals["waited"] / took}


def input_rate(config, data: batches.Data, seconds: float) -> float:
    """Images per second that the host gathers from the cache, on one thread."""
    feed = batches.train_batches(data, config.data, config.seed)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        next(feed)
        done += config.data.batch_size
    return done / (time.perf_counter() - began)


def resident_rates(config, data: batches.Data, seconds: float) -> dict[str, float]:
    """Steps per second with the data on the device and 1, 10, 100 steps a dispatch."""
    rates = {}
    for stride in (1, 10, 100) if config.parallel == "jit" else ():
        variant = config.copy_and_resolve_references()
        variant.data.resident = True
        variant.train.steps_per_dispatch = stride
        experiment = experiments.build(variant, data)
        rates[f"resident_{stride}_steps_per_second"] = bare_rate(
            variant, experiment, data, seconds
        )[0]
    return rates


def flops(config, data: batches.Data, rate: float) -> dict[str, float]:
    """FLOP of a step by XLA's own count, and the share of the device's peak."""
    variant = config.copy_and_resolve_references()
    variant.data.resident, variant.train.steps_per_dispatch, variant.parallel = False, 1, "jit"
    experiment = experiments.build(variant, data)
    spec = batches.batch_spec(data.example, config.data.batch_size)
    compiled = experiment.compiled.train.lower(experiment.compiled.template, spec, 0).compile()
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    step = float(cost["flops"]) * experiment.mesh.size
    found = {
        "gflop_per_step": step / 1e9,
        "gflop_per_second": step * rate / 1e9,
        "step_temporaries_mib": memory.temp_size_in_bytes / 2**20,
    }
    kind = jax.devices()[0].device_kind
    for name, peaks in PEAK_FLOPS.items():
        if kind.startswith(name):
            peak = peaks[config.dtype == "bfloat16"] * experiment.mesh.size
            found["model_flops_utilisation"] = step * rate / peak
    return found


def peak_memory() -> float:
    """MiB at the peak: of the first device if it keeps count, else of the process."""
    statistics_of = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics_of:
        return statistics_of["peak_bytes_in_use"] / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    cli.run(main)
