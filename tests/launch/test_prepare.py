"""Prepares data sets as array_record: embedded ones, and what TensorFlow prepared."""

import importlib.util
import sys
import types

import pytest
from array_record.python.array_record_module import ArrayRecordReader

from launch import prepare
from launch.data import sources
from tests.tools import runs


def test_an_embedded_set_is_prepared_once(tmp_path):
    for _ in range(2):
        done = runs.call("prepare", "digits", f"--data_dir={tmp_path}")
        assert done.returncode == 0, done.stderr
        assert f"digits/1.0.0 is prepared in {tmp_path / 'digits' / '1.0.0'}" in done.stderr
        assert sources.has_array_record(sources.builder("digits", str(tmp_path)))


def test_another_set_without_tensorflow_says_what_is_missing(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    without = lambda name, *rest: None if name == "tensorflow" else found(name, *rest)
    monkeypatch.setattr(importlib.util, "find_spec", without)
    done = runs.call("prepare", "mnist", f"--data_dir={tmp_path}")
    assert done.returncode == 2
    assert "preparing mnist needs TensorFlow" in done.stderr
    assert 'pip install "segen[prepare]"' in done.stderr
    assert f"copy the folder to {tmp_path / 'mnist'}" in done.stderr


def test_a_bucket_is_refused():
    done = runs.call("prepare", "mnist", "--data_dir=gs://bucket/data")
    assert done.returncode == 2
    assert "--data_dir=gs://bucket/data: prepare into a folder" in done.stderr


@pytest.mark.parametrize("records", [[b"one", b"", b"three" * 1000]])
def test_records_are_copied_byte_for_byte(records, tmp_path, monkeypatch):
    old = tmp_path / "set-train.tfrecord-00000-of-00001"
    old.touch()
    dataset = lambda path: types.SimpleNamespace(
        as_numpy_iterator=lambda: iter(records if path == str(old) else [])
    )
    tensorflow = types.SimpleNamespace(data=types.SimpleNamespace(TFRecordDataset=dataset))
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    split = types.SimpleNamespace(name="train", filepaths=[old], num_examples=len(records))
    info = types.SimpleNamespace(splits={"train": split})
    prepare.convert(types.SimpleNamespace(data_dir=tmp_path, info=info))
    new = tmp_path / "set-train.array_record-00000-of-00001"
    assert sorted(tmp_path.iterdir()) == sorted([old, new])
    reader = ArrayRecordReader(str(new))
    assert "group_size:1," in reader.writer_options_string()
    assert reader.read_all() == records
    reader.close()
