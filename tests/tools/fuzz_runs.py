"""Configs, runs, weights files and exported models for `tests.tools.fuzz`."""

import base64
import io
import json
import logging
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from launch import inspect
from launch.config import loading, run_config, schema
from launch.data import batches
from launch.engine import experiments, trained_runs
from launch.exported import archive, loader
from launch.storage import checksums
from launch.weights import files
from tests.launch.weights.test_files import UNZIPPED, ZIPPED
from tests.tools import fuzz, fuzz_changes, runs, small

FAMILY = "tests/tools/small.py:vae"
HEAD = "from math import inf, nan\n\nfrom ml_collections import ConfigDict\n\n\n"


def prepare(folder: Path) -> None:
    """Trains and exports a small model into a folder.

    Args:
      folder: gets `run` and `model.zip`.
    """
    logging.getLogger("segen").setLevel(logging.ERROR)
    steps = ("--config.train.steps=4", "--config.eval.every=4", "--config.checkpoint.every=2")
    for command in (
        ("train", f"--config={FAMILY}", f"--workdir={folder / 'run'}", *steps),
        ("export", f"--workdir={folder / 'run'}", f"--out={folder / 'model.zip'}"),
    ):
        done = runs.call(*command)
        assert done.returncode in (0, None), done.stderr


def _configs(chance, templates, root):
    """A config file with odd values or damage, and overrides; what is built of some."""
    tree = small.get_config("vae").to_dict()
    tree = json.loads(json.dumps(tree))
    part = chance.choice(("", "", "model", "model", "task", "optimizer", "data", "whole"))
    if part:
        changed = fuzz_changes.change_json(chance, tree if part == "whole" else tree[part])
        tree = changed if part == "whole" else tree | {part: changed}
    text = f"{HEAD}def get_config(variant=''):\n    return ConfigDict({tree!r})\n"
    data = text.encode("utf-8", "surrogatepass")
    if chance.random() < 0.2:
        data = fuzz_changes.change_bytes(chance, data)
    path = root / f"{chance.choice(('a', *fuzz_changes.TEXTS))}.py"
    path.write_bytes(data)
    if chance.random() < 0.05:
        fuzz_changes.replace(chance, path, [b"\0", b"def get_config(", b"get_config = 3\n"])
    keys = [
        *schema.flatten(schema.defaults().to_dict()),
        *schema.flatten(small.small_vae().to_dict()),
    ]
    odd = ("", ".", "a", "train", "train.steps.a", "optimizer.learning_rate.a", "\ud800", "model")
    values = [str(value)[:300] for value in fuzz_changes.VALUES]
    values += [
        "1,2",
        "(1,",
        "None",
        "1e400",
        "true",
        "[1, 2]",
        "{'a': 1}",
        str(fuzz_changes.number(chance)),
    ]
    overrides = [
        f"--config.{chance.choice(odd if chance.random() < 0.1 else keys)}={chance.choice(values)}"
        for _ in range(chance.choice((0, 0, 1, 1, 2)))
    ]
    variant = chance.choice(("", "", "", ":", ":a", ":a:b"))
    built = chance.random() < 0.3 and (templates / "run").is_dir()

    def start():
        config = loading.override(loading.load(f"{path}{variant}"), overrides)
        if built:
            facts = run_config.read(templates / "run")[0]["data"]
            experiments.build(config, batches.recorded(facts))

    return fuzz.answer(start)


def _runs(chance, templates, root):
    """A run's folder with a file that is damaged, edited, replaced, moved or removed."""
    run = root / "run"
    shutil.copytree(templates / "run", run)
    paths = sorted(path for path in run.rglob("*") if path.is_file())
    texts = [
        path for path in paths if path.suffix in (".json", ".jsonl") or "meta" in path.name.lower()
    ]
    path, kind = chance.choice(texts if chance.random() < 0.7 else paths), chance.randrange(7)
    if kind == 0:
        fuzz_changes.replace(chance, path, [other.read_bytes() for other in paths if other != path])
    elif kind == 1:
        fuzz_changes.rearrange(chance, run)
    elif kind < 4 and path in texts:
        _edit(chance, path)
    else:
        path.write_bytes(fuzz_changes.change_bytes(chance, path.read_bytes()))
    if (shown := fuzz.answer(inspect.main, [str(run)])) not in (0, 1, 2):
        raise fuzz.Failure(f"launch.inspect exits with {shown}")
    return fuzz.answer(trained_runs.restore, run, [], None, None)


