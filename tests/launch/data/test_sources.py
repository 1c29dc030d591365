import numpy as np
import pytest

from launch.config import schema
from launch.config.errors import UserError
from launch.data import sources


def data_config(**changes):
    config = schema.defaults().data
    config.update(changes)
    return config


def own_records(split, count=10):
    return [{"image": np.full((2, 2, 1), i, np.uint8), "name": "text"} for i in range(count)]


def brighten(example, by=10):
    return {"image": example["image"] + np.uint8(by)}


HERE = "tests.launch.data.test_sources"


def test_records_are_preprocessed():
    changed = sources.open_split(
        data_config(name=f"{HERE}:own_records", preprocess={"name": f"{HERE}:brighten"}), "train"
    )
    assert changed[3]["image"].max() == 13
    assert changed.title == f"{HERE}:own_records train"
    assert changed.fingerprint == ""  # the content is as unknown as before


def test_a_function_may_write_into_an_example():
    image = np.zeros((2, 2), np.uint8)
    image.setflags(write=False)  # as images that Pillow decodes are

    def draw(example):
        example["image"][0] = 9
        return example

    split = sources.Split([{"image": image}], 1, "made up")
    assert sources.Preprocessed(split, draw)[0]["image"].tolist() == [[9, 9], [0, 0]]
    assert not image.any()


def test_the_fingerprint_follows_the_preprocessing(data_dir):
    plain = sources.open_split(data_config(data_dir=data_dir), "train[:5]")
    found = {plain.fingerprint}
    for by in (10, 20):
        config = data_config(data_dir=data_dir, preprocess={"name": f"{HERE}:brighten", "by": by})
        split = sources.open_split(config, "train[:5]")
        assert split.folder == plain.folder
        found.add(split.fingerprint)
    assert len(found) == 3


def test_examples_have_fixed_dtypes():
    example = sources.canonical(
        {
            "bytes": np.zeros(2, np.uint8),
            "flag": True,
            "small": np.int8(3),
            "limit": np.array([-(2**31), 2**31 - 1]),
            "empty": np.zeros(0, np.int64),
            "half": np.float16(0.5),
            "text": "left out",
        }
    )
    kinds = {key: array.dtype.name for key, array in example.items()}
    assert kinds == {
        "bytes": "uint8",
        "flag": "bool",
        "small": "int32",
        "limit": "int32",
        "empty": "int32",
        "half": "float32",
    }
    assert example["limit"].tolist() == [-(2**31), 2**31 - 1]


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_integers_beyond_32_bits_are_refused(value):
    with pytest.raises(ValueError, match="which 32 bits do not"):
        sources.canonical({"label": np.array([0, value])})


def test_the_first_line_of_an_error_is_shown():
    assert sources.first_line(ValueError("\n  one \ntwo")) == "ValueError: one"
    assert sources.first_line(KeyError()) == "KeyError: no message"
    assert len(sources.first_line(ValueError("x" * 400))) == 300


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
