"""Golden inputs and outputs of a run, which its exported function must reproduce."""

import jax
import numpy as np

from launch.engine import sharding, trained_runs
from launch.exported.tracing import INPUT_NAMES, ExportedFunction, to_outputs

SIZES = (1, 3)  # numbers of rows of the golden calls


def make(restored: trained_runs.Restored, function: ExportedFunction) -> dict[str, np.ndarray]:
    """Computes the golden inputs and outputs of a function.

    Args:
      restored: the run.
      function: a function of the run.

    Returns:
      {"ROWS/in/NAME" or "ROWS/out/NAME": [ROWS, ...]} for each of SIZES.
    """
    inputs = examples(restored, function, sum(SIZES))
    outputs = reference(restored, function, inputs)
    golden, first = {}, 0
    for size in SIZES:
        for kind, arrays in (("in", inputs), ("out", outputs)):
            for name, array in arrays.items():
                golden[f"{size}/{kind}/{name}"] = array[first : first + size]
        first += size
    return golden


def examples(
    restored: trained_runs.Restored, function: ExportedFunction, count: int
) -> dict[str, np.ndarray]:
    """Makes inputs without the data of the run: the first seeds, and noise.

    Args:
      restored: the run.
      function: a function of the run.
      count: the number of rows.

    Returns:
      {input: [count, ...]}.
    """
    rng, arrays = np.random.default_rng(0), {}
    for name, leaf in function.inputs.items():
        shape, values = (count, *leaf.shape), allowed(restored, name)
        if name == "seeds":
            array = np.arange(count)
        elif values is not None:
            array = rng.choice(values, shape)
        elif leaf.dtype.kind == "b":
            array = rng.uniform(size=shape) < 0.5
        elif leaf.dtype.kind in "iu":
            array = rng.integers(0, min(np.iinfo(leaf.dtype).max, 4_000) + 1, shape)
        else:
            array = rng.uniform(0.0, 4.0, shape)
        arrays[name] = array.astype(leaf.dtype)
    return arrays


def allowed(restored: trained_runs.Restored, name: str) -> list[int] | None:
    """Lists the values that an input may have.

    Args:
      restored: the run.
      name: of the input.

    Returns:
      Class ids, sorted; None where every value of the dtype is allowed.
    """
    task = restored.config.task
    classes = task.get("classes", 0) or len(restored.data.split.classes)
    if not classes or name not in ("labels", "segmentation"):
        return None
    ignored = {task.get("ignore", 255)} if name == "segmentation" else set()
    return sorted({*range(classes)} | ignored)


def reference(
    restored: trained_runs.Restored, function: ExportedFunction, inputs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Computes outputs with the compiled functions of the run, on its devices.

    Args:
      restored: the run.
      function: a function of the run.
      inputs: {input: [B, ...]}.

    Returns:
      {output: [B, ...]}.
    """
    compiled, mesh = restored.experiment.compiled, restored.experiment.mesh
    count = len(next(iter(inputs.values())))
    batch = {}
    for key, leaf in function.rows.items():
        batch[key] = np.zeros((sharding.round_up(count, mesh), *leaf.shape), leaf.dtype)
        if (name := INPUT_NAMES.get(key, key)) in inputs:
            batch[key][:count] = inputs[name]
    results = getattr(compiled, function.name)(restored.state, compiled.put_batch(batch))
    outputs = to_outputs(jax.device_get(results))
    return {name: np.asarray(leaf)[:count] for name, leaf in outputs.items()}
