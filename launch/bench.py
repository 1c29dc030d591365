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
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
from ml_collections import ConfigDict

from launch import cli
from launch.checkpoints.writer import CheckpointWriter
from launch.config import loading, planned, schema
from launch.data import batches
from launch.engine import experiments, flops, memory, sharding
from launch.engine.evaluation import Evaluator
from launch.engine.loop import Schedule, run_loop
from launch.engine.pending import Speed
from launch.reporting.metrics_writer import MetricsWriter
from launch.reporting.sinks import standard_sinks

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


def measure(config: ConfigDict, seconds: float, loop_seconds: float) -> dict:
    """All figures of a config: {name: value}, rates per second, memory in MiB.

    Args:
      config: a complete, checked config.
      seconds: least duration of each short measurement.
      loop_seconds: least duration of the whole loop.
    """
    config = planned.filled(config, planned.values(config))
    data = batches.open_data(config.data, config.data.split, "config.data")
    held_out = batches.open_data(config.data, config.eval.split, "config.eval")
    config = experiments.with_classes(config, data.split)
    experiment = experiments.build(config, data)
    device = jax.devices()[0]
    found = {"device": f"{experiment.mesh.size} x {device.device_kind}"}
    stride = config.train.steps_per_dispatch
    feed = batches.feed(data, config.data, config.seed, 0, stride)
    bare, found["compile_seconds"] = bare_rate(experiment, feed, stride, seconds)
    found["bare_steps_per_second"] = bare
    looped, again = [], [bare]
    for _ in range(2):
        looped.append(loop_rate(config, experiment, data, held_out, bare * loop_seconds))
        again.append(bare_rate(experiment, feed, stride, seconds)[0])
    found["bare_steps_per_second"] = bare = statistics.fmean(again)
    found["loop_steps_per_second"] = rate = statistics.fmean(x["rate"] for x in looped)
    found["loop_to_bare"] = rate / bare
    found["loop_images_per_second"] = rate * config.data.batch_size
    found["data_wait"] = statistics.fmean(x["wait"] for x in looped)
    if data.arrays is not None:
        rows = batches.train_batches(data, config.data, config.seed)
        size = config.data.batch_size
        found["cached_input_images_per_second"] = input_rate(rows, size, seconds)
        found |= resident_rates(config, data, seconds)
    else:
        from launch.benchmarks import streamed_input

        needed = bare * config.data.batch_size
        found |= streamed_input.measure(data, config.data, config.seed, seconds, needed)
        if found["limit"] != "step":
            logger.info(
                f"the {found['limit']} limits training: {needed:,.0f} images/s would keep the step "
                f"busy, {found['streamed_input_images_per_second']:,.0f} come"
            )
    best = max([bare, *(v for k, v in found.items() if k.startswith("resident"))])
    found["device_busy_share"] = rate / best
    found |= step_costs(config, data, rate)
    found["peak_memory_mib"] = peak_memory()
    return found


