"""Checkpoints to read: which there are, which are whole, and their states, by Orbax.

A run's `checkpoints/STEP/` holds the item `state`, the item `run` (config and
versions), the evaluation's `metrics`, and a manifest of content hashes that is
committed with the step. A step that its manifest does not confirm is never loaded.
`launch.checkpoints.writer` writes them. The folder may lie in a bucket (`launch.storage.paths`).
"""

import json
import logging
import math
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from launch import storage
from launch.config.errors import UserError
from launch.storage import checksums

logger = logging.getLogger("segen")

# What Orbax calls a step until it is committed; and what it writes into one that is, where
# nothing can be renamed.
UNFINISHED = "*.orbax-checkpoint-tmp*"
COMMITTED = "commit_success.txt"


def steps(folder: Path) -> list[int]:
    """Committed steps on disk, ascending; a half-written one is not committed."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.name.isdigit() and path.is_dir()]
    if storage.is_bucket(folder):
        found = [path for path in found if (path / COMMITTED).exists()]
    return sorted(int(path.name) for path in found)


def unfinished(folder: Path) -> list[Path]:
    """Steps that are being saved, or whose save was cut off."""
    if not storage.is_bucket(folder):
        return sorted(folder.glob(UNFINISHED))
    known = {str(step) for step in steps(folder)}
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.name.isdigit() and path.name not in known)


def newest_whole(folder: Path, discard: bool = False) -> int | None:
    """The newest step whose content is what was saved.

    Args:
      folder: a run's checkpoints folder.
      discard: move damaged steps to `damaged/` beside the folder, so that they can
        be saved again.

    Returns:
      The step, or None if nothing was ever saved.

    Raises:
      UserError: there are steps, but none is whole. A run never silently starts over.
    """
    saved = steps(folder)
    faults = []
    for step in reversed(saved):
        fault = checksums.find_damage(folder / str(step))
        if fault is None:
            if discard:
                _set_aside(folder, [bad for bad, _ in faults])
            return step
        faults.append((step, fault))
        logger.warning(f"checkpoint {step} is damaged: {fault}; going back to the step before")
    if not saved:
        return None
    listed = "; ".join(f"step {step}: {fault}" for step, fault in faults)
    raise UserError(
        f"no whole checkpoint in {folder} ({listed}). To start over, move the folder away; "
        "the damaged files are left as they are"
    )


def _set_aside(folder, damaged):
    for step in damaged:
        target = folder.parent / "damaged" / str(step)
        while target.exists():
            target = target.with_name(target.name + "+")
        storage.move(folder / str(step), target)


def check_whole(folder: Path, step: int) -> None:
    """Refuses a step that is not there or not whole.

    Raises:
      UserError: says which steps there are, or what is damaged.
    """
    if step not in steps(folder):
        raise UserError(f"--step={step}: {folder} has steps {steps(folder)}")
    if fault := checksums.find_damage(folder / str(step)):
        raise UserError(f"checkpoint {step} in {folder} is damaged: {fault}")


def metrics(folder: Path, step: int) -> dict | None:
    """The evaluation's metrics that were saved with a step; None if there are none."""
    path = folder / str(step) / "metrics" / "metrics"
    return json.loads(path.read_text()) if path.is_file() else None


def record(folder: Path, step: int) -> dict:
    """What a step says of its run: config, versions, facts; {} for a step that is not there."""
    path = folder / str(step) / "run" / "metadata"
    return json.loads(path.read_text()) if path.is_file() else {}


def goodness(metrics: dict, best: str) -> float:
    """What the best checkpoint has most of.

    Args:
      metrics: of an evaluation.
      best: `config.checkpoint.best`: a metric, "-name" if larger is better; "" for none,
        and then all are alike.

    Returns:
      A number to compare; -inf where the metric is missing, as in checkpoints of before
      `best` was changed, or no number.
    """
    if not best:
        return 0.0
    value = metrics.get(best.removeprefix("-"))
    if value is None or not math.isfinite(value):
        return -math.inf
    return value if best.startswith("-") else -value


def restore(folder: Path, step: int, template: Any) -> Any:
    """Reads a step's state onto any devices.

    Args:
      folder: a run's checkpoints folder.
      step: a step that `newest_whole` or `check_whole` confirmed.
      template: pytree of ShapeDtypeStructs with shardings.

    Raises:
      UserError: the state has other leaves or shapes than the template.
    """
    path = folder / str(step) / "state"
    _check_tree(path, template)
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(path, template)


def restore_params(folder: Path, step: int, template: Any) -> Any:
    """Reads only the `params` of a step's state, whatever its optimiser was.

    Args:
      folder, step: as for `restore`.
      template: ShapeDtypeStructs, with shardings, of the parameters.

    Raises:
      UserError: the saved parameters have other leaves or shapes.
    """
    path = folder / str(step) / "state"
    item = {"params": template}
    _check_tree(path, item, partial=True)
    args = ocp.args.PyTreeRestore(
        item=item,
        restore_args=ocp.checkpoint_utils.construct_restore_args(item),
        partial_restore=True,
    )
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        return reader.restore(path, args=args)["params"]


def _check_tree(path, template, partial=False):
    with ocp.StandardCheckpointer() as reader:
        saved = _shapes(reader.metadata(path).item_metadata.tree)
    wanted = _shapes(template)
    for key in wanted:
        if key not in saved:
            raise UserError(f"checkpoint {path} has no {key}, which the model of this config has")
        if saved[key] != wanted[key]:
            raise UserError(
                f"checkpoint {path}: {key} is {list(saved[key])}, "
                f"the model of this config has {list(wanted[key])}"
            )
    if not partial and (extra := sorted(saved.keys() - wanted.keys())):
        raise UserError(f"checkpoint {path} has {extra[0]}, which the model of this config has not")


def _shapes(tree):
    def name(path):
        keys = (getattr(k, "key", getattr(k, "name", getattr(k, "idx", k))) for k in path)
        return "/".join(str(key) for key in keys)

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {name(path): tuple(leaf.shape) for path, leaf in leaves if hasattr(leaf, "shape")}
