"""Folders of images and masks for `tests.tools.fuzz`: pixels, class lists, layouts, outlines."""

import functools
import random
from pathlib import Path

from launch import check
from launch.data.folders import folder
from launch.data.pictures import pictures
from tests.tools import fuzz, fuzz_changes, fuzz_pixels

SPLITS = ("train", "val", "test", "valid", "training", "train2017", "", "other")
ROLES = ("images", "masks", "labels", "img", "gt", "depth", "JPEGImages", "SegmentationClass")
ENDINGS = ("", "_mask", "-gt", "_image", "_L", "_depth", "_cell", "_labelIds", "(1)")
SUFFIXES = (".png", ".jpg", ".tif", ".bmp", ".gif", ".npy", ".PNG", ".webp", ".txt", "")
LISTS = ("classes.csv", "classes.txt", "_classes.csv", "class_dict.csv", "labelmap.txt")
OPTIONS = {
    "classes": ("-1", "0", "2", "3", "255", "256", "99999999999999999999", "two"),
    "ignore": ("-1", "0", "1", "254", "255", "256", "99999999999999999999"),
    "layout": ("folders", "endings", "COCO", "none", "a\nb"),
    "masks": ("_mask", "masks", "cell,nucleus", ",", "_", "(", "*"),
    "values": ("ids", "threshold", "instances", "alpha", "soft"),
    "orientation": ("upright", "stored"),
    "channels": ("-1", "1", "3", "4", "100000"),
    "intensity": ("0,1", "1,0", "nan,nan", "0,inf", "-inf,inf", "1", "(0,1)", "", "0,1e308", "a,b"),
    "limit": ("-1", "0", "1", "3", "100000"),
}


def opened(chance: random.Random, root: Path) -> int:
    """Checks a folder; what has no errors is read, what has errors must be refused."""
    some = chance.sample(sorted(OPTIONS), chance.choice((0, 0, 0, 1, 2)))
    arguments = [f"--{name}={chance.choice(OPTIONS[name])}" for name in some]
    code = fuzz.answer(check.main, [str(root), *arguments])
    if code in (0, 1) and not some:
        answers = {split: fuzz.answer(_read, split, root) for split in ("train", "val")}
        if any(answers.values()) != (code == 1):
            raise fuzz.Failure(f"launch.check says {code}, reading {answers}")
    return code


def _read(split, root, opener=folder, **arguments):
    data = opener(split, str(root), **arguments)
    for index in range(len(data)):
        data[index]


def fill(root: Path, image: str = "colour.png", mask: str = "grey.png", depth: str = "") -> None:
    """Writes a folder of six pairs."""
    for split in ("train", "val"):
        for number in range(3):
            for role, name in (("images", image), ("masks", mask), ("depth", depth)):
                if name:
                    path = root / split / role / f"{number}.{name.split('.')[1]}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(fuzz_pixels.pictures()[name])


def _pixels(role, chance, templates, root):
    """One file of pixels is changed; now and then its format is that of all."""
    del templates
    name = chance.choice([name for name in fuzz_pixels.pictures() if not name.endswith("npy")])
    if role == "images":
        fill(root, name)
    elif chance.random() < 0.3:
        role, name = "depth", chance.choice(("depth.npy", "ids.npy", "deep.png", "float.tif"))
        fill(root, depth=name)
    else:
        sound = ("grey.png", "two.png", "palette.png", "grey_alpha.png", "grey.bmp", "deflate.tif")
        name = chance.choice((name, *sound, "bits.png", "deep.tif", "colour.gif", "colour.png"))
        fill(root, mask=name)
        if chance.random() < 0.5:
            (root / "classes.txt").write_text("a\nb\nc\nd\ne\nf\ng\nh\n")
    fuzz_pixels.change(chance, chance.choice(sorted(root.glob(f"*/{role}/*"))))
    return opened(chance, root)


