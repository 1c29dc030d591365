import sys
from types import SimpleNamespace

import numpy as np
import pytest

from launch.config.errors import UserError
from launch.data import sources, tfds_sets
from tests.launch.data.test_sources import data_config


def test_tfds_split_expressions(data_dir):
    whole = sources.open_split(data_config(data_dir=data_dir), "train")
    part = sources.open_split(data_config(data_dir=data_dir), "train[10:20]+test[:3]")
    assert (whole.size, part.size) == (1438, 13)
    np.testing.assert_array_equal(part[0]["image"], whole[10]["image"])
    assert whole[0]["label"].dtype == np.int32
    assert part.fingerprint != whole.fingerprint


@pytest.mark.parametrize(
    ("changes", "split", "message"),
    [
        ({"name": "mnistt"}, "train", "'mnistt'.*not found"),
        ({"name": "cifar10"}, "train", "python -m launch.prepare cifar10 --data_dir="),
        ({}, "valid", "Unknown split 'valid'.*it has test, train"),
        ({}, "train[:0]", r"train\[:0\] is empty"),
    ],
)
def test_bad_names_are_named(data_dir, changes, split, message):
    with pytest.raises(UserError, match=message):
        sources.open_split(data_config(data_dir=data_dir, **changes), split)


def test_a_missing_data_dir_is_named(tmp_path):
    with pytest.raises(UserError, match=r"not prepared in .*nowhere|no such directory"):
        sources.open_split(data_config(name="mnist", data_dir=str(tmp_path / "nowhere")), "train")


def made(prepared=True, form="tfrecord", files=(), name="mnist"):
    """Stands in for a TFDS builder."""
    switched = []
    info = SimpleNamespace(
        file_format=SimpleNamespace(value=form),
        splits={"train": SimpleNamespace(filepaths=files)},
        set_file_format=lambda value, **options: (
            switched.append(value),
            setattr(info.file_format, "value", value),
        ),
    )
    return SimpleNamespace(name=name, is_prepared=lambda: prepared, info=info), switched


def test_a_set_is_read_from_array_record_where_every_file_is_converted(tmp_path):
    files = [tmp_path / f"a.tfrecord-0000{i}-of-00002" for i in range(2)]
    assert not tfds_sets.has_array_record(made(prepared=False)[0])
    assert tfds_sets.has_array_record(made(form="array_record")[0])
    (tmp_path / "a.array_record-00000-of-00002").touch()
    assert not tfds_sets.has_array_record(made(files=files)[0])
    (tmp_path / "a.array_record-00001-of-00002").touch()
    builder, switched = made(files=files)
    assert tfds_sets.has_array_record(builder)
    assert switched == ["array_record"]


def test_preparing_is_silent_for_our_own_sets_and_stdout_stays_free(capsys):
    def prepare(file_format):
        assert file_format == "array_record"
        print("chatter")

    for name, said in (("digits", ""), ("mnist", "chatter\n")):
        builder, _ = made(name=name)
        builder.download_and_prepare = prepare
        tfds_sets.prepare(builder)
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == ("", said)


def test_another_process_may_have_been_quicker():
    def fail(file_format):
        raise OSError("the folder is there")

    for prepared in (True, False):
        builder, _ = made(prepared=prepared)
        builder.download_and_prepare = fail
        if prepared:
            tfds_sets.prepare(builder)
        else:
            with pytest.raises(OSError, match="is there"):
                tfds_sets.prepare(builder)
    assert sys.stdout is not None


@pytest.mark.parametrize("name", ["d[1]", "d*", "d?"])
def test_folders_that_tfds_takes_for_patterns_are_refused(name):
    with pytest.raises(UserError, match=r"config.data.data_dir=.*TFDS takes \*, \? and \[ for pat"):
        tfds_sets.builder("digits", name)
