"""config.json of a run: its whole config, the versions of what ran it, facts about its data."""

import hashlib
import importlib.metadata
import json
import logging
import platform
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from launch import storage
from launch.config.errors import UserError
from launch.config.loading import with_defaults
from launch.config.schema import IDENTITY, flatten, is_in, with_values
from launch.storage.atomic import replacing

logger = logging.getLogger("segen")

# Of config.json; a run of another format is refused.
FORMAT = 3

# The keys of a record that its checksum covers.
SEALED = ("format", "config", "versions", "data")

PACKAGES = (
    "segen",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
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
    return json.dumps(content | {"sha256": seal(content)}, indent=2) + "\n"


def write(workdir: Path, content: str) -> None:
    """Writes config.json, of what `to_json` returned."""
    with replacing(workdir / "config.json") as working:
        working.write_text(content)


def read_config(workdir: Path) -> ConfigDict:
    """The config of the run in a workdir.

    Raises:
      UserError: as `read`; or its config cannot be one.
    """
    record, path = read(workdir)
    try:
        config = ConfigDict(record["config"])
    except (ValueError, TypeError, AttributeError) as error:  # such as a key with a dot
        raise UserError(f"{path} is damaged ({error})")
    return with_defaults(config, str(path))


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
        from launch.config import copies  # only where something is wrong

        hint = copies.hint(workdir)
        raise UserError(f"--workdir: {workdir} is not a run: it has no config.json{hint}")
    try:
        record = json.loads(path.read_bytes())
        sealed, version = record.get("sha256"), record.get("versions", {}).get("segen")
        if not isinstance(record.get("config", {}), dict):
            raise ValueError("its config is no mapping")
    except (ValueError, AttributeError, RecursionError) as error:
        from launch.config import copies

        raise UserError(f"{path} is damaged ({error}){copies.advice(workdir)}")
    if sealed is None and record.get("format") != FORMAT:
        raise UserError(
            f"{path} was written by Segen {version or 'unknown'}, whose runs this version does "
            "not open; train again, or install that version"
        )
    if sealed != seal(record):
        from launch.config import copies

        changed = copies.changes(workdir, record) + copies.advice(workdir)
        raise UserError(f"{path} has changed since it was written{changed}")
    return record, path


def seal(record: dict) -> str:
    """SHA-256 of a record; it does not depend on the spaces and the order of its JSON."""
    content = {key: record.get(key) for key in SEALED}
    content = json.loads(json.dumps(content))  # then all keys are strings, and can be sorted
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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
        if is_in(key, IDENTITY) and before.get(key) != after.get(key):
            lines.append(f"{key}: {before.get(key)!r} -> {after.get(key)!r}")
    return lines


def shared_keys(keys: dict) -> dict[str, Any]:
    """The keys on which several processes must agree: all but where each finds its data.

    Args:
      keys: a whole config as a dict.

    Returns:
      {dotted key: value}.
    """
    own = ("data.data_dir", "data.path", "data.threads", "data.workers")
    return {key: value for key, value in flatten(keys).items() if key not in own}


def with_plan(config: ConfigDict, on_process_zero: Callable) -> ConfigDict:
    """The config with the values of its plan, which process 0 makes, in place of those that wait.

    Args:
      config: a complete config.
      on_process_zero: (name, function) -> its result.

    Raises:
      UserError: the plan fails.
    """
    if not config.plan:
        return config
    from launch.config import planned

    return planned.filled(config, on_process_zero("the plan", partial(planned.values, config)))


def check_continues(workdir: Path, config: ConfigDict) -> ConfigDict:
    """Checks that a workdir is new, or holds the run that a config describes.

    Args:
      workdir: the run's folder.
      config: the config to start or continue a run with.

    Returns:
      The config, with the plan and the number of classes that the run began with. Keys that follow
      train.steps may change with it, which is said.

    Raises:
      UserError: the workdir holds another run; lists the keys that differ.
    """
    if not (workdir / "config.json").is_file() and not (workdir / "checkpoints").is_dir():
        return config
    from launch.config import copies  # a new run has none

    old = copies.config_of(workdir)
    if old is None:
        return config
    if config.plan:
        from launch.config.planned import unset  # few runs have a plan

        known = flatten(old.to_dict())
        config = with_values(config, {key: known[key] for key in unset(config) if key in known})
    if config.task.get("classes") == -1:  # as many as the data had when the run began
        config = with_values(config, {"task.classes": old.task.get("classes", -1)})
    changed, values = differences(old, config), flatten(old.to_dict())
    listed, keys = "\n  ".join(changed), (line.partition(":")[0] for line in changed)
    keep = " ".join(shlex.quote(f"--config.{key}={values[key]}") for key in keys if key in values)
    if changed and not differences(old, with_values(config, {"train.steps": old.train.steps})):
        logger.warning(
            f"config.train.steps: {old.train.steps} -> {config.train.steps} changes what follows "
            f"it:\n  {listed}\nFrom its newest checkpoint on, the run takes the learning rates of "
            "the new schedule; so it differs from a run that had as many steps from the start. To "
            f"keep the old schedule, add {keep}"
        )
    elif changed:
        raise UserError(
            f"{workdir} holds a run with another config:\n  {listed}\n"
            "Take another --workdir (with --config.init_from to start from its parameters), "
            f"or give the old values to go on with it: {keep}"
        )
    return config
