import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch.config import schema
from launch.config.errors import UserError
from launch.data import cache, sources
from launch.data.bad_file import BadFile
from launch.data.folders import folder
from launch.data.folders.examples import fit

CAMVID = Path(__file__).resolve().parents[5] / "shared" / "data" / "camvid"


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(np.asarray(array)).save(path)
    return path


def example(number, shape=(12, 16), classes=3):
    rng = np.random.default_rng(number)
    image = rng.integers(1, 256, (*shape, 3), np.uint8)
    return image, rng.integers(0, classes, shape).astype(np.uint8)


@pytest.fixture
def root(tmp_path):
    """Two training, one validation and one test example of 12 x 16 pixels."""
    for number, split in enumerate(("train", "train", "val", "test")):
        image, mask = example(number)
        save(tmp_path / "d" / split / "images" / f"{number}.png", image)
        save(tmp_path / "d" / split / "masks" / f"{number}.png", mask)
    return tmp_path / "d"


def test_examples_are_the_files(root):
    opened = folder("train", root)
    assert (len(opened), opened.reading.canvas, len(opened.files)) == (2, (12, 16), 4)
    assert opened.classes == ("class 0", "class 1", "class 2")
    for number in range(2):
        image, mask = example(number)
        np.testing.assert_array_equal(opened[number]["image"], image)
        np.testing.assert_array_equal(opened[number]["segmentation"], mask[..., None])
        assert opened[number]["segmentation"].dtype == np.uint8


def test_names_come_from_the_class_file(root):
    (root / "classes.txt").write_text("wall\ndoor\nwindow\n")
    assert folder("val", root).classes == ("wall", "door", "window")
    assert folder("val", root, classes=5).classes[3:] == ("class 3", "class 4")
    with pytest.raises(BadFile, match="classes=2, but its class file names id 2"):
        folder("val", root, classes=2)


def test_masks_in_colour(root):
    colours = np.array([(128, 64, 128), (70, 70, 70), (0, 0, 0)], np.uint8)
    for path in root.glob("*/masks/*.png"):
        save(path, colours[np.asarray(Image.open(path))])
    with pytest.raises(BadFile, match="a mask in colours"):
        folder("train", root)
    (root / "classes.csv").write_text("0,road,128,64,128\n1,house,70,70,70\n255,void,0,0,0\n")
    opened = folder("train", root)
    assert opened.classes == ("road", "house")
    _, mask = example(0)
    np.testing.assert_array_equal(opened[0]["segmentation"][..., 0], np.where(mask == 2, 255, mask))


def test_void_leaves_as_255(root):
    _, mask = example(0)
    for ignore in (2, 0):
        found = folder("train", root, classes=3, ignore=ignore)[0]["segmentation"][..., 0]
        np.testing.assert_array_equal(found, np.where(mask == ignore, 255, mask))
    assert len(folder("train", root, ignore=2).classes) == 2


