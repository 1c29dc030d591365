"""Hands the metrics and images of a run to its sinks."""

from collections.abc import Sequence

import numpy as np

from launch.reporting import image_files


class Sink:
    """Takes what a run reports; each method does nothing unless a subclass overrides it."""

    def write(self, step: int, split: str, metrics: dict[str, float]) -> None:
        """Takes the metrics of a split at a step."""

    def write_image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Takes one picture, uint8 [H, W, 3]."""

    def flush(self) -> None:
        """Puts what it took where it survives the end of the process."""

    def facts(self) -> dict:
        """What a checkpoint records of it, to notice damage to what it wrote."""
        return {}

    def close(self) -> None:
        """Ends; nothing comes after."""


class MetricsWriter:
    """Hands metrics and images to sinks; without sinks it does nothing.

    Args:
      sinks: in the order in which they are called.
    """

    def __init__(self, sinks: Sequence[Sink] = ()):
        self._sinks = tuple(sinks)

    def write(self, step: int, split: str, metrics: dict[str, float]) -> None:
        """Writes the metrics of a split, or of what happened at a step.

        Args:
          step: the steps done so far.
          split: "train", the name of an evaluated split, "nonfinite" or "collapse".
          metrics: {name: number}; metrics by class have names such as "iou/wall".
        """
        for sink in self._sinks:
            sink.write(step, split, metrics)

    def write_images(self, step: int, images: dict[str, np.ndarray]) -> None:
        """Writes figures.

        Args:
          step: the steps done so far.
          images: {name: [N, H, W, C] or [rows, columns, H, W, C]}, uint8 or float in [0, 1].
        """
        for name, batch in images.items() if self._sinks else ():
            picture = image_files.grid(batch)
            for sink in self._sinks:
                sink.write_image(step, name, picture)

    def flush(self) -> None:
        """Flushes every sink; called before a checkpoint is saved."""
        for sink in self._sinks:
            sink.flush()

    def facts(self) -> dict:
        """What a checkpoint records of all sinks."""
        return {key: value for sink in self._sinks for key, value in sink.facts().items()}

    def close(self) -> None:
        """Closes every sink."""
        for sink in self._sinks:
            sink.close()
