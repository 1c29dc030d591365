"""What a run reports: metrics.jsonl, TensorBoard, figures, and the terminal.

Sums stay on the device until they are ready. The loop hands them over and goes
on; reading them is the journal's business, and only a save or an evaluation waits.
"""

import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX import SummaryWriter

from launch.config.errors import Diverged
from launch.engine import compiled_steps
from launch.reporting import image_files, plots

# Dispatches that may be under way: enough to keep the device busy, few enough to
# bound the memory that waiting batches take.
AHEAD = 8
# Seconds before the curves are drawn, and at most which part of the time that may take:
# on a slow machine a drawing takes a second.
CHARTED = 60.0
CHARTING = 0.01


class MetricsWriter:
    """Collects sums, writes metrics and figures, and draws the progress line.

    Args:
      workdir: the run's folder.
      finish: the task's sums -> metrics.
      steps: the run's last step.
      batch_size: images per step.
      start: the step the run goes on from; later lines in metrics.jsonl are dropped.
      began: `time.perf_counter()` at the start of the process.
      processes: of the run; all but the first keep a `Silent` journal.

    Attributes:
      skip: called with each step whose batch was left out; may raise Diverged.
    """

    def __init__(
        self,
        workdir: Path,
        finish,
        steps: int,
        batch_size: int,
        start: int,
        began: float,
        processes: int = 1,
    ):
        self._workdir, self._finish, self._steps = workdir, finish, steps
        self._batch_size, self._began = batch_size, began
        self._alone = processes == 1
        self.skip: Callable[[int], None] = lambda step: None
        self._open(start)
        self._window: list[tuple[int, Any, Any]] = []
        self._closed: deque[list] = deque()
        self._flying: deque = deque()
        self._last = start
        self._waited = 0.0
        self._mark = None
        self._live = sys.stderr.isatty()
        self._next_chart = time.perf_counter() + CHARTED
        self.speed = math.nan
        self.totals = {"seconds": 0.0, "waited": 0.0, "steps": 0}

    def _open(self, start):
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._lines = _open_lines(self._workdir / "metrics.jsonl", start)
        # The queue must never fill: were the writer's thread to die, we would hang.
        self._board = SummaryWriter(
            str(self._workdir / "tensorboard"), purge_step=start + 1, max_queue=10**6
        )

    def record(self, step: int, sums: Any, rates: Any) -> None:
        """Takes the sums of a dispatch that ends at `step`, without waiting for them."""
        self._window.append((step, sums, rates))
        self._flying.append(sums)
        if self._mark is None:
            jax.block_until_ready(sums)
            self._mark = time.perf_counter()
            self.say(f"first step after {self._mark - self._began:.1f} s")
            self._last = step
        if len(self._flying) > AHEAD:
            jax.block_until_ready(self._flying.popleft())
        # Several processes must find a loss that is not finite at one and the same step:
        # what is ready at one may not be at another.
        if self._alone and self._closed and _ready(self._closed[0][-1][1]):
            self._write(self._closed.popleft())

    @contextmanager
    def waiting_for_data(self):
        """Times the block, and counts it if the device ran out of work meanwhile."""
        began = time.perf_counter()
        yield
        if self._flying and _ready(self._flying[-1]):
            self._waited += time.perf_counter() - began

    def close_window(self) -> None:
        """Ends a window of steps; its line is written once its sums are ready."""
        while self._closed and not self._alone:
            self._write(self._closed.popleft())
        if self._window:
            self._closed.append(self._window)
            self._window = []

    def flush(self) -> None:
        """Waits for all steps so far and writes their lines.

        Raises:
          Diverged: a step's sums are not finite; names the first.
        """
        self.close_window()
        while self._closed:
            self._write(self._closed.popleft())
        self._flying.clear()
        self._sync()

    @contextmanager
    def pause(self):
        """Leaves what happens inside, an evaluation or a save, out of the speed."""
        began = time.perf_counter()
        yield
        if self._mark is not None:
            self._mark += time.perf_counter() - began

    def evaluation(self, step: int, split: str, metrics: dict[str, float]) -> None:
        """Writes the metrics of an evaluation, and draws the charts."""
        self._emit({"step": step, "split": split, **metrics})
        whole = {name: value for name, value in metrics.items() if "/" not in name}
        shown = ", ".join(f"{name} {value:.4g}" for name, value in whole.items())
        self.say(f"step {step:,}: {split}: {shown}")
        plots.bars(metrics, self._workdir / "figures" / f"classes-{step:08d}.png")
        if time.perf_counter() >= self._next_chart:
            self._draw_curves()

    def figures(self, step: int, images: dict[str, np.ndarray]) -> None:
        """Writes each figure as PNG and to TensorBoard."""
        for name, batch in images.items():
            path = self._workdir / "figures" / f"{name}-{step:08d}.png"
            picture = image_files.save(path, batch)
            self._board.add_image(name, picture, step, dataformats="HWC")

    def note(self, line: dict) -> None:
        """Writes a line of its own: {"step": ..., "split": ..., name: number}."""
        self._emit(line)

    def say(self, message: str) -> None:
        """A plain line, above the live one where there is one."""
        clear = "\r\033[K" if self._live else ""
        print(f"{clear}{message}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Closes the files, draws the curves, and joins the samples to an animation."""
        if self._live:
            print(file=sys.stderr)
        self._lines.close()
        self._board.close()
        self._draw_curves()
        image_files.progress(self._workdir / "figures", "samples")

    def _draw_curves(self):
        began = time.perf_counter()
        plots.curves(self._workdir / "metrics.jsonl", self._workdir / "figures" / "curves.png")
        ended = time.perf_counter()
        self._next_chart = ended + max(CHARTED, (ended - began) / CHARTING)

    def _write(self, window):
        parts, rates = jax.device_get(([item[1] for item in window], [item[2] for item in window]))
        step, whole = window[-1][0], self._without_skipped(window, rates)
        _check_finite(window, parts)
        sums = compiled_steps.total(_over_dispatches(parts))
        now = time.perf_counter()
        seconds, steps = now - self._mark, step - self._last
        metrics = {"loss": math.nan}
        if whole:
            metrics = {name: float(value) for name, value in self._finish(sums).items()}
        if steps > 0 and seconds > 0:
            self.speed = steps / seconds
            self.totals["seconds"] += seconds
            self.totals["waited"] += min(self._waited, seconds)
            self.totals["steps"] += steps
        wait = min(1.0, self._waited / seconds) if seconds > 0 else 0.0
        line = {"step": step, "split": "train", **metrics}
        line |= {name: float(rate[-1]) for name, rate in rates[-1].items()}
        line |= {"images_per_second": self.speed * self._batch_size, "data_wait": wait}
        self._mark, self._last, self._waited = now, step, 0.0
        self._emit(line)
        self._progress(step, metrics["loss"], wait)

    def _sync(self):
        # Storage over a network, a mounted bucket above all, may keep lines back until then.
        os.fsync(self._lines.fileno())

    def _without_skipped(self, window, rates):
        """Tells of the steps whose batch was left out; whether there are any others."""
        whole = False
        for (last, _, _), rate in zip(window, rates, strict=True):
            skipped = rate.pop(compiled_steps.SKIPPED, np.zeros(1))
            for place in np.flatnonzero(skipped):
                self.skip(last - len(skipped) + 1 + int(place))
            whole |= not skipped.all()
        return whole

    def _emit(self, line):
        clean = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in line.items()}
        self._lines.write(json.dumps(clean) + "\n")
        self._lines.flush()
        for name, value in clean.items():
            if name not in ("step", "split") and value is not None:
                self._board.add_scalar(f"{line['split']}/{name}", value, line["step"])

    def _progress(self, step, loss, wait):
        average = self.totals["steps"] / max(self.totals["seconds"], 1e-9)
        left = (self._steps - step) / average if average else math.nan
        speed = f"{self.speed:.1f} steps/s  {self.speed * self._batch_size:,.0f} images/s  "
        text = (
            f"step {step:,}/{self._steps:,} {100 * step / self._steps:3.0f}%  loss {loss:.4g}  "
            f"{'' if math.isnan(self.speed) else speed}"
            f"data wait {100 * wait:.1f}%  ETA {_clock(left)}"
        )
        if self._live:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)