@pytest.mark.parametrize("classes", [0, 2])
def test_masks_of_0_and_255_are_binary_only_if_all_are(root, classes):
    for path in root.glob("*/masks/*.png"):
        save(path, np.asarray(Image.open(path)) // 2 * np.uint8(255))
    _, mask = example(0)
    opened = folder("train", root, classes=classes)
    assert len(opened.classes) == 2
    np.testing.assert_array_equal(opened[0]["segmentation"][..., 0], mask // 2)
    save(root / "test" / "masks" / "3.png", np.eye(12, 16, dtype=np.uint8))
    found = folder("train", root, classes=classes)[0]["segmentation"][..., 0]
    np.testing.assert_array_equal(found, np.where(mask // 2, 255, 0))


def test_an_id_out_of_range_is_named(root):
    path = root / "train" / "masks" / "1.png"
    mask = np.array(Image.open(path))
    mask[5, 7] = 9
    save(path, mask)
    with pytest.raises(BadFile, match=r"masks/1.png \(x 7, y 5\): id 9, but there are 3 classes"):
        folder("train", root, classes=3)
    save(path, mask.astype(np.uint16) * 300)
    with pytest.raises(BadFile, match=r"\(x \d+, y 0\): id [36]00"):
        folder("train", root, classes=3)
    with pytest.raises(BadFile, match=r"id [36]00.*launch.check"):
        folder("train", root)


def test_depth_in_metres(root):
    for path in root.glob("*/images/*.png"):
        depth = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16) * 10
        save(path.parents[1] / "depth" / path.name, depth)
    found = folder("train", root)[0]["depth"]
    assert (found.dtype, found.shape) == (np.float32, (12, 16, 1))
    np.testing.assert_allclose(found.ravel(), np.arange(12 * 16) / 100, rtol=1e-6)
    padded = folder("train", root, size=(14, 20))[0]["depth"]
    assert np.all(padded[12:] == 0)


def test_one_canvas_for_all_sizes(root):
    for number, shape in enumerate([(1, 1), (24, 8)]):
        image, mask = example(number, shape)
        save(root / "train" / "images" / f"{number}.png", image)
        save(root / "train" / "masks" / f"{number}.png", mask)
    opened = folder("train", root, classes=3)
    assert opened.reading.canvas == (24, 16)
    pixel, tall = opened[0], opened[1]
    assert np.all(pixel["image"][0, 0] > 0)
    assert np.count_nonzero(pixel["image"]) == 3
    assert np.sum(pixel["segmentation"] != 255) == 1
    np.testing.assert_array_equal(tall["segmentation"][:, :8, 0], example(1, (24, 8))[1])
    assert np.all(tall["segmentation"][:, 8:] == 255)
    assert folder("train", root, classes=3, limit=12).reading.canvas == (12, 8)
    assert folder("train", root, classes=3, size=6).reading.canvas == (6, 6)


def test_scaling_averages_the_image_and_picks_ids():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, ::2] = 200
    small = fit(image, (4, 4), 0)
    assert np.all(np.abs(small[:, 1:-1].astype(int) - 100) <= 26)
    mask = np.kron([[0, 1], [2, 255]], np.ones((8, 8))).astype(np.uint8)
    np.testing.assert_array_equal(
        fit(mask, (8, 8), 255), np.kron([[0, 1], [2, 255]], np.ones((4, 4)))
    )
    wide = fit(np.full((10, 40), 7, np.uint8), (20, 20), 255)
    np.testing.assert_array_equal(wide[:5], 7)
    np.testing.assert_array_equal(wide[5:], 255)


def test_split_expressions(root):
    for expression, count in {
        "train+val": 3,
        "train[:1]": 1,
        "train[50%:]": 1,
        "train[-1:]+test": 2,
        "test": 1,
    }.items():
        assert len(folder(expression, root)) == count, expression
    with pytest.raises(BadFile, match=r"has no split 'dev'\. It has train, val, test"):
        folder("dev", root)
    with pytest.raises(BadFile, match=r"no example of 4 is in 'train\[:0\]'"):
        folder("train[:0]", root)


def test_what_is_wrong_with_a_folder_is_said(root, tmp_path):
    with pytest.raises(BadFile, match="nowhere: no such directory"):
        folder("train", tmp_path / "nowhere")
    (tmp_path / "e").mkdir()
    with pytest.raises(BadFile, match=r"no masks found: no images, but nothing. Arrange it as DIR"):
        folder("train", tmp_path / "e")
    save(root / "train" / "images" / "0.jpg", example(0)[0])
    with pytest.raises(BadFile, match=r"its name occurs twice. Keep either this file or 0.jpg"):
        folder("train", root)
    os.remove(root / "train" / "images" / "0.jpg")
    os.remove(root / "train" / "masks" / "0.png")
    save(root / "val" / "masks" / "9.png", example(0)[1])
    with pytest.raises(BadFile, match=r"no partner in \w+ \(1 more\)"):
        folder("train", root)


def test_images_larger_than_an_example_become_tiles(root):
    whole, opened = folder("train", root), folder("train", root, size=(12, 10), scale=1.0)
    assert (len(whole), len(opened), opened.reading.canvas) == (2, 4, (12, 10))
    image, mask = example(1)
    left, right = opened[2], opened[3]
    np.testing.assert_array_equal(left["image"], image[:, :10])
    np.testing.assert_array_equal(right["image"], image[:, 6:])
    np.testing.assert_array_equal(left["segmentation"][:, :8, 0], mask[:, :8])
    assert (left["segmentation"][:, 8:] == 255).all()
    np.testing.assert_array_equal(right["segmentation"][:, 2:, 0], mask[:, 8:])
    assert (right["segmentation"][:, :2] == 255).all()
    assert "cut into 8 tiles" in "".join(opened.reading.lines)
    names = [opened.file_of(number) for number in (2, 3)]
    assert names == ["train/images/1.png", "train/images/1.png from (0, 6)"]
    assert opened.fingerprint != whole.fingerprint


def test_all_images_are_scaled_by_one_factor(root):
    opened = folder("train", root, scale=0.5)
    assert (opened.reading.canvas, opened.reading.scale) == ((6, 8), 0.5)
    mask = example(0)[1]
    np.testing.assert_array_equal(opened[0]["segmentation"][..., 0], mask[1::2, 1::2])


def test_objects_are_numbered_in_place_of_classes(root):
    ids = np.zeros((12, 16), np.uint8)
    ids[1:4, 1:5], ids[6:9, 3:9], ids[5:12, 11:] = 7, 9, 200
    for path in root.glob("*/masks/*.png"):
        save(path, ids)
    opened = folder("train", root, target="objects", size=(12, 18))
    assert opened[0].keys() == {"image", "instances", "weight"}
    instances = opened[0]["instances"][..., 0]
    assert (instances[:, 16:] == 65535).all()
    np.testing.assert_array_equal(instances[:, :16], np.searchsorted([0, 7, 9, 200], ids))
    assert opened.classes == ()
    assert "target: of each pixel the number of its object" in opened.reading.lines
    with pytest.raises(ValueError, match=r"values='ids' has none"):
        folder("train", root, target="objects", values="ids")


def test_labels_of_classes_that_overlap(tmp_path):
    rng = np.random.default_rng(0)
    marks = rng.integers(0, 2, (2, 6, 8)).astype(bool)
    for number, split in enumerate(("train", "val")):
        save(tmp_path / split / "images" / "a.png", example(number, (6, 8))[0])
        for name, mark in zip(("cell", "wall"), marks, strict=True):
            save(tmp_path / split / "masks" / f"a_{name}.png", 255 * mark.astype(np.uint8))
    opened = folder("train", tmp_path, masks="_cell,_wall", target="labels", size=(6, 9))
    assert opened.classes == ("cell", "wall")
    labels = opened[0]["labels"]
    np.testing.assert_array_equal(labels[:, :8], np.moveaxis(marks, 0, -1))
    assert (labels[:, 8:] == 255).all()
    assert "segmentation" not in opened[0]


def test_labels_of_one_mask_for_all_classes(root):
    mask = example(0)[1]
    mask[0, 0] = 255
    save(root / "train" / "masks" / "0.png", mask)
    opened = folder("train", root, target="labels", classes=3)
    labels = opened[0]["labels"]
    assert opened.classes == ("class 1", "class 2")
    np.testing.assert_array_equal(labels[..., 1] == 1, mask == 2)
    assert (labels[0, 0] == 255).all()
    with pytest.raises(ValueError, match="target must be"):
        folder("train", root, target="boxes")


def test_a_link_to_nothing_is_named_and_the_check_can_be_copied(tmp_path):
    root = tmp_path / "my data"
    save(root / "train" / "masks" / "a.png", np.zeros((1, 1), np.uint8))
    (root / "train" / "images").mkdir()
    (root / "train" / "images" / "a.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(BadFile) as caught:
        folder("train", root)
    assert "images/a.png: cannot be read (No such file" in str(caught.value)
    assert f"`python -m launch.check '{root}'` lists all problems" in str(caught.value)


def test_the_canvas_is_the_largest_within_the_limit(root):
    assert folder("train", root, limit=16).reading.canvas == (12, 16)
    assert folder("train", root, limit=8).reading.canvas == (6, 8)
    assert folder("train", root, size=(7, 9)).reading.canvas == (7, 9)
    assert folder("train", root, limit=1).reading.canvas == (1, 1)


def test_the_scale_is_by_how_much_images_were_reduced(root):
    assert folder("train", root).reading.scale == 1.0
    assert folder("train", root, size=(6, 16)).reading.scale == 0.5
    assert folder("train", root, size=(24, 32)).reading.scale == 1.0


def test_sides_are_at_most_512_pixels_unless_said(root):
    image, mask = example(0, (4, 1030))
    save(root / "train" / "images" / "0.png", image)
    save(root / "train" / "masks" / "0.png", mask)
    assert folder("train", root).reading.canvas == (6, 512)  # 12 x 1030, scaled by 512 / 1030
    assert folder("train", root, limit=1030).reading.canvas == (12, 1030)


def test_a_folder_without_splits_is_divided_by_the_seed_0(tmp_path):
    for number in range(30):
        image, mask = example(number, (3, 3))
        save(tmp_path / "d" / "images" / f"{number}.png", image)
        save(tmp_path / "d" / "masks" / f"{number}.png", mask)
    val = lambda **seed: folder("val", tmp_path / "d", 3, **seed).pairs
    assert val() == val(seed=0) != val(seed=1)


def test_the_fingerprint_follows_what_is_read(root):
    prints = [folder("train", root, classes=3, **k).fingerprint for k in ({}, {"size": 8})]
    prints.append(folder("val", root, classes=3).fingerprint)
    assert len(set(prints)) == 3
    assert folder("train", root, classes=3).fingerprint == prints[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (0, 5)}, r"size=\(0, 5\): give both sides, or 0"),
        ({"size": -1}, r"size and limit must be whole pixels, got \(-1, -1\) and 512"),
        ({"size": (1, 2, 3)}, "size and limit must be whole pixels"),
        ({"limit": 0}, "size and limit must be whole pixels"),
        ({"classes": 256}, r"classes must be 0 \(find out\) to 255, got 256"),
    ],
)
def test_arguments_out_of_range(root, arguments, message):
    with pytest.raises(ValueError, match=message):
        folder("train", root, **arguments)


