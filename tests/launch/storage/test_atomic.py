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
