"""An archive tells what was done to it, and runs with jax alone."""

import hashlib
import io
import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from launch.exported import archive, loader

ALONE = ("jax", "jaxlib", "numpy", "ml_dtypes", "opt_einsum", "scipy")  # what pip brings with jax


def call(parameters, inputs):
    """uint8 images [B, 2, 3, 1] by seed and label."""
    image = parameters["scale"] * inputs["seeds"][:, None, None] + inputs["labels"][:, None, None]
    return {"images": (image[..., None] % 256).astype(jnp.uint8)}


def members_of(**changes):
    (size,) = export.symbolic_shape("b")
    parameters = {"scale": np.arange(6, dtype=np.float32).reshape(2, 3)}
    inputs = {name: jax.ShapeDtypeStruct((size,), np.int32) for name in ("seeds", "labels")}
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), parameters)
    golden = {}
    for rows in (1, 3):
        arrays = {"seeds": np.arange(rows, dtype=np.int32), "labels": np.ones(rows, np.int32)}
        golden |= {f"{rows}/in/{name}": array for name, array in arrays.items()}
        golden[f"{rows}/out/images"] = np.asarray(call(parameters, arrays)["images"])
    stream = io.BytesIO()
    np.savez(stream, **golden | changes)
    return archive.code() | {
        loader.PROGRAM: bytes(export.export(jax.jit(call))(like, inputs).serialize()),
        loader.GOLDEN: stream.getvalue(),
        loader.PARAMETERS: archive.parameters(parameters),
    }


def card_of(members):
    row = {"dtype": "int32", "shape": ["B"]}
    return {
        "function": "sample",
        "task": "mine:task",
        "step": 4000,
        "classes": ["a", "b"],
        "inputs": {"seeds": row | {"values": None}, "labels": row | {"values": [0, 1]}},
        "outputs": {
            "images": {"dtype": "uint8", "shape": ["B", 2, 3, 1], "tolerance": 1, "share": 0.001}
        },
        "parameters": {"arrays": 1, "bytes": 2**20},
        "platforms": ["cpu"],
        "golden_on": "cpu",
        "versions": {"jax": "0.0.1"},
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in members.items()},
    }


def write(path, members, **changes):
    card = json.dumps(card_of(members)).encode()
    archive.write(path, members | {loader.CARD: card} | changes)
    return path


@pytest.fixture(scope="module")
def members():
    return members_of()


@pytest.fixture(scope="module")
def file(members, tmp_path_factory):
    return write(tmp_path_factory.mktemp("exported") / "model.zip", members)


@pytest.fixture(scope="module")
def model(file):
    return loader.load(file)


def test_any_number_of_rows(model):
    found = model(seeds=[1, 2], labels=[0, 1])["images"]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[..., 0], [[[0, 1, 2], [3, 4, 5]], [[1, 3, 5], [7, 9, 11]]])
    seeds = np.arange(5, dtype=np.int64)
    assert model(seeds=seeds, labels=0 * seeds)["images"].shape == (5, 2, 3, 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"seeds": [1]}, r"takes seeds, labels; got seeds"),
        ({}, r"takes seeds, labels; got nothing"),
        ({"seeds": [1], "labels": [0], "image": [0]}, r"got image, labels, seeds"),
        ({"seeds": [1.5], "labels": [0]}, r"seeds must be int32 \[B\] .*; got float64 \[1\]"),
        ({"seeds": [2**31], "labels": [0]}, r"seeds must be int32 \[B\]"),
        ({"seeds": [-(2**31) - 1], "labels": [0]}, r"seeds must be int32 \[B\]"),
        ({"seeds": [], "labels": []}, r"at least one row; got float64 \[0\]"),
        ({"seeds": 3, "labels": 0}, r"got int64 \[\]"),
        ({"seeds": [[1]], "labels": [0]}, r"got int64 \[1, 1\]"),
        ({"seeds": [1, 2], "labels": [0]}, r"same number of rows; got .*'seeds': 2"),
        ({"seeds": [1], "labels": [2]}, r"labels: 2 is not one of 0, 1"),
    ],
)
def test_inputs_that_cannot_be_meant_are_refused(model, arrays, message):
    with pytest.raises(ValueError, match=message):
        model(**dict(sorted(arrays.items())))


