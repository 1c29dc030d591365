"""Which parameters a trained model is used with: a moving average, `--ema`; and which weaker
ones guide it, `--weaker`.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optax
from ml_collections import ConfigDict

from jaxgen.batches import ema_params
from launch.config.errors import UserError
from launch.config.schema import flatten
from launch.engine import trained_runs
from launch.inference import power_averages

logger = logging.getLogger("segen")

NONE, ALL = "none", "all"


def names(optimizer: ConfigDict) -> list[str]:
    """What `--ema` can name: the decays of a config, the one that is used first, and "none".

    Args:
      optimizer: `config.optimizer`.
    """
    decays = [repr(decay) for one in _each(optimizer) for decay in _decays(one)]
    return [*dict.fromkeys(decays), NONE]


def chosen(optimizer: ConfigDict, asked: str) -> list[str]:
    """The averages that a list names.

    Args:
      optimizer: `config.optimizer`.
      asked: names with commas between them, or "all"; "" for the one that is used anyway.

    Returns:
      Some of `names`, in the order that they were asked for; [""] where nothing is asked for.

    Raises:
      UserError: one that the run does not keep.
    """
    if not asked:
        return [""]
    known = names(optimizer)
    wanted = known if asked == ALL else [name.strip() for name in asked.split(",")]
    for name in wanted:
        if name.startswith(power_averages.PREFIX):
            power_averages.width_of(name)
        elif name not in known:
            raise UserError(
                f"--ema={name}: the run keeps {', '.join(known)}; more are kept in training, as "
                "with --config.optimizer.ema=0.999,0.9999"
            )
    return list(dict.fromkeys(wanted))


def restored(run: trained_runs.Restored, workdir: Path, asked: str) -> trained_runs.Restored:
    """A run that is used with the average that `--ema` names.

    Args:
      run: the run.
      workdir: its folder.
      asked: one of `names`, "power:WIDTH", or "" for the one that is used anyway.

    Raises:
      UserError: the run does not keep it, or several are named.
    """
    if not asked:
        return run
    found = chosen(run.config.optimizer, asked)
    if len(found) > 1:
        raise UserError(f"--ema={asked}: give one of {', '.join(names(run.config.optimizer))}")
    if found[0].startswith(power_averages.PREFIX):
        params = power_averages.mixed(run, workdir, found[0])
        return run._replace(
            state=run.state._replace(opt_state=optax.tree.set(run.state.opt_state, ema=params))
        )
    return run._replace(state=pick(run.state, run.config.optimizer, found[0]))


def guided(run: trained_runs.Restored, source: str | None) -> trained_runs.Restored:
    """A flow that is guided by a weaker one: another run, or an earlier step of the same.

    Args:
      run: the run, opened with `task.sampling.autoguidance`.
      source: WORKDIR (its newest step) or WORKDIR:STEP; None for none.

    Raises:
      UserError: no such run or step, a flow of another kind, a run without an average, or a
        guidance of 1.
    """
    sampling = run.config.task.get("sampling") or {}
    if not source:
        if sampling.get("autoguidance"):
            raise UserError("config.task.sampling.autoguidance needs --weaker=RUN, a weaker flow")
        return run
    if sampling.get("guidance", 1.0) == 1.0:
        raise UserError("--weaker has no effect with a guidance of 1; give another --guidance")
    if not names(run.config.optimizer)[:-1]:
        raise UserError(
            "--weaker: the run keeps no moving average of its parameters; train it with "
            "config.optimizer.ema above 0"
        )
    workdir, step = trained_runs.place(source)
    try:
        weaker = trained_runs.restore(workdir, [], step, None, group=run.group)
    except UserError as error:
        raise UserError(f"--weaker={source}: {trained_runs.without_flags(error)}")
    ours, theirs = (_kind(one) for one in (run, weaker))
    for key in sorted({*ours, *theirs}):
        if ours.get(key) != theirs.get(key):
            raise UserError(
                f"--weaker={source}: its config.{key} is {theirs.get(key)!r}, that of the run "
                f"{ours.get(key)!r}; take an earlier step of the run, or a run of the same config "
                "with fewer steps"
            )
    ours, theirs = (one.config.data.get("path", "") for one in (run, weaker))
    if Path(ours).resolve() != Path(theirs).resolve():  # it may be the same folder, moved
        logger.warning(
            f"--weaker={source} was trained on the images in {theirs}, the run on those in {ours}; "
            "it guides well only if they are the same"
        )
    params = ema_params(weaker.state.opt_state, weaker.state.params)
    state = run.state._replace(params=params)
    return run._replace(state=state, weaker=f"{workdir}:{weaker.step}")


def _kind(run):
    """The keys of a config that say what a flow's parameters mean, and the form of its images."""
    config, image = run.config, run.experiment.example["image"]
    values = {"task": config.task.to_dict(), "model": config.model.to_dict()}
    values["data"] = {"name": config.data.name, "image": tuple(image.shape)}
    values["task"].pop("sampling", None)
    return flatten(values)


def pick(state: Any, optimizer: ConfigDict, name: str) -> Any:
    """The state of a task that is used with one of its averages.

    Args:
      state: with `params` and `opt_state`; both mappings where there are several optimisers.
      optimizer: `config.optimizer`.
      name: one of `names`. A net that does not keep it stays as it is.

    Returns:
      The state, whose average by the name `ema` is that one.
    """
    if "name" in optimizer:
        opt_state = _picked(state.opt_state, state.params, _decays(optimizer), name)
    else:
        opt_state = {
            key: _picked(one, state.params[key], _decays(optimizer[key]), name)
            for key, one in state.opt_state.items()
        }
    return state._replace(opt_state=opt_state)


def _picked(opt_state, params, decays, name):
    kept = list(map(repr, decays))
    if not kept or name == kept[0] or name not in (*kept, NONE):
        return opt_state
    if name == NONE:
        return optax.tree.set(opt_state, ema=params)
    others = optax.tree.get(opt_state, "other_ema")
    return optax.tree.set(opt_state, ema=others[kept.index(name) - 1])


def _each(optimizer):
    return [optimizer] if "name" in optimizer else list(optimizer.values())


def _decays(one: Mapping) -> list[float]:
    """The decays of an optimiser's averages, in their order; none where it keeps none."""
    ema = one.get("ema", 0.0)
    return [decay for decay in (ema if isinstance(ema, list | tuple) else (ema,)) if decay]
