import google_crc32c
import pytest

from launch.reporting import metrics_file

WHOLE = b'{"step": 1, "split": "train"}\n{"step": 2, "split": "train"}\n'
WRITTEN = {"bytes": len(WHOLE), "crc32c": f"{google_crc32c.value(WHOLE):08x}"}


def test_broken_lines_are_counted_and_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"step": 1, "split": "train", "loss": 2.0}\n'
        b"\xff\xfe\n"
        b'{"split": "train"}\n'
        b"[1]\n"
        b'{"step": 2, "split": "test", "loss": null}\n'
        b'{"step": 3, "split": "train", "loss": 1.0}\n'
        b'{"step": 4, "spl'
    )
    found = metrics_file.read(path)
    assert [line["step"] for line in found.lines] == [1, 2, 3]
    assert found.broken == 4
    assert found.series("loss", "train") == [(1, 2.0), (3, 1.0)]
    assert found.series("loss", "test") == []


def test_a_file_that_is_not_there_has_no_lines(tmp_path):
    assert metrics_file.read(tmp_path / "metrics.jsonl") == ([], 0)


@pytest.mark.parametrize("more", [b"", b'{"step": 3, "spl', b"\xff\n"])
def test_lines_that_a_run_has_added_are_no_damage(tmp_path, more):
    (tmp_path / "m").write_bytes(WHOLE + more)
    assert metrics_file.find_damage(tmp_path / "m", WRITTEN) is None
    assert metrics_file.find_damage(tmp_path / "m", None) is None


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
    assert metrics_file.find_damage(path, WRITTEN).startswith(damage.format(path))


def test_a_file_that_is_gone_is_damage_if_it_had_lines(tmp_path):
    path = tmp_path / "m"
    assert metrics_file.find_damage(path, WRITTEN) == f"{path} is missing"
    assert metrics_file.find_damage(path, {"bytes": 0, "crc32c": "00000000"}) is None


def test_what_is_kept_is_kept_byte_for_byte(tmp_path):
    path = tmp_path / "m"
    assert metrics_file.kept(path, 5) == b""
    later = b'{"step": 3, "split": "test"}\n'
    broken = b'{"step": \r1e\xff\n'
    path.write_bytes(WHOLE + broken + later + b'{"step": 1, "split": "test"}')
    assert metrics_file.kept(path, 2) == WHOLE + broken
    assert metrics_file.kept(path, 3) == WHOLE + broken + later


def test_a_damaged_file_is_copied_under_a_new_name(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for text, name in (("1", "metrics.jsonl"), ("2", "metrics.jsonl+"), ("3", "metrics.jsonl++")):
        path.write_text(text)
        assert metrics_file.set_aside(path) == tmp_path / "damaged" / name
        assert (tmp_path / "damaged" / name).read_text() == text
    assert path.read_text() == "3"
