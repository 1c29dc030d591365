import numpy as np
import pytest
from PIL import Image

from launch.config.fold import Fold
from launch.data.folders import layouts


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(path)


def problems_of(root):
    found = layouts.recognise(root).problems
    return [(bad.path.removeprefix(f"{root}/"), bad.problem) for bad in found]


def test_a_folder_without_splits_is_divided_for_good(tmp_path):
    for number in range(150):
        touch(tmp_path / "images" / f"photo {number}.png")
        touch(tmp_path / "masks" / f"photo {number}_mask.png")
    found = layouts.recognise(tmp_path)
    parts = found.splits
    assert found.drawn
    assert not found.problems
    sizes = {split: len(part) for split, part in parts.items()}
    assert sum(sizes.values()) == 150
    assert 105 < sizes["train"] < 135
    assert min(sizes["val"], sizes["test"]) >= 7
    for path in [*tmp_path.glob("images/*[3-9].png"), *tmp_path.glob("masks/*[3-9]_mask.png")]:
        path.unlink()
    fewer = layouts.recognise(tmp_path).splits
    assert sum(map(len, fewer.values())) == 45
    assert all(set(fewer[split]) <= set(parts[split]) for split in parts)
    assert layouts.recognise(tmp_path, seed=1).splits != fewer


def test_names_match_without_suffix_case_and_ending(tmp_path):
    for image, mask in [
        ("A 1.PNG", "a 1_mask.png"),
        ("b_gt.png", "B_GT.png"),
        ("c.png", "c-labels.tif"),
        ("sub/d.png", "sub/d.gif"),
        ("e_mask.png", "e_mask_label.png"),
        ("f.png", "f.PNG"),
    ]:
        touch(tmp_path / "train" / "images" / image)
        touch(tmp_path / "train" / "masks" / mask)
    (tmp_path / "train" / "masks" / "Thumbs.db").write_text("not an image")
    (tmp_path / "train" / "masks" / ".hidden.png").write_text("nor this")
    folder = tmp_path / "train" / "images"
    touch(folder / ".ipynb_checkpoints" / "g.png")
    (folder / "sub" / "back").symlink_to(folder)
    found = layouts.recognise(tmp_path)
    assert not found.problems
    pairs = [pair for part in found.splits.values() for pair in part]
    assert [pair.image.name for pair in sorted(pairs, key=lambda pair: pair.name)] == [
        "A 1.PNG",
        "b_gt.png",
        "c.png",
        "e_mask.png",
        "f.png",
        "d.png",
    ]


def test_files_without_a_partner_are_named(tmp_path):
    for name in ("images/a.png", "images/b.png", "masks/a.png", "masks/c.png"):
        touch(tmp_path / "val" / name)
    for name in ("a.png", "c.png"):
        touch(tmp_path / "val" / "depth" / name)
    (pair,) = layouts.recognise(tmp_path).splits["val"]
    assert [path.parent.name for path in pair.files] == ["images", "masks", "depth"]
    assert sorted(problems_of(tmp_path)) == [
        ("val/depth/c.png", "no partner in images"),
        ("val/images/b.png", "no partner in depth"),
        ("val/images/b.png", "no partner in masks"),
        ("val/masks/c.png", "no partner in images"),
    ]


def test_names_that_occur_twice_are_named(tmp_path):
    for name in ("images/a.png", "images/a.jpg", "masks/a.png", "masks/a.bmp"):
        touch(tmp_path / name)
    assert problems_of(tmp_path) == [
        ("images/a.png", "its name occurs twice"),
        ("masks/a.png", "its name occurs twice"),
    ]


def test_folders_that_are_missing_or_empty(tmp_path):
    root = tmp_path / "d"
    assert problems_of(root) == [(str(root), "no such directory")]
    root.mkdir()
    assert problems_of(root) == [(str(root), "no masks found: no images, but nothing")]
    (root / "photos").mkdir()
    assert problems_of(root) == [(str(root), "no masks found: no images, but photos")]
    touch(root / "photos" / "a.png")
    assert problems_of(root) == [(str(root), "no masks found: 1 images in photos/")]