class Silent(MetricsWriter):
    """The journal of all processes but the first: the same waits and checks, no output."""

    def _open(self, start):
        pass

    def evaluation(self, step: int, split: str, metrics: dict[str, float]) -> None:
        """Nothing."""

    def figures(self, step: int, images: dict[str, np.ndarray]) -> None:
        """Nothing."""

    def say(self, message: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def _emit(self, line):
        pass

    def _progress(self, step, loss, wait):
        pass

    def _sync(self):
        pass


def _open_lines(path, start):
    """Opens metrics.jsonl to append, without what a killed run wrote after its save."""
    kept = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= start:
                    kept.append(line + "\n")
            except (ValueError, KeyError):
                continue  # the half line of a killed run
    working = path.with_suffix(".tmp")
    working.write_text("".join(kept))
    working.replace(path)
    return path.open("a")


def _over_dispatches(parts):
    add = lambda leaf: np.asarray(leaf, np.float64).sum(0)
    return [jax.tree.map(add, part) for part in parts]


def _check_finite(window, parts):
    for (last, _, _), part in zip(window, parts, strict=True):
        leaves = jax.tree.leaves(part)
        bad = ~np.all([np.isfinite(leaf).reshape(len(leaf), -1).all(1) for leaf in leaves], axis=0)
        if bad.any():
            step = last - len(bad) + 1 + int(np.argmax(bad))
            raise Diverged(f"the loss is not finite at step {step}", step)


def _ready(tree):
    return all(leaf.is_ready() for leaf in jax.tree.leaves(tree))


def _clock(seconds):
    if not math.isfinite(seconds):
        return "--:--"
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
