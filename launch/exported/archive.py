"""The file itself: a ZIP archive that Python runs and imports from."""

import importlib.metadata
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from launch.exported import loader

# A copy of the loader under the name that it is imported by, and what `python FILE` runs.
MODULE, MAIN = "segen_model.py", "__main__.py"
RUN = '''"""Says what the archive holds, and checks it."""

import sys

import segen_model

sys.exit(segen_model.main())
'''
BEGINNING = (1980, 1, 1, 0, 0, 0)  # of time in ZIP files: the same content, the same bytes


def code() -> dict[str, bytes]:
    """Members that are the same in every archive: the loader, and flatbuffers.

    jax reads programs by flatbuffers and does not install it.
    """
    members = {MODULE: Path(loader.__file__).read_bytes(), MAIN: RUN.encode()}
    for file in importlib.metadata.files("flatbuffers") or ():
        module = file.suffix == ".py" and len(file.parts) == 2 and file.stem != "flexbuffers"
        if module or file.name == "METADATA":  # which names its authors and its licence
            members[f"{loader.VENDOR}/{file}"] = file.locate().read_bytes()
    return members


def parameters(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays by name as a safetensors file."""
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()})


def write(path: Path, members: dict[str, bytes]) -> None:
    """Writes the members in their order; parameters as they are, for nothing packs them."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, BEGINNING)
            entry.external_attr = 0o644 << 16
            packed = zipfile.ZIP_STORED if name == loader.PARAMETERS else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content, packed)
