import errno
import threading

import numpy as np
import pytest

from launch.config import schema
from launch.config.errors import UserError
from launch.data import cache, sources
from launch.storage import checksums


def split_of(data_dir, expression="train[:40]", **changes):
    config = schema.defaults().data
    config.update(data_dir=data_dir, **changes)
    return sources.open_split(config, expression)


@pytest.fixture
def split(tmp_path):
    return split_of(str(tmp_path))


def ragged(split):
    return [{"image": np.zeros((size, 2, 1), np.uint8)} for size in (2, 2, 3)]


def test_the_cache_holds_what_the_records_hold(split, capsys):
    arrays = cache.arrays_of(split, 100)
    for index in (0, 17, 39):
        for key, value in split[index].items():
            np.testing.assert_array_equal(arrays[key][index], value)
    assert isinstance(arrays["image"], np.memmap)
    assert capsys.readouterr().err.startswith("decoding digits:1.0.0 train[:40] once (40 examples)")
    again = cache.arrays_of(split, 100)
    assert capsys.readouterr().err == ""  # found, not built
    np.testing.assert_array_equal(again["image"], arrays["image"])


def test_another_split_has_another_cache(tmp_path, split):
    cache.arrays_of(split, 100)
    other = split_of(str(tmp_path), "train[5:9]")
    np.testing.assert_array_equal(cache.arrays_of(other, 100)["image"][0], split[5]["image"])


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "manifest", "all agree"])
def test_a_damaged_cache_is_named_and_built_again(split, damage, capsys):
    arrays = {key: np.array(a) for key, a in cache.arrays_of(split, 100).items()}
    (folder,) = (split.folder / "segen_cache").iterdir()
    path = folder / ("manifest.json" if damage == "manifest" else "image.npy")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    if damage in ("flip", "manifest"):
        path.write_bytes(content)
    elif damage in ("truncate", "all agree"):  # mapped, its end would kill the process
        path.write_bytes(content[:-7])
    if damage == "all agree":
        checksums.write(folder)
    capsys.readouterr()
    found = cache.arrays_of(split, 100)
    said = capsys.readouterr().err.splitlines()[0]
    assert "is damaged" in said
    assert damage == "all agree" or path.name in said
    for key, array in arrays.items():
        np.testing.assert_array_equal(found[key], array)


def test_many_processes_may_build_at_once(split):
    results, barrier = [], threading.Barrier(4)

    def build():
        barrier.wait()
        results.append(np.array(cache.arrays_of(split, 100)["image"]))

    threads = [threading.Thread(target=build) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(results) == 4
    assert all((image == results[0]).all() for image in results)
    assert len(list((split.folder / "segen_cache").iterdir())) == 1


def test_a_split_above_the_budget_is_not_held(split):
    big = split_of(str(split.folder.parents[1]), "train")
    assert cache.arrays_of(big, 0) is None


def two_mib(split):
    return [{"image": np.full((1024, 512, 2), number, np.uint8)} for number in range(2)]


def test_the_budget_is_in_mib():
    split = split_of("", name="tests.launch.data.test_cache:two_mib")
    assert cache.arrays_of(split, 1) is None
    held = cache.arrays_of(split, 2)["image"]
    assert held.shape == (2, 1024, 512, 2)
    assert held[:, 5, 5, 1].tolist() == [0, 1]


def test_examples_that_differ_in_shape_are_named():
    ragged_split = split_of("", name="tests.launch.data.test_cache:ragged")
    with pytest.raises(
        UserError, match=r"example 2 has image uint8\[3, 2, 1\].*config.data.preprocess"
    ):
        cache.arrays_of(ragged_split, 100)


def test_a_read_only_data_set_is_cached_elsewhere(split, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (split.folder / "segen_cache").write_text("in the way")  # root may write anywhere else
    with pytest.raises((FileExistsError, NotADirectoryError)):
        (split.folder / "segen_cache").mkdir()
    arrays = cache.arrays_of(split, 100)
    np.testing.assert_array_equal(arrays["image"][3], split[3]["image"])
    assert list((tmp_path / "home" / "segen" / "data").rglob("image.npy"))


def test_a_damaged_cache_that_cannot_be_removed_is_not_used(split, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    expected = np.array(cache.arrays_of(split, 100)["image"])
    (folder,) = (split.folder / "segen_cache").iterdir()
    (folder / "image.npy").write_bytes(b"damage")
    monkeypatch.setattr(cache.shutil, "rmtree", lambda *arguments, **options: None)
    arrays = cache.arrays_of(split, 100)
    np.testing.assert_array_equal(arrays["image"], expected)
    assert (folder / "image.npy").read_bytes() == b"damage"
    assert list((tmp_path / "home" / "segen" / "data").rglob("image.npy"))
    assert "cannot write there" in capsys.readouterr().err


def test_an_array_is_made_with_its_space_on_the_disk(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    array = cache.create(path, (1000, 1000), np.dtype(np.float32))
    assert path.stat().st_blocks * 512 >= 4_000_000  # no holes
    array[7] = 3
    array.flush()
    found = np.load(path)
    assert (found.shape, found.dtype, found.sum()) == ((1000, 1000), np.float32, 3000)
    asked = []

    def full(number, start, size):
        asked.append((start, size))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        cache.create(tmp_path / "b.npy", (1000, 1000), np.dtype(np.float32))
    assert asked == [(0, path.stat().st_size)]


def test_without_room_on_the_disk_the_split_is_held_in_memory(split, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.os, "posix_fallocate", full)
    arrays = cache.arrays_of(split, 100)
    assert not isinstance(arrays["image"], np.memmap)
    np.testing.assert_array_equal(arrays["image"][3], split[3]["image"])
    assert capsys.readouterr().err.count("cannot write there: No space left on device") == 2
