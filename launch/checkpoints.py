"""Checkpoints: Orbax for writing and sharded reading, hashes for trust.

A run's `checkpoints/STEP/` holds the item `state`, the item `run` (config and
versions), the evaluation's `metrics`, and a manifest of content hashes that is
committed with the step. A step that its manifest does not confirm is never loaded.
"""

import errno
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from launch import manifest
from launch.errors import Mistake

policies = ocp.checkpoint_managers

UNFINISHED = "*.orbax-checkpoint-tmp*"  # what Orbax calls a step until it is committed


def steps(folder: Path) -> list[int]:
    """Committed steps on disk, ascending; a half-written one is not committed."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit() and p.is_dir())


def newest_whole(folder: Path, say, discard: bool = False) -> int | None:
    """The newest step whose content is what was saved.

    Args:
      folder: a run's checkpoints folder.
      say: called with a line for each damaged step that is passed over.
      discard: move damaged steps to `damaged/` beside the folder, so that they can
        be saved again.

    Returns:
      The step, or None if nothing was ever saved.

    Raises:
      Mistake: there are steps, but none is whole. A run never silently starts over.
    """
    saved = steps(folder)
    faults = []
    for step in reversed(saved):
        fault = manifest.fault(folder / str(step))
        if fault is None:
            if discard:
                _set_aside(folder, [bad for bad, _ in faults])
            return step
        faults.append((step, fault))
        say(f"checkpoint {step} is damaged: {fault}; going back to the step before")
    if not saved:
        return None
    listed = "; ".join(f"step {step}: {fault}" for step, fault in faults)
    raise Mistake(
        f"no whole checkpoint in {folder} ({listed}). To start over, move the folder away; "
        "the damaged files are left as they are"
    )


def _set_aside(folder, damaged):
    for step in damaged:
        target = folder.parent / "damaged" / str(step)
        while target.exists():
            target = target.with_name(target.name + "+")
        target.parent.mkdir(exist_ok=True)
        shutil.move(folder / str(step), target)


def check_whole(folder: Path, step: int) -> None:
    """Refuses a step that is not there or not whole.

    Raises:
      Mistake: says which steps there are, or what is damaged.
    """
    if step not in steps(folder):
        raise Mistake(f"--step={step}: {folder} has steps {steps(folder)}")
    if fault := manifest.fault(folder / str(step)):
        raise Mistake(f"checkpoint {step} in {folder} is damaged: {fault}")


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
      Mistake: the state has other leaves or shapes than the template.
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
      Mistake: the saved parameters have other leaves or shapes.
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
            raise Mistake(f"checkpoint {path} has no {key}, which the model of this config has")
        if saved[key] != wanted[key]:
            raise Mistake(
                f"checkpoint {path}: {key} is {list(saved[key])}, "
                f"the model of this config has {list(wanted[key])}"
            )
    if not partial and (extra := sorted(saved.keys() - wanted.keys())):
        raise Mistake(f"checkpoint {path} has {extra[0]}, which the model of this config has not")


def _shapes(tree):
    def name(path):
        keys = (getattr(k, "key", getattr(k, "name", getattr(k, "idx", k))) for k in path)
        return "/".join(str(key) for key in keys)

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {name(path): tuple(leaf.shape) for path, leaf in leaves if hasattr(leaf, "shape")}


class Writer:
    """Saves in the background; keeps the latest steps and the best one.

    Args:
      folder: a run's checkpoints folder, absolute.
      keep: how many of the latest steps to keep.
      best: a metric to keep the best step by, "" for none; "-name" if larger is
        better.
      sound: an evaluation's metrics -> whether its step may be the best.

    Raises:
      Mistake: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        best: str,
        sound: Callable[[dict], bool] = lambda metrics: True,
    ):
        self._folder = folder
        _check_writable(folder)
        if jax.process_index() == 0:  # none can be in the making: that takes all processes
            for half_written in folder.glob(UNFINISHED):
                shutil.rmtree(half_written)
        self._best = best.removeprefix("-")
        kept = [policies.LatestN(keep)]
        score = lambda metrics: goodness(metrics, best) if sound(metrics) else -math.inf
        if best:
            kept.append(
                policies.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(kept),
            best_fn=score,  # without it Orbax does not write the metrics
            async_options=ocp.AsyncOptions(post_finalization_callback=self._sign),
        )
        # Weights compress by a tenth, at a third of the time that a save takes of the CPU.
        handlers = {
            "state": ocp.PyTreeCheckpointHandler(use_compression=False),
            "run": ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(folder, options=options, item_handlers=handlers)
        self._saving = False

    def save(self, step: int, state: Any, run: dict, metrics: dict | None) -> None:
        """Starts saving; returns when the state's arrays may be reused.

        Args:
          step: the step that the state is at.
          state: the task's state.
          run: config and versions.
          metrics: of an evaluation at this step; None if there was none, and then
            the step cannot become the best.

        Raises:
          Mistake: this or the save before it failed.
        """
        if self._best and metrics is not None and self._best not in metrics:
            raise Mistake(
                f"config.checkpoint.best: the evaluation gives no {self._best!r}; "
                f"it gives {', '.join(sorted(metrics))}"
            )
        self._guard(lambda: _check_space(self._folder, state))
        self._guard(
            lambda: self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(state), run=ocp.args.JsonSave(run)
                ),
                metrics=metrics,
            )
        )
        self._saving = True

    def poll(self) -> None:
        """Reports a background save that failed, soon after it did.

        Orbax raises only at the next save or wait, and lists the failed step until
        then, so ask once it is no longer saving.
        """
        if self._saving and not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Waits until the last save is committed.

        Raises:
          Mistake: it failed; says what is still on disk.
        """
        self._guard(self._manager.wait_until_finished)
        self._saving = False

    def close(self) -> None:
        """Waits and frees Orbax's threads."""
        self.wait()
        self._manager.close()

    def _guard(self, action):
        try:
            action()
        except Exception as error:  # Orbax and TensorStore each raise their own
            self._saving = False
            whole = [s for s in steps(self._folder) if not manifest.fault(self._folder / str(s))]
            last = (
                f"the last good checkpoint is step {whole[-1]}" if whole else "none was saved yet"
            )
            text = " ".join(str(error).split())
            known = ("No space left on device", "Read-only file system", "Permission denied")
            reason = next((k for k in known if k in text), f"{type(error).__name__}: {text[:300]}")
            raise Mistake(f"cannot save into {self._folder}: {reason}; {last}") from error

    def _sign(self):
        # Runs in Orbax's thread once the files are written and before the rename
        # that commits them. One save is in flight at a time, so one folder matches.
        if jax.process_index() == 0:
            for folder in self._folder.glob(UNFINISHED):
                manifest.write(folder)


def _check_writable(folder):
    # Orbax would notice only after the first save, and hang on leaving.
    if folder.exists() and not folder.is_dir():
        raise Mistake(f"{folder} is a file; checkpoints need a folder there")
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe-{jax.process_index()}-{os.getpid()}"
    try:
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise Mistake(f"cannot write into {folder}: {error.strerror}")


def _check_space(folder, state):
    # Found out by TensorStore, a full disk prints a stack trace for every array.
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) // jax.process_count()
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def all_finite(state: Any) -> jax.Array:
    """Whether every floating-point leaf of a state is finite; for jit."""
    leaves = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in leaves] or [True]))