def _classes(chance, templates, root):
    """A class list of odd titles, ids, names, colours and encodings."""
    del templates
    fill(root, mask=chance.choice(("grey.png", "palette.png", "colour.png", "colour.gif")))
    cells = (
        *("0", "1", "2", "3", "-1", "255", "256", "00", "1.0", "1e3", "٣", "²", " 7 ", "9" * 5_000),
        *("", "id", "name", "Name", "class", "red", "green", "blue", "pixel value", "label_name"),
        *(
            "cat",
            "dog",
            "void",
            '"',
            '"a',
            "'",
            "a,b",
            "a;b",
            "a\tb",
            "#",
            "x" * 200_000,
            "\r",
            "é",
        ),
        *("\ufeff", "\0", "\u2028", "0,0,0", "255,255,255", "::", ":", "0,0,0::", "=1+1", "\ud800"),
    )
    sound = "0,background,0,0,0\n1,cat,1,1,1\n2,dog,2,2,2\n"
    kind = chance.randrange(4)
    if kind == 0:
        rows = [",".join(chance.choices(cells, k=chance.randrange(7))) for _ in range(5)]
        text = "\n".join(rows)
    elif kind == 1:
        titles = ["id", "name", "red", "green", "blue"]
        chance.shuffle(titles)
        text = ",".join(titles) + "\n" + sound
    else:
        text = sound if kind == 2 else "\n".join(sound.split(","))
    if kind and chance.random() < 0.8:
        at, many = chance.randrange(len(text)), chance.choice((0, 1, 3))
        text = text[:at] + chance.choice(cells) + text[at + many :]
    code = chance.choice(("utf-8",) * 6 + ("utf-16", "latin-1", "utf-8-sig", "utf-32-le"))
    content = text.encode(code, "surrogatepass" if code == "utf-8" else "replace")
    if chance.random() < 0.3:
        content = fuzz_changes.change_bytes(chance, content)
    place = root / chance.choice(("", "", "", "train"))
    path = place / chance.choice(LISTS)
    path.write_bytes(content)
    if chance.random() < 0.1:
        fuzz_changes.replace(chance, path, list(fuzz_pixels.pictures().values()))
    return opened(chance, root)


