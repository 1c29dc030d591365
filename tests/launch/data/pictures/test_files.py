import numpy as np
import pytest
from PIL import Image

from launch.data.bad_file import BadFile
from launch.data.folders.pairs import Pair
from launch.data.pictures import files


def save(root, *names, values=None):
    rng = np.random.default_rng(0)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (9, 9, 3), np.uint8) if values is None else values
        Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return root


def names(root, only=""):
    return [pair.name for pair in files.find(root, only)]


def pairs(*listed):
    return [Pair(name, None, ()) for name in listed]


def test_images_lie_anywhere_below_the_folder(tmp_path):
    save(tmp_path, "b.jpg", "a/x.PNG", "a/deep/er/y.bmp", "c/z.webp", ".hidden/h.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert names(tmp_path) == ["b.jpg", "a/x.PNG", "a/deep/er/y.bmp", "c/z.webp"]
    assert files.find(tmp_path, "")[0].files == (tmp_path / "b.jpg",)
    assert names(tmp_path, "A/*") == ["a/x.PNG", "a/deep/er/y.bmp"]
    assert names(tmp_path, "*.png") == ["a/x.PNG"]


def test_a_folder_without_images(tmp_path):
    with pytest.raises(BadFile, match=r"none: no such directory"):
        files.find(tmp_path / "none", "")
    with pytest.raises(BadFile, match=r"holds no images, but nothing. Images end in .png, .jpg"):
        files.find(tmp_path, "")
    (tmp_path / "array.npy").write_bytes(b"")
    with pytest.raises(BadFile, match=r"array.npy: is a file, not a folder"):
        files.find(tmp_path / "array.npy", "")
    with pytest.raises(BadFile, match=r"holds no images, but array.npy"):
        files.find(tmp_path, "")
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text("")
    with pytest.raises(BadFile, match=r"but 0.txt, 1.txt, .*, 7.txt\. Images"):
        files.find(tmp_path, "")
    save(tmp_path, "a.png")
    with pytest.raises(BadFile, match=r"only='b\*' fits none of 1 images, such as a.png"):
        files.find(tmp_path, "b*")


GOLDEN = ["2.png", "7.png", "15.png", "20.png", "28.png"]
MASK = np.kron(np.eye(3), np.full((3, 3), 255))[..., None] * [1, 1, 1]


@pytest.mark.parametrize(
    ("photographs", "masks", "pattern"),
    [
        (("images/1.png", "images/2.png"), ("masks/1.png", "masks/2.png"), "*images/*"),
        (("1.jpg", "2.jpg"), ("masks/1.png", "masks/2.png"), "*.jpg"),
        (("1.jpg", "2.jpg", "3.jpg"), ("1.png", "2.png", "3.png"), "*.jpg"),
        (("1.jpg", "2.jpg"), ("1_gt.png", "2_gt.png"), "*.jpg"),
        (("1_rgb.png", "2_rgb.png"), ("1_gt.png", "2_gt.png"), "*_rgb.png"),
        (("1.png", "2.png"), ("1_gt.png", "2_gt.png"), ""),
        (("1.png", "2.png"), ("depth/1.png", "depth/2.png"), ""),
    ],
)
def test_masks_beside_images_are_doubted(tmp_path, photographs, masks, pattern):
    save(tmp_path, *photographs)
    save(tmp_path, *masks, values=MASK)
    with pytest.raises(BadFile) as caught:
        files.find(tmp_path, "")
    text = str(caught.value)
    assert masks[0] in text
    assert ("masks or depth maps (" in text) == ("/" in masks[0])
    assert "/" not in masks[0] or f"({masks[0].split('/')[0]}/)" in text
    assert f", and {photographs[0].split('/')[-1]} is an image." in text
    assert 'only="*"' in text
    assert len(names(tmp_path, "*")) == len(photographs) + len(masks)
    if pattern:
        assert f'only="{pattern}"' in text
        assert names(tmp_path, pattern) == list(photographs)
    else:
        assert "Move the masks out of the folder" in text


@pytest.mark.parametrize(
    "listed",
    [
        ("masks/1.png", "masks/2.png"),  # nothing but masks
        ("cat.1.jpg", "cat.2.jpg", "dog.1.jpg", "dog.2.jpg"),
        ("images/1.png", "2.png"),
    ],
)
def test_images_alone_are_not_doubted(tmp_path, listed):
    save(tmp_path, *listed)
    assert sorted(names(tmp_path)) == sorted(listed)


def test_folders_say_the_splits(tmp_path):
    found = pairs("test/a.png", "training/x/b.png", "valid/c.png", "x/train2017/d.png")
    splits, how = files.divide(tmp_path, found, 0)
    assert list(splits) == ["train", "val", "test"]
    assert [[pair.name for pair in part] for part in splits.values()] == [
        ["training/x/b.png", "x/train2017/d.png"],
        ["valid/c.png"],
        ["test/a.png"],
    ]
    assert how == ("splits by the folders test, train2017, training, valid",)


def test_images_beside_the_splits_are_refused(tmp_path):
    found = pairs("a/x.png", "train/b.png", "test/c.png")
    message = r"1 images lie in no split, such as a/x.png. Move them into test, train, or rename"
    with pytest.raises(BadFile, match=message):
        files.divide(tmp_path, found, 0)


def test_a_tenth_is_drawn_by_names_alone(tmp_path):
    found = pairs(*(f"x/{number}.png" for number in range(2000)))
    splits, how = files.divide(tmp_path, found, 0)
    assert list(splits) == ["train", "test"]
    assert sorted(splits["train"] + splits["test"], key=found.index) == found
    assert 150 < len(splits["test"]) < 250
    assert how == ("test is a tenth of the images, drawn by a hash of their names",)
    fewer, _ = files.divide(tmp_path, found[500:], 0)
    assert set(fewer["test"]) == set(splits["test"]) & set(found[500:])
    other, _ = files.divide(tmp_path, found, 1)
    assert 5 < len(set(other["test"]) & set(splits["test"])) < 50


def test_a_folder_for_training_alone_gives_a_tenth(tmp_path):
    found = pairs(*(f"train/{number}.png" for number in range(100)))
    splits, how = files.divide(tmp_path, found, 0)
    assert (0 < len(splits["test"]) < 30, len(how)) == (True, 2)
    splits, how = files.divide(tmp_path, pairs("train/a.png", "val/b.png"), 0)
    assert (list(splits), len(how)) == (["train", "val"], 1)


def test_the_draw_is_that_of_earlier_runs(tmp_path):
    splits, _ = files.divide(tmp_path, pairs(*(f"{number}.png" for number in range(30))), 0)
    assert [pair.name for pair in splits["test"]] == GOLDEN


@pytest.mark.parametrize("seed", range(20))
def test_two_images_are_one_for_each_split(tmp_path, seed):
    splits, _ = files.divide(tmp_path, pairs("a.png", "b.png"), seed)
    assert len(splits["test"]) >= 1
    splits, _ = files.divide(tmp_path, pairs("a.png"), 3)
    assert [len(part) for part in splits.values()] == [1, 0]


def test_the_first_folder_that_is_no_split_is_the_class(tmp_path):
    found = pairs("cat/1.png", "train/dog/2.png", "bird/test/deep/3.png", "cat/x/4.png")
    named = files.classes_of(tmp_path, found)
    assert list(named.values()) == ["cat", "dog", "bird", "cat"]
    assert len(files.classes_of(tmp_path, found[:2])) == 2
    assert [files.class_of(pair) for pair in pairs("1.png", "train/2.png")] == ["", ""]


def test_classes_that_are_none(tmp_path):
    bare = [Pair(name, tmp_path / name, ()) for name in ("cat/1.png", "2.png", "train/3.png")]
    message = r"2.png: lies in no folder that names its class \(and 1 more\)"
    with pytest.raises(BadFile, match=message):
        files.classes_of(tmp_path, bare)
    with pytest.raises(BadFile, match=r"its class. Move it"):
        files.classes_of(tmp_path, bare[:2])
    with pytest.raises(BadFile, match=r"all images lie in one folder, cat/"):
        files.classes_of(tmp_path, pairs("cat/1.png", "train/cat/2.png"))


def test_names_that_are_no_text_are_divided(tmp_path):
    save(tmp_path, "\udcff.png", "a.png")
    splits, _ = files.divide(tmp_path, files.find(tmp_path, ""), 0)
    assert {len(part) for part in splits.values()} == {1}
