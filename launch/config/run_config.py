"""config.json of a run: its whole config, the versions of what ran it, facts about its data."""

import hashlib
import importlib.metadata
import json
import logging
import platform
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from launch import storage
from launch.config.errors import UserError
from launch.config.loading import with_defaults
from launch.config.schema import IDENTITY, flatten, with_values
from launch.storage.atomic import replacing

logger = logging.getLogger("segen")

# Of config.json; a run of another format is refused.
FORMAT = 3

# What a record is made of; and what else it holds in a checkpoint.
SEALED = ("format", "config", "versions", "data")
OWN = ("sha256", "recovery", "metrics")

PACKAGES = (
    "segen",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "array_record",
    "numpy",
)


def to_json(config: ConfigDict, facts: dict | None = None) -> str:
    """The content of config.json.

    Args:
      config: the whole config.
      facts: what `launch.data.batches.facts` says of the data.

    Returns:
      JSON with the config, the versions of the installed packages, the facts, and the SHA-256
      of all these, which reveals a change.
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    content = {
        "format": FORMAT,
        "config": config.to_dict(),
        "versions": versions,
        "data": facts or {},
    }
    return json.dumps(content | {"sha256": _seal(content)}, indent=2) + "\n"


def write(workdir: Path, content: str) -> None:
    """Writes config.json, of what `to_json` returned."""
    with replacing(workdir / "config.json") as working:
        working.write_text(content)


def read_config(workdir: Path) -> ConfigDict:
    """The config of the run in a workdir; see `read`."""
    record, path = read(workdir)
    return with_defaults(ConfigDict(record["config"]), str(path))


def read(workdir: Path) -> tuple[dict, Path]:
    """Reads config.json of a workdir.

    Args:
      workdir: the run's folder.

    Returns:
      {"config": ..., "versions": ..., "data": ...} as `to_json` wrote them, and the file.

    Raises:
      UserError: no such workdir, no config in it, one of another version, or one that has
        changed since it was written; names the keys that differ from the newest copy.
    """
    path = workdir / "config.json"
    if not workdir.is_dir():
        raise UserError(f"--workdir: no such directory: {workdir}")
    if not storage.is_regular(path) or not path.is_file():
        _, copy = _newest_copy(workdir)
        hint = f"; the next start of training writes it, from its copy in {copy}" if copy else ""
        raise UserError(f"--workdir: {workdir} is not a run: it has no config.json{hint}")
    try:
        record = json.loads(path.read_bytes())
        sealed, version = record.get("sha256"), record.get("versions", {}).get("segen")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}){_advice(workdir)}")
    if sealed is None and record.get("format") != FORMAT:
        raise UserError(
            f"{path} was written by Segen {version or 'unknown'}, whose runs this version does "
            "not open; train again, or install that version"
        )
    if sealed != _seal(record):
        copy, _ = _newest_copy(workdir)
        lines = _changes(copy, record) or ["no value differs: the checksum in it does"]
        changed = "".join(f"\n  {line}" for line in lines) if copy else ""
        raise UserError(f"{path} has changed since it was written{changed}{_advice(workdir)}")
    return record, path


def _seal(record):
    """SHA-256 of a record; it does not depend on the spaces and the order of its JSON."""
    content = {key: record.get(key) for key in SEALED}
    content = json.loads(json.dumps(content))  # then all keys are strings, and can be sorted
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _newest_copy(workdir) -> tuple[dict, Path | None]:
    """The newest record that is whole among those of the checkpoints, and its file."""
    folder = workdir / "checkpoints"
    steps = [path for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
    for step in sorted(steps, key=lambda path: (len(path.name), path.name), reverse=True):
        path = step / "run" / "metadata"
        try:
            record = json.loads(path.read_bytes()) if storage.is_regular(path) else {}
        except (ValueError, OSError):
            continue
        if isinstance(record, dict) and record.get("sha256") == _seal(record):
            return record, path
    return {}, None


def _changes(copy, record):
    """Lines "key: value here, value in the copy" of a record's keys that differ."""
    here, there = (
        flatten({key: value for key, value in r.items() if key not in OWN}) for r in (record, copy)
    )
    return [
        f"{key.removeprefix('config.')}: {here.get(key)!r} here, {there.get(key)!r} in the copy"
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key)
    ]


def _advice(workdir):
    """What to do about a config.json that has changed."""
    _, copy = _newest_copy(workdir)
    if copy is None:
        return "; no checkpoint has a copy of it: train again into another --workdir"
    return (
        f"\nThe copy is {copy}. Put the old values back, or move config.json away: the next start "
        "of training writes it again. To try another value, give it as --config.KEY=VALUE"
    )


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """The keys whose values differ and make it another run.

    Args:
      old: the config of the run.
      new: the config to continue it with.

    Returns:
      Lines "key: old -> new".
    """
    before, after = (flatten(json.loads(json.dumps(c.to_dict()))) for c in (old, new))
    lines = []
    for key in sorted(before.keys() | after.keys()):
        identity = any(key == name or key.startswith(name + ".") for name in IDENTITY)
        if identity and before.get(key) != after.get(key):
            lines.append(f"{key}: {before.get(key)!r} -> {after.get(key)!r}")
    return lines


def check_same_run(config: ConfigDict, copy: dict, step: Path) -> None:
    """Refuses a checkpoint that another run saved.

    Args:
      config: the config of the run.
      copy: the record that was saved with the step.
      step: the folder of the step, for the message.

    Raises:
      UserError: lists the keys that differ.
    """
    saved = with_defaults(ConfigDict(copy.get("config", {})), str(step))
    if changed := differences(saved, config):
        raise UserError(
            f"{step} was saved by a run with another config than config.json says:\n  "
            + "\n  ".join(changed)
            + f"\nTake the config.json that belongs to it; a copy is in {step / 'run' / 'metadata'}"
        )


def shared_keys(keys: dict) -> dict[str, Any]:
    """The keys on which several processes must agree: all but where each finds its data.

    Args:
      keys: a whole config as a dict.

    Returns:
      {dotted key: value}.
    """
    own = ("data.data_dir", "data.path", "data.threads", "data.workers")
    return {key: value for key, value in flatten(keys).items() if key not in own}


def check_continues(workdir: Path, config: ConfigDict) -> ConfigDict:
    """Checks that a workdir is new, or holds the run that a config describes.

    Args:
      workdir: the run's folder.
      config: the config to start or continue a run with.

    Returns:
      The config, with the number of classes that the run began with.

    Raises:
      UserError: the workdir holds another run; lists the keys that differ.
    """
    if (workdir / "config.json").is_file():
        old = read_config(workdir)
    else:
        record, copy = _newest_copy(workdir)
        if copy is None:
            folder = workdir / "checkpoints"
            if folder.is_dir() and any(path.name.isdigit() for path in folder.iterdir()):
                raise UserError(
                    f"{workdir} has checkpoints but no config.json, and no whole copy of it; take "
                    "another --workdir"
                )
            return config
        logger.warning(f"{workdir} has no config.json; it is written again from {copy}")
        old = with_defaults(ConfigDict(record["config"]), str(copy))
    if config.task.get("classes") == -1:  # as many as the data had when the run began
        config = with_values(config, {"task.classes": old.task.get("classes", -1)})
    if changed := differences(old, config):
        raise UserError(
            f"{workdir} holds a run with another config:\n  "
            + "\n  ".join(changed)
            + "\nTake another --workdir (with --config.init_from to start from its parameters), "
            "or give the old values to go on with it."
        )
    return config
