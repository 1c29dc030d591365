"""Reads weights files of other tools: .npz, .safetensors and .pth, without PyTorch.

A .pth file is a pickle, and unpickling can run any code. So a pickle may name only tensors
and ordered dictionaries here.

The parser of .safetensors files is `launch.exported.loader.tensors`. That module travels
inside exported archives and can import nothing of ours, so this module imports it.
"""

import io
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.numpy import bfloat16

from launch.config.errors import UserError
from launch.exported import loader

MAGIC = 0x1950A86A20F9469CFC6C  # the first number of PyTorch's format before 1.6

# PyTorch's types of storages.
STORAGE_TYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": np.dtype(bfloat16),
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}

# What the libraries and parsers raise on a damaged file.
DAMAGE = (
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    IndexError,
    AttributeError,
    struct.error,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads all tensors of a file.

    Args:
      path: a .npz, .safetensors, .pth or .pt file.

    Returns:
      {name: array}, of the shapes and dtypes in the file.

    Raises:
      UserError: there is no such file, its kind is unknown, or it is damaged.
    """
    readers = {".npz": _npz, ".safetensors": _safetensors, ".pth": _pth, ".pt": _pth}
    if path.suffix not in readers:
        raise UserError(f"{path}: weights are read from {', '.join(readers)} files")
    if not path.is_file():
        raise UserError(f"no such weights file: {path}")
    try:
        return readers[path.suffix](path)
    except DAMAGE as error:
        raise UserError(f"{path} is not a {path.suffix} weights file, or damaged: {error}")


def _npz(path):
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _safetensors(path):
    return loader.tensors(path.read_bytes())


class _Storage(NamedTuple):
    """An array of numbers that tensors are views of; its bytes can come after the pickle."""

    key: str
    dtype: np.dtype


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides count numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, values: np.ndarray) -> np.ndarray:
        """The view of the storage's values [N], copied."""
        ends = ((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        valid = all(number >= 0 for number in (self.offset, *self.shape, *self.strides))
        if not valid or (0 not in self.shape and self.offset + sum(ends) >= len(values)):
            raise ValueError("a tensor reaches beyond its storage")
        steps = tuple(stride * values.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps).copy()


class _Unpickler(pickle.Unpickler):
    """Accepts the names of tensors and of ordered dictionaries, and refuses all others."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(
                storage, offset, tuple(shape), tuple(strides)
            )
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in STORAGE_TYPES:
            return np.dtype(STORAGE_TYPES[name])
        raise pickle.UnpicklingError(f"it holds {module}.{name}, and not only tensors")

    def persistent_load(self, identifier):
        kind, dtype, key, *_ = identifier
        if kind != "storage":
            raise pickle.UnpicklingError(f"it holds a {kind}, and not only tensors")
        return _Storage(str(key), dtype)


def _pth(path):
    return _zipped(path) if zipfile.is_zipfile(path) else _unzipped(path)


def _zipped(path):
    """PyTorch's format since 1.6: a ZIP with one pickle and one file for each storage."""
    with zipfile.ZipFile(path) as archive:
        pickled = next(name for name in [*archive.namelist(), ""] if name.endswith("data.pkl"))
        tensors = _tensors(_Unpickler(io.BytesIO(archive.read(pickled))).load())
        folder = pickled.removesuffix("data.pkl") + "data/"
        values = {
            storage.key: np.frombuffer(archive.read(folder + storage.key), storage.dtype)
            for storage in {tensor.storage for tensor in tensors.values()}
        }
    return {name: tensor.array(values[tensor.storage.key]) for name, tensor in tensors.items()}


def _unzipped(path):
    """PyTorch's format before 1.6: five pickles, then the length and numbers of each storage."""
    with path.open("rb") as stream:
        magic, _, _, content, keys = (_Unpickler(stream).load() for _ in range(5))
        if magic != MAGIC:
            raise ValueError("its first number is not that of PyTorch")
        tensors = _tensors(content)
        dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
        values = {}
        for key in map(str, keys):
            if key not in dtypes:  # only tensors tell the size of a storage's numbers
                raise ValueError(f"no tensor uses storage {key}")
            (count,) = struct.unpack("<q", stream.read(8))
            values[key] = np.frombuffer(stream.read(count * dtypes[key].itemsize), dtypes[key])
    return {name: tensor.array(values[tensor.storage.key]) for name, tensor in tensors.items()}


def _tensors(content):
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not tensors by name")
    return {name: value for name, value in content.items() if isinstance(value, _Tensor)}
