import json

from launch.data import inventory


def test_changes_are_counted_and_three_are_named():
    before = dict.fromkeys("abcdefgh", "1")
    now = {"a": "1", "b": "2", **{f"n{k}": "1" for k in range(4)}}
    assert inventory.changes(before, now) == [
        "4 added: n0, n1, n2 and 1 more",
        "6 removed: c, d, e and 3 more",
        "1 changed: b",
    ]
    assert inventory.changes(before, before) == []
    assert inventory.changes({}, {"x": "1", "y": "1", "z": "1"}) == ["3 added: x, y, z"]


def test_changes_are_told_once(tmp_path, caplog):
    path = tmp_path / "run" / "data.json"
    inventory.tell_changes(path, {"train": {"a": "1"}, "val": {"b": "1"}})
    assert caplog.messages == []
    today = {"train": {"a": "2"}, "val": {"b": "1", "c": "1"}}
    inventory.tell_changes(path, today)
    assert caplog.messages == [
        "since this run last started, train has 1 changed: a",
        "since this run last started, val has 1 added: c",
    ]
    inventory.tell_changes(path, today)
    assert len(caplog.messages) == 2
    assert json.loads(path.read_text()) == today


def test_a_damaged_file_is_told(tmp_path, caplog):
    path = tmp_path / "data.json"
    path.write_text("{")
    inventory.tell_changes(path, {"train": {}})
    assert "is damaged: whether the data have changed is not known" in caplog.text
    assert json.loads(path.read_text()) == {"train": {}}
