"""Reads metrics.jsonl, which a killed run may leave with half a line at its end."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import google_crc32c


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


def find_damage(path: Path, written: dict | None) -> str | None:
    """Compares the lines that a run had written at a checkpoint with what was written.

    Args:
      path: a metrics.jsonl, to which the run may have added lines since.
      written: "bytes" and "crc32c" of the file then; None if they are not known.

    Returns:
      The damage in a few words; None if there is none.
    """
    if not written or not (path.exists() or written["bytes"]):
        return None
    if not path.exists():
        return f"{path} is missing"
    content = path.read_bytes()[: written["bytes"]]
    if crc32c(google_crc32c.value(content)) == written["crc32c"]:
        return None
    for number, line in enumerate(_parse(content), start=1):
        if line is None:
            return f"line {number} of {path} cannot be read"
    count = content.count(b"\n")
    return f"{path}: one of the first {count} lines has changed since it was written"


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
    pairs = zip(whole.split(b"\n"), _parse(whole), strict=False)
    return b"".join(text + b"\n" for text, line in pairs if line is None or line["step"] <= start)


def set_aside(path: Path) -> Path:
    """Copies a damaged metrics.jsonl to `damaged/`, under a new name, and returns the copy."""
    target = path.parent / "damaged" / path.name
    while target.exists():
        target = target.with_name(target.name + "+")
    target.parent.mkdir(exist_ok=True)
    return Path(shutil.copyfile(path, target))


def crc32c(value: int) -> str:
    """A checksum in the form in which checkpoints keep it."""
    return f"{value:08x}"


def _lines(path: Path) -> Iterator[dict | None]:
    yield from _parse(path.read_bytes())


def _parse(content):
    lines = content.split(b"\n")
    for text in lines if lines[-1] else lines[:-1]:
        try:
            line = json.loads(text)
            yield line if isinstance(line["step"], int) and isinstance(line["split"], str) else None
        except (ValueError, KeyError, TypeError):
            yield None
