"""The files that a run was trained on, so that a change is told when the run goes on."""

import json
import logging
from pathlib import Path

from launch.storage.atomic import replacing

logger = logging.getLogger("segen")

NAMED = 3  # files of a kind of change


def tell_changes(path: Path, inventories: dict[str, dict[str, str]]) -> None:
    """Compares the files of today with those of the last start, and keeps today's.

    Args:
      path: the file that keeps them.
      inventories: {split: {file: a hash of its content}}.
    """
    try:
        kept = json.loads(path.read_text()) if path.is_file() else None
    except ValueError:
        logger.warning(f"{path} is damaged: whether the data have changed is not known")
        kept = None
    if kept is not None:
        for split, today in inventories.items():
            for line in changes(kept.get(split, {}), today):
                logger.warning(f"since this run last started, {split} has {line}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as working:
        working.write_text(json.dumps(inventories, indent=0) + "\n")


def changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Describes what differs between two inventories.

    Args:
      before: {file: a hash of its content}.
      now: the same.

    Returns:
      A line for each kind of change: files added, removed, and changed.
    """
    kinds = {
        "added": now.keys() - before.keys(),
        "removed": before.keys() - now.keys(),
        "changed": {name for name in before.keys() & now.keys() if before[name] != now[name]},
    }
    lines = []
    for kind, names in kinds.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        if names:
            lines.append(f"{len(names):,} {kind}: {', '.join(sorted(names)[:NAMED])}{more}")
    return lines
