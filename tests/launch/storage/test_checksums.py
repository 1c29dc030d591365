import hashlib
import json
import os

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


def seal(folder, files):
    """Writes a manifest of other files, whose own hash is right."""
    listed = json.dumps(files, indent=1, sort_keys=True).encode()
    content = {"files": files, "sha256": hashlib.sha256(listed).hexdigest()}
    (folder / checksums.NAME).write_text(json.dumps(content))


def test_a_whole_folder_has_no_damage(folder):
    assert checksums.find_damage(folder) is None
    checksums.write(folder)  # again: the manifest does not list itself
    assert checksums.find_damage(folder) is None


def test_the_manifest_lists_size_and_crc32c_of_every_file(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/a").write_bytes(b"123456789")
    for name in ("_CHECKPOINT_METADATA", "commit_success.txt"):
        (tmp_path / name).write_text("Orbax rewrites this file")
    checksums.write(tmp_path)
    files = {"state/a": {"bytes": 9, "crc32c": "e3069283"}}  # the published check value
    listed = json.dumps(files, indent=1, sort_keys=True).encode()
    content = json.loads((tmp_path / "manifest.json").read_text())
    assert content == {"files": files, "sha256": hashlib.sha256(listed).hexdigest()}


def test_the_size_of_a_folder(folder):
    manifest = (folder / checksums.NAME).stat().st_size
    assert checksums.size(folder) == 2560 + manifest


@given(place=st.integers(0, 2559), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_every_flipped_bit_is_found(folder, place, bit):
    path = folder / "data.bin"
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 1 << bit
    path.write_bytes(damaged)
    damage = "the content of data.bin has changed since it was written"
    assert checksums.find_damage(folder) == damage
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


def test_what_is_no_regular_file_is_not_opened(folder):
    for name in ("data.bin", checksums.NAME):
        whole = (folder / name).read_bytes()
        (folder / name).unlink()
        os.mkfifo(folder / name)
        assert f"{name} cannot be read" in checksums.find_damage(folder)
        (folder / name).unlink()
        (folder / name).write_bytes(whole)
    assert checksums.find_damage(folder) is None
    (folder.parent / "link").symlink_to(folder)
    assert checksums.find_damage(folder.parent / "link") == "is a symbolic link"
    (folder.parent / "link").unlink()


@pytest.mark.parametrize("name", ["/dev/zero", "../data.bin", "inner/../../data.bin"])
def test_a_manifest_cannot_name_files_outside(folder, name):
    seal(folder, {name: {"bytes": 1, "crc32c": "00000000"}})
    damage = f"manifest.json names {name}, which lies outside"
    assert checksums.find_damage(folder) == damage


@pytest.mark.parametrize("files", [3, [], ["a"], {"a": 3}, {"a": "b"}, {"a": {}}, {"a": None}])
def test_a_list_of_files_that_is_none_cannot_be_read(folder, files):
    seal(folder, files)
    assert checksums.find_damage(folder) == "manifest.json cannot be read"


def test_names_that_no_file_can_have(folder):
    seal(folder, {"a\0b": {"bytes": 1, "crc32c": "00000000"}})
    assert "cannot be read (embedded null byte)" in checksums.find_damage(folder)


def test_a_manifest_of_brackets_alone(folder):
    (folder / checksums.NAME).write_text("[" * 100_000)
    assert checksums.find_damage(folder) == "manifest.json cannot be read"
