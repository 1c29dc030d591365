"""Trained runs, opened to be evaluated, sampled, continued elsewhere or exported."""

import contextlib
import logging
import math
import re
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from launch import checkpoints, distributed, storage
from launch.checkpoints import restoring, state_files
from launch.config import copies, effects, loading, run_config, schema
from launch.config.errors import UserError
from launch.data import batches, levels_check
from launch.engine import evaluation, experiments, sharding

logger = logging.getLogger("segen")


class Restored(NamedTuple):
    """A trained run, ready to be evaluated or sampled.

    Attributes:
      config: its config, overrides applied.
      data: the split that was asked for.
      experiment: its nets and task, built and compiled.
      state: the state of the checkpoint.
      step: the checkpoint's step.
      group: the processes that opened it together.
      weaker: DIR:STEP of the flow that guides it; None for none.
    """

    config: ConfigDict
    data: batches.Data
    experiment: experiments.Experiment
    state: Any
    step: int
    group: distributed.Group = distributed.ALONE
    weaker: str | None = None


def restore(
    workdir: Path,
    overrides: list[str],
    step: int | str | None,
    split: str | None,
    task: dict | None = None,
    *,
    group: distributed.Group = distributed.ALONE,
    local: bool = False,
) -> Restored:
    """Opens a run and reads a checkpoint of it, onto whatever devices there are.

    Args:
      workdir: the run's folder.
      overrides: `--config.KEY=VALUE` arguments.
      step: which checkpoint; see `choose_step`.
      split: the split to open, "" for the config's own evaluation split; None to do
        without the data, which then has the shapes of training and no examples.
      task: arguments of the task to change, such as how it predicts.
      group: the processes that call this together.
      local: whether each process gets an experiment on its own devices, which it can use
        without the others.

    Raises:
      UserError: no such run or step, nothing whole in it, or processes that differ.
    """
    group.share_compilation_cache(workdir)
    before, config = group.on_all("the run", partial(_read_config, workdir, overrides))
    group.check_same("the config", run_config.shared_keys(config.to_dict()))
    values = schema.flatten(config.to_dict())
    config = schema.with_values(config, {f"task.{key}": v for key, v in (task or {}).items()})
    folder, asked = workdir / "checkpoints", step
    choose = partial(choose_step, folder, best=config.checkpoint.best, rule=config.collapse.rule)
    step, reason = group.on_process_zero("the checkpoint", partial(choose, step))
    logger.info(f"step {step:,} of {workdir}: {reason}")
    if split is None:
        data = batches.recorded(run_config.read(workdir)[0]["data"])
    else:
        data = open_together(group, config.data, split or config.eval.split, "config.eval")
        levels_check.check_levels(config.task, data.split, data.arrays)
    experiment = experiments.build(config, data, training=False, local=local)
    facts = effects.Facts(predicts=experiment.task.predict is not None)
    effects.check(values, before, facts=facts)
    template = experiment.compiled.template
    if group.processes > 1:
        together = 1 if local else group.processes
        alike = f", in each of {group.processes} processes" if local else ""
        logger.info(f"on {sharding.describe(experiment.mesh, together)}{alike}")
        sharding.warm_up_collectives(experiment.mesh, together)
    # Several processes do not choose again: each could find another step removed.
    again = None if isinstance(asked, int) or group.processes > 1 else choose
    state, step = _read(workdir, step, template, again)
    return Restored(config, data, experiment, state, step, group)


def open_together(
    group: distributed.Group, section: ConfigDict, split: str, where: str
) -> batches.Data:
    """Opens a split on every process, and checks that it is the same on all.

    Args:
      group: the processes that call this together.
      section: `config.data`.
      split: the split expression.
      where: the config section it comes from, for messages.

    Raises:
      UserError: a process cannot open it, or has other data.
    """
    opening = partial(batches.open_data, section, split, where)
    data = group.on_all("the data", opening, distributed.DATA_SECONDS)
    group.check_same("the data", batches.facts(data) | {"size": data.split.size})
    return data


def _read_config(workdir, overrides):
    """The config of a run as {key: value}, and with the overrides applied, for all devices."""
    # The devices that it was trained on need not be here.
    config = schema.with_values(run_config.read_config(workdir), {"mesh.data": -1, "mesh.fsdp": 1})
    storage.check_regular(workdir)
    before = schema.flatten(config.to_dict())
    return before, loading.override(config, overrides, trained=True)


