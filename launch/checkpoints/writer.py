"""Saving checkpoints in the background, by Orbax; `launch.checkpoints.reader` reads them."""

import errno
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from launch import checkpoints, storage
from launch.config.errors import UserError
from launch.storage import checksums

policies = ocp.checkpoint_managers


class Writer:
    """Saves in the background; keeps the latest steps and the best one.

    Args:
      folder: a run's checkpoints folder, absolute.
      keep: how many of the latest steps to keep.
      best: a metric to keep the best step by, "" for none; "-name" if larger is
        better.
      sound: an evaluation's metrics -> whether its step may be the best.
      publish: called before each step is committed; what it raises prevents that.

    Raises:
      UserError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        best: str,
        sound: Callable[[dict], bool] = lambda metrics: True,
        publish: Callable[[], None] = lambda: None,
    ):
        self._folder, self._publish = folder, publish
        _check_writable(folder)
        if jax.process_index() == 0:  # none can be in the making: that takes all processes
            for half_written in checkpoints.unfinished(folder):
                storage.remove(half_written)
        self._best = best.removeprefix("-")
        kept = [policies.LatestN(keep)]
        goodness = checkpoints.goodness
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
          UserError: this or the save before it failed.
        """
        if self._best and metrics is not None and self._best not in metrics:
            raise UserError(
                f"config.checkpoint.best: the evaluation gives no {self._best!r}; "
                f"it gives {', '.join(sorted(metrics))}"
            )
        self._guard(lambda: _check_space(self._folder, state))
        self.wait()  # as Orbax would
        _let_go(self._folder)
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
          UserError: it failed; says what is still on disk.
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
            saved = checkpoints.steps(self._folder)
            whole = [step for step in saved if not checksums.find_damage(self._folder / str(step))]
            last = (
                f"the last good checkpoint is step {whole[-1]}" if whole else "none was saved yet"
            )
            text = " ".join(str(error).split())
            known = ("No space left on device", "Read-only file system", "Permission denied")
            reason = next((k for k in known if k in text), f"{type(error).__name__}: {text[:300]}")
            raise UserError(f"cannot save into {self._folder}: {reason}; {last}") from error

    def _sign(self):
        # Runs in Orbax's thread once the files are written and before they are committed.
        # One save is in flight at a time, so one folder matches.
        if jax.process_index() == 0:
            for folder in checkpoints.unfinished(self._folder):
                checksums.write(folder)
            self._publish()


def _check_writable(folder):
    # Orbax would notice only after the first save, and hang on leaving.
    if storage.is_bucket(folder):
        return
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; checkpoints need a folder there")
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe-{jax.process_index()}-{os.getpid()}"
    try:
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}")


def _check_space(folder, state):
    # Found out by TensorStore, a full disk prints a stack trace for every array.
    if storage.is_bucket(folder):
        return
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) // jax.process_count()
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _let_go(folder):
    """Frees the memory in which the system still keeps the files of earlier checkpoints.

    Nobody will read them soon, the data set may need the room, and memory in use a moment
    ago is written to several times faster than new memory, on virtual machines above all.
    """
    if storage.is_bucket(folder) or not hasattr(os, "posix_fadvise"):
        return
    for file in folder.rglob("*"):
        try:
            with file.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:  # a folder, or a file that is just being removed
            continue