def test_sizes_that_differ_are_named(root):
    save(root / "train" / "masks" / "0.png", np.zeros((12, 15), np.uint8))
    with pytest.raises(BadFile, match=r"masks/0.png: is 15 x 12, its image 16 x 12. Export it at"):
        folder("train", root)[0]
    save(root / "train" / "masks" / "0.png", np.zeros((16, 12), np.uint8))
    with pytest.raises(BadFile, match=r"12 x 16, its image 16 x 12\. One of them lies on its side"):
        folder("train", root)[0]


def test_a_config_opens_a_folder_and_its_cache_follows_the_files(root, capsys):
    config = schema.defaults().data
    config.name, config.kwargs = "launch.data.folders:folder", {"path": str(root), "classes": 3}
    first = sources.open_split(config, "train")
    arrays = cache.arrays_of(first, 100)
    assert isinstance(arrays["image"], np.memmap)
    *lines, last = capsys.readouterr().err.splitlines()
    assert lines[0] == f"{root.name}: 4 pairs: train 2, val 1, test 1"
    assert last.startswith("decoding launch.data.folders:folder train once")
    assert first.classes == ("class 0", "class 1", "class 2")
    cache.arrays_of(sources.open_split(config, "train"), 100)
    assert capsys.readouterr().err == ""  # from the cache
    save(root / "train" / "masks" / "0.png", np.zeros((12, 16), np.uint8))
    changed = cache.arrays_of(sources.open_split(config, "train"), 100)
    assert len(capsys.readouterr().err.splitlines()) == 1  # what was said is not said again
    assert not changed["segmentation"][0].any()
    assert sorted(path.name for path in root.iterdir()) == ["test", "train", "val"]


