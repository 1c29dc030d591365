"""Reads metrics.jsonl, which a killed run may leave with half a line at its end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class MetricsFile(NamedTuple):
    """What a metrics.jsonl holds.

    Attributes:
      lines: the lines in their order; each has at least `step` and `split`.
      broken: how many lines cannot be read, or have no step.
    """

    lines: list[dict]
    broken: int

    def series(self, name: str, split: str) -> list[tuple[int, float]]:
        """The steps and numbers of one metric of one split; null is left out."""
        pairs = ((line["step"], line.get(name)) for line in self.lines if line["split"] == split)
        return [(step, value) for step, value in pairs if isinstance(value, int | float)]


def read(path: Path) -> MetricsFile:
    """Reads a metrics.jsonl; a file that is not there has no lines.

    Args:
      path: the file.
    """
    found = list(_lines(path)) if path.is_file() else []
    lines = [line for line in found if line is not None]
    return MetricsFile(lines, len(found) - len(lines))


def _lines(path: Path) -> Iterator[dict | None]:
    for text in path.read_bytes().splitlines():
        try:
            line = json.loads(text)
            yield line if isinstance(line["step"], int) and isinstance(line["split"], str) else None
        except (ValueError, KeyError, TypeError):
            yield None
