"""config.json of a run: its whole config, the versions of what ran it, facts about its data."""

import importlib.metadata
import json
import platform
from pathlib import Path

from ml_collections import ConfigDict

from launch.config.errors import UserError
from launch.config.loading import complete
from launch.config.schema import IDENTITY, flatten

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
    """The whole config, the versions of what runs it, and facts about its data."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    content = {"config": config.to_dict(), "versions": versions, "data": facts or {}}
    return json.dumps(content, indent=2) + "\n"


def write(workdir: Path, content: str) -> None:
    """Writes config.json; a run killed meanwhile leaves the old one."""
    working = workdir / "config.json.tmp"
    working.write_text(content)
    working.replace(workdir / "config.json")


def read_config(workdir: Path) -> ConfigDict:
    """The config that a workdir holds; see `read`."""
    record, path = read(workdir)
    return complete(ConfigDict(record["config"]), str(path))


def read(workdir: Path) -> tuple[dict, Path]:
    """What `to_json` wrote into a workdir, and the file.

    Raises:
      UserError: no such workdir, or no readable config in it.
    """
    path = workdir / "config.json"
    if not workdir.is_dir():
        raise UserError(f"--workdir: no such directory: {workdir}")
    if not path.is_file():
        raise UserError(f"--workdir: {workdir} is not a run: it has no config.json")
    try:
        record = json.loads(path.read_text())
        return {"data": {}} | record | {"config": record["config"]}, path
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); a copy is inside each checkpoint")


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Lines "key: old -> new" for the keys that make it another run."""
    before, after = (flatten(json.loads(json.dumps(c.to_dict()))) for c in (old, new))
    lines = []
    for key in sorted(before.keys() | after.keys()):
        identity = any(key == name or key.startswith(name + ".") for name in IDENTITY)
        if identity and before.get(key) != after.get(key):
            lines.append(f"{key}: {before.get(key)!r} -> {after.get(key)!r}")
    return lines
