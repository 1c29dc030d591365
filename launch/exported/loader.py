"""A trained model in one file; jax is all that it needs.

    import sys
    sys.path.insert(0, "model.zip")
    import segen_model

    model = segen_model.load()
    print(model.inputs, model.outputs)
    images = model(seeds=[1, 2, 3])["images"]

`python model.zip` says what is inside, checks that it is whole, and compares what it
gives here with what the model gave where it was exported.
"""

import hashlib
import importlib.util
import io
import json
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

PROGRAM, PARAMETERS, GOLDEN, CARD = (
    "program.bin",
    "parameters.safetensors",
    "golden.npz",
    "card.json",
)
VENDOR = "vendor"  # a folder of the archive: packages that jax needs and does not install

# How safetensors names types of numbers.
TYPES = {
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
    """How far one output is from its golden values.

    Attributes:
      greatest: the greatest absolute difference; NaN where there is no number.
      differing: how many values differ at all.
      count: of how many.
    """

    greatest: float
    differing: int
    count: int


class Model:
    """A function of arrays: called with each of `inputs` by its name.

    Attributes:
      card: what card.json says of it.
      inputs, outputs: {name: {"dtype": ..., "shape": ["B", ...], ...}}; B is any number
        of rows, the same for all.
    """

    def __init__(self, card: dict, call: Callable, parameters: dict, golden: dict):
        self.card, self.inputs, self.outputs = card, card["inputs"], card["outputs"]
        self._call, self._golden = jax.jit(call), golden
        self._parameters = jax.device_put(parameters)

    def __call__(self, **arrays: Any) -> dict[str, np.ndarray]:
        """The outputs by name; each new number of rows compiles once.

        Raises:
          ValueError: an input is missing or unknown, or has another shape or dtype.
        """
        if arrays.keys() != self.inputs.keys():
            raise ValueError(f"takes {_listed(self.inputs)}; got {_listed(arrays)}")
        rows = {name: _row(name, value, self.inputs[name]) for name, value in arrays.items()}
        sizes = {name: len(array) for name, array in rows.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"inputs must have the same number of rows; got {sizes}")
        return jax.device_get(self._call(self._parameters, rows))

    def differences(self) -> dict[str, Difference]:
        """How far each output is here from its golden values."""
        found = {}
        for size in sorted({name.split("/")[0] for name in self._golden}):
            inputs, outputs = (
                {
                    name.split("/")[2]: array
                    for name, array in self._golden.items()
                    if name.startswith(f"{size}/{kind}/")
                }
                for kind in ("in", "out")
            )
            given = self(**inputs)
            for name, wanted in outputs.items():
                found.setdefault(name, []).append(_difference(given[name], wanted))
        return {name: _joined(parts) for name, parts in found.items()}

    def check(self) -> float:
        """The greatest difference of any output to its golden values; see `beyond`."""
        return max((found.greatest for found in self.differences().values()), key=_nan_last)

    def beyond(self, differences: dict[str, Difference]) -> list[str]:
        """Which outputs differ by more than the card allows.

        Of floats each may differ by `tolerance`. Of integers a `share` may differ, or one
        where that is less than one: where a value lies between two, rounding decides.
        """
        return [
            name
            for name, found in differences.items()
            if not found.greatest <= self.outputs[name]["tolerance"]
            or found.differing > max(1, self.outputs[name]["share"] * found.count)
        ]


def load(path: str | Path | None = None) -> Model:
    """Opens a model; without a path the one that this module lies in.

    Raises:
      ValueError: no model, damaged, or written by a jax that this one cannot read.
    """
    path = Path(__file__).parent if path is None else Path(path)
    members, card = read(path)
    try:
        exported = _deserialize(members[PROGRAM], path)
    except Exception as error:  # jax has no error of its own for what it cannot read
        raise ValueError(
            f"{path} was written with jax {card['versions']['jax']}, and jax {jax.__version__} "
            f"cannot read it; install that version ({type(error).__name__}: {error})"
        ) from error
    with np.load(io.BytesIO(members[GOLDEN]), allow_pickle=False) as arrays:
        golden = dict(arrays)
    return Model(card, exported.call, tensors(members[PARAMETERS]), golden)


def read(path: Path) -> tuple[dict[str, bytes], dict]:
    """All members of an archive, and its card.

    Raises:
      ValueError: no such archive, or a member is not what was written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        card = json.loads(members[CARD])
        hashes = card["sha256"]
    except (OSError, zipfile.BadZipFile, zlib.error, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no exported model, or damaged: {error}") from error
    for name, wanted in hashes.items():
        if name not in members or hashlib.sha256(members[name]).hexdigest() != wanted:
            fault = "has changed since it was written" if name in members else "is missing"
            raise ValueError(f"{path} is damaged: {name} {fault}; get it anew")
    return members, card


def tensors(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file: a length, a header in JSON, the numbers."""
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), memoryview(data)[8 + length :]
    found = {}
    for name, told in header.items():
        if name != "__metadata__":
            first, last = told["data_offsets"]
            values = np.frombuffer(body[first:last], TYPES[told["dtype"]])
            found[name] = values.reshape(told["shape"])
    return found


