"""What is improbable is a fault that names the argument which confirms or changes it."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image

from launch.data.folders import doubts, folder, open_folder
from launch.data.folders.options import Options


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def disc(number, shape=(24, 32), radius=6):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(y - 9 - number % 5, x - 10 - number % 7) - radius


def make(root, image=None, mask=None, count=6, suffix=("png", "png"), **save):
    """Pairs whose pixels two functions (number) -> array give."""
    for number in range(count):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (24, 32, 3), np.uint8) if image is None else image(number)
        ids = (disc(number) < 0).astype(np.uint8) if mask is None else mask(number)
        for kind, array, end in (("images", pixels, suffix[0]), ("masks", ids, suffix[1])):
            (root / kind).mkdir(parents=True, exist_ok=True)
            picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
            options = save if kind == "images" else {}
            picture.save(root / kind / f"{number}.{end}", **options)
    return root


def problem(root, **options):
    """The first problem and its fix; None where there is none."""
    found = open_folder(root, Options(**options)).problems
    return (found[0].problem, found[0].fix) if found else None


def reading(root, **options):
    opened = open_folder(root, Options(**options))
    assert opened.problems == []
    return opened.reading


def soft(number):
    """A disc whose edge falls from 255 to 0 over four pixels."""
    return np.uint8(np.clip(0.5 - disc(number) / 4, 0, 1) * 255)


@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("scale", [1, 257])
def test_smooth_edges_are_no_classes(tmp_path, classes, scale):
    dtype = np.uint16 if scale > 1 else np.uint8
    make(tmp_path, mask=lambda number: (soft(number).astype(np.uint16) * scale).astype(dtype))
    said, fix = problem(tmp_path, classes=classes)
    assert said.startswith(f"masks hold 0, {255 * scale:,} and ")
    assert 'values="threshold"' in fix
    how = reading(tmp_path, classes=classes, values="threshold")
    assert (len(how.classes), how.values) == (2, "threshold")
    found = folder("train", tmp_path, classes=classes, values="threshold")
    number = int(found.pairs[0].name)
    np.testing.assert_array_equal(found[0]["segmentation"][..., 0], soft(number) > 127)


def test_masks_of_many_classes_and_void_are_not_smooth(tmp_path):
    rng = np.random.default_rng(0)
    ids = lambda number: np.where(rng.random((24, 32)) < 0.1, 255, rng.integers(0, 21, (24, 32)))
    make(tmp_path, mask=lambda number: ids(number).astype(np.uint8))
    assert len(reading(tmp_path).classes) == 21


def objects(number):
    ids = np.zeros((24, 32), np.uint8)
    for k in range(4 + number):
        ids[3 * (k // 5) : 3 * (k // 5) + 2, 6 * (k % 5) : 6 * (k % 5) + 4] = k + 1
    return ids


def test_numbers_of_objects_are_no_classes(tmp_path):
    make(tmp_path, mask=objects)
    said, fix = problem(tmp_path)
    assert said == "masks number objects: each image counts its own from 1 on"
    assert 'values="instances"' in fix
    assert len(reading(tmp_path, values="ids").classes) == 10
    found = folder("train", tmp_path, values="instances")
    assert len(found.classes) == 2
    assert set(np.unique(found[0]["segmentation"])) == {0, 1}
    assert found[0]["weight"].shape == (24, 32, 1)
    assert found[0]["weight"].max() > 5


def test_scattered_classes_are_no_objects(tmp_path):
    make(tmp_path, mask=lambda n: np.random.default_rng(n).integers(0, 5 + n, (24, 32), np.uint8))
    assert len(reading(tmp_path).classes) == 10


@pytest.mark.parametrize("value", [0, 1, 255])
def test_masks_of_one_value_teach_nothing(tmp_path, value):
    make(tmp_path, mask=lambda number: np.full((24, 32), value, np.uint8))
    said, _ = problem(tmp_path)
    only = "void (255)" if value == 255 else f"the value {value}"
    assert said == f"all masks hold {only} alone"


@pytest.mark.parametrize(("factor", "values"), [(1, 2), (255, 2)])
def test_a_class_list_without_background(tmp_path, factor, values):
    make(tmp_path, mask=lambda number: (disc(number) < 0).astype(np.uint8) * np.uint8(factor))
    (tmp_path / "classes.txt").write_text("cell\n")
    said, fix = problem(tmp_path)
    assert said == f"names 1 class, but masks hold {values} values"
    assert fix.startswith("If 0 is the background, write it as the first class")
    (tmp_path / "classes.txt").write_text("background\ncell\n")
    assert reading(tmp_path).classes == ("background", "cell")


def test_ids_with_holes_are_doubted_and_confirmed(tmp_path):
    ids = lambda number: np.where(disc(number) < 0, 3, disc(number) > 9).astype(np.uint8)
    make(tmp_path, mask=ids)
    said, fix = problem(tmp_path)
    assert said == "no mask holds the id 2, though larger ones occur"
    assert fix.startswith("Give classes=4")
    assert len(reading(tmp_path, classes=4).classes) == 4


def test_labels_in_the_transparency(tmp_path):
    def hidden(number):
        alpha = (disc(number) < 0).astype(np.uint8) * 2
        alpha[0, 0] = 1
        return np.dstack([np.full((24, 32, 3), 90, np.uint8), alpha])

    make(tmp_path, mask=hidden)
    said, fix = problem(tmp_path)
    assert said == "its colour is the same everywhere, but its transparency differs"
    assert 'values="alpha"' in fix
    found = folder("train", tmp_path, values="alpha")
    expected = hidden(int(found.pairs[0].name))[..., 3]
    np.testing.assert_array_equal(found[0]["segmentation"][..., 0], expected)


def test_a_fourth_channel_is_doubted_where_it_differs(tmp_path):
    bands = lambda number: np.random.default_rng(number).integers(0, 256, (24, 32, 4), np.uint8)
    make(tmp_path, image=bands, suffix=("tif", "png"))
    said, fix = problem(tmp_path)
    assert said.startswith("its last channel (4 in all) may be transparency or a band")
    assert fix == "Give channels=3 to drop it, or channels=4 to use it."
    three, four = (folder("train", tmp_path, channels=c) for c in (3, 4))
    number = int(four.pairs[0].name)
    np.testing.assert_array_equal(three[0]["image"], bands(number)[..., :3])
    assert four[0]["image"].shape == (24, 32, 4)
    low, high = np.percentile([bands(n) for n in range(6)], [0, 100])
    assert (low, high) == (0, 255)
    assert np.abs(four[0]["image"].astype(int) - bands(number)).max() <= 2


def test_a_constant_fourth_channel_is_dropped(tmp_path):
    def opaque(number):
        grey = (disc(number) * 9 % 256).astype(np.uint8)
        return np.dstack([grey, grey, grey, np.full_like(grey, 255)])

    make(tmp_path, image=opaque)
    how = reading(tmp_path)
    assert (how.channels, how.alpha) == (3, True)
    assert "transparency dropped" in "\n".join(how.lines)


@pytest.mark.parametrize("low", [135, 40_000])
def test_sixteen_bits_are_scaled_from_their_own_range(tmp_path, low):
    image = lambda number: (low + np.clip(disc(number) + 6, 0, 20) * 4).astype(np.uint16)
    make(tmp_path, image=image)
    how = reading(tmp_path)
    assert (how.channels, how.dtype, len(how.ranges)) == (3, "uint16", 3)
    (a, b), *_ = how.ranges
    assert low <= a < low + 4
    assert low + 70 < b <= low + 80
    example = folder("train", tmp_path)
    number = int(example.pairs[0].name)
    expected = np.clip((image(number) - a) / (b - a), 0, 1) * 255
    np.testing.assert_allclose(example[0]["image"][..., 1], expected, atol=0.51)
    fixed = folder("train", tmp_path, intensity=(0, 65_535))
    expected = image(number) / 257
    np.testing.assert_allclose(fixed[0]["image"][..., 0], expected, atol=0.51)


def test_images_without_data_widen_no_range(tmp_path):
    make(tmp_path, image=lambda n: np.full((24, 32), 7, np.int32), suffix=("tif", "png"))
    tags = [(42113, "s", 0, "-9999", True)]
    for number in range(6):
        values = np.random.default_rng(number).integers(5000, 6000, (24, 32)).astype(np.int16)
        values = np.full_like(values, -9999) if number == 2 else values
        path = tmp_path / "images" / f"{number}.tif"
        tifffile.imwrite(path, values, metadata=None, extratags=tags)
    ((low, high),) = set(reading(tmp_path).ranges)
    assert 4990 < low < high < 6010
    for number in range(6):
        path = tmp_path / "images" / f"{number}.tif"
        tifffile.imwrite(path, np.full((24, 32), -9999, np.int16), metadata=None, extratags=tags)
    said, fix = problem(tmp_path)
    assert said == "no image holds a measured value in channel 1"
    assert "GDAL_NODATA" in fix


def test_eight_bits_of_a_tenth_of_the_range_are_doubted(tmp_path):
    make(tmp_path, image=lambda n: np.random.default_rng(n).integers(3, 26, (24, 32, 3), np.uint8))
    said, fix = problem(tmp_path)
    assert said == "the values of all images lie within 3 and 25 of 0 to 255"
    assert fix == "Give intensity=(3, 25) to spread them, or intensity=(0, 255)."
    assert reading(tmp_path, intensity=(0, 255)).ranges == ()
    assert reading(tmp_path, intensity=(3, 25)).ranges == ((3, 25),) * 3


def test_images_of_several_kinds_are_named(tmp_path):
    def image(number):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 32), np.uint8)
        return pixels.astype(np.uint16) * 9 if number == 4 else pixels

    make(tmp_path, image=image)
    said, _ = problem(tmp_path)
    assert said == "holds values of uint16, most images uint8"


@pytest.mark.parametrize("tag", [3, 2])
def test_orientation_that_sizes_do_not_tell(tmp_path, tag):
    exif = Image.Exif()
    exif[0x0112] = tag
    make(tmp_path, exif=exif)
    said, fix = problem(tmp_path)
    assert said.startswith("6 images are turned by EXIF; their masks have none")
    (bad,) = open_folder(tmp_path, Options()).problems
    assert bad.path == str(open_folder(tmp_path, Options()).layout.pairs[0].image)
    assert 'orientation="stored" or orientation="upright"' in fix
    stored, upright = (folder("train", tmp_path, orientation=o) for o in ("stored", "upright"))
    turned = stored[0]["image"][:, ::-1] if tag == 2 else stored[0]["image"][::-1, ::-1]
    np.testing.assert_array_equal(upright[0]["image"], turned)
    np.testing.assert_array_equal(upright[0]["segmentation"], stored[0]["segmentation"])


@pytest.mark.parametrize("upright", [False, True])
def test_orientation_that_sizes_tell(tmp_path, upright):
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = lambda number: np.rot90((disc(number) < 0).astype(np.uint8), -upright).copy()
    make(tmp_path, mask=mask, exif=exif)
    how = reading(tmp_path)
    assert how.stored is not upright
    assert how.canvas == ((32, 24) if upright else (24, 32))
    said = "turned upright" if upright else "not turned: masks are drawn on the stored pixels"
    assert any(said in line for line in how.lines)


def test_masks_that_are_turned_like_their_images(tmp_path):
    make(tmp_path)
    for path in tmp_path.glob("*/*.png"):
        exif = Image.Exif()
        exif[0x0112] = 8
        Image.open(path).save(path, exif=exif)
    assert reading(tmp_path).canvas == (32, 24)


def test_zero_and_255_are_two_classes(tmp_path):
    make(tmp_path, mask=lambda number: np.where(disc(number) < 0, 255, 0).astype(np.uint8))
    assert (reading(tmp_path).binary, len(reading(tmp_path).classes)) == (True, 2)


def test_orientations_that_contradict_each_other(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turn = lambda number: np.rot90((disc(number) < 0).astype(np.uint8), -(number % 2)).copy()
    make(tmp_path, mask=turn, exif=exif)
    said, _ = problem(tmp_path)
    assert said.startswith("6 images are turned by EXIF; some masks fit the stored image and some")


def soft_values(counts, **options):
    return doubts._soft(Counter(counts), None, Options(**options))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({0: 50, 255: 30, 10: 5, 90: 5, 200: 5}, 3),
        ({0: 50, 255: 30, 10: 5, 90: 5}, None),  # two between
        ({0: 50, 255: 20, 10: 10, 90: 10, 200: 10}, 3),  # 30 % between: just so
        ({0: 50, 255: 19, 10: 11, 90: 10, 200: 10}, None),
        ({1: 50, 255: 30, 10: 5, 90: 5, 200: 5}, None),  # no 0
        ({0: 50, 254: 30, 10: 5, 11: 5, 13: 5}, None),  # narrow, and no full scale
        ({0: 50, 254: 30, 10: 5, 14: 5, 22: 5}, None),  # a span of 4 times their number
        ({0: 50, 254: 30, 10: 5, 14: 5, 23: 5}, 3),
        ({0: 50, 255: 30, 1: 5, 2: 5, 3: 5}, None),  # ids without a gap
        ({0: 500, 33: 300} | dict.fromkeys(range(1, 33), 5), 32),  # so many are no ids
        ({0: 500, 32: 300} | dict.fromkeys(range(1, 32), 5), None),
    ],
)
def test_what_counts_as_a_smooth_edge(counts, expected):
    assert soft_values(counts, ignore=-1) == expected


def test_void_and_known_classes_are_no_smooth_edge():
    edges = {0: 50, 255: 30, 10: 5, 90: 5, 200: 5}
    assert soft_values(edges, ignore=90) is None
    assert soft_values(edges, ignore=-1, classes=201) is None
    assert soft_values(edges, ignore=-1, classes=200) == 3
    table = SimpleNamespace(names={0: "a", 200: "b"})
    assert doubts._soft(Counter(edges), table, Options(ignore=-1)) is None
    table.names = {0: "a", 199: "b"}
    assert doubts._soft(Counter(edges), table, Options(ignore=-1)) == 3


def numbered(*tops, objects=1.0, first=1):
    """Contents of masks that number objects from `first` to each of `tops`."""
    return [
        SimpleNamespace(objects=objects, counts=dict.fromkeys([0, *range(first, top + 1)], 9))
        for top in tops
    ]


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (numbered(3, 4, 5), True),
        (numbered(2, 3, 4), False),  # never more than four
        (numbered(5, 5, 4), False),  # two ends only
        (numbered(5), False),
        (numbered(3, 5) + numbered(4, objects=0.41), True),  # 80 % are connected
        (numbered(3, 5) + numbered(4, objects=0.39), False),
        (numbered(3, 4) + numbered(5, 6, first=2), True),  # half of them from 1 on
        (numbered(3) + numbered(4, 5, first=2), False),
        (numbered(300) + numbered(4, 5, first=2), True),  # more numbers than there are classes
        (numbered(3, 4, 5) + numbered(*range(9), objects=None), True),
        (numbered(3, 4, 5) + numbered(*range(10), objects=None), False),  # under a quarter
    ],
)
def test_what_counts_as_numbers_of_objects(contents, expected):
    assert doubts._instances(contents) is expected


def deep(*ranges):
    """An image of 16 bits, with what its channels hold."""
    return None, SimpleNamespace(dtype="uint16", ranges=ranges)


def test_one_range_for_grey_beside_colour_else_one_for_each_channel():
    grey, colour = deep((5, 90)), deep((9, 70), (3, 60), (8, 95))
    scale = lambda known, counts, channels=3: doubts._ranges(known, counts, channels, Options())
    assert scale([grey, colour], {1: 1, 3: 1}) == (((5.0, 90.0),) * 3, [])
    assert scale([grey], {1: 1}) == (((5.0, 90.0),) * 3, [])
    other = deep((1, 71), (4, 61), (9, 80))
    assert scale([colour, other], {3: 2}) == (((1.0, 71.0), (3.0, 61.0), (8.0, 95.0)), [])


def test_only_pairs_whose_sizes_are_known_are_compared():
    pair = SimpleNamespace(image="a.png", mask="b.png")
    contents = lambda size, mask: SimpleNamespace(
        size=size, mask_size=mask, orientation=1, mask_orientation=1
    )
    for size, mask in (((), (2, 2)), ((2, 2), ()), ((2, 3), (2, 3))):
        assert doubts.sizes([pair], [contents(size, mask)], False) == []
    (wrong,) = doubts.sizes([pair], [contents((2, 3), (3, 2))], False)
    assert wrong.path == "b.png"
