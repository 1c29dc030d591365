import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launch.storage import checksums


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "data.bin").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "inner" / "empty").write_bytes(b"")
    checksums.write(tmp_path)
    return tmp_path


def test_a_whole_folder_has_no_fault(folder):
    assert checksums.find_damage(folder) is None


@given(place=st.integers(0, 2559), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_every_flipped_bit_is_found(folder, place, bit):
    path = folder / "data.bin"
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 1 << bit
    path.write_bytes(damaged)
    assert (
        checksums.find_damage(folder) == "the content of data.bin has changed since it was written"
    )
    path.write_bytes(whole)


def test_each_kind_of_damage_is_named(folder):
    path = folder / "data.bin"
    path.write_bytes(path.read_bytes()[:-3])
    assert checksums.find_damage(folder) == "data.bin has 2557 bytes instead of 2560"
    path.unlink()
    assert checksums.find_damage(folder) == "data.bin is missing"
    path.mkdir()
    assert "data.bin cannot be read" in checksums.find_damage(folder)


def test_damage_to_the_manifest_itself_is_found(folder):
    path = folder / checksums.NAME
    content = json.loads(path.read_text())
    content["files"]["data.bin"]["bytes"] = 1
    path.write_text(json.dumps(content))
    assert checksums.find_damage(folder) == "manifest.json has changed since it was written"
    path.write_text(path.read_text()[:40])
    assert checksums.find_damage(folder) == "manifest.json cannot be read"
    path.unlink()
    assert checksums.find_damage(folder) == "manifest.json is missing"