@pytest.mark.parametrize(
    ("dtype", "value", "fits"),
    [
        ("uint8", np.uint8(255), True),
        ("uint8", np.int64(255), True),
        ("uint8", np.int64(0), True),
        ("uint8", np.int64(256), False),
        ("uint8", np.int64(-1), False),
        ("uint8", np.float64(0), False),
        ("float32", np.float64(0.5), True),
        ("float32", np.int32(3), True),
        ("float32", np.bool_(1), False),
        ("int32", np.bool_(1), False),
    ],
)
def test_a_dtype_takes_what_means_the_same_in_it(dtype, value, fits):
    assert loader._fits(np.asarray([value]), np.dtype(dtype)) == fits


@pytest.mark.parametrize("member", [loader.PROGRAM, loader.PARAMETERS, loader.GOLDEN])
def test_a_changed_member_is_named(members, tmp_path, member):
    content = bytearray(members[member])
    content[len(content) // 2] ^= 1
    path = write(tmp_path / "changed.zip", members, **{member: bytes(content)})
    with pytest.raises(ValueError, match=f"{member} has changed since it was written; get it aga"):
        loader.load(path)


def test_a_missing_member_is_named(members, tmp_path):
    card = json.dumps(card_of(members)).encode()
    rest = {name: content for name, content in members.items() if name != loader.GOLDEN}
    archive.write(tmp_path / "m.zip", rest | {loader.CARD: card})
    with pytest.raises(ValueError, match=r"golden\.npz is missing"):
        loader.load(tmp_path / "m.zip")


def test_a_flipped_bit_and_half_a_file_are_noticed(file, tmp_path):
    whole, path = file.read_bytes(), tmp_path / "damaged.zip"
    flipped = bytearray(whole)
    flipped[whole.index(loader.PARAMETERS.encode()) + 200] ^= 1  # in the numbers, past the name
    for damaged in (whole[: len(whole) // 2], bytes(flipped), b"no archive"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            loader.load(path)


def test_a_program_of_another_jax_is_named(members, tmp_path):
    path = write(tmp_path / "m.zip", members | {loader.PROGRAM: b"of the future"})
    with pytest.raises(ValueError, match=r"was written with jax 0\.0\.1, and .* cannot read it"):
        loader.load(path)


@pytest.mark.parametrize(
    ("off", "beyond"),
    [
        ({}, []),
        ({"chance": 5e-6, "images": 1}, []),
        ({"chance": 2e-5}, ["chance"]),
        ({"chance": np.nan}, ["chance"]),
        ({"images": 2}, ["images"]),
        ({"images": 1, "many": True}, ["images"]),
    ],
)
def test_how_far_outputs_may_differ(off, beyond):
    outputs = {
        "chance": {"tolerance": 1e-5, "share": 1.0},
        "images": {"tolerance": 1, "share": 0.001},
    }
    inputs = {"seeds": {"dtype": "int32", "shape": ["B"], "values": None}}
    golden = {
        "1/in/seeds": np.zeros(1, np.int32),
        "1/out/chance": np.full((1, 4), 0.5),
        "1/out/images": np.full((1, 100), 7, np.uint8),
    }
    places = slice(None) if off.get("many") else slice(3, 4)
    images = jnp.full((1, 100), 7, jnp.uint8).at[:, places].add(off.get("images", 0))
    given = lambda parameters, rows: {
        "chance": jnp.full((1, 4), 0.5 + off.get("chance", 0)),
        "images": images,
    }
    model = loader.Model({"inputs": inputs, "outputs": outputs}, given, {}, golden)
    assert model.beyond_tolerance(model.differences()) == beyond
    assert (model.check() <= 1e-5) == (not off)


def test_a_share_of_the_values_may_differ():
    outputs = {"images": {"tolerance": 1, "share": 0.01}}
    model = loader.Model({"inputs": {}, "outputs": outputs}, dict, {}, {})
    beyond = lambda *values: bool(model.beyond_tolerance({"images": loader.Difference(*values)}))
    assert not beyond(1, 10, 1000)
    assert beyond(1, 11, 1000)
    assert not beyond(1, 1, 2)
    assert beyond(1, 2, 2)
    assert not beyond(1, 0, 2)


def test_differences_of_several_calls_are_one():
    parts = [loader.Difference(0.5, 2, 10), loader.Difference(0.25, 1, 20)]
    assert loader._merge(parts) == loader.Difference(0.5, 3, 30)
    assert np.isnan(loader._merge([*parts, loader.Difference(np.nan, 1, 1)]).greatest)
    found = loader.describe(loader.Difference(0.5, 3, 3000))
    assert found == "greatest difference 0.5 (0.10 % of 3,000 values differ)"


def test_a_zip_that_unpacks_to_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(3):
            file.writestr(str(number), bytes(2**20))
    monkeypatch.setenv("SEGEN_UNPACKED_MIB", "2")
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
        with pytest.raises(ValueError, match=r"unpacks to 3,145,728; .* SEGEN_UNPACKED_MIB=4"):
            loader.load(path)
    monkeypatch.setenv("SEGEN_UNPACKED_MIB", "3")
    with pytest.raises(ValueError, match=r"or damaged: 'card.json'"):
        loader.load(path)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (b"3", "damaged"),
        (b"{}", "damaged: 'sha256'"),
        (b'{"sha256": 3}', "damaged"),
        (b'{"sha256": {}}', "damaged: 'program.bin'"),
        (b"\xff", "damaged"),
        (b"[" * 100_000, "damaged"),
    ],
)
def test_odd_cards_are_refused_in_one_message(members, tmp_path, card, message, capsys):
    archive.write(tmp_path / "m.zip", members | {loader.CARD: card})
    assert loader.main(tmp_path / "m.zip") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_card_that_lacks_a_key_is_refused(members, tmp_path):
    for key in loader.CARD_KEYS:
        card = {name: value for name, value in card_of(members).items() if name != key}
        archive.write(tmp_path / "m.zip", members | {loader.CARD: json.dumps(card).encode()})
        with pytest.raises(ValueError, match=f"card.json has no {key}$"):
            loader.load(tmp_path / "m.zip")


def test_nobody_needs_to_read_what_it_prints(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        for _ in range(2):
            loader._print("text")


def test_a_check_that_fails_exits_with_its_code_and_says_why(members, tmp_path, capsys):
    broken = write(tmp_path / "broken.zip", members, **{loader.GOLDEN: b"else"})
    assert loader.main(broken) == 2
    assert "golden.npz has changed since it was written" in capsys.readouterr().err
    other = members_of(**{"3/out/images": np.zeros((3, 2, 3, 1), np.uint8)})
    assert loader.main(write(tmp_path / "other.zip", other)) == 1
    assert "FAILED: images differ by more than the card allows" in capsys.readouterr().err


def test_a_model_is_described(model):
    assert loader.about(model) == [
        "sample of mine:task, step 4,000; jax 0.0.1, for cpu",
        "  in  seeds: int32 [B]",
        "  in  labels: int32 [B]",
        "  out images: uint8 [B, 2, 3, 1]",
        "  2 classes: a, b",
        "  1 arrays of parameters, 1.00 MiB",
    ]


SCRIPT = """
import importlib.util, json, runpy, sys
names = 'jaxgen jaxseg launch flax optax safetensors flatbuffers'.split()
there = [name for name in names if importlib.util.find_spec(name)]
file = sys.argv[1]
sys.path.insert(0, file)
import segen_model
images = segen_model.load()(seeds=[3, 1], labels=[1, 1])['images']
try:
    runpy.run_path(file, run_name='__main__')
except SystemExit as left:
    print(json.dumps([there, images.tolist(), left.code]))
"""


def test_jax_alone_runs_and_checks_it(file, model, tmp_path):
    """A fresh interpreter in which jax and what it needs are installed, and nothing else is."""
    venv.create(tmp_path / "venv", with_pip=False)
    (tmp_path / "site").mkdir()
    for name in ALONE:
        package = Path(sys.modules.get(name, __import__(name)).__file__).parent
        (tmp_path / "site" / name).symlink_to(package)
        for beside in package.parent.glob(f"{name}.libs"):  # shared libraries of its wheel
            (tmp_path / "site" / beside.name).symlink_to(beside)
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-c", SCRIPT, file],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    there, images, code = json.loads(last)
    assert (there, code) == ([], 0)
    assert images == model(seeds=[3, 1], labels=[1, 1])["images"].tolist()
    assert "parity on cpu with golden outputs of cpu:" in lines
    assert "  images: greatest difference 0 (0.00 % of 24 values differ)" in lines
    assert lines[-1] == "not damaged, and the outputs are those of the export"
