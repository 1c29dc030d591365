import io
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from launch.config.errors import UserError
from launch.data import image_formats, images, mask_files
from launch.data.bad_file import BadFile

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (17, 31, 3), np.uint8)
GREY = RNG.integers(0, 256, (17, 31), np.uint8)
IDS = RNG.integers(0, 5, (17, 31)).astype(np.uint8)


def saved(tmp_path, image, name="a.png", **options):
    path = tmp_path / name
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(path, **options)
    return path


def palette(ids, colours=((9, 9, 9), (200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 0))):
    image = Image.new("P", ids.shape[::-1])
    image.frombytes(ids.tobytes())
    image.putpalette([channel for colour in colours for channel in colour])
    return image


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.PNG", "a.webp"])
def test_lossless_images_come_back(tmp_path, name):
    options = {"lossless": True} if name == "a.webp" else {}
    np.testing.assert_array_equal(images.read_image(saved(tmp_path, RGB, name, **options)), RGB)


def test_lossy_and_palette_images_come_back_nearly(tmp_path):
    smooth = np.tile(np.linspace(40, 200, 31, dtype=np.uint8)[None, :, None], (17, 1, 3))
    for name in ("a.jpg", "a.gif"):
        read = images.read_image(saved(tmp_path, smooth, name))
        assert read.dtype == np.uint8
        np.testing.assert_allclose(read.astype(int), smooth, atol=6)


def test_grey_is_repeated_and_alpha_is_dropped(tmp_path):
    np.testing.assert_array_equal(
        images.read_image(saved(tmp_path, GREY)), np.repeat(GREY[..., None], 3, -1)
    )
    for colours, mode in ((RGB, "RGBA"), (GREY[..., None], "LA")):
        with_alpha = np.concatenate([colours, GREY[..., None]], -1)
        path = saved(tmp_path, with_alpha, "b.png")
        np.testing.assert_array_equal(
            images.read_image(path), np.broadcast_to(colours, RGB.shape), err_msg=mode
        )


