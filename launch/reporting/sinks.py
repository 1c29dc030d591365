"""The sinks of a run: metrics.jsonl, TensorBoard, figures as PNG, and the terminal."""

import json
import logging
import math
import os
import sys
import time
from pathlib import Path

import google_crc32c
import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from launch.reporting import image_files, metrics_file, plots
from launch.reporting.metrics_writer import Sink
from launch.storage.atomic import replacing

logger = logging.getLogger("segen")

# Seconds before the curves are drawn, and at most which share of the time that may take:
# on a slow machine a drawing takes a second.
FIRST_CURVES = 60.0
CURVES_SHARE = 0.01

BAR = "step {n_fmt}/{total_fmt} {percentage:3.0f}%|{bar}| {rate_fmt}{postfix}  ETA {remaining}"


def standard_sinks(
    folder: Path,
    start: int,
    steps: int,
    batch_size: int,
    saved: dict | None = None,
    best: str = "",
) -> tuple[Sink, ...]:
    """The sinks of a training.

    Args:
      folder: the run's folder on this machine.
      start: the step the run goes on from; later lines of metrics.jsonl are dropped.
      steps: the run's last step.
      batch_size: images per step.
      saved: the record of the checkpoint of `start`, with `JsonlSink.facts`; None for none.
      best: `config.checkpoint.best`, to be marked in the curves.
    """
    if saved and "metrics" in saved:
        from launch.reporting import metrics_damage  # a run that begins has no lines

        metrics_damage.check(folder / "metrics.jsonl", saved["metrics"])
    return (
        JsonlSink(folder, start),
        TensorBoardSink(folder, start),
        TerminalSink(steps, batch_size),
        FigureSink(folder, best),
    )


class JsonlSink(Sink):
    """Appends a line {"step": ..., "split": ..., name: number} to metrics.jsonl.

    Args:
      folder: the run's folder.
      start: lines of later steps, which a killed run wrote after its last save, are dropped.
    """

    def __init__(self, folder: Path, start: int):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        kept = metrics_file.kept(path, start)
        with replacing(path) as working:
            working.write_bytes(kept)
        self._stream = path.open("ab")
        self._bytes, self._crc = len(kept), google_crc32c.value(kept)

    def write(self, step: int, split: str, metrics: dict[str, float]) -> None:
        """Writes a line; NaN and infinity become null."""
        line = {"step": step, "split": split} | {k: _or_none(v) for k, v in metrics.items()}
        text = (json.dumps(line) + "\n").encode()
        self._stream.write(text)
        self._stream.flush()
        self._bytes, self._crc = self._bytes + len(text), google_crc32c.extend(self._crc, text)

    def facts(self) -> dict:
        """The size and the CRC-32C of the file."""
        return {"metrics": {"bytes": self._bytes, "crc32c": f"{self._crc:08x}"}}

    def flush(self) -> None:
        """Syncs the file: storage over a network may keep lines back until then."""
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()


class TensorBoardSink(Sink):
    """Writes scalars and images into `tensorboard/`.

    Args:
      folder: the run's folder.
      start: what was written after this step is marked as replaced.
    """

    def __init__(self, folder: Path, start: int):
        # The queue must never fill: were the writer's thread to die, we would hang.
        self._board = SummaryWriter(
            str(folder / "tensorboard"), purge_step=start + 1, max_queue=10**6
        )

    def write(self, step: int, split: str, metrics: dict[str, float]) -> None:
        """Adds each number as a scalar SPLIT/NAME."""
        for name, value in metrics.items():
            if _or_none(value) is not None:
                self._board.add_scalar(f"{split}/{name}", value, step)

    def write_image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture."""
        self._board.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Closes the files."""
        self._board.close()


class FigureSink(Sink):
    """Writes `figures/NAME-STEP.png`, bars of metrics by class, and the curves.

    Args:
      folder: the run's folder.
      best: the metric whose best step the curves mark, "-name" if larger is better; "" for none.
    """

    def __init__(self, folder: Path, best: str = ""):
        self._folder, self._best = folder, best
        self._next_curves = time.perf_counter() + FIRST_CURVES

    def write(self, step: int, split: str, metrics: dict[str, float]) -> None:
        """Draws the bars of an evaluation, and now and then the curves."""
        if split == "train" or not self._folder.is_dir():
            return
        plots.bars(metrics, self._folder / "figures" / f"bars-{step:08d}.png")
        if time.perf_counter() >= self._next_curves:
            self._draw_curves()

    def write_image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Writes a picture as PNG."""
        if self._folder.is_dir():  # else it was removed or renamed, and the next save says so
            path = self._folder / "figures" / f"{name}-{step:08d}.png"
            image_files.save_picture(path, picture)

    def close(self) -> None:
        """Draws the curves, and joins the samples of all steps to an animation."""
        if not self._folder.is_dir():
            return
        self._draw_curves()
        image_files.animate_steps(self._folder / "figures", "samples")

    def _draw_curves(self):
        began = time.perf_counter()
        out = self._folder / "figures" / "curves.png"
        plots.curves(self._folder / "metrics.jsonl", out, self._best)
        ended = time.perf_counter()
        self._next_curves = ended + max(FIRST_CURVES, (ended - began) / CURVES_SHARE)


class TerminalSink(Sink):
    """Shows the progress: a live line on a terminal, a plain line per report elsewhere.

    Args:
      steps: the run's last step.
      batch_size: images per step.
    """

    def __init__(self, steps: int, batch_size: int):
        self._steps, self._batch_size = steps, batch_size
        self._first: tuple[int, float] | None = None  # the first report: its step and time
        self._bar: tqdm | None = None

    def write(self, step: int, split: str, metrics: dict[str, float]) -> None:
        """Shows the loss and the speed of training, or the metrics of an evaluation."""
        if split in ("nonfinite", "collapse"):
            return  # recovery has said it in a line of its own
        if split != "train":
            whole = {name: value for name, value in metrics.items() if "/" not in name}
            shown = ", ".join(f"{name} {value:.4g}" for name, value in whole.items())
            logger.info(f"step {step:,}: {split}: {shown}")
            return
        text = f"loss {metrics['loss']:.4g}  "
        if not math.isnan(metrics["images_per_second"]):
            text += f"{metrics['images_per_second']:,.0f} images/s  "
        text += f"data wait {100 * metrics['data_wait']:.1f}%"
        if sys.stderr.isatty():
            self._live(step, text)
        else:
            logger.info(self._plain(step, text, metrics["images_per_second"] / self._batch_size))

    def close(self) -> None:
        """Leaves the live line as it is."""
        if self._bar is not None:
            self._bar.close()

    def _live(self, step, text):
        if self._bar is None:
            self._bar = tqdm(
                total=self._steps,
                initial=step,
                bar_format=BAR,
                unit=" steps",
                dynamic_ncols=True,
                file=sys.stderr,
            )
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(step - self._bar.n)
        self._bar.refresh()

    def _plain(self, step, text, speed):
        now = time.perf_counter()
        self._first = self._first or (step, now)
        done, seconds = step - self._first[0], now - self._first[1]
        average = done / seconds if done and seconds else speed
        left = (self._steps - step) / average if average else math.nan
        remaining = "--:--" if math.isnan(left) else tqdm.format_interval(left)
        rate = "" if math.isnan(speed) else f"{speed:.1f} steps/s  "
        share = 100 * step / self._steps
        return f"step {step:,}/{self._steps:,} {share:3.0f}%  {rate}{text}  ETA {remaining}"


def _or_none(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value