def _edit(chance, path):
    """Changes a value in JSON; a hash over it is that of the new content."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    at = chance.randrange(len(lines))
    value = fuzz_changes.change_json(chance, json.loads(lines[at]))
    if path.name == "config.json" and isinstance(value, dict) and hasattr(run_config, "seal"):
        value["sha256"] = run_config.seal(value)
    if path.name == checksums.NAME and isinstance(value, dict):
        value["sha256"] = checksums._hash_of_list(value.get("files"))
    lines[at] = fuzz_changes.to_json(chance, value).decode("latin-1")
    path.write_text("\n".join(lines), "latin-1")


def _weights(chance, templates, root):
    """A weights file of any kind; what is inside of a ZIP is changed with its checksum."""
    del templates
    kind = chance.choice((".npz", ".safetensors", ".pth", ".pt"))
    arrays = {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.ones(1),
        "c": np.array(7),
    }
    stream = io.BytesIO()
    if kind == ".npz":
        np.savez(stream, **arrays)
        data = stream.getvalue()
    elif kind == ".safetensors":
        data = archive.parameters(arrays)
    else:
        data = zlib.decompress(base64.b85decode(ZIPPED if kind == ".pth" else UNZIPPED))
    if chance.random() < 0.5:
        data = fuzz_changes.change_bytes(chance, data)
    elif kind in (".npz", ".pth"):
        data = _change_member(chance, data)
    elif kind == ".safetensors":
        (length,) = struct.unpack("<Q", data[:8])
        header = fuzz_changes.to_json(
            chance, fuzz_changes.change_json(chance, json.loads(data[8 : 8 + length]))
        )
        data = struct.pack("<Q", len(header)) + header + data[8 + length :]
    path = root / f"w{chance.choice((kind,) * 9 + ('.npz', '.pth', '.safetensors', '.h5', ''))}"
    path.write_bytes(data)
    if chance.random() < 0.1:
        fuzz_changes.replace(chance, path, [b"PK\x03\x04", b"\x80\x02.", b"PK\x05\x06" + bytes(18)])
    return fuzz.answer(files.read, path)


def _change_member(chance, data):
    """Changes, removes, doubles or renames one member of a ZIP."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        members = [(name, old.read(name)) for name in old.namelist()]
        at, kind = chance.randrange(len(members)), chance.randrange(8)
        name, content = members[at]
        if kind == 0:
            del members[at]
        elif kind == 1:
            members[at] = chance.choice(("../a", "/a", "a" * 300, "", "é", "a/")), content
        elif kind == 2:
            members.append((f"{name}.npy", bytes(chance.choice((0, 1, 10**6)))))
        else:
            members[at] = name, fuzz_changes.change_bytes(chance, content)
        method = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        for name, content in members:
            new.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()


def _exported(chance, templates, root):
    """An exported model: bytes of the file, a member, or values of the card."""
    path = root / "model.zip"
    shutil.copy(templates / "model.zip", path)
    kind = chance.randrange(10)
    if kind == 0:
        fuzz_changes.replace(chance, path, [b"PK\x05\x06" + bytes(18), b"{}"])
    elif kind < 3:
        path.write_bytes(fuzz_changes.change_bytes(chance, path.read_bytes()))
    elif kind < 5:
        path.write_bytes(_change_member(chance, path.read_bytes()))
    else:
        with zipfile.ZipFile(path) as old:
            members = {name: old.read(name) for name in old.namelist()}
        card = fuzz_changes.change_json(chance, json.loads(members[loader.CARD]))
        archive.write(path, members | {loader.CARD: fuzz_changes.to_json(chance, card)})
    return loader.main(path)


KINDS = {
    "configs": fuzz.Kind(_configs, 4),
    "runs": fuzz.Kind(_runs, 2),
    "weights": fuzz.Kind(_weights, 4),
    "exported": fuzz.Kind(_exported, 2, (0, 1, 2)),
}