def _layouts(chance, templates, root):
    """Folders with files at any place and of any name, or a sound one that is rearranged."""
    del templates
    if chance.random() < 0.5:
        fill(root, depth=chance.choice(("", "depth.npy")))
        if chance.random() < 0.3:
            lines = [*"012", "0.png", "train/0", "../0", "\ud800", "", "0 0", *fuzz_changes.NAMES]
            text = "\n".join(chance.choices(lines, k=6))
            (root / "train.txt").write_bytes(text.encode("utf-8", "surrogatepass"))
        for _ in range(chance.choice((1, 1, 2, 5))):
            fuzz_changes.rearrange(chance, root)
        return opened(chance, root)
    names = [chance.choice(fuzz_changes.NAMES), *"ab", f"{chance.randrange(99):03}"]
    folders = chance.sample(SPLITS, 2), (*chance.sample(ROLES, 2), chance.choice(names))
    endings, suffixes = chance.sample(ENDINGS, 2), chance.sample(SUFFIXES, 2)
    for _ in range(chance.choice((1, 4, 12, 40))):
        parts = [chance.choice(part) for part in folders[:: chance.choice((1, -1))]]
        name = chance.choice(names)[:200] + chance.choice(endings) + chance.choice(suffixes)
        path = root.joinpath(*parts[: chance.choice((1, 2, 2, 2))], name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(
                fuzz_pixels.pictures()[chance.choice(("colour.png", "grey.png", "colour.jpg"))]
            )
        except OSError:  # the name of a file is already that of a folder
            continue
    return opened(chance, root)


def _outlines(chance, templates, root):
    """Annotations of COCO, labelme or CVAT, one of whose values is changed."""
    del templates
    for name in ("b.png", "d.png"):  # by their names, both are examples of training
        (root / name).write_bytes(fuzz_pixels.pictures()["colour.png"])
    polygon = [1, 1, 9, 1, 9, 8.5, 1, 8]
    points = [polygon[at : at + 2] for at in range(0, 8, 2)]
    runs = {"size": [12, 16], "counts": chance.choice(([5, 20, 167], "52d0", [192], "o5"))}
    kind = chance.choice(("COCO", "labelme", "CVAT"))
    if kind == "COCO":
        images = [{"id": k, "file_name": f"{k}.png", "width": 16, "height": 12} for k in "bd"]
        notes = [
            {"id": 1, "image_id": "b", "category_id": 1, "segmentation": [polygon], "iscrowd": 0},
            {"id": 2, "image_id": "d", "category_id": 2, "segmentation": runs, "iscrowd": 1},
        ]
        names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog", "supercategory": "animal"}]
        document = {"images": images, "annotations": notes, "categories": names}
        document = fuzz_changes.change_json(chance, document)
        path = root / chance.choice(("instances_train.json", "_annotations.coco.json", "x.json"))
        path.write_bytes(fuzz_changes.to_json(chance, document))
    elif kind == "labelme":
        for name in "bd":
            shapes = [
                {"label": "cat", "points": points, "shape_type": "polygon", "group_id": None},
                {"label": "dog", "points": points[:2], "shape_type": "circle", "flags": {}},
                {"label": "dog", "points": points[::2], "shape_type": "rectangle"},
            ]
            document = {"version": "5", "shapes": shapes, "imagePath": f"{name}.png"}
            document |= {"imageHeight": 12, "imageWidth": 16, "imageData": None}
            if chance.random() < 0.6:
                document = fuzz_changes.change_json(chance, document)
            (root / f"{name}.json").write_bytes(fuzz_changes.to_json(chance, document))
    else:
        (root / "annotations.xml").write_bytes(_xml(chance))
    if chance.random() < 0.1:
        path = chance.choice(sorted(path for path in root.iterdir()))
        fuzz_changes.replace(chance, path, list(fuzz_pixels.pictures().values()))
    return opened(chance, root)


def _xml(chance):
    """A file of CVAT, with other values of attributes or damage."""
    text = (
        "<?xml version='1.0' encoding='utf-8'?><annotations><version>1.1</version><meta><task>"
        "<labels><label><name>cat</name></label><label><name>dog</name></label></labels></task>"
        "</meta><image id='0' name='b.png' width='16' height='12'>"
        "<polygon label='cat' points='1,1;9,1;9,8.5;1,8' z_order='0'/>"
        "<box label='dog' xtl='1' ytl='1' xbr='4' ybr='5.5' z_order='1'/>"
        "<mask label='cat' rle='2,3,1' left='1' top='1' width='3' height='2' z_order='2'/>"
        "</image><image id='1' name='d.png' width='16' height='12' subset=''>"
        "<box label='dog' xtl='0' ytl='0' xbr='16' ybr='2'/></image></annotations>"
    )
    for _ in range(chance.choice((0, 1, 1, 2))):
        parts = text.split("'")
        value = str(chance.choice((*fuzz_changes.VALUES, fuzz_changes.number(chance), "1,2;3")))
        parts[chance.randrange(1, len(parts), 2)] = value
        text = "'".join(parts)
    if chance.random() < 0.1:
        text = text.replace("<annotations>", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotations>")
    data = text.encode(chance.choice(("utf-8", "utf-8", "utf-16")), "replace")
    return fuzz_changes.change_bytes(chance, data) if chance.random() < 0.3 else data


def _generators(chance, templates, root):
    """Images in folders of classes or splits, as `launch.data.pictures` reads them."""
    del templates
    same = chance.choice([name for name in fuzz_pixels.pictures() if not name.endswith("npy")])
    places = chance.choice((("",), ("cat", "dog"), ("train/cat", "test/dog"), ("train", "a/b")))
    for number in range(6):
        path = root / places[number % len(places)] / f"{number}.{same.split('.')[1]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fuzz_pixels.pictures()[same])
    if chance.random() < 0.7:
        fuzz_pixels.change(chance, chance.choice(sorted(root.rglob("*.*"))))
    for _ in range(chance.choice((0, 0, 1, 3))):
        fuzz_changes.rearrange(chance, root)
    every = {
        "size": chance.choice((1, 7, 300)),
        "channels": chance.choice((1, 3)),
        "labels": chance.random() < 0.5,
        "only": chance.choice(("*", "*.png", "[", "cat/*", "\0", "*" * 99, "é")),
        "background": chance.choice((-1, 0, 255)),
        "intensity": chance.choice(((), (0, 255), (-1e30, 1e30), (0.1, 0.100001))),
    }
    arguments = {name: every[name] for name in chance.sample(sorted(every), chance.randrange(3))}
    read = functools.partial(_read, root=root, opener=pictures, **arguments)
    return max(fuzz.answer(read, split) for split in ("train", "test", "train[:50%]+test"))


KINDS = {
    "generators": fuzz.Kind(_generators, 3),
    "images": fuzz.Kind(functools.partial(_pixels, "images"), 4, (0, 1, 2)),
    "masks": fuzz.Kind(functools.partial(_pixels, "masks"), 4, (0, 1, 2)),
    "classes": fuzz.Kind(_classes, 3, (0, 1, 2)),
    "layouts": fuzz.Kind(_layouts, 4, (0, 1, 2)),
    "outlines": fuzz.Kind(_outlines, 4, (0, 1, 2)),
}
