"""The copies of config.json that lie in the checkpoints of a run."""

import json
import logging
from pathlib import Path

from ml_collections import ConfigDict

from launch import storage
from launch.config import run_config
from launch.config.errors import UserError
from launch.config.loading import with_defaults
from launch.config.schema import flatten

logger = logging.getLogger("segen")


def newest(workdir: Path) -> tuple[dict, Path | None]:
    """Finds the newest copy that is whole.

    Args:
      workdir: a run's folder.

    Returns:
      The record and its file, `checkpoints/STEP/run/metadata`; {} and None if there is none.
    """
    for step in reversed(_steps(workdir)):
        path = step / "run" / "metadata"
        try:
            record = json.loads(path.read_bytes()) if storage.is_regular(path) else {}
        except (ValueError, OSError, RecursionError):
            continue
        if isinstance(record, dict) and record.get("sha256") == run_config.seal(record):
            return record, path
    return {}, None


def config_of(workdir: Path) -> ConfigDict | None:
    """The config of a run that training goes on with: of config.json, or of the newest copy.

    Args:
      workdir: the run's folder.

    Returns:
      The config; None if the folder holds neither config.json nor a checkpoint.

    Raises:
      UserError: config.json is damaged or is not of these checkpoints, or no copy is whole.
    """
    record, copy = newest(workdir)
    if (workdir / "config.json").is_file():
        config = run_config.read_config(workdir)
        if copy:
            check_same_run(workdir, record, copy.parents[1])
        return config
    if copy:
        logger.warning(f"{workdir} has no config.json; it is written again from {copy}")
        return with_defaults(ConfigDict(record["config"]), str(copy))
    if _steps(workdir):
        raise UserError(
            f"{workdir} has checkpoints but no config.json, and no whole copy of it; take another "
            "--workdir"
        )
    return None


def check_same_run(workdir: Path, copy: dict, step: Path) -> None:
    """Refuses a checkpoint that another run saved.

    Args:
      workdir: the run's folder.
      copy: the record that was saved with the step.
      step: the folder of the step, for the message.

    Raises:
      UserError: lists the keys that differ.
    """
    saved = with_defaults(ConfigDict(copy.get("config", {})), str(step))
    if changed := run_config.differences(saved, run_config.read_config(workdir)):
        raise UserError(
            f"{step} was saved by a run with another config than config.json says:\n  "
            + "\n  ".join(changed)
            + f"\nTake the config.json that belongs to it; a copy is in {step / 'run' / 'metadata'}"
        )


def changes(workdir: Path, record: dict) -> str:
    """Lists the keys of a config.json that differ from the newest copy.

    Args:
      workdir: the run's folder.
      record: the content of its config.json.

    Returns:
      Lines "key: value here, value in the copy"; "" if there is no copy.
    """
    copy, path = newest(workdir)
    if path is None:
        return ""
    here, there = (flatten({key: r.get(key) for key in run_config.SEALED}) for r in (record, copy))
    lines = [
        f"\n  {key.removeprefix('config.')}: {here.get(key)!r} here, {there.get(key)!r} in the copy"
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key)
    ]
    return "".join(lines) or "\n  no value differs: the checksum in it does"


def advice(workdir: Path) -> str:
    """Says what to do about a config.json that has changed; `workdir` is the run's folder."""
    _, copy = newest(workdir)
    if copy is None:
        return "; no checkpoint has a copy of it: train again into another --workdir"
    return (
        f"\nThe copy is {copy}. Put the old values back, or move config.json away: the next start "
        "of training writes it again. To try another value, give it as --config.KEY=VALUE"
    )


def hint(workdir: Path) -> str:
    """Says where the copy of a missing config.json is; "" if `workdir` has none."""
    _, copy = newest(workdir)
    return f"; the next start of training writes it, from its copy in {copy}" if copy else ""


def _steps(workdir):
    """The folders of the steps, ascending."""
    folder = workdir / "checkpoints"
    found = [path for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
    return sorted(found, key=lambda path: (len(path.name), path.name))
