"""The check of guidance by the class: a guidance of 1 changes nothing, and a larger one acts."""

import jax
import numpy as np

from launch.audits.checks import CLOSE, NONE, Finding, finding
from launch.audits.fixtures import AuditedModel, ModelFactory, examples, first_line, key
from launch.config import by_name, schema
from launch.config.errors import UserError
from launch.engine import experiments

NAME = "guidance 1 equals none"
ARGUMENT = "sampling"  # of the task
ROWS = 4
# The smallest number above 1. A flow leaves its formula out where the guidance is 1; with this one
# it takes the formula, in whose float32 it is 1 again.
ABOVE_ONE = float(np.nextafter(1.0, 2.0))
STRONG = 3.0


def guidance(factory: ModelFactory, own: AuditedModel) -> list[Finding]:
    """Checks that x_none + guidance (x_class - x_none) is what a guided task samples by.

    Samples by the formula with a guidance of 1 must be those without guidance. Samples with a
    larger guidance must be others: a task that ignored it would always pass the first test.

    Args:
      factory: its config is used, with other values of guidance.
      own: the model at its own size.

    Returns:
      One finding; none for a task without an argument `sampling` or without `sample`.
    """
    task = factory.config.task
    if own.task.sample is None or not by_name.accepts(task.name, ARGUMENT, "config.task.name"):
        return []
    if not task.get("classes", 0):
        return [Finding(NAME, own.title, NONE, "the model has no classes")]
    try:
        plain, formula, strong = (
            _samples(factory, own, value) for value in (1.0, ABOVE_ONE, STRONG)
        )
    except UserError as error:
        return [Finding(NAME, own.title, NONE, first_line(error))]
    apart, acts = (float(np.abs(images - plain).max()) for images in (formula, strong))
    detail = f"by the formula, {ROWS} images: within {apart:.1e}; {STRONG:g} changes them by "
    detail += f"{acts:.1e}" + ("" if acts > CLOSE else ", so guidance does not act")
    return [finding(NAME, own, apart <= CLOSE < acts, detail)]


def _samples(factory, own, value):
    """Images of a few seeds by the parameters of a model, with a guidance at all times."""
    arguments = {"guidance": value, "interval": (0.0, 1.0), "autoguidance": False}
    given = factory.config.task.get(ARGUMENT) or {"name": "jaxgen.flows:step_by_step"}
    # The formula takes twice as many rows at a time, which bfloat16 rounds in another way.
    values = {"dtype": "float32", f"task.{ARGUMENT}": dict(given) | arguments}
    config = schema.with_values(factory.config, values)
    task, _ = experiments.make_task(config, own.example, factory.data.split.classes)
    batch = {"index": np.arange(ROWS, dtype=np.int32), "label": examples(own, ROWS)["label"]}
    run = jax.jit(lambda batch: task.sample(own.state, batch, key(16)))
    return np.asarray(run(batch), np.float32)