def put(root, *names, disc=False):
    """Images of noise, and masks of two values for names that say so."""
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (12, 16, 3), np.uint8)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if disc or any(word in name.lower() for word in ("mask", "gt", "ho.", "label", "annot")):
            pixels = (np.add.outer(np.arange(12), np.arange(16)) > 14 + number % 5).astype(np.uint8)
        Image.fromarray(pixels).save(path)


def named(layout):
    """{split: [(image, masks...)]} by the names of files."""
    return {
        split: [(pair.image.name, *(path.name for path in pair.masks)) for pair in part]
        for split, part in layout.splits.items()
    }


TRAIN_VAL_TEST = {
    "train": [("a.png", "a.png")],
    "val": [("b.png", "b.png")],
    "test": [("c.png",) * 2],
}


@pytest.mark.parametrize(
    "pattern",
    [
        "{split}/{kind}/{name}",
        "{kind}/{split}/{name}",
        "{split}_{kind}/{name}",
        "data/{kind}/{split}/{name}",
        "{kind}/{split}2017/{name}",
        "{upper}/{kind}/{name}",
    ],
)
def test_folders_say_split_and_kind_in_any_order(tmp_path, pattern):
    for split, name in (("train", "a.png"), ("val", "b.png"), ("test", "c.png")):
        for kind in ("images", "masks"):
            put(tmp_path, pattern.format(split=split, upper=split.upper(), kind=kind, name=name))
    found = layouts.recognise(tmp_path)
    assert (named(found), found.problems, found.drawn) == (TRAIN_VAL_TEST, [], False)


def test_images_beside_a_folder_of_masks(tmp_path):
    for split in ("train", "val"):
        put(tmp_path, f"{split}/{split}.png", f"{split}annot/{split}.png")
    found = layouts.recognise(tmp_path)
    assert named(found) == {"train": [("train.png",) * 2], "val": [("val.png",) * 2]}
    assert found.problems == []


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{}.jpg", "{}_mask.png"),
        ("{}_image.png", "{}_annotation.png"),
        ("{}.jpg", "{}_1stHO.png"),
        ("city_{}_leftImg8bit.png", "city_{}_gtFine_labelTrainIds.png"),
        ("{}.jpg", "{}.png"),
        ("sub/{}.jpg", "sub/{} label.png"),
        ("{}.jpg", "{}-Q7.png"),
    ],
)
def test_endings_of_one_folder_are_told_apart(tmp_path, image, mask):
    for name in ("Image_01L", "Image_02R", "Image_10L"):
        put(tmp_path, image.format(name))
        put(tmp_path, mask.format(name), disc=True)
    found = layouts.recognise(tmp_path)
    files = [(pair.image, pair.mask) for pair in found.pairs]
    expected = {
        (tmp_path / image.format(name), tmp_path / mask.format(name))
        for name in ("Image_01L", "Image_02R", "Image_10L")
    }
    assert (set(files), found.problems, found.kind) == (expected, [], "endings")


def test_several_masks_of_an_image_are_a_choice(tmp_path):
    for name in ("a", "b", "c"):
        put(tmp_path, f"{name}.jpg", f"{name}_1stHO.png", f"{name}_2ndHO.png")
    (bad,) = layouts.recognise(tmp_path).problems
    assert bad.problem == "images have several masks, which differ by '_1stHO' (3), '_2ndHO' (3)"
    assert "masks=_1stHO to take one of them, or masks=_1stHO,_2ndHO if each" in bad.fix
    found = layouts.recognise(tmp_path, masks=("_2ndHO",))
    assert found.problems == []
    assert {pair.mask.name for pair in found.pairs} == {f"{n}_2ndHO.png" for n in "abc"}
    assert found.notes[0] == "masks '_2ndHO', not '_1stHO'"
    both = layouts.recognise(tmp_path, masks=("_1stHO", "_2ndHO"))
    assert both.names == {0: "background", 1: "1stHO", 2: "2ndHO"}
    assert {pair.ids for pair in both.pairs} == {(1, 2)}
    (bad,) = layouts.recognise(tmp_path, masks=("_3rdHO",)).problems
    assert "no masks '_3rdho'" in bad.problem


