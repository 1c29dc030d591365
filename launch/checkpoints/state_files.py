"""The files that Orbax keeps a state in: their folder as Orbax takes it, and their index."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorstore
from etils import epath

from launch import storage
from launch.storage import checksums


class LiteralPath(type(epath.Path("/"))):
    """A local path of which no part is a pattern.

    Orbax lists files by `glob`, which `etils.epath` applies to the whole path: in a folder
    `b[1]` it finds nothing, and in a folder `b*` the files of other runs.
    """

    def glob(self, pattern: str) -> Iterator["LiteralPath"]:
        """The files below this folder that match a pattern."""
        return (self._new(found) for found in Path(self).glob(pattern))


def for_orbax(folder: Path) -> Any:
    """A folder in the form to give to Orbax."""
    return folder if storage.is_bucket(folder) else LiteralPath(folder)


def find_damage(step: Path) -> str | None:
    """Checks that a step is as it was written, and that its state can be found in it.

    Args:
      step: the folder of a step.

    Returns:
      The first fault, in a few words; None if the step is whole.
    """
    if damage := checksums.find_damage(step) or find_unreadable(step):
        return damage
    return None if (step / "run" / "metadata").is_file() else "run/metadata is missing"


def find_unreadable(step: Path) -> str | None:
    """Opens the index of a step's state, and looks for every array in it.

    Args:
      step: the folder of a step, committed or not.

    Returns:
      The first fault, in a few words; None if every array is there.
    """
    folder = step / "state"
    base = {"driver": "file", "path": f"{folder}/"}
    index = {"driver": "ocdbt", "base": f"{folder}/" if storage.is_bucket(folder) else base}
    try:
        leaves = _leaves((folder / "_METADATA").read_bytes())
        store = tensorstore.KvStore.open(index).result()
        keys = {key.decode() for key in store.list().result()}
    except FileNotFoundError:
        return "state/_METADATA is missing"
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RuntimeError) as error:
        return f"the index of state cannot be read ({type(error).__name__})"
    filled = {key.rpartition("/")[0] for key in keys if not key.endswith("/.zarray")}
    for name, shape in leaves.items():
        if f"{name}/.zarray" not in keys or (name not in filled and 0 not in shape):
            return f"state has no array {name!r}"
    return None


def _leaves(metadata):
    """{name: shape} of every array that Orbax's `_METADATA` lists."""
    leaves = json.loads(metadata)["tree_metadata"].values()
    return {
        ".".join(str(part["key"]) for part in leaf["key_metadata"]): leaf["value_metadata"].get(
            "write_shape", ()
        )
        for leaf in leaves
        if not leaf["value_metadata"].get("skip_deserialize")
    }
