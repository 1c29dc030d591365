"""A trained model in one file; it needs jax and nothing else.

    import sys
    sys.path.insert(0, "model.zip")
    import segen_model

    model = segen_model.load()
    print(model.inputs, model.outputs)
    images = model(seeds=[1, 2, 3])["images"]

`python model.zip` says what the file contains, checks that it is not damaged, and compares
its outputs on this machine with its outputs where it was exported.
"""

import hashlib
import importlib.util
import io
import json
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np

PROGRAM, PARAMETERS = "program.bin", "parameters.safetensors"
GOLDEN, CARD = "golden.npz", "card.json"
CARD_KEYS = (
    *("function", "task", "step", "classes", "inputs", "outputs", "parameters"),
    *("platforms", "golden_on", "versions"),
)
VENDOR = "vendor"  # a folder of the archive: packages that jax needs and does not install

UNPACKED = "SEGEN_UNPACKED_MIB"  # the environment variable

# What damaged files raise in the libraries that read them.
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

# The dtypes by their names in safetensors.
DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


class Difference(NamedTuple):
    """The difference between one output and its golden values.

    Attributes:
      greatest: the greatest absolute difference; NaN if a value is NaN.
      differing: how many values differ.
      count: how many values there are.
    """

    greatest: float
    differing: int
    count: int


class Model:
    """A function of arrays; call it with one keyword argument for each of `inputs`.

    Args:
      card: the content of card.json.
      call: (parameters, {name: [B, ...]}) -> {name: [B, ...]}.
      parameters: {name: array}.
      golden: {"ROWS/in/NAME" or "ROWS/out/NAME": array}.

    Attributes:
      card: the content of card.json.
      inputs: {name: {"dtype": ..., "shape": ["B", ...], "values": ...}}. B is any number
        of rows, the same for all; "values" lists what is allowed, or is None.
      outputs: {name: {"dtype": ..., "shape": ["B", ...], "tolerance": ..., "share": ...}}.
    """

    def __init__(self, card: dict, call: Callable, parameters: dict, golden: dict):
        self.card, self.inputs, self.outputs = card, card["inputs"], card["outputs"]
        self._call, self._golden = jax.jit(call), golden
        self._parameters = jax.device_put(parameters)

    def __call__(self, **arrays: Any) -> dict[str, np.ndarray]:
        """Computes the outputs; each new number of rows compiles once.

        Args:
          **arrays: {name: [B, ...]} for each of `inputs`.

        Returns:
          {name: [B, ...]} for each of `outputs`.

        Raises:
          ValueError: an input is missing or unknown, or has another shape, another dtype
            or a value that is not allowed.
        """
        if arrays.keys() != self.inputs.keys():
            raise ValueError(f"takes {_join(self.inputs)}; got {_join(arrays)}")
        rows = {name: _check_input(name, arrays[name], self.inputs[name]) for name in arrays}
        sizes = {name: len(array) for name, array in rows.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"inputs must have the same number of rows; got {sizes}")
        return jax.device_get(self._call(self._parameters, rows))

    def differences(self) -> dict[str, Difference]:
        """Computes the golden outputs again, and compares: {output: difference}."""
        parts = {}
        for size in sorted({name.split("/")[0] for name in self._golden}):
            outputs = self(**self._golden_arrays(f"{size}/in/"))
            for name, golden in self._golden_arrays(f"{size}/out/").items():
                parts.setdefault(name, []).append(_difference(outputs[name], golden))
        return {name: _merge(differences) for name, differences in parts.items()}

    def check(self) -> float:
        """Returns the greatest difference of any output; see `differences`."""
        return max((each.greatest for each in self.differences().values()), key=_nan_last)

    def beyond_tolerance(self, differences: dict[str, Difference]) -> list[str]:
        """Names the outputs that differ by more than the card allows.

        Every value may differ by `tolerance`. A share of them may differ at all, and at
        least one, because rounding may take an integer to either side.

        Args:
          differences: the result of `differences`.

        Returns:
          Names of outputs.
        """
        return [
            name
            for name, difference in differences.items()
            if not difference.greatest <= self.outputs[name]["tolerance"]
            or difference.differing > max(1, self.outputs[name]["share"] * difference.count)
        ]

    def _golden_arrays(self, prefix):
        return {
            name.removeprefix(prefix): array
            for name, array in self._golden.items()
            if name.startswith(prefix)
        }


