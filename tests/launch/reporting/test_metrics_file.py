from launch.reporting import metrics_file

WHOLE = b'{"step": 1, "split": "train"}\n{"step": 2, "split": "train"}\n'


def test_broken_lines_are_counted_and_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"step": 1, "split": "train", "loss": 2.0}\n'
        b"\xff\xfe\n"
        b'{"split": "train"}\n'
        b"[1]\n"
        b'{"step": 2, "split": "test", "loss": null}\n'
        b'{"step": 3, "split": "train", "loss": 1.0}\n' + b"[" * 100_000 + b'\n{"step": 4, "spl'
    )
    found = metrics_file.read(path)
    assert [line["step"] for line in found.lines] == [1, 2, 3]
    assert found.broken == 5
    assert found.series("loss", "train") == [(1, 2.0), (3, 1.0)]
    assert found.series("loss", "test") == []


def test_a_file_that_is_not_there_has_no_lines(tmp_path):
    assert metrics_file.read(tmp_path / "metrics.jsonl") == ([], 0)


def test_what_is_kept_is_kept_byte_for_byte(tmp_path):
    path = tmp_path / "m"
    assert metrics_file.kept(path, 5) == b""
    later = b'{"step": 3, "split": "test"}\n'
    broken = b'{"step": \r1e\xff\n'
    path.write_bytes(WHOLE + broken + later + b'{"step": 1, "split": "test"}')
    assert metrics_file.kept(path, 2) == WHOLE + broken
    assert metrics_file.kept(path, 3) == WHOLE + broken + later
