import importlib
import logging
import os
import struct
import threading

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image, ImageOps

from launch.data import image_formats, images
from launch.data.bad_file import BadFile

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (17, 31, 3), np.uint8)
BANDS = RNG.integers(0, 60_000, (17, 31, 5)).astype(np.uint16)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_pillow_turns_them(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(image_formats.upright(RGB, orientation), expected)
    np.testing.assert_array_equal(images.read_pixels(path).values, expected)
    np.testing.assert_array_equal(images.read_pixels(path, stored=True).values, RGB)
    turned = image_formats.upright_image(Image.fromarray(RGB), orientation)
    np.testing.assert_array_equal(np.asarray(turned), expected)
    assert image_formats.read_size(path) == expected.shape[:2]
    assert image_formats.read_size(path, stored=True) == (17, 31)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int16])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_tiff_keeps_all_channels_and_all_bits(tmp_path, channels, dtype, planes):
    values = BANDS[..., :channels].astype(dtype)
    array = np.moveaxis(values, -1, 0) if planes == "separate" else values
    kind = "rgb" if channels == 3 else "minisblack"
    planar = planes if channels > 1 else None
    array = values[..., 0] if channels == 1 else array
    tifffile.imwrite(tmp_path / "a.tif", array, photometric=kind, planarconfig=planar)
    pixels = images.read_pixels(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels.values, values)
    assert pixels.alpha == (channels in (2, 4))
    assert image_formats.read_size(tmp_path / "a.tif") == (17, 31)


def test_several_images_in_a_file_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", BANDS.transpose(2, 0, 1), photometric="minisblack")
    with pytest.raises(BadFile, match=r"holds 5 images\. Save each as a file of its own"):
        image_formats.load(tmp_path / "a.tif")


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_png_with_channels_of_16_bits(tmp_path, channels, monkeypatch):
    values = np.ascontiguousarray(BANDS[..., :channels])
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(values))
    np.testing.assert_array_equal(images.read_pixels(tmp_path / "a.png").values, values)
    without(monkeypatch, "imagecodecs")
    with pytest.raises(BadFile, match=r"16 bits, of which Pillow keeps 8\. Run `pip install"):
        images.read_pixels(tmp_path / "a.png")


def test_grey_of_16_bits_needs_pillow_alone(tmp_path, monkeypatch):
    without(monkeypatch, "imagecodecs")
    for name in ("a.png", "a.tif", "a.jp2"):
        Image.fromarray(BANDS[..., 0]).save(tmp_path / name)
        np.testing.assert_array_equal(
            images.read_pixels(tmp_path / name).values[..., 0], BANDS[..., 0]
        )


def test_jpeg_2000_of_8_bits(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.jp2")
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.jp2"), RGB)


def test_heic_is_read_or_named(tmp_path, monkeypatch):
    smooth = np.tile(np.linspace(40, 200, 64, dtype=np.uint8)[:, None, None], (1, 64, 3))
    pillow_heif.from_pillow(Image.fromarray(smooth)).save(tmp_path / "a.heic", quality=95)
    read = images.read_image(tmp_path / "a.heic")
    np.testing.assert_allclose(read.astype(int), smooth, atol=6)
    without(monkeypatch, "pillow_heif")
    for reader in (image_formats.load, image_formats.read_size):
        with pytest.raises(BadFile, match=r"is a HEIC image\. Run `pip install '\.\[images\]'`"):
            reader(tmp_path / "a.heic")


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BadFile, match=r"a\.png: is not a regular file"):
        image_formats.load(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(BadFile, match=r"b\.png: is not a regular file"):
        image_formats.load(tmp_path / "b.png")
    with pytest.raises(BadFile, match=r"c\.png: no such file"):
        image_formats.load(tmp_path / "c.png")


def test_a_damaged_tiff_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", BANDS, photometric="minisblack", planarconfig="contig")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadFile, match=r"a\.tif: cannot be read"):
        image_formats.load(tmp_path / "a.tif")


def exif_of(content):
    return b"Exif\0\0II*\0\x08\0\0\0" + content


@pytest.mark.parametrize(
    ("exif", "orientation"),
    [
        (exif_of(b"\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"), 6),
        (exif_of(b"\x02\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x12"), 6),  # is cut off
        (exif_of(b"\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0"), 1),
        (exif_of(b"\x01\0\x12\x01\x02\0\x02\0\0\0a\0\0\0"), 1),
        (b"Exif\0\0else", 1),
    ],
)
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_damaged_exif_does_not_keep_an_image_from_being_read(tmp_path, name, exif, orientation):
    Image.new("RGB", (5, 3)).save(tmp_path / name, exif=exif)
    assert image_formats.load(tmp_path / name).orientation == orientation
    size = (5, 3) if orientation == 6 else (3, 5)
    assert image_formats.read_size(tmp_path / name) == size


@pytest.mark.parametrize(("tag", "count"), [(258, 3), (282, 1)])  # bits, resolution
def test_a_tiff_whose_tags_lie_beyond_its_end_is_named(tmp_path, tag, count):
    Image.new("RGB", (5, 8)).save(tmp_path / "a.tif", dpi=(72, 72))
    content = bytearray((tmp_path / "a.tif").read_bytes())
    at = content.index(struct.pack("<HHI", tag, 3 if tag == 258 else 5, count)) + 8
    content[at : at + 4] = struct.pack("<I", 10**6)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(BadFile, match=r"a\.tif: cannot be read \(.*(Truncated|invalid value off)"):
        image_formats.load(tmp_path / "a.tif")


@pytest.mark.filterwarnings("error")
def test_tags_of_too_many_values_are_harmless(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", BANDS[..., 0].astype(np.uint8))
    content = bytearray((tmp_path / "a.tif").read_bytes())
    at = content.index(struct.pack("<HHI", 277, 3, 1)) + 4  # channels: one number, or two here
    content[at] = 2
    (tmp_path / "a.tif").write_bytes(content)
    assert image_formats.load(tmp_path / "a.tif").image.size == BANDS.shape[1::-1]


def test_a_tiff_that_pillow_does_not_know_is_upright(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", BANDS, photometric="minisblack", planarconfig="contig")
    assert image_formats.load(tmp_path / "a.tif").orientation == 1


def test_a_tiff_of_which_parts_are_missing_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", BANDS, photometric="minisblack", planarconfig="contig")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages[0].tags["RowsPerStrip"].overwrite(1)
    with pytest.raises(BadFile, match=r"cannot be read \(1 of 17 parts of the image are there\)"):
        image_formats.load(tmp_path / "a.tif")


def test_values_that_are_no_numbers_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((3, 5), np.complex64))
    with pytest.raises(BadFile, match=r"a\.tif: holds values of complex64. Save integers or floa"):
        image_formats.load(tmp_path / "a.tif")


def without(monkeypatch, name):
    """Imports as if a module were not installed."""
    real = importlib.import_module

    def imported(module, *rest):
        if module == name:
            raise ImportError(f"no {name}")
        return real(module, *rest)

    monkeypatch.setattr(importlib, "import_module", imported)


def test_errors_that_a_library_logs_in_this_thread_are_not_printed(capfd):
    logger = logging.getLogger("a library")
    with image_formats._errors_of("a library") as errors:
        logger.warning("less")
        logger.error("lost")
        threading.Thread(target=logger.error, args=("of another",)).start()
    assert [record.getMessage() for record in errors] == ["lost"]
    assert capfd.readouterr().err == ""
    assert not logger.handlers
