import numpy as np
import pytest

from launch.config.errors import UserError
from launch.data import functions, sources
from tests.launch.data.test_sources import data_config


def own_arrays(split, count=10):
    if split == "uneven":
        return {"image": np.zeros((4, 2, 2, 1), np.uint8), "label": np.zeros(3, np.int64)}
    return {"image": np.zeros((count, 2, 2, 1), np.uint8), "label": np.arange(count)}


def own_records(split, count=10):
    return [{"image": np.full((2, 2, 1), i, np.uint8), "name": "text"} for i in range(count)]


def not_data(split):
    return 7


HERE = "tests.launch.data.test_functions"


class Described(list):
    """Records that say more about themselves."""

    fingerprint, folder, classes = "f1", "here", ("a", "b")


def described(split, path, scale=1):
    return Described([{"x": np.full(2, scale)}] * len(path))


def test_arrays_and_records():
    arrays = functions.open_function(
        data_config(name=f"{HERE}:own_arrays", kwargs={"count": 4}), "train"
    )
    assert (arrays.size, arrays.title) == (4, f"{HERE}:own_arrays train")
    assert arrays.records["label"].dtype == np.int32
    records = functions.open_function(data_config(name=f"{HERE}:own_records"), "train")
    assert (records.size, records.fingerprint, records.classes) == (10, "", ())
    assert set(records[3]) == {"image"}  # strings are left out


def test_what_records_say_of_themselves_is_kept():
    config = data_config(name=f"{HERE}:described", path="xyz", kwargs={"scale": 7})
    split = functions.open_function(config, "train")
    assert (split.size, split.fingerprint, split.folder) == (3, "f1", "here")
    assert split.classes == ("a", "b")
    assert split[0]["x"].tolist() == [7, 7]


@pytest.mark.parametrize(
    ("changes", "split", "message"),
    [
        ({"name": "no_such.module:thing"}, "train", "cannot import 'no_such.module'"),
        ({"name": f"{HERE}:own_array"}, "train", "did you mean 'own_arrays'"),
        ({"name": f"{HERE}:own_arrays", "kwargs": {"cuont": 3}}, "train", "did you mean 'count'"),
        ({"name": f"{HERE}:own_arrays"}, "uneven", "differ in length"),
        ({"name": f"{HERE}:not_data"}, "train", "must return a dict of arrays or a sequence"),
        ({"name": f"{HERE}:described"}, "train", r"reads a folder; give --config\.data\.path=DIR"),
    ],
)
def test_bad_names_are_named(changes, split, message):
    with pytest.raises(UserError, match=message):
        sources.open_split(data_config(**changes), split)


def folded(split, fold="none"):
    return [{"x": np.array(list(map(int, fold.split("/"))))}] if "/" in fold else [{"x": 0}] * 9


def test_a_function_that_takes_a_fold_is_given_it():
    split = functions.open_function(data_config(name=f"{HERE}:folded", fold="2/5"), "train")
    assert split[0]["x"].tolist() == [2, 5]
    assert functions.open_function(data_config(name=f"{HERE}:folded"), "train").size == 9
    twice = data_config(name=f"{HERE}:folded", fold="2/5", kwargs={"fold": "1/5"})
    with pytest.raises(UserError, match=r"data\.fold=2/5 and config\.data\.kwargs\.fold=1/5: give"):
        functions.open_function(twice, "train")
    with pytest.raises(UserError, match="test_functions:own_records takes no argument `fold`"):
        functions.open_function(data_config(name=f"{HERE}:own_records", fold="2/5"), "train")