def test_a_bad_file_reaches_the_user_as_it_is(root):
    config = schema.defaults().data
    config.name, config.kwargs = "launch.data.folders:folder", {"path": str(root), "classes": 2}
    config.preprocess = {"name": "launch.data.transforms:keep", "keys": ("segmentation",)}
    with pytest.raises(UserError) as caught:
        sources.open_split(config, "train")
    assert str(root / "train" / "masks" / "0.png") in str(caught.value)
    assert "Prepare the data set again" not in str(caught.value)
    config.kwargs.update(path=str(root / "train"), classes=3)
    with pytest.raises(UserError, match=r"no example of 2 is in 'test'"):
        sources.open_split(config, "test")


def test_camvid(tmp_path):
    if not CAMVID.is_dir():
        pytest.skip(f"needs CamVid in {CAMVID}")
    (tmp_path / "classes.txt").symlink_to(CAMVID / "classes.txt")
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
            for path in sorted((CAMVID / split / kind).iterdir())[:6]:
                (tmp_path / split / kind / path.name).symlink_to(path)
    opened = folder("val", tmp_path, ignore=11)
    assert (len(opened), opened.reading.canvas) == (6, (360, 480))
    assert (opened.classes[0], len(opened.classes)) == ("sky", 11)
    found = np.unique(opened[0]["segmentation"])
    assert set(found) <= {*range(11), 255}
    with pytest.raises(BadFile, match=r"names 11 classes, but masks hold 12.*give ignore=11"):
        folder("val", tmp_path)