def test_a_folder_for_each_class(tmp_path):
    put(tmp_path, "images/a.png", "images/b.png")
    put(tmp_path, "masks/cell/a.png", "masks/cell/b.png", "masks/wall/a.png")
    found = layouts.recognise(tmp_path)
    assert (found.problems, found.names) == ([], {0: "background", 1: "cell", 2: "wall"})
    a, b = sorted(found.pairs, key=lambda pair: pair.name)
    assert [path.parent.name for path in a.masks] == ["cell", "wall"]
    assert (a.ids, b.ids) == ((1, 2), (1,))


def test_a_folder_for_each_image_with_a_mask_for_each_object(tmp_path):
    for name in ("x1", "y2"):
        put(tmp_path, f"{name}/images/{name}.png", f"{name}/masks/p.png", f"{name}/masks/q.png")
    found = layouts.recognise(tmp_path)
    assert found.problems == []
    assert {pair.ids for pair in found.pairs} == {(1, 1)}
    assert found.notes[0] == "one mask for each object"


def test_split_lists_and_pascal_voc(tmp_path):
    root = tmp_path / "VOC2012"
    put(root, *(f"JPEGImages/2007_{n}.jpg" for n in range(5)))
    put(root, *(f"SegmentationClass/2007_{n}.png" for n in range(4)), disc=True)
    put(root, *(f"SegmentationObject/2007_{n}.png" for n in range(4)), disc=True)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_2\n2007_0\n")
    (lists / "val.txt").write_text("2007_1\n")
    (lists / "trainval.txt").write_text("2007_0\n2007_1\n2007_2\n")
    found = layouts.recognise(root)
    assert found.problems == []
    assert [pair.image.stem for pair in found.splits["train"]] == ["2007_2", "2007_0"]
    assert [pair.image.stem for pair in found.splits["val"]] == ["2007_1"]
    assert found.names[20] == "tvmonitor"
    assert "1 images have no mask and are not used" in found.notes
    assert "1 images are in none of train.txt, val.txt and are not used" in found.notes
    (lists / "val.txt").write_text("2007_1\n2007_0\n2007_9\n")
    twice, missing = layouts.recognise(root).problems
    assert (twice.place, twice.problem) == ("line 2", "'2007_0' is also in train.txt, line 2")
    assert (missing.place, missing.problem) == ("line 3", "no image with a mask is called '2007_9'")


def test_cityscapes_as_downloaded(tmp_path):
    for split in ("train", "val"):
        name = f"{split}/aachen/aachen_0_19"
        put(tmp_path, f"leftImg8bit/{name}_leftImg8bit.png")
        for ending in ("labelIds", "instanceIds", "color"):
            put(tmp_path, f"gtFine/{name}_gtFine_{ending}.png", disc=True)
    found = layouts.recognise(tmp_path)
    assert found.problems == []
    assert {split: len(part) for split, part in found.splits.items()} == {"train": 1, "val": 1}
    assert all(pair.mask.name.endswith("_labelIds.png") for pair in found.pairs)
    assert (found.ids[7], found.ids[33], len(found.ids)) == (0, 18, 19)
    assert found.names[18] == "bicycle"