def test_more_bits_are_refused_or_scaled_from_their_own_range(tmp_path):
    deep = np.arange(1000, 1000 + 17 * 31, dtype=np.uint16).reshape(17, 31)
    path = saved(tmp_path, deep)
    with pytest.raises(BadFile, match="holds values of uint16, not of 8 bits"):
        images.read_image(path)
    read = images.read_image(path, own_range=True)
    low, high = np.percentile(deep, [0.1, 99.9])
    expected = np.clip((deep - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(read[..., 1], expected, atol=0.51)
    path = saved(tmp_path, Image.fromarray(GREY > 127))
    np.testing.assert_array_equal(images.read_image(path)[..., 1], 255 * (GREY > 127))


def test_the_range_of_eight_bits_is_that_of_numpy():
    values = np.random.default_rng(1).integers(0, 256, (40, 50, 2), np.uint8)
    values[..., 1] //= 3
    found = images.value_range(values)
    np.testing.assert_allclose(found, np.percentile(values, [0.1, 99.9], (0, 1)).T, atol=1)
    assert found[0, 1] > 250 > 85 >= found[1, 1]


def test_a_range_too_narrow_for_float32_is_none():
    values = np.array([[[0.0], [1e-38]]], np.float32)
    assert images.to_uint8(values, [[0.0, 1e-38]]).max() == 0
    assert images.to_uint8(values * np.float32(1e8), [[0.0, 1e-30]]).max() == 255


@pytest.mark.parametrize("piece", [1, 17, 527, 10**6])
def test_bytes_are_counted_piece_by_piece(monkeypatch, piece):
    monkeypatch.setattr(images, "PIECE", piece)
    np.testing.assert_array_equal(images.count_bytes(IDS.T), np.bincount(IDS.ravel(), None, 256))
    assert images.count_bytes(IDS[:0]).sum() == 0


def test_scaling_to_eight_bits_clips_and_rounds():
    values = np.array([[[90, 7], [100, 7], [149, 7], [151, 7], [200, 7], [999, 7]]])
    found = images.to_uint8(values, np.array([(100, 200), (7, 7)]))
    assert found[0, :, 0].tolist() == [0, 0, 125, 130, 255, 255]
    assert not found[..., 1].any()


def test_depth_in_metres(tmp_path):
    metres = RNG.uniform(0, 8, (17, 31)).astype(np.float32)
    millimetres = np.round(1000 * metres).astype(np.uint16)
    np.testing.assert_allclose(images.read_depth(saved(tmp_path, millimetres)), metres, atol=5.1e-4)
    holed = metres.copy()
    holed[0, :3] = np.nan, np.inf, 0
    expected = np.where(np.isfinite(holed), holed, 0)
    np.testing.assert_array_equal(images.read_depth(saved(tmp_path, holed, "a.tif")), expected)
    for array, name in ((holed, "b.npy"), (holed[..., None], "c.npy"), (millimetres, "d.npy")):
        np.save(tmp_path / name, array)
        np.testing.assert_allclose(
            images.read_depth(tmp_path / name)[1:], metres[1:], atol=5.1e-4, err_msg=name
        )
    with pytest.raises(BadFile, match=r"depth as uint8.*has no unit.*16-bit PNG"):
        images.read_depth(saved(tmp_path, GREY))
    np.save(tmp_path / "e.npy", -metres)
    with pytest.raises(BadFile, match=r"x \d+, y \d+\): a depth of -[78].*Write 0"):
        images.read_depth(tmp_path / "e.npy")


def write(path, content):
    path.write_bytes(content)
    return path


def png():
    stream = io.BytesIO()
    Image.fromarray(RGB).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty. Copy or export it again"),
        (png()[:300], r"cannot be read \(it ends early\)"),
        (png()[:-1], r"cannot be read \(it ends early\)"),
        (png()[:-12], r"cannot be read \(it ends early\)"),
        (b"not a picture at all", r"cannot be read \(cannot identify image file\)"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "a Git LFS pointer.*git lfs pull",
        ),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, content, message):
    path = write(tmp_path / "a.png", content)
    for read in (images.read_image, mask_files.read_mask, images.read_depth):
        with pytest.raises(BadFile, match="a.png: " + message):
            read(path)


def test_refused_images(tmp_path):
    with pytest.raises(BadFile, match="no such file"):
        images.read_image(tmp_path / "none.png")
    with pytest.raises(BadFile, match=r"holds values of float32, not of 8 bits"):
        images.read_image(saved(tmp_path, np.ones((2, 2), np.float32), "a.tif"))
    with pytest.raises(BadFile, match=r"x 1, y 0\): a mask of floats, such as 0.5"):
        mask_files.read_mask(saved(tmp_path, np.array([[1, 0.5]], np.float32), "a.tif"))
    with pytest.raises(BadFile, match=r"x 0, y 0\): a mask in colours, such as \(.*classes.csv"):
        mask_files.read_mask(saved(tmp_path, RGB))
    pages = [Image.fromarray(GREY) for _ in range(3)]
    path = saved(tmp_path, pages[0], "b.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(BadFile, match=r"holds 3 images\. Save each"):
        images.read_image(path)
    with pytest.raises(BadFile, match="holds values of int32"):
        images.read_image(saved(tmp_path, np.array([[-1, 70000]], np.int32), "c.tif"))


def test_values_that_are_not_finite_are_named(tmp_path):
    values = np.zeros((4, 5), np.float32)
    values[2, 3] = np.nan
    with pytest.raises(BadFile, match=r"x 3, y 2\): holds values that are not finite"):
        images.read_pixels(saved(tmp_path, values, "c.tif"))
    values[2, 3] = -2e37
    with pytest.raises(BadFile, match=r"x 3, y 2\): holds values beyond 1e\+37"):
        images.read_pixels(saved(tmp_path, values, "c.tif"))
    values[2, 3] = images.LARGEST
    read = images.read_pixels(saved(tmp_path, values, "c.tif")).values
    assert images.to_uint8(read, [[-images.LARGEST, images.LARGEST]]).max() == 255


def test_transparency_is_kept_apart(tmp_path):
    for array, channels in ((np.dstack([RGB, GREY]), 4), (np.dstack([GREY, GREY]), 2)):
        pixels = images.read_pixels(saved(tmp_path, array))
        assert (pixels.values.shape[-1], pixels.alpha) == (channels, True)
    assert not images.read_pixels(saved(tmp_path, RGB)).alpha
    clear = palette(IDS)
    clear.info["transparency"] = 1
    pixels = images.read_pixels(saved(tmp_path, clear, transparency=1))
    np.testing.assert_array_equal(pixels.values[..., 3], np.where(IDS == 1, 0, 255))


def test_a_mask_of_another_size_than_its_image():
    bad = images.wrong_size("m.png", (5, 7), "folder/i.png", (6, 7, 3))
    assert str(bad) == "m.png: is 7 x 5, its image 7 x 6. Export it at the size of i.png."
    bad = images.wrong_size("m.png", (5, 7), "i.png", (7, 5, 3))
    assert bad.fix.startswith("One of them lies on its side")


READERS = (images.read_image, mask_files.read_mask, images.read_depth)


def bomb(width, height):
    """A PNG whose header says more than its few bytes hold."""
    chunk = lambda kind, data: (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return (
        signature
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_a_huge_image_is_refused_by_its_header(tmp_path, monkeypatch):
    path = write(tmp_path / "a.png", bomb(30_000, 30_000))
    message = (
        r"a.png: 900,000,000 pixels, of which SEGEN_MOST_PIXELS allows 134,217,728. Cut it into "
        r"tiles, or set the environment variable SEGEN_MOST_PIXELS=900000000."
    )
    for read in (*READERS, image_formats.read_size):
        with pytest.raises(BadFile, match=message):
            read(path)
    monkeypatch.setenv("SEGEN_MOST_PIXELS", "900000000")
    with pytest.raises(BadFile, match="cannot be read"):  # it is read, and holds no pixels
        image_formats.read_size(path)
    monkeypatch.setenv("SEGEN_MOST_PIXELS", "many")
    for read in (*READERS, image_formats.read_size):
        with pytest.raises(UserError, match=r"SEGEN_MOST_PIXELS=many in the environment: give a"):
            read(path)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.bmp", "a.npy"])
def test_the_limit_of_pixels_holds_for_every_format(tmp_path, monkeypatch, name):
    values, path = np.ones((3, 5), np.uint16 if name[2] in "nt" else np.uint8), tmp_path / name
    if name[2:] == "npy":
        np.save(path, values)
        read = images.read_depth
    else:
        Image.fromarray(values).save(path)
        read = lambda path: images.read_pixels(path).values
    monkeypatch.setenv("SEGEN_MOST_PIXELS", "15")
    assert read(path).shape[:2] == (3, 5)
    monkeypatch.setenv("SEGEN_MOST_PIXELS", "14")
    with pytest.raises(BadFile, match=r"15 pixels, of which SEGEN_MOST_PIXELS allows 14"):
        read(path)


def test_depth_files_that_are_not_what_their_header_says(tmp_path):
    path = tmp_path / "a.npy"
    with path.open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
        np.lib.format.write_array_header_1_0(stream, header)
    for content in (path.read_bytes(), b"PK\x03\x04", b"\x93NUMPY\x01", pickle.dumps(3)):
        with pytest.raises(BadFile, match=r"a.npy: cannot be read \(.*\)\. Copy or export"):
            images.read_depth(write(path, content))
    np.savez(tmp_path / "b.npz", a=np.ones(3))
    with pytest.raises(BadFile, match=r"a.npy: cannot be read"):
        images.read_depth(write(path, (tmp_path / "b.npz").read_bytes()))
    np.save(path, np.array([None, 1]), allow_pickle=True)
    with pytest.raises(BadFile, match=r"a.npy: cannot be read"):
        images.read_depth(path)


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (images.read_image, "a.png"),
        (mask_files.read_mask, "a.png"),
        (image_formats.read_size, "a.jpg"),
        (images.read_depth, "a.npy"),
    ],
)
def test_a_pipe_is_not_opened(tmp_path, read, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(BadFile, match="is not a regular file"):
        read(tmp_path / name)


def test_links_to_images_are_followed(tmp_path):
    Image.new("L", (3, 2), 7).save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to("a.png")
    assert images.read_image(tmp_path / "link.png").shape == (2, 3, 3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_the_last_of_two_or_four_channels_may_be_transparency(tmp_path, channels):
    values = RNG.integers(0, 9000, (6, 7, channels)).astype(np.uint16)
    kind = {"photometric": "minisblack", "planarconfig": "contig" if channels > 1 else None}
    tifffile.imwrite(tmp_path / "a.tif", values if channels > 1 else values[..., 0], **kind)
    pixels = images.read_pixels(tmp_path / "a.tif")
    assert pixels.alpha == (channels in (2, 4))
    np.testing.assert_array_equal(pixels.values, values)


def test_depth_is_turned_upright_unless_it_is_wanted_as_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    depth = np.arange(1, 7, dtype=np.uint16).reshape(2, 3) * 1000
    path = saved(tmp_path, depth, exif=exif)
    assert images.read_depth(path).tolist() == [[4, 1], [5, 2], [6, 3]]
    assert images.read_depth(path, stored=True).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("dtype", "nodata", "bands"),
    [
        (np.float32, "nan", 4),
        (np.float32, "nan", 1),
        (np.float32, "-9999.9", 1),
        (np.int16, "-9999", 4),
        (np.uint16, "65535", 1),
    ],
)
def test_pixels_without_data_take_the_least_value_of_their_channel(tmp_path, dtype, nodata, bands):
    values = np.random.default_rng(0).integers(100, 900, (6, 5, bands)).astype(dtype)
    empty = np.zeros(values.shape, bool)
    empty[1, :3] = empty[4, 2, 0] = True
    values[empty] = dtype(float(nodata))
    path = tmp_path / "a.tif"
    look = {"photometric": "minisblack", "planarconfig": "contig"} if bands > 1 else {}
    tags = [(42113, "s", 0, nodata, True)]
    tifffile.imwrite(path, np.squeeze(values), metadata=None, extratags=tags, **look)
    found, stored = images.read_pixels(path), images.read_pixels(path, nodata=True)
    least = np.where(empty, np.inf, values).min((0, 1))
    np.testing.assert_array_equal(found.values, np.where(empty, least, values))
    assert found.values.dtype == dtype
    np.testing.assert_array_equal(stored.values, values)


def test_values_of_8_bits_stay_as_they_are(tmp_path):
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    tifffile.imwrite(tmp_path / "a.tif", values, extratags=[(42113, "s", 0, "0", True)])
    np.testing.assert_array_equal(images.read_pixels(tmp_path / "a.tif").values[..., 0], values)


def test_an_image_without_any_data_is_zero(tmp_path):
    values = np.full((3, 4), np.nan, np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, extratags=[(42113, "s", 0, "nan", True)])
    assert not images.read_pixels(tmp_path / "a.tif").values.any()


def test_a_channel_without_any_data_has_no_range(tmp_path):
    values = np.random.default_rng(0).integers(5000, 6000, (6, 5, 2)).astype(np.int16)
    values[..., 0] = -9999
    look = {"photometric": "minisblack", "planarconfig": "contig"}
    tags = [(42113, "s", 0, "-9999", True)]
    tifffile.imwrite(tmp_path / "a.tif", values, metadata=None, extratags=tags, **look)
    empty, (low, high) = images.ranges_of(images.read_pixels(tmp_path / "a.tif"))
    assert empty == (np.inf, -np.inf)
    assert 5000 <= low < high < 6000
