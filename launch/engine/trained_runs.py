"""Trained runs, opened to be evaluated, sampled, continued elsewhere or exported."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from launch import checkpoints, storage
from launch.checkpoints import restoring
from launch.config import copies, loading, run_config, schema
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import experiments

logger = logging.getLogger("segen")


class Restored(NamedTuple):
    """A trained run, ready to be evaluated or sampled.

    Attributes:
      config: its config, overrides applied.
      data: the split that was asked for.
      experiment: its nets and task, built and compiled.
      state: the state of the checkpoint.
      step: the checkpoint's step.
    """

    config: ConfigDict
    data: batches.Data
    experiment: experiments.Experiment
    state: Any
    step: int


def restore(
    workdir: Path,
    overrides: list[str],
    step: int | None,
    split: str | None,
    task: dict | None = None,
) -> Restored:
    """Opens a run and reads a checkpoint of it, onto whatever devices there are.

    Args:
      workdir: the run's folder.
      overrides: `--config.KEY=VALUE` arguments.
      step: which checkpoint; None for the newest whole one.
      split: the split to open, "" for the config's own evaluation split; None to do
        without the data, which then has the shapes of training and no examples.
      task: arguments of the task to change, such as how it predicts.

    Raises:
      UserError: no such run or step, or nothing whole in it.
    """
    # The devices that it was trained on need not be here.
    config = schema.with_values(run_config.read_config(workdir), {"mesh.data": -1, "mesh.fsdp": 1})
    storage.check_regular(workdir)
    config = loading.override(config, overrides)
    config = schema.with_values(config, {f"task.{key}": v for key, v in (task or {}).items()})
    folder = workdir / "checkpoints"
    asked, step = step, _whole_step(folder, step)
    if step is None:
        raise UserError(f"{folder} has no checkpoint yet; train first")
    if split is None:
        data = batches.recorded(run_config.read(workdir)[0]["data"])
    else:
        data = batches.open_data(config.data, split or config.eval.split, "config.eval")
    experiment = experiments.build(config, data, training=False)
    state, step = _read(workdir, step, experiment.compiled.template, asked is None)
    return Restored(config, data, experiment, state, step)


def with_params_of(source: str, state: Any, template: Any) -> Any:
    """A state with the parameters of another run.

    Args:
      source: WORKDIR or WORKDIR:STEP.
      state: a fresh state with a field `params`.
      template: the state as ShapeDtypeStructs with shardings.

    Raises:
      UserError: no such run or step, or its parameters do not fit.
    """
    path, _, step = source.rpartition(":")
    if not path or not step.isdigit():
        path, step = source, ""
    folder = storage.path(path) / "checkpoints"
    storage.check_regular(folder.parent)
    if not folder.is_dir() or (step := _whole_step(folder, int(step) if step else None)) is None:
        raise UserError(f"config.init_from: no checkpoints in {path}")
    params = getattr(template, "params", None)
    if params is None:
        raise UserError("config.init_from needs a task whose state has a field `params`")
    logger.info(f"parameters from step {step} of {folder.parent}")
    return state._replace(params=restoring.restore_params(folder, step, params))


def _read(workdir, step, template, or_newer):
    """The state of a step, and the step: a newer one if a run that trains removes it meanwhile."""
    folder = workdir / "checkpoints"
    while True:
        try:
            record = checkpoints.record(folder, step)
            copies.check_same_run(workdir, record, folder / str(step))
            state = restoring.restore(folder, step, template)
        except Exception:  # Orbax and TensorStore have no class of errors for a missing file
            if step in checkpoints.steps(folder):
                raise
        else:
            if step in checkpoints.steps(folder):
                return state, step
        if not or_newer:
            raise UserError(
                f"--step={step}: the run that trains has removed this step; {folder} has steps "
                f"{checkpoints.steps(folder)}"
            )
        logger.info(f"the run that trains has removed step {step}; taking a newer one")
        step = _whole_step(folder, None)


def _whole_step(folder, step):
    """A step that is known to be whole: the one asked for, or the newest; None for none."""
    if step is None:
        return checkpoints.newest_whole(folder)
    checkpoints.check_whole(folder, step)
    return step
