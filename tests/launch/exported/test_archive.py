import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors import numpy as safetensors

from launch.exported import archive, loader


def test_every_dtype_of_parameter_is_read_back():
    arrays = {
        "half": np.asarray(jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3)).T,
        "count": np.int32(7),
        "none": np.zeros((0, 3), np.float32),
        "yes": np.array([True, False]),
        "wide": np.arange(3.0),
    }
    rest = {name: array for name, array in arrays.items() if name != "half"}  # not known there
    for found, expected in (
        (loader.tensors(archive.parameters(arrays)), arrays),
        (safetensors.load(archive.parameters(rest)), rest),
    ):
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


def test_the_code_is_the_loader_and_flatbuffers():
    members = archive.code()
    assert members["segen_model.py"] == Path(loader.__file__).read_bytes()
    assert b"segen_model.main()" in members["__main__.py"]
    vendored = [name for name in members if name.startswith("vendor/")]
    assert "vendor/flatbuffers/table.py" in vendored
    assert "vendor/flatbuffers/flexbuffers.py" not in vendored
    assert any(name.endswith("METADATA") for name in vendored)
    assert not any(name.endswith(".pyc") for name in members)


def test_the_same_members_give_the_same_bytes(tmp_path):
    members = {"b.txt": b"b" * 1000, loader.PARAMETERS: b"p" * 1000}
    for name in ("one.zip", "two.zip"):
        archive.write(tmp_path / name, members)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archived:
        text, parameters = archived.infolist()
        assert archived.read("b.txt") == members["b.txt"]
    assert (text.filename, text.compress_type) == ("b.txt", zipfile.ZIP_DEFLATED)
    assert (parameters.filename, parameters.compress_type) == (
        loader.PARAMETERS,
        zipfile.ZIP_STORED,
    )
    assert text.date_time == (1980, 1, 1, 0, 0, 0)
    assert text.external_attr >> 16 == 0o644
