"""Saves checkpoints in the background, by Orbax; `launch.checkpoints.reader` reads them."""

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


class CheckpointWriter:
    """Saves in the background; keeps the latest steps and the best one.

    Args:
      folder: a run's checkpoints folder, absolute.
      keep: how many of the latest steps to keep.
      best: the metric by which to keep the best step, "-name" if larger is better; "" to keep
        only the latest.
      is_eligible: metrics of an evaluation -> whether its step may become the best.
      before_save: called when a save begins; if it raises, nothing is written.
      before_commit: called when the files of a step are written and the step is not yet
        committed; if it raises, the step is not committed.

    Attributes:
      folder: the same.

    Raises:
      UserError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        best: str,
        is_eligible: Callable[[dict], bool] = lambda metrics: True,
        before_save: Callable[[], None] = lambda: None,
        before_commit: Callable[[], None] = lambda: None,
    ):
        self.folder, self._before_save, self._before_commit = folder, before_save, before_commit
        self._best, self._saving = best.removeprefix("-"), False
        _check_writable(folder)
        if jax.process_index() == 0:  # no save is under way: a save takes all processes
            for half_written in checkpoints.unfinished(folder):
                storage.remove(half_written)

        def goodness(metrics):
            return checkpoints.goodness(metrics, best) if is_eligible(metrics) else -math.inf

        kept = [policies.LatestN(keep)]
        if best:
            kept.append(
                policies.BestN(get_metric_fn=goodness, n=1, keep_checkpoints_without_metrics=False)
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(kept),
            best_fn=goodness,  # without this function Orbax does not write the metrics
            async_options=ocp.AsyncOptions(post_finalization_callback=self._finish_step),
        )
        # Compression would save a tenth of the size, and take a third of a save's CPU time.
        handlers = {
            "state": ocp.PyTreeCheckpointHandler(use_compression=False),
            "run": ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(folder, options=options, item_handlers=handlers)

    def save(self, step: int, state: Any, record: dict, metrics: dict | None) -> None:
        """Starts to save; returns as soon as the state's arrays may be reused.

        Args:
          step: the step of the state.
          state: the task's state, a pytree of arrays.
          record: config, versions and counters, as JSON can hold them.
          metrics: the metrics of an evaluation at this step; None if there was none: then the
            step cannot become the best.

        Raises:
          UserError: this save or the one before it failed; or `best` is not among the metrics.
        """
        if self._best and metrics is not None and self._best not in metrics:
            raise UserError(
                f"config.checkpoint.best: the evaluation gives no {self._best!r}; "
                f"it gives {', '.join(sorted(metrics))}"
            )
        self._before_save()
        self._report_errors(lambda: _check_space(self.folder, state))
        self.wait()  # Orbax would wait in `save`
        _free_page_cache(self.folder)
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(state), run=ocp.args.JsonSave(record))
        self._report_errors(lambda: self._manager.save(step, args=items, metrics=metrics))
        self._saving = True

    def poll(self) -> None:
        """Reports a background save that failed, if it has ended.

        Orbax raises the error only at the next save or wait. It lists the failed step until
        then, so this method waits for a save once the save is no longer in progress.

        Raises:
          UserError: the save failed.
        """
        if self._saving and not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Waits until the last save is committed.

        Raises:
          UserError: the save failed; says which checkpoint is the last good one.
        """
        self._report_errors(self._manager.wait_until_finished)
        self._saving = False

    def last_good(self) -> str:
        """The last whole checkpoint, in words for a message."""
        for step in reversed(checkpoints.steps(self.folder)):
            if not checksums.find_damage(self.folder / str(step)):
                return f"the last good checkpoint is step {step}"
        return "nothing was saved yet"

    def close(self) -> None:
        """Waits for the last save, and ends Orbax's threads.

        Raises:
          UserError: the save failed.
        """
        self.wait()
        self._manager.close()

    def _report_errors(self, action):
        """Turns any error of a save into a UserError that names the last good step."""
        try:
            action()
        except Exception as error:  # Orbax and TensorStore have no common error class
            self._saving = False
            text = " ".join(str(error).split())
            known = ("No space left on device", "Read-only file system", "Permission denied")
            reason = next((k for k in known if k in text), f"{type(error).__name__}: {text[:300]}")
            raise UserError(
                f"cannot save into {self.folder}: {reason}; {self.last_good()}"
            ) from error

    def _finish_step(self):
        """Writes the manifest; Orbax's thread calls this before it commits the step."""
        if jax.process_index() == 0:
            for folder in checkpoints.unfinished(self.folder):  # one, as saves do not overlap
                checksums.write(folder)
            self._before_commit()


def _check_writable(folder):
    # Orbax would report this only after the first save, and then hang at exit.
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
    # TensorStore would print a stack trace for every array that a full disk refuses.
    if storage.is_bucket(folder):
        return
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) // jax.process_count()
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _free_page_cache(folder):
    """Frees the memory in which the system caches the files of earlier checkpoints.

    No process reads these files soon, and the data set may need the memory. Also, writing to
    memory that was in use a moment ago is several times faster than to new memory, above all
    on virtual machines.
    """
    if storage.is_bucket(folder) or not hasattr(os, "posix_fadvise"):
        return
    for file in folder.rglob("*"):
        try:
            with file.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:  # a folder, or a file that is being removed
            continue
