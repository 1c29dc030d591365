"""Golden inputs and outputs: what the run itself gives, for a copy of it to be held to."""

import jax
import numpy as np

from launch.engine import trained_runs
from launch.exported.tracing import OUTSIDE, ExportedFunction, finished

SIZES = (1, 3)  # rows of each golden call


def make(restored: trained_runs.Restored, subject: ExportedFunction) -> dict[str, np.ndarray]:
    """{"ROWS/in/NAME": array, "ROWS/out/NAME": array} for each of SIZES."""
    inputs = examples(restored, subject, sum(SIZES))
    outputs, found, first = reference(restored, subject, inputs), {}, 0
    for size in SIZES:
        for kind, arrays in (("in", inputs), ("out", outputs)):
            for name, array in arrays.items():
                found[f"{size}/{kind}/{name}"] = array[first : first + size]
        first += size
    return found


def examples(
    restored: trained_runs.Restored, subject: ExportedFunction, count: int
) -> dict[str, np.ndarray]:
    """Rows of every input: the first seeds, and noise, for a run may lack its data."""
    rng, found = np.random.default_rng(0), {}
    for name, leaf in subject.inputs.items():
        shape, values = (count, *leaf.shape), allowed(restored, name)
        if name == "seeds":
            array = np.arange(count)
        elif values is not None:
            array = rng.choice(values, shape)
        elif leaf.dtype.kind in "iu":
            array = rng.integers(0, min(np.iinfo(leaf.dtype).max, 4_000) + 1, shape)
        else:
            array = rng.uniform(0.0, 4.0, shape)
        found[name] = array.astype(leaf.dtype)
    return found


def allowed(restored: trained_runs.Restored, name: str) -> list[int] | None:
    """The values that an input may have, for class ids; None where all of its dtype may."""
    task = restored.config.task
    classes = task.get("classes", 0) or len(restored.data.split.classes)
    if not classes or name not in ("labels", "segmentation"):
        return None
    ignored = {task.get("ignore", 255)} if name == "segmentation" else set()
    return sorted({*range(classes)} | ignored)


def reference(
    restored: trained_runs.Restored, subject: ExportedFunction, inputs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What launch's own compiled program gives, on whatever devices the run is on."""
    compiled, mesh = restored.experiment.compiled, restored.experiment.mesh
    count = len(next(iter(inputs.values())))
    batch = {}
    for key, leaf in subject.rows.items():
        batch[key] = np.zeros((-(-count // mesh.size) * mesh.size, *leaf.shape), leaf.dtype)
        if (name := OUTSIDE.get(key, key)) in inputs:
            batch[key][:count] = inputs[name]
    found = getattr(compiled, subject.what)(restored.state, compiled.put_batch(batch))
    found = finished(jax.device_get(found))
    return {name: np.asarray(leaf)[:count] for name, leaf in found.items()}
