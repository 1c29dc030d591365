import google_crc32c
import pytest

from launch.reporting import metrics_damage

WHOLE = b'{"step": 1, "split": "train"}\n{"step": 2, "split": "train"}\n'
WRITTEN = {"bytes": len(WHOLE), "crc32c": f"{google_crc32c.value(WHOLE):08x}"}


@pytest.mark.parametrize("more", [b"", b'{"step": 3, "spl', b"\xff\n"])
def test_lines_that_a_run_has_added_are_no_damage(tmp_path, more):
    (tmp_path / "m").write_bytes(WHOLE + more)
    assert metrics_damage.find(tmp_path / "m", WRITTEN) is None
    assert metrics_damage.find(tmp_path / "m", None) is None


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        (
            WHOLE.replace(b"2", b"3"),
            "{}: one of the first 2 lines has changed since it was written",
        ),
        (WHOLE[:-1], "{}: one of the first 1 lines has changed since it was written"),
        (WHOLE[:40], "line 2 of {} cannot be read"),
        (b"", "{}: one of the first 0 lines has changed since it was writ"),
        (b"\xff" + WHOLE[1:], "line 1 of {} cannot be read"),
    ],
)
def test_damage_to_lines_is_named(tmp_path, content, damage):
    path = tmp_path / "m"
    path.write_bytes(content)
    assert metrics_damage.find(path, WRITTEN).startswith(damage.format(path))


def test_a_file_that_is_gone_is_damage_if_it_had_lines(tmp_path):
    path = tmp_path / "m"
    assert metrics_damage.find(path, WRITTEN) == f"{path} is missing"
    assert metrics_damage.find(path, {"bytes": 0, "crc32c": "00000000"}) is None


def test_a_damaged_file_is_named_and_copied_under_a_new_name(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(WHOLE)
    metrics_damage.check(path, WRITTEN)
    assert capsys.readouterr().err == ""
    for text, name in (("1", "metrics.jsonl"), ("2", "metrics.jsonl+"), ("3", "metrics.jsonl++")):
        path.write_text(text)
        metrics_damage.check(path, WRITTEN)
        copy = tmp_path / "damaged" / name
        assert copy.read_text() == text
        said = f"line 1 of {path} cannot be read; the run goes on, and its state is whole; a copy"
        assert capsys.readouterr().err == f"{said} of the file is {copy}\n"
    assert path.read_text() == "3"
    path.unlink()
    metrics_damage.check(path, WRITTEN)
    assert (
        capsys.readouterr().err == f"{path} is missing; the run goes on, and its state is whole\n"
    )


def test_a_folder_in_its_place_is_not_opened(tmp_path):
    path = tmp_path / "m"
    path.mkdir()
    assert metrics_damage.find(path, WRITTEN) == f"{path} is not a regular file"
    metrics_damage.check(path, WRITTEN)  # nor copied
    assert not (tmp_path / "damaged").exists()