def bare_rate(
    experiment: experiments.Experiment, feed: Iterator[dict], stride: int, seconds: float
) -> tuple[float, float]:
    """Steps per second of the compiled step on a feed that is on the device already.

    Args:
      experiment: what is trained.
      feed: what `batches.feed` returned, of which the first item is used.
      stride: steps of one compiled program.
      seconds: least duration.

    Returns:
      The rate, and the seconds that the first call took longer than a step.
    """
    compiled = experiment.compiled
    state = compiled.load(experiments.initial_state(experiment))
    batch = compiled.put_feed(next(feed))
    began = time.perf_counter()
    state, outputs = jax.block_until_ready(compiled.train(state, batch, 0))
    first = time.perf_counter() - began
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(max(1, 50 // stride)):
            state, outputs = compiled.train(state, batch, done)
            done += stride
        jax.block_until_ready(outputs.sums)
    rate = done / (time.perf_counter() - began)
    return rate, first - stride / rate


def loop_rate(
    config: ConfigDict,
    experiment: experiments.Experiment,
    data: batches.Data,
    held_out: batches.Data,
    least_steps: float,
) -> dict[str, float]:
    """Steps per second of the loop as `launch.train` runs it, everything compiled.

    Logging, metrics, evaluations, figures and saves at the config's own intervals
    count; the number of steps is rounded up to whole periods of these.

    Args:
      config: a complete, checked config.
      experiment: what it describes.
      data: the training split.
      held_out: the evaluation split.
      least_steps: least number of steps.

    Returns:
      `rate`, in steps per second, and `wait`, the share of time that the device waited.
    """
    every = config.log.every, config.eval.every, config.checkpoint.every
    period = max(every)
    steps = min(config.train.steps, -(-int(least_steps) // period) * period)
    compiled, batch_size = experiment.compiled, config.data.batch_size
    evaluator = partial(
        Evaluator,
        experiment,
        held_out,
        split=config.eval.split,
        batch_size=config.eval.batch_size,
    )
    with tempfile.TemporaryDirectory() as place:
        folder, state = Path(place), experiments.initial_state(experiment)
        warm = MetricsWriter(standard_sinks(folder / "warm", 0, steps, batch_size))
        evaluator(metrics=warm)(state, 0)
        jax.block_until_ready(compiled.all_finite(state))
        warm.close()
        writer = CheckpointWriter(
            folder / "checkpoints", config.checkpoint.keep, config.checkpoint.best
        )
        began, speed = time.perf_counter(), Speed(batch_size)
        metrics = MetricsWriter(standard_sinks(folder, 0, steps, batch_size))
        run_loop(
            experiment,
            compiled.load(state),
            0,
            schedule=Schedule(steps, config.train.steps_per_dispatch, *every),
            feed=batches.feed(data, config.data, config.seed, 0, config.train.steps_per_dispatch),
            evaluate=evaluator(metrics=metrics),
            checkpoint_writer=writer,
            record=dict,
            metrics=metrics,
            speed=speed,
        )
        took = time.perf_counter() - began
        metrics.close()
        writer.close()
    return {"rate": steps / took, "wait": speed.waited / took}


def input_rate(feed: Iterator[dict], batch_size: int, seconds: float) -> float:
    """Images per second that the host gathers from the cache, on one thread.

    Args:
      feed: numpy batches without end.
      batch_size: images of each.
      seconds: least duration.
    """
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        next(feed)
        done += batch_size
    return done / (time.perf_counter() - began)


def resident_rates(config: ConfigDict, data: batches.Data, seconds: float) -> dict[str, float]:
    """Steps per second with the data on the device and 1, 10, 100 steps a dispatch."""
    rates = {}
    for stride in (1, 10, 100) if config.parallel == "jit" else ():
        values = {"data.resident": True, "train.steps_per_dispatch": stride}
        variant = schema.with_values(config, values)
        feed = batches.feed(data, variant.data, variant.seed, 0, stride)
        rate, _ = bare_rate(experiments.build(variant, data), feed, stride, seconds)
        rates[f"resident_{stride}_steps_per_second"] = rate
    return rates


def step_costs(config: ConfigDict, data: batches.Data, rate: float) -> dict[str, float]:
    """FLOP of a step as `flops.count` counts, its memory, and the share of the device's peak.

    `step_peak_mib` is of one device: state, batch, outputs and temporaries.

    Args:
      config: a complete, checked config.
      data: the training split.
      rate: steps per second.
    """
    values = {"data.resident": False, "train.steps_per_dispatch": 1, "parallel": "jit"}
    spec = batches.batch_spec(data.example, config.data.batch_size)
    experiment = experiments.build(schema.with_values(config, values), data)
    steps = experiment.compiled
    step = steps.lower_train(steps.template, spec, 0).compile()
    flop = flops.count(steps.train.function, steps.template, spec, 0)
    results = {
        "gflop_per_step": flop / 1e9,
        "gflop_per_second": flop * rate / 1e9,
        "step_temporaries_mib": step.memory_analysis().temp_size_in_bytes / 2**20,
        "step_peak_mib": memory.peak(step) / 2**20,
    }
    kind = jax.devices()[0].device_kind
    for name, peaks in PEAK_FLOPS.items():
        if kind.startswith(name):
            peak = peaks[config.dtype == "bfloat16"] * experiment.mesh.size
            results["model_flops_utilisation"] = flop * rate / peak
    return results


def peak_memory() -> float:
    """MiB at the peak: of the first device if it keeps count, else of the process."""
    statistics_of = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics_of:
        return statistics_of["peak_bytes_in_use"] / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    cli.run(main)
