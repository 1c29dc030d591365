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


def kept(path: Path, start: int) -> bytes:
    """The lines that a run keeps which goes on from a step, byte for byte.

    Dropped are the lines of later steps, which the run writes again, and half a line at the
    end. A line that cannot be read is kept.

    Args:
      path: a metrics.jsonl, which need not exist.
      start: the step.
    """
    content = path.read_bytes() if path.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]
    pairs = zip(whole.split(b"\n"), parse(whole), strict=False)
    return b"".join(text + b"\n" for text, line in pairs if line is None or line["step"] <= start)


def _lines(path: Path) -> Iterator[dict | None]:
    yield from parse(path.read_bytes())


def parse(content: bytes) -> Iterator[dict | None]:
    """The lines of a metrics.jsonl's content; None for each that cannot be read."""
    lines = content.split(b"\n")
    for text in lines if lines[-1] else lines[:-1]:
        try:
            line = json.loads(text)
            yield line if isinstance(line["step"], int) and isinstance(line["split"], str) else None
        except (ValueError, KeyError, TypeError, RecursionError):
            yield None
