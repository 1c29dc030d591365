"""Writes the ZIP archive that Python can run and import from."""

import importlib.metadata
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from launch.exported import loader

# The name under which the loader is imported, and the script that `python FILE` runs.
MODULE, MAIN = "segen_model.py", "__main__.py"
SCRIPT = '''"""Says what the archive contains, and checks it."""

import sys

import segen_model

sys.exit(segen_model.main())
'''
DATE = (1980, 1, 1, 0, 0, 0)  # of every member, so that the same content gives the same bytes


def code() -> dict[str, bytes]:
    """Collects the members that are the same in every archive: the loader and flatbuffers.

    jax reads programs with the package flatbuffers, and does not install it.

    Returns:
      {member: content}.
    """
    members = {MODULE: Path(loader.__file__).read_bytes(), MAIN: SCRIPT.encode()}
    for file in importlib.metadata.files("flatbuffers") or ():
        module = file.suffix == ".py" and len(file.parts) == 2 and file.stem != "flexbuffers"
        if module or file.name == "METADATA":  # METADATA names its authors and its licence
            members[f"{loader.VENDOR}/{file}"] = file.locate().read_bytes()
    return members


def parameters(arrays: dict[str, np.ndarray]) -> bytes:
    """Packs arrays into a safetensors file.

    Args:
      arrays: {name: array}.

    Returns:
      The content of the file.
    """
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()})


def write(path: Path, members: dict[str, bytes]) -> None:
    """Writes an archive; parameters are stored, because compression does not shrink them.

    Args:
      path: the file.
      members: {member: content}, in the order of the archive.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, DATE)
            entry.external_attr = 0o644 << 16
            stored = name == loader.PARAMETERS
            method = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content, method)
