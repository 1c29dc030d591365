import os

import pytest

from launch.storage.atomic import replacing


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "er" / "file.json"
    with replacing(path) as working:
        working.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    with pytest.raises(ZeroDivisionError), replacing(path) as working:
        working.write_text(str(1 / 0))
    with pytest.raises(ZeroDivisionError), replacing(path):
        raise ZeroDivisionError  # before anything is written
    assert path.read_text() == "first"
    assert [file.name for file in path.parent.iterdir()] == ["file.json"]


def test_the_temporary_file_is_new_and_has_the_usual_permissions(tmp_path):
    names = set()
    for _ in range(2):
        with replacing(tmp_path / ("n" * 250)) as working:  # as long as a name may be
            assert working.parent == tmp_path
            assert working.suffix == ".tmp"
            assert working.read_bytes() == b""
            names.add(working.name)
    assert len(names) == 2
    mask = os.umask(0o027)
    try:
        with replacing(tmp_path / "file") as working:
            working.write_text("x")
    finally:
        os.umask(mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_link_under_the_name_of_the_temporary_file_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "precious").write_text("x")
    (tmp_path / ".00.tmp").symlink_to("precious")
    monkeypatch.setattr("secrets.token_hex", lambda size: "00")
    with pytest.raises(FileExistsError), replacing(tmp_path / "file"):
        pass
    assert (tmp_path / "precious").read_text() == "x"