def choose_step(folder: Path, step: int | str | None, best: str, rule: str = "") -> tuple[int, str]:
    """Chooses a whole checkpoint of a run.

    Args:
      folder: the run's checkpoints folder.
      step: a step; "best"; "newest"; or None, for the best where `best` names a metric and the
        newest elsewhere.
      best: `config.checkpoint.best`.
      rule: `config.collapse.rule`, which the best must pass.

    Returns:
      The step, and in words why it is this one.

    Raises:
      UserError: no such step, or nothing whole.
    """
    reason = "the newest"
    if isinstance(step, int):
        checkpoints.check_whole(folder, step)
        return step, "as asked for"
    if step == "best" and not best:
        raise UserError(
            "--step=best: the config keeps no best checkpoint. Name the metric that decides, "
            "as --config.checkpoint.best=loss (-name where larger is better), or give --step=N"
        )
    if best and step != "newest":
        if found := _best_whole(folder, best, rule):
            return found
        reason = f"the newest, as none has the metric of config.checkpoint.best={best}"
        if step == "best" and checkpoints.steps(folder):
            raise UserError(f"--step=best: no whole step in {folder} has the metric {best!r}")
    elif step is None:
        reason = "the newest (config.checkpoint.best is not set)"
    newest = checkpoints.newest_whole(folder)
    if newest is None:
        raise UserError(f"{folder} has no checkpoint yet; train first")
    return newest, reason


def _best_whole(folder, best, rule):
    """The best whole step and the reason for it, None where no metrics decide."""
    found = {}
    for step in checkpoints.steps(folder):
        with contextlib.suppress(ValueError):  # of a damaged step
            metrics = checkpoints.metrics(folder, step) or {}
            if metrics and evaluation.passes(rule, metrics):
                found[step] = checkpoints.goodness(metrics, best)
    for step in sorted(found, key=lambda step: (found[step], step), reverse=True):
        if found[step] == -math.inf:
            return None
        if (damage := state_files.find_damage(folder / str(step))) is None:
            value = found[step] if best.startswith("-") else -found[step]
            return step, f"the best by config.checkpoint.best={best}, {value:.4g}"
        logger.warning(f"checkpoint {step}, the best, is damaged: {damage}; taking the next best")
    return None


def place(source: str) -> tuple[Path, int | str]:
    """The workdir and the step that WORKDIR or WORKDIR:STEP names; the newest step without one."""
    path, _, step = source.rpartition(":")
    if not path or not (step.isdecimal() or step in ("best", "newest")):
        path, step = source, "newest"
    return storage.path(path), int(step) if step.isdecimal() else step


def without_flags(error: UserError) -> str:
    """An error of `restore` without the flags that it names, for a run that other flags name."""
    return re.sub(r"^--(workdir|step=\d+): ", "", str(error))


def check_source(source: str) -> tuple[Path, int]:
    """The checkpoints folder and the step that `config.init_from` names.

    Args:
      source: WORKDIR (its newest step) or WORKDIR:STEP, where STEP may be "best".

    Raises:
      UserError: no such run or step.
    """
    workdir, step = place(source)
    folder = workdir / "checkpoints"
    storage.check_regular(workdir)
    if not checkpoints.steps(folder):
        raise UserError(f"config.init_from: no checkpoints in {workdir}")
    best = "" if step == "newest" else run_config.read_config(workdir).checkpoint.best
    return folder, choose_step(folder, step, best)[0]


def with_params_of(source: str, state: Any, template: Any, part: str = "") -> Any:
    """A state with the parameters of another run; those that do not fit stay as they are.

    Statistics of batch norms come with them.

    Args:
      source: as of `check_source`.
      state: a fresh state with a field `params`.
      template: the state as ShapeDtypeStructs with shardings.
      part: the start of the names of parameters to take; "" for all.

    Raises:
      UserError: no such run or step, or none of its parameters fits.
    """
    folder, step = check_source(source)
    if not hasattr(template, "params"):
        raise UserError("config.init_from needs a task whose state has a field `params`")
    logger.info(f"parameters from step {step} of {folder.parent}")
    fields = ("params", "batch_stats") if getattr(template, "batch_stats", None) else ("params",)
    wanted = {field: getattr(template, field) for field in fields}
    taken, others = restoring.restore_fitting(folder, step, wanted, part)
    for line in others:
        logger.warning(f"config.init_from: {line}")
    choose = lambda fresh, other: fresh if other is None else other
    return state._replace(
        **{field: jax.tree.map(choose, getattr(state, field), taken[field]) for field in fields}
    )


def _read(workdir, step, template, choose):
    """The state of a step, and the step; another if a run that trains removes it meanwhile.

    `choose` gives (step, reason) of the other; None for the step that was asked for.
    """
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
        if choose is None:
            raise UserError(
                f"--step={step}: the run that trains has removed this step; {folder} has steps "
                f"{checkpoints.steps(folder)}"
            )
        gone, (step, _) = step, choose(None)
        logger.info(f"the run that trains has removed step {gone}; taking step {step}")
