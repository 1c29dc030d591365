"""Damage to the lines of metrics.jsonl that a checkpoint keeps a checksum of."""

import logging
import shutil
from pathlib import Path

import google_crc32c

from launch import storage
from launch.reporting import metrics_file

logger = logging.getLogger("segen")


def find(path: Path, written: dict | None) -> str | None:
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
    if not storage.is_regular(path):
        return f"{path} is not a regular file"
    content = path.read_bytes()[: written["bytes"]]
    if f"{google_crc32c.value(content):08x}" == written["crc32c"]:
        return None
    for number, line in enumerate(metrics_file.parse(content), start=1):
        if line is None:
            return f"line {number} of {path} cannot be read"
    count = content.count(b"\n")
    return f"{path}: one of the first {count} lines has changed since it was written"


def check(path: Path, written: dict) -> None:
    """Says if lines have changed since a checkpoint, and copies the file to `damaged/`.

    Args:
      path: a metrics.jsonl.
      written: see `find`.
    """
    damage, copied = find(path, written), ""
    if damage and storage.is_regular(path):
        target = path.parent / "damaged" / path.name
        while target.exists():
            target = target.with_name(target.name + "+")
        target.parent.mkdir(exist_ok=True)
        copied = f"; a copy of the file is {shutil.copyfile(path, target)}"
    if damage:
        logger.warning(f"{damage}; the run goes on, and its state is whole{copied}")