def main(path: str | Path | None = None) -> int:
    """Says what an archive holds and checks it; returns the exit code."""
    try:
        model = load(path)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(about(model)))
    differences = model.differences()
    print(f"parity on {jax.default_backend()} with golden outputs of {model.card['golden_on']}:")
    for name, found in differences.items():
        print(f"  {name}: {told(found)}")
    if beyond := model.beyond(differences):
        print(f"FAILED: {_listed(beyond)} differ by more than the card allows", file=sys.stderr)
        return 1
    print("whole, and gives what it gave when it was exported")
    return 0


def about(model: Model) -> list[str]:
    """What a person wants to know of a model, in lines."""
    card = model.card
    lines = [
        f"{card['what']} of {card['task']}, step {card['step']:,}; jax "
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


def told(found: Difference) -> str:
    """A difference in words."""
    share = f"{100 * found.differing / found.count:.2f} % of {found.count:,} values differ"
    return f"greatest difference {found.greatest:.2g} ({share})"


def _deserialize(program, path):
    """The program of its bytes.

    jax reads them by the package flatbuffers, which it does not install: where there is
    none, the copy in the archive serves.
    """
    missing = importlib.util.find_spec("flatbuffers") is None
    place = f"{path}/{VENDOR}"
    if missing:
        sys.path.append(place)
    try:
        from jax import export  # here, for versions that cannot even import it

        return export.deserialize(bytearray(program))
    finally:
        if missing:
            sys.path.remove(place)


def _row(name, value, told):
    """One input as the program takes it."""
    array, wanted, shape = np.asarray(value), np.dtype(told["dtype"]), tuple(told["shape"][1:])
    if array.ndim == 0 or len(array) == 0 or array.shape[1:] != shape or not _fits(array, wanted):
        expected = ", ".join(map(str, told["shape"]))
        raise ValueError(
            f"{name} must be {wanted} [{expected}] with at least one row; "
            f"got {array.dtype} {list(array.shape)}"
        )
    if told["values"] is not None and not np.isin(array, told["values"]).all():
        bad = array[~np.isin(array, told["values"])].flat[0]
        raise ValueError(f"{name}: {bad} is none of {_listed(map(str, told['values']))}")
    return array.astype(wanted)


def _fits(array, wanted):
    """Whether numbers can be taken for that dtype and mean the same."""
    if array.dtype == wanted:
        return True
    if wanted.kind in "iu":
        limits = np.iinfo(wanted)
        return array.dtype.kind in "iu" and limits.min <= array.min() <= array.max() <= limits.max
    return wanted.kind == "f" and array.dtype.kind in "iuf"


def _difference(found, wanted):
    apart = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    return Difference(float(apart.max()), int(np.count_nonzero(apart)), apart.size)


def _joined(parts):
    greatest = max((part.greatest for part in parts), key=_nan_last)
    return Difference(greatest, *(sum(part[i] for part in parts) for i in (1, 2)))


def _nan_last(value):
    return (np.isnan(value), value)


def _listed(names):
    return ", ".join(names) or "nothing"