def test_a_missing_val_is_taken_from_train(tmp_path):
    for number in range(20):
        put(tmp_path, f"train/images/{number}.png", f"train/masks/{number}.png")
    put(tmp_path, "test/images/t.png", "test/masks/t.png")
    found = layouts.recognise(tmp_path)
    sizes = {split: len(part) for split, part in found.splits.items()}
    assert sizes["train"] + sizes["val"] == 20
    assert (sizes["test"], 1 <= sizes["val"] <= 6) == (1, True)
    assert found.notes == [
        f"no split val: {sizes['val']:,} of train are taken for it (val=0 takes none)"
    ]
    half = layouts.recognise(tmp_path, val=0.5).splits
    assert set(found.splits["val"]) < set(half["val"])
    assert 5 <= len(half["val"]) <= 15
    assert list(layouts.recognise(tmp_path, val=0).splits) == ["train", "test"]


def test_images_in_no_split_and_what_is_not_used(tmp_path):
    for split in ("train", "val"):
        put(tmp_path, f"{split}/images/a.png", f"{split}/masks/a.png")
    put(tmp_path, "preview.png")
    found = layouts.recognise(tmp_path)
    assert found.notes == ["1 images beside them are not used, such as preview.png"]
    put(tmp_path, "images/x.png", "masks/x.png")
    (bad,) = layouts.recognise(tmp_path).problems
    assert bad.problem == "1 images lie in no split, such as images/x.png"


def test_a_layout_that_is_asked_for(tmp_path):
    put(tmp_path, "images/a.png", "masks/a.png", "images/b.png", "masks/b.png")
    assert layouts.recognise(tmp_path, layout="folders").problems == []
    (bad,) = layouts.recognise(tmp_path, layout="COCO").problems
    assert (bad.problem, bad.fix) == ("does not fit layout='COCO'", "It fits folders.")


def test_photographs_alone_are_no_pairs(tmp_path):
    put(tmp_path, *(f"{name}_{number}.png" for name in "abcd" for number in range(2)))
    (bad,) = layouts.recognise(tmp_path).problems
    assert bad.problem == "no masks found: 8 images in the folder itself"


def test_names_that_are_no_text_are_divided(tmp_path):
    for name in ("\udcff.png", "a.png", "b.png"):
        touch(tmp_path / "images" / name)
        touch(tmp_path / "masks" / name)
    assert sorted(pair.name for pair in layouts.recognise(tmp_path).pairs) == ["a", "b", "\udcff"]


def test_a_fold_divides_train_and_val_and_leaves_test(tmp_path):
    for split, count in (("train", 7), ("val", 3), ("test", 4)):
        for number in range(count):
            put(tmp_path, *(f"{split}/{kind}/{split}{number}.png" for kind in ("images", "masks")))
    held_out, plain = [], layouts.recognise(tmp_path)
    for part in range(1, 6):
        found = layouts.recognise(tmp_path, fold=Fold(part, 5))
        assert (found.problems, found.fold, list(found.splits)) == ([], (part, 5), [*plain.splits])
        assert found.splits["test"] == plain.splits["test"]
        assert (len(found.splits["train"]), len(found.splits["val"])) == (8, 2)
        held_out += found.splits["val"]
    assert set(held_out) == {*plain.splits["train"], *plain.splits["val"]}
    (bad,) = layouts.recognise(tmp_path, fold=Fold(1, 11)).problems
    assert bad.problem == "train and val have 10 images: too few for 11 folds"


def test_a_fold_needs_no_val_and_divides_what_is_drawn(tmp_path):
    for number in range(40):
        put(tmp_path, f"images/{number}.png", f"masks/{number}.png")
    drawn, found = (layouts.recognise(tmp_path, fold=fold) for fold in (None, Fold(2, 4)))
    assert found.splits["test"] == drawn.splits["test"]
    assert abs(len(found.splits["val"]) - (40 - len(drawn.splits["test"])) / 4) < 1
    assert found.notes == []
    by_ten = layouts.recognise(tmp_path, fold=Fold(1, 3), group=r"(\d)\d?\.png")
    tens = [{pair.name[0] for pair in by_ten.splits[split]} for split in ("train", "val")]
    assert not tens[0] & tens[1]