def load(path: str | Path | None = None) -> Model:
    """Opens a model.

    Args:
      path: the file; None for the one that this module is in.

    Returns:
      The model, its parameters on the default device.

    Raises:
      ValueError: the file is not a model, is damaged, or was written by a version of jax
        that this one cannot read.
    """
    path = Path(__file__).parent if path is None else Path(path)
    members, card = read(path)
    try:
        exported = _deserialize(members[PROGRAM], path)
    except Exception as error:  # jax has no error type of its own for this
        raise ValueError(
            f"{path} was written with jax {card['versions']['jax']}, and jax {jax.__version__} "
            f"cannot read it; install that version ({type(error).__name__}: {error})"
        ) from error
    with np.load(io.BytesIO(members[GOLDEN]), allow_pickle=False) as arrays:
        golden = dict(arrays)
    return Model(card, exported.call, tensors(members[PARAMETERS]), golden)


def read(path: Path) -> tuple[dict[str, bytes], dict]:
    """Reads an archive and compares the hash of every member with the card.

    Args:
      path: the file.

    Returns:
      {member: content}, and the card.

    Raises:
      ValueError: the file is not a model, or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check_unpacked(path, sum(entry.file_size for entry in archive.infolist()))
            members = {name: archive.read(name) for name in archive.namelist()}
        card = json.loads(members[CARD])
        hashes = {name: card["sha256"][name] for name in (PROGRAM, PARAMETERS, GOLDEN)}
        hashes |= card["sha256"]
        if missing := [key for key in CARD_KEYS if key not in card]:
            raise ValueError(f"{CARD} has no {_join(missing)}")
    except DAMAGE as error:
        raise ValueError(f"{path} is not an exported model, or damaged: {error}") from error
    for name, expected in hashes.items():
        if name not in members or hashlib.sha256(members[name]).hexdigest() != expected:
            problem = "has changed since it was written" if name in members else "is missing"
            raise ValueError(f"{path} is damaged: {name} {problem}; get it again")
    return members, card


def check_unpacked(path: Path, size: int) -> None:
    """Refuses a file that is small and says that it unpacks to very much.

    Args:
      path: the file.
      size: the bytes of all that it holds, unpacked.

    Raises:
      ValueError: these are more than its own bytes and $SEGEN_UNPACKED_MIB (1024 where that is
        not set).
    """
    text, packed = os.environ.get(UNPACKED) or "1024", path.stat().st_size
    if not text.isdecimal():
        raise ValueError(f"{UNPACKED}={text} in the environment is not a number of MiB")
    if size > packed + int(text) * 2**20:
        raise ValueError(
            f"it has {packed:,} bytes and unpacks to {size:,}; if you trust it, set the "
            f"environment variable {UNPACKED}={size // 2**20 + 1}"
        )


def tensors(data: bytes) -> dict[str, np.ndarray]:
    """Reads a safetensors file: the length of its header, the header in JSON, the numbers.

    Args:
      data: the content of the file.

    Returns:
      {name: array}, each a view of `data`.

    Raises:
      ValueError: the tensors do not fill the file one after the other, or the shape of one is
        not that of its numbers. Damage may raise other errors of DAMAGE, too.
    """
    (length,) = struct.unpack("<Q", data[:8])
    if length > len(data) - 8:
        raise ValueError(f"its header has {length:,} bytes, the file {len(data):,}")
    header, body = json.loads(data[8 : 8 + length]), memoryview(data)[8 + length :]
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    arrays, end = {}, 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        (first, last), shape = entry["data_offsets"], entry["shape"]
        if first != end or last < first:
            raise ValueError(f"{name} begins at byte {first}, and what is before it ends at {end}")
        if any(not isinstance(side, int) or side < 0 for side in shape):
            raise ValueError(f"{name} has the shape {shape}")
        values = np.frombuffer(body[first:last], DTYPES[entry["dtype"]])
        arrays[name], end = values.reshape(shape), last
    if end != len(body):
        raise ValueError(f"its tensors end at byte {end:,} of {len(body):,}")
    return {name: arrays[name] for name in entries}


def main(path: str | Path | None = None) -> int:
    """Prints what an archive contains, and checks it.

    Args:
      path: the file; None for the one that this module is in.

    Returns:
      The exit code: 0 if the outputs are as close as the card allows, 1 if they are not, 2 if
      the archive cannot be opened.
    """
    try:
        model = load(path)
    except ValueError as error:
        _print(error, sys.stderr)
        return 2
    _print("\n".join(about(model)))
    differences = model.differences()
    _print(f"parity on {jax.default_backend()} with golden outputs of {model.card['golden_on']}:")
    for name, difference in differences.items():
        _print(f"  {name}: {describe(difference)}")
    if beyond := model.beyond_tolerance(differences):
        _print(f"FAILED: {_join(beyond)} differ by more than the card allows", sys.stderr)
        return 1
    _print("not damaged, and the outputs are those of the export")
    return 0


def _print(text, stream=None):
    """Prints text; drops it if nobody reads it any more (`| head -1`)."""
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def about(model: Model) -> list[str]:
    """Describes a model: its function, inputs, outputs, classes and size, a line each.

    Args:
      model: the model.
    """
    card = model.card
    lines = [
        f"{card['function']} of {card['task']}, step {card['step']:,}; jax "
        f"{card['versions']['jax']}, for {', '.join(card['platforms'])}"
    ]
    for kind, leaves in (("in", model.inputs), ("out", model.outputs)):
        for name, leaf in leaves.items():
            shape = ", ".join(map(str, leaf["shape"]))
            lines.append(f"  {kind:<4}{name}: {leaf['dtype']} [{shape}]")
    if card["classes"]:
        lines.append(f"  {len(card['classes'])} classes: {', '.join(card['classes'])}")
    count, size = card["parameters"]["arrays"], card["parameters"]["bytes"]
    return [*lines, f"  {count} arrays of parameters, {size / 2**20:.2f} MiB"]


def describe(difference: Difference) -> str:
    """Describes a difference in words.

    Args:
      difference: of one output.
    """
    percent = 100 * difference.differing / difference.count
    return (
        f"greatest difference {difference.greatest:.2g} "
        f"({percent:.2f} % of {difference.count:,} values differ)"
    )


def _deserialize(program, path):
    """Reads an exported program.

    jax needs the package flatbuffers for it, and does not install it. Where the package is
    missing, the copy in the archive is used.
    """
    missing = importlib.util.find_spec("flatbuffers") is None
    vendor = f"{path}/{VENDOR}"
    if missing:
        sys.path.append(vendor)
    try:
        from jax import export  # here, because without flatbuffers some versions fail to import it

        return export.deserialize(bytearray(program))
    finally:
        if missing:
            sys.path.remove(vendor)


def _check_input(name, value, spec):
    """One input as an array of the dtype that the program takes."""
    array, dtype, shape = np.asarray(value), np.dtype(spec["dtype"]), tuple(spec["shape"][1:])
    if array.ndim == 0 or len(array) == 0 or array.shape[1:] != shape or not _fits(array, dtype):
        expected = ", ".join(map(str, spec["shape"]))
        raise ValueError(
            f"{name} must be {dtype} [{expected}] with at least one row; "
            f"got {array.dtype} {list(array.shape)}"
        )
    if spec["values"] is not None and not np.isin(array, spec["values"]).all():
        bad = array[~np.isin(array, spec["values"])].flat[0]
        raise ValueError(f"{name}: {bad} is not one of {_join(map(str, spec['values']))}")
    return array.astype(dtype)


def _fits(array, dtype):
    """Whether an array can be converted to a dtype with the same meaning."""
    if array.dtype == dtype:
        return True
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return array.dtype.kind in "iu" and limits.min <= array.min() <= array.max() <= limits.max
    return dtype.kind == "f" and array.dtype.kind in "iuf"


def _difference(output, golden):
    apart = np.abs(output.astype(np.float64) - golden.astype(np.float64))
    return Difference(float(apart.max()), int(np.count_nonzero(apart)), apart.size)


def _merge(parts):
    greatest = max((part.greatest for part in parts), key=_nan_last)
    return Difference(greatest, *(sum(part[i] for part in parts) for i in (1, 2)))


def _nan_last(value):
    return (np.isnan(value), value)


def _join(names):
    return ", ".join(names) or "nothing"
