"""Preparing a data set: what is done already, what is missing, and what to do about it."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from launch import prepare
from launch.config.errors import UserError
from launch.data import tfds_sets
from tests.tools import runs


def builder(prepared, name="mnist"):
    info = SimpleNamespace(full_name=f"{name}/3.0.1")
    return SimpleNamespace(
        name=name, info=info, data_dir=f"/data/{name}", is_prepared=lambda: prepared
    )


@pytest.fixture
def made(monkeypatch):
    """Which of the two ways to prepare was taken, without either."""
    calls = []
    monkeypatch.setattr(prepare, "convert", lambda builder: calls.append("convert"))
    monkeypatch.setattr(prepare.tfds_sets, "prepare", lambda builder: calls.append("prepare"))
    return calls


def call(monkeypatch, builder, array_record=False, tensorflow=True):
    find_spec = lambda name: "spec" if tensorflow or name != "tensorflow" else None
    monkeypatch.setattr(prepare.importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(prepare.tfds_sets, "has_array_record", lambda builder: array_record)
    monkeypatch.setattr(prepare.tfds_sets, "builder", lambda name, folder: builder)
    prepare.main([builder.name, "--data_dir=/data"])


@pytest.mark.parametrize(
    ("name", "prepared", "array_record", "tensorflow", "way"),
    [
        ("mnist", False, False, True, ["prepare"]),
        ("mnist", True, False, True, ["convert"]),
        ("mnist", True, True, False, []),  # nothing to do
        ("digits", False, False, False, ["prepare"]),  # shipped with us
        ("digits", True, False, True, ["convert"]),
    ],
)
def test_a_data_set_is_downloaded_converted_or_there(
    name, prepared, array_record, tensorflow, way, made, monkeypatch, caplog
):
    with caplog.at_level("INFO", "segen"):
        call(monkeypatch, builder(prepared, name), array_record, tensorflow)
    assert made == way
    assert caplog.messages == [f"{name}/3.0.1 is prepared in /data/{name}"]


@pytest.mark.parametrize(
    ("name", "prepared"), [("mnist", False), ("mnist", True), ("digits", True)]
)
def test_missing_tensorflow_is_named_with_what_to_do(name, prepared, made, monkeypatch):
    with pytest.raises(UserError) as caught:
        call(monkeypatch, builder(prepared, name), tensorflow=False)
    message = str(caught.value)
    assert message.startswith(f"preparing {name} needs TensorFlow, which training does not: ")
    assert 'pip install "segen[prepare]"' in message
    assert message.endswith(f"copy the folder to /data/{name}")
    assert made == []


def test_a_bucket_is_refused(made):
    with pytest.raises(UserError, match=r"--data_dir=gs://a/b: prepare into a folder, and copy"):
        prepare.main(["mnist", "--data_dir=gs://a/b"])
    assert made == []


def test_records_are_copied_byte_for_byte(tmp_path, monkeypatch):
    """TensorFlow and the writer stand in, so that this runs where they are not."""
    records = {"mnist-train.tfrecord-0": [b"one", b"two"], "mnist-test.tfrecord-0": [b"three"]}

    class Records(list):
        as_numpy_iterator = list.__iter__

    class Writer:
        def __init__(self, path, options):
            assert options == "group_size:1"
            assert Path(path).name.startswith("incomplete.")
            self.path, self.records = Path(path), []

        def write(self, record):
            self.records.append(record)

        def close(self):
            self.path.write_bytes(b"|".join(self.records))

    tensorflow, writer = ModuleType("tensorflow"), ModuleType("writer")
    read = lambda path: Records(records[Path(path).name])
    tensorflow.data = SimpleNamespace(TFRecordDataset=read)
    writer.ArrayRecordWriter = Writer
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    monkeypatch.setitem(sys.modules, "array_record", ModuleType("array_record"))
    monkeypatch.setitem(sys.modules, "array_record.python", ModuleType("array_record.python"))
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", writer)
    splits = {
        name: SimpleNamespace(
            name=name, num_examples=1, filepaths=[tmp_path / f"mnist-{name}.tfrecord-0"]
        )
        for name in ("train", "test")
    }
    prepare.convert(SimpleNamespace(data_dir=tmp_path, info=SimpleNamespace(splits=splits)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "mnist-train.array_record-0": b"one|two",
        "mnist-test.array_record-0": b"three",
    }


def test_an_embedded_set_is_prepared_once(tmp_path):
    for _ in range(2):
        done = runs.call("prepare", "digits", f"--data_dir={tmp_path}")
        assert done.returncode == 0, done.stderr
        assert f"digits/1.0.0 is prepared in {tmp_path / 'digits' / '1.0.0'}" in done.stderr
        assert tfds_sets.has_array_record(tfds_sets.builder("digits", str(tmp_path)))
