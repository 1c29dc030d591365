"""Reading a file of weights that another tool wrote: .npz, .safetensors or .pth.

A .pth file is a pickle, and a pickle can run anything: here it may only name tensors.
Both of PyTorch's formats are read, without PyTorch.
"""

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.numpy import bfloat16

from launch.config.errors import UserError

MAGIC = 0x1950A86A20F9469CFC6C  # of PyTorch's format before 1.6

# How safetensors and PyTorch name types of numbers.
TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.dtype(bfloat16),
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
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


def read(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a file by name.

    Raises:
      UserError: no such file, an unknown kind, or a damaged one.
    """
    readers = {".npz": _npz, ".safetensors": _safetensors, ".pth": _pth, ".pt": _pth}
    if path.suffix not in readers:
        raise UserError(f"{path}: weights are read from {', '.join(readers)} files")
    if not path.is_file():
        raise UserError(f"no such file of weights: {path}")
    try:
        return readers[path.suffix](path)
    except (
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        IndexError,
        AttributeError,
        struct.error,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise UserError(f"{path} is no {path.suffix} file of weights, or damaged: {error}")


def _npz(path):
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), memoryview(data)[8 + length :]
    tensors = {}
    for name, told in header.items():
        if name != "__metadata__":
            first, last = told["data_offsets"]
            values = np.frombuffer(body[first:last], TYPES[told["dtype"]])
            tensors[name] = values.reshape(told["shape"])
    return tensors


class _Storage(NamedTuple):
    """A run of numbers that tensors are views of; its bytes may come after the pickle."""

    key: str
    dtype: np.dtype


class _Tensor(NamedTuple):
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, values: np.ndarray) -> np.ndarray:
        """The view of the storage's values."""
        ends = ((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        sound = all(number >= 0 for number in (self.offset, *self.shape, *self.strides))
        if not sound or (0 not in self.shape and self.offset + sum(ends) >= len(values)):
            raise ValueError("a tensor reaches beyond its storage")
        steps = tuple(stride * values.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps).copy()


class _Unpickler(pickle.Unpickler):
    """Knows the names of tensors and of ordered dictionaries, and refuses all others."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(
                storage, offset, tuple(shape), tuple(strides)
            )
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in TYPES:
            return np.dtype(TYPES[name])
        raise pickle.UnpicklingError(f"it holds {module}.{name}, and not only tensors")

    def persistent_load(self, told):
        kind, dtype, key, *_ = told
        if kind != "storage":
            raise pickle.UnpicklingError(f"it holds a {kind}, and not only tensors")
        return _Storage(str(key), dtype)


def _pth(path):
    return _zipped(path) if zipfile.is_zipfile(path) else _unzipped(path)


def _zipped(path):
    """PyTorch's format since 1.6: a ZIP of one pickle and a file for each storage."""
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
    """The format before: five pickles, then each storage's length and its numbers."""
    with path.open("rb") as stream:
        magic, _, _, content, keys = (_Unpickler(stream).load() for _ in range(5))
        if magic != MAGIC:
            raise ValueError("its first number is not that of PyTorch")
        tensors = _tensors(content)
        dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
        values = {}
        for key in keys:
            (count,) = struct.unpack("<q", stream.read(8))
            # A storage that no tensor is a view of has no dtype here, nor an end.
            dtype = dtypes[str(key)]
            values[str(key)] = np.frombuffer(stream.read(count * dtype.itemsize), dtype)
    return {name: tensor.array(values[tensor.storage.key]) for name, tensor in tensors.items()}


def _tensors(content):
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not tensors by name")
    return {name: value for name, value in content.items() if isinstance(value, _Tensor)}
