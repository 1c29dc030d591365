"""How long a step takes on this machine, measured once and kept."""

import gc
import hashlib
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from launch import storage
from launch.config import run_config, schema
from launch.cpu import heap
from launch.data import batches
from launch.engine import experiments
from launch.engine.pending import PendingSteps, ahead
from launch.planning import footprint
from launch.storage import atomic

# Seconds for which steps run: a first few are slower than the rest.
SECONDS = 3.0


class Timing(NamedTuple):
    """What a training costs.

    Attributes:
      step: seconds of a training step.
      drawing: seconds to compile and draw the first state; less when the compilation cache has it.
      compiling: seconds to compile a step.
      memory: bytes that training takes: on CPUs the whole process at most, elsewhere a step on
        one device by XLA's count (state, batch, temporaries).
    """

    step: float
    drawing: float
    compiling: float
    memory: int


def measure(config: ConfigDict, data: batches.Data, limit: float = math.inf) -> Timing:
    """Compiles and runs some steps; or returns what was measured before for the same.

    Args:
      config: a complete config; its number of steps does not matter.
      data: the training split.
      limit: bytes of memory; a step that surely needs more is not run.

    Returns:
      The timing; where a step was not run, its time is 0.

    Raises:
      UserError: the config cannot work, or memory does not hold a step.
    """
    path = storage.cache_dir() / "timings" / f"{_key(config.to_dict(), data)}.json"
    if (kept := _kept(path)) is not None:
        return kept
    gc.collect()  # what an earlier, larger batch held
    heap.give_back()
    counts = footprint.forget_peak() and jax.default_backend() == "cpu"
    began, several = time.perf_counter(), jax.process_count()
    if several > 1:  # this process alone measures, with its share of a batch
        values = {"data.batch_size": max(1, config.data.batch_size // several)}
        config = schema.with_values(config, values | {"mesh.data": -1, "mesh.fsdp": 1})
    experiment = experiments.build(config, data, local=several > 1)
    compiled, stride = experiment.compiled, config.train.steps_per_dispatch
    state = jax.block_until_ready(compiled.load(experiments.initial_state(experiment)))
    drawing = time.perf_counter() - began
    feed = batches.feed(data, config.data, config.seed, 0, stride)
    batch = compiled.put_feed(next(feed))
    began = time.perf_counter()
    program = compiled.lower_train(state, batch, 0).compile()
    needed = footprint.least(program, 1 + ahead(stride))
    if needed > limit:
        jax.clear_caches()  # a smaller batch must not pay for this one's programs
        return Timing(0.0, drawing, time.perf_counter() - began, needed)
    state, _ = jax.block_until_ready(compiled.train(state, batch, 0))
    compiling = time.perf_counter() - began
    steps, began, pending = 0, time.perf_counter(), PendingSteps(ahead(stride))
    while time.perf_counter() - began < SECONDS or steps < 2 * stride:  # as many at once as later
        batch = compiled.put_feed(next(feed))
        state, outputs = compiled.train(state, batch, steps)
        steps += stride
        pending.add(steps, outputs)
    jax.block_until_ready(state)
    step = (time.perf_counter() - began) / steps
    peak = footprint.process_peak() if counts else 0
    timing = Timing(step, drawing, compiling, max(needed, peak))
    _keep(path, timing)
    return timing


def machine() -> str:
    """The devices and the cores, in words."""
    device, count = jax.devices()[0], jax.device_count()
    if device.platform != "cpu":
        return f"{count} x {device.device_kind}"
    allowed = getattr(os, "sched_getaffinity", None)  # Linux
    return f"{len(allowed(0)) if allowed else os.cpu_count()} cores"


def _key(plain, data):
    """Changes with all that the time of a step depends on."""
    for key in ("seed", "plan", "checkpoint", "log", "init_from", "init_part"):
        plain.pop(key, None)
    plain["train"] = {k: v for k, v in plain["train"].items() if k != "steps"}
    plain["eval"] = plain["eval"]["batch_size"]
    example = batches.facts(data)["example"]
    versions = json.loads(run_config.to_json(ConfigDict()))["versions"]
    text = json.dumps([plain, example, versions, machine(), _processor()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _processor():
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line for line in lines if line.startswith("model name")), platform.processor())


def _kept(path):
    try:
        return Timing(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _keep(path, timing):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(path) as working:
            working.write_text(json.dumps(timing._asdict()))
    except OSError:
        pass  # it is measured again next time
