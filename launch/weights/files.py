"""Reads weights files of other tools: .npz, .safetensors and .pth, without PyTorch.

A .pth file is a pickle, and unpickling can run any code. So a pickle may name only tensors
and ordered dictionaries here.

The parser of .safetensors files is `launch.exported.loader.tensors`. That module travels
inside exported archives and can import nothing of ours, so this module imports it.
"""

import functools
import io
import logging
import math
import pickle
import pickletools
import struct
import tokenize
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.numpy import bfloat16

from launch.config.errors import UserError
from launch.exported import loader

logger = logging.getLogger("segen")

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

# numpy reads the header of an array as Python.
DAMAGE = (*loader.DAMAGE, pickle.UnpicklingError, SyntaxError, tokenize.TokenError)


def read(path: Path, say: Callable[[str], None] = logger.info) -> dict[str, np.ndarray]:
    """Reads all tensors of a file.

    In a .pth file they may lie in a mapping of their own, as under "state_dict" of a training's
    checkpoint.

    Args:
      path: a .npz, .safetensors, .pth or .pt file.
      say: takes a message about a mapping that was opened, and about entries that are no tensors.

    Returns:
      {name: array}, of the shapes and dtypes in the file.

    Raises:
      UserError: there is no such file, its kind is unknown, or it is damaged.
    """
    pth = functools.partial(_pth, say=say)
    readers = {".npz": _npz, ".safetensors": _safetensors, ".pth": pth, ".pt": pth}
    if path.suffix not in readers:
        raise UserError(f"{path}: weights are read from {', '.join(readers)} files")
    if not path.is_file():
        raise UserError(f"no such weights file: {path}")
    try:
        return readers[path.suffix](path)
    except DAMAGE as error:
        raise UserError(f"{path} is not a {path.suffix} weights file, or damaged: {error}")


def _npz(path):
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        loader.check_unpacked(path, sum(entry.file_size for entry in entries))
        for entry in entries:
            with archive.open(entry) as stream:
                _check_npy(entry, stream)
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _check_npy(entry, stream):
    """Refuses an array whose header says another size than its file has."""
    version = np.lib.format.read_magic(stream)
    if version > (2, 0):
        raise ValueError(f"{entry.filename} has version {version} of the format")
    header = np.lib.format.read_array_header_1_0
    shape, _, dtype = (header if version == (1, 0) else np.lib.format.read_array_header_2_0)(stream)
    size = stream.tell() + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != entry.file_size:
        raise ValueError(f"{entry.filename} is {dtype}{list(shape)} in {entry.file_size:,} bytes")


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
        if math.prod(self.shape) > len(values):  # a stride of 0 repeats numbers without end
            raise ValueError(f"a tensor of shape {list(self.shape)} has {len(values):,} numbers")
        steps = tuple(stride * values.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps).copy()


class _Unpickler(pickle.Unpickler):
    """Accepts the names of tensors and of ordered dictionaries, and refuses all others.

    Attributes:
      dtypes: {key of a storage: its dtype}, of all storages that the pickle names.
    """

    def __init__(self, stream):
        super().__init__(stream)
        self.dtypes = {}

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
        self.dtypes[str(key)] = dtype
        return _Storage(str(key), dtype)


def _pth(path, say):
    return (_zipped if zipfile.is_zipfile(path) else _unzipped)(path, say)


def _zipped(path, say):
    """PyTorch's format since 1.6: a ZIP with one pickle and one file for each storage."""
    with zipfile.ZipFile(path) as archive:
        loader.check_unpacked(path, sum(entry.file_size for entry in archive.infolist()))
        pickled = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
        if pickled is None:
            raise ValueError("it has no file data.pkl")
        content = archive.read(pickled)
        _check_pickle(content)
        tensors = _tensors(_Unpickler(io.BytesIO(content)).load(), path, say)
        folder = pickled.removesuffix("data.pkl") + "data/"
        values = {
            storage.key: np.frombuffer(archive.read(folder + storage.key), storage.dtype)
            for storage in {tensor.storage for tensor in tensors.values()}
        }
    return {name: tensor.array(values[tensor.storage.key]) for name, tensor in tensors.items()}


def _unzipped(path, say):
    """PyTorch's format before 1.6: five pickles, then the length and numbers of each storage."""
    with path.open("rb") as stream:
        parts, dtypes = [], {}
        for _ in range(5):
            start = stream.tell()
            _check_pickle(stream)
            stream.seek(start)
            unpickler = _Unpickler(stream)
            parts.append(unpickler.load())
            dtypes |= unpickler.dtypes
        magic, _, _, content, keys = parts
        if magic != MAGIC:
            raise ValueError("its first number is not that of PyTorch")
        tensors = _tensors(content, path, say)
        used, values = {tensor.storage.key for tensor in tensors.values()}, {}
        for key in map(str, keys):
            if key not in dtypes:  # only tensors tell the size of a storage's numbers
                raise ValueError(f"no tensor uses storage {key}")
            (count,) = struct.unpack("<q", stream.read(8))
            size, left = count * dtypes[key].itemsize, path.stat().st_size - stream.tell()
            if not 0 <= size <= left:
                raise ValueError(f"storage {key} has {count:,} numbers in {left:,} bytes")
            if key in used:
                values[key] = np.frombuffer(stream.read(size), dtypes[key])
            else:  # as of an optimiser
                stream.seek(size, io.SEEK_CUR)
    return {name: tensor.array(values[tensor.storage.key]) for name, tensor in tensors.items()}


def _check_pickle(source):
    """Refuses a pickle that numbers its objects so high that Python fills the memory.

    Args:
      source: the pickle, as bytes; or a file, which is left at the end of the pickle.
    """
    for opcode, argument, place in pickletools.genops(source):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > place:
            raise pickle.UnpicklingError(f"its object {argument:,} is at byte {place:,}")


def _tensors(content, path, say):
    """The tensors of a pickle by name; several may share the numbers of a storage."""
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not tensors by name")
    tensors, unused = _named(content)
    # A net's tensors may lie in a mapping of their own, beside a single one such as a loss.
    inner = [key for key in unused if len(_named(content[key])[0]) > len(tensors)]
    if len(inner) > 1:
        raise ValueError(f"which tensors: those of {_text(inner)}? Keep one of these alone")
    if inner:
        (place,) = inner
        say(f"{path.name}: its tensors are those of {place!r}")
        tensors, unused = _named(content[place])
        unused = [key for key in content if key != place] + [f"{place}.{key}" for key in unused]
    if not tensors:
        raise ValueError(f"it holds no tensors by name; its keys are {_text(content)}")
    if unused:
        say(f"{path.name}: not used, as no tensors of a net: {_text(unused)}")
    sizes = (math.prod(each.shape) * each.storage.dtype.itemsize for each in tensors.values())
    loader.check_unpacked(path, sum(sizes))
    return tensors


def _named(content):
    """The tensors of a mapping by name, and the keys of all else; none of what is no mapping."""
    if not isinstance(content, dict):
        return {}, []
    is_tensor = lambda key: isinstance(key, str) and isinstance(content[key], _Tensor)
    tensors = {key: value for key, value in content.items() if is_tensor(key)}
    return tensors, [key for key in content if key not in tensors]


def _text(keys):
    return ", ".join(map(str, keys)) or "none"
