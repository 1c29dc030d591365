"""Random changes of bytes, of JSON and of files, for `tests.tools.fuzz`."""

import contextlib
import copy
import json
import os
import random
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

NUMBERS = (0, 1, 7, 127, 128, 255, 256, 32_768, 65_535, 100_000, 2**31 - 1, 2**31, 2**32 - 1)
LARGER = (*NUMBERS, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
VALUES = (
    *(None, True, False, -1, 0, 1, 2, 255, 10**6, 2**31, 2**63, 2**70, -(2**70)),
    *(0.5, -0.0, 1e308, float("nan"), float("inf"), -float("inf")),
    *("", " ", "a", "0", "nan", "../../../etc/passwd", "/dev/zero", "a/b", "é\n", "\ud800", "\0"),
    *("x" * 5_000, "9" * 5_000, [], {}, [[]], [[[[]]]], {"name": "builtins:dict"}, {"": {}}),
    *([1, 2, 3], ["a"], {"a": 1}, [None] * 50, "float32", "images", "name"),
)
TEXTS = (
    "a b",
    "a[1]",
    "[*]",
    "a\nb",
    "\x1b[31ma",
    "-rf",
    "~",
    "%s{0}",
    "é",
    "日本",
    "A'\"",
    "$HOME",
)
NAMES = (*TEXTS, "a" * 250, "..a", "a.", "mask", "image", "0", "train", "\udcff")


def number(chance: random.Random) -> int:
    """An extreme number, or a small one."""
    return chance.choice(LARGER) if chance.random() < 0.7 else chance.randrange(300)


def change_bytes(chance: random.Random, data: bytes) -> bytes:
    """Changes one to eight places of some bytes: each a flip, a number, a cut, a copy or text."""
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        near = min(len(data), 64) if chance.random() < 0.4 else len(data)  # headers come first
        at, length = chance.randrange(near + 1), min(len(data), chance.choice((1, 4, 16, 200)))
        rest = data[at + length :]
        kind = chance.randrange(8)
        if kind == 0 and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        elif kind == 1:
            size = chance.choice((1, 2, 4, 8))
            end = chance.choice(("little", "big"))
            data = data[:at] + (number(chance) % 256**size).to_bytes(size, end) + data[at + size :]
        elif kind == 2:
            data = data[:at]
        elif kind == 3:
            data = data[:at] + rest
        elif kind == 4:
            data = data[:at] + bytes(len(data[at : at + length])) + rest
        elif kind == 5:
            data = data[: at + length] + data[at:]
        elif kind == 6:
            data = data[:at] + chance.randbytes(length) + data[at:]
        else:
            digits = [index for index, byte in enumerate(data[:4_000]) if 48 <= byte < 58]
            if digits:
                at = chance.choice(digits)
                data = data[:at] + str(number(chance) * chance.choice((1, -1))).encode() + data[at:]
    return data


def change_png(chance: random.Random, data: bytes) -> bytes:
    """Changes one chunk of a PNG, so that its checksums are right."""
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += length + 12
    index = chance.randrange(len(chunks))
    name, content = chunks[index]
    kind = chance.randrange(5)
    if kind == 0:
        chunks.insert(chance.randrange(len(chunks)), chunks.pop(index))
    elif kind == 1:
        chunks.insert(index, chunks[index])
    elif kind == 2 and name == b"IDAT":
        raw = zlib.decompress(content)
        chunks[index] = name, zlib.compress(change_bytes(chance, raw))
    elif name == b"IHDR":
        values = list(struct.unpack(">IIBBBBB", content))
        place = chance.randrange(7)
        values[place] = number(chance) % 2 ** (32 if place < 2 else 8)
        chunks[index] = name, struct.pack(">IIBBBBB", *values)
    else:
        other = chance.choice((name, b"PLTE", b"tRNS", b"eXIf", b"acTL", b"iCCP", b"IHDR"))
        chunks[index] = other, change_bytes(chance, content)
    parts = [data[:8]]
    for name, content in chunks:
        crc = struct.pack(">I", zlib.crc32(name + content))
        parts += [struct.pack(">I", len(content)), name, content, crc]
    return b"".join(parts)


def change_json(chance: random.Random, value: Any) -> Any:
    """Changes one to three places of what JSON holds: another value, none, one more, a new key."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return chance.choice(VALUES)
        holder, key = chance.choice(places)
        kind = chance.randrange(8)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif kind == 2 and isinstance(holder, dict):
            holder[str(chance.choice(VALUES))[:50]] = holder.pop(key)
        elif kind == 3:
            other, place = chance.choice(places)
            holder[key] = copy.deepcopy(other[place])
        elif kind == 4 and isinstance(holder[key], int | float):
            holder[key] = chance.choice((1, -1, 0.5)) * number(chance)
        elif kind in (4, 5) and isinstance(holder[key], str):
            changed = change_bytes(chance, holder[key].encode("utf-8", "surrogatepass"))
            holder[key] = changed.decode("latin-1")
        else:
            holder[key] = copy.deepcopy(chance.choice(VALUES))
    return value


def _places(value):
    """(holder, key) of every value below another."""
    keys = (
        range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
    )
    for key in keys:
        yield value, key
        yield from _places(value[key])


def to_json(chance: random.Random, value: Any) -> bytes:
    """JSON, now and then with damage to its text or in another encoding."""
    data = json.dumps(value).encode()
    kind = chance.randrange(12)
    if kind == 0:
        return change_bytes(chance, data)
    if kind == 1:
        return data.decode().encode(chance.choice(("utf-16", "utf-8-sig", "utf-32")))
    return b"[" * 200_000 if kind == 2 else data


def replace(chance: random.Random, path: Path, others: list[bytes]) -> None:
    """Puts something else in the place of a file: nothing, a folder, a pipe, a link, other bytes.

    Args:
      chance: of the case.
      path: the file.
      others: contents of files of other kinds.
    """
    path.unlink()
    kind = chance.randrange(11)
    if kind == 1:
        path.mkdir()
    elif kind == 2:
        os.mkfifo(path)
    elif kind == 3:
        targets = ("missing", path.name, "..", ".", "/dev/zero", "/dev/null", "/dev/tty", "/")
        path.symlink_to(chance.choice(targets))
    elif kind == 4:
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    elif kind == 5:
        path.write_bytes(b"")
    elif kind == 6:
        path.write_bytes(chance.randbytes(chance.choice((1, 8, 100, 5_000))))
    elif kind == 7:
        path.write_bytes(bytes(chance.choice((1, 40, 4_096))))
    elif kind:
        path.write_bytes(chance.choice(others))


def rearrange(chance: random.Random, root: Path) -> None:
    """Renames, copies, moves, links or removes one file or folder below a folder."""
    paths = sorted(root.rglob("*"))
    if not paths:
        return
    path, kind = chance.choice(paths), chance.randrange(6)
    text = chance.choice(NAMES) + chance.choice(("", path.suffix, path.suffix.upper(), ".png"))
    place = chance.choice([root, *(p for p in paths if p.is_dir() and not p.is_relative_to(path))])
    target = chance.choice((path.with_name(text), place / path.name, place / text))
    if target.exists() or target.is_symlink() or len(os.fsencode(target.name)) > 255:
        return
    if kind == 0:
        target.mkdir()
    elif kind == 1:
        target.symlink_to(path)
    elif kind == 2 and path.is_file():
        shutil.copy(path, target)
    elif kind == 3:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    else:
        with contextlib.suppress(OSError):  # into itself, by a link
            path.rename(target)