def test_folds_differ_in_their_files_and_in_nothing_else(tmp_path):
    """And their files are surveyed once, as they are the same."""
    for number in range(6):
        image, mask = example(number)
        split = "val" if number < 2 else "train"
        save(tmp_path / "d" / split / "images" / f"{number}.png", image)
        save(tmp_path / "d" / split / "masks" / f"{number}.png", mask)
    opened = [folder("val", tmp_path / "d", fold=f"{part}/3") for part in (1, 2, 3)]
    files = [one.files for one in opened]
    assert {len(part) for part in files} == {4}
    assert len(set().union(*files)) == 12
    assert len({one.fingerprint for one in opened}) == 3
    lines = [one.reading.lines[0] for one in opened]
    assert lines[1] == "6 pairs, fold 2 of 3: 4 train, 2 val"
    assert {one.reading.lines[1:] for one in opened} == {opened[0].reading.lines[1:]}
    for one in opened:
        numbers = [int(pair.image.stem) for pair in one.pairs]
        np.testing.assert_array_equal(one[0]["image"], example(numbers[0])[0])
        assert {one.root / name for name in one.inventory} == {pair.image for pair in one.pairs}
    assert len(list(opened[0].folder.glob("survey-*.json"))) == 1


def test_what_has_no_effect_beside_a_fold_is_refused(root):
    with pytest.raises(ValueError, match=r"val=0\.2 has no effect: fold=1/2 decides what is val"):
        folder("train", root, fold="1/2", val=0.2)
    with pytest.raises(ValueError, match="has no effect without a fold"):
        folder("train", root, group="(a)")
    with pytest.raises(BadFile, match="train and val have 3 images: too few for 4 folds"):
        folder("train", root, fold="1/4")
