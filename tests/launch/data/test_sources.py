import numpy as np
import pytest

from launch.config import schema
from launch.config.errors import UserError
from launch.data import sources


def data_config(**changes):
    config = schema.defaults().data
    config.update(changes)
    return config


def own_arrays(split, count=10):
    if split == "uneven":
        return {"image": np.zeros((4, 2, 2, 1), np.uint8), "label": np.zeros(3, np.int64)}
    return {"image": np.zeros((count, 2, 2, 1), np.uint8), "label": np.arange(count)}


def own_records(split, count=10):
    return [{"image": np.full((2, 2, 1), i, np.uint8), "name": "text"} for i in range(count)]


def not_data(split):
    return 7


def brighten(example, by=10):
    return {"image": example["image"] + np.uint8(by)}


HERE = "tests.launch.data.test_sources"


def test_tfds_split_expressions(data_dir):
    whole = sources.open_split(data_config(data_dir=data_dir), "train")
    part = sources.open_split(data_config(data_dir=data_dir), "train[10:20]+test[:3]")
    assert (whole.size, part.size) == (1438, 13)
    np.testing.assert_array_equal(part[0]["image"], whole[10]["image"])
    assert whole[0]["label"].dtype == np.int32
    assert part.fingerprint != whole.fingerprint


def test_a_users_own_arrays_and_records():
    arrays = sources.open_split(
        data_config(name=f"{HERE}:own_arrays", kwargs={"count": 4}), "train"
    )
    assert arrays.size == 4
    assert arrays.records["label"].dtype == np.int32
    records = sources.open_split(data_config(name=f"{HERE}:own_records"), "train")
    assert set(records[3]) == {"image"}  # strings are left out
    changed = sources.open_split(
        data_config(name=f"{HERE}:own_records", preprocess={"name": f"{HERE}:brighten"}), "train"
    )
    assert changed[3]["image"].max() == 13
    assert changed.fingerprint == ""  # the content is as unknown as before


@pytest.mark.parametrize(
    ("changes", "split", "message"),
    [
        ({"name": "mnistt"}, "train", "'mnistt'.*not found"),
        ({"name": "cifar10"}, "train", "python -m launch.prepare cifar10 --data_dir="),
        ({}, "valid", "Unknown split 'valid'.*it has test, train"),
        ({}, "train[:0]", r"train\[:0\] is empty"),
        ({"name": "no_such.module:thing"}, "train", "cannot import 'no_such.module'"),
        ({"name": f"{HERE}:own_array"}, "train", "did you mean 'own_arrays'"),
        ({"name": f"{HERE}:own_arrays", "kwargs": {"cuont": 3}}, "train", "did you mean 'count'"),
        ({"name": f"{HERE}:own_arrays"}, "uneven", "differ in length"),
        ({"name": f"{HERE}:not_data"}, "train", "must return a dict of arrays or a sequence"),
    ],
)
def test_bad_names_are_named(data_dir, changes, split, message):
    with pytest.raises(UserError, match=message):
        sources.open_split(data_config(data_dir=data_dir, **changes), split)


def test_a_missing_data_dir_is_named(tmp_path):
    with pytest.raises(UserError, match=r"not prepared in .*nowhere|no such directory"):
        sources.open_split(data_config(name="mnist", data_dir=str(tmp_path / "nowhere")), "train")


def test_a_damaged_record_is_named(tmp_path):
    config = data_config(data_dir=str(tmp_path))
    split = sources.open_split(config, "train")
    (path,) = split.folder.glob("*train*")
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 2, len(content) // 2 + 400):
        content[place] ^= 0xFF
    path.write_bytes(content)
    damaged = sources.open_split(config, "train")
    with pytest.raises(UserError, match=r"digits:1.0.0 train: example \d+ cannot be read.*Files: "):
        _ = [damaged[index] for index in range(damaged.size)]


def test_a_folder_that_is_not_given_is_asked_for():
    config = data_config(name="launch.data.folders:folder")
    with pytest.raises(UserError, match=r"give --config.data.path=DIR"):
        sources.open_split(config, "train")
