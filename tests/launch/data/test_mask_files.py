import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from launch.data import images, mask_files
from launch.data.bad_file import BadFile
from tests.launch.data.test_images import IDS, RGB, palette, saved, write


@pytest.mark.parametrize("shape", [(1, 1), (17, 31)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, bool])
def test_grey_values_are_ids(tmp_path, shape, dtype):
    ids = IDS[: shape[0], : shape[1]].astype(dtype)
    path = saved(tmp_path, ids, "a.tif")
    np.testing.assert_array_equal(mask_files.read_mask(path), ids)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_ids_of_few_bits_are_not_stretched(tmp_path, bits):
    """Pillow reads a PNG of 4 bit greys times 17."""
    ids = IDS % np.uint8(2**bits)
    stream = io.BytesIO()
    palette(ids).save(stream, "PNG", bits=bits)
    content = bytearray(stream.getvalue())
    assert (content[24], content[25]) == (bits, 3)
    (tmp_path / "palette.png").write_bytes(content)
    np.testing.assert_array_equal(mask_files.read_mask(tmp_path / "palette.png"), ids)
    (tmp_path / "grey.png").write_bytes(_as_grey(content))
    np.testing.assert_array_equal(mask_files.read_mask(tmp_path / "grey.png"), ids)


def _as_grey(content):
    """The same PNG with colour type 0, without its palette."""

    content, place, kept = bytes(content), 8, [bytes(content[:8])]
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        place += 12 + length
        if kind == b"IHDR":
            data = data[:9] + b"\0" + data[10:]
        if kind != b"PLTE":
            crc = struct.pack(">I", zlib.crc32(kind + data))
            kept.append(struct.pack(">I", len(data)) + kind + data + crc)
    return b"".join(kept)


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_the_index_of_a_palette_is_the_id_unless_colours_are_given(tmp_path, name):
    path = saved(tmp_path, palette(IDS), name)
    np.testing.assert_array_equal(mask_files.read_mask(path), IDS)
    colours = {(9, 9, 9): 4, (200, 0, 0): 3, (0, 200, 0): 2, (0, 0, 200): 1, (90, 90, 0): 0}
    np.testing.assert_array_equal(mask_files.read_mask(path, colours), 4 - IDS)


@pytest.mark.parametrize("kept", [(0, 2, 5), (0, 255), (255,), (7,)])
def test_grey_values_of_a_gif_are_ids_though_its_palette_is_renumbered(tmp_path, kept):
    ids = np.array(kept, np.uint8)[IDS % len(kept)]
    path = saved(tmp_path, ids, "a.gif")
    np.testing.assert_array_equal(mask_files.read_mask(path), ids)


def test_colours_are_looked_up(tmp_path):
    colours = {(128, 64, 128): 0, (0, 0, 0): 255, (70, 70, 70): 2, (255, 255, 255): 1, (1, 2, 3): 7}
    ids = np.array(list(colours.values()))[IDS]
    picture = np.array(list(colours), np.uint8)[IDS]
    np.testing.assert_array_equal(mask_files.read_mask(saved(tmp_path, picture), colours), ids)
    opaque = np.concatenate([picture, np.full((17, 31, 1), 255, np.uint8)], -1)
    np.testing.assert_array_equal(mask_files.read_mask(saved(tmp_path, opaque), colours), ids)
    picture[4, 9] = (1, 2, 4)
    with pytest.raises(BadFile, match=r"a.png \(x 9, y 4\): colour \(1, 2, 4\) is not in classes"):
        mask_files.read_mask(saved(tmp_path, picture), colours)


def test_equal_channels_are_grey(tmp_path):
    path = saved(tmp_path, np.repeat(IDS[..., None], 3, -1))
    np.testing.assert_array_equal(mask_files.read_mask(path), IDS)


def test_a_binary_jpeg_passes_and_one_with_ids_does_not(tmp_path):
    blank = np.full((16, 16), 255, np.uint8)
    np.testing.assert_array_equal(mask_files.read_mask(saved(tmp_path, blank, "a.jpg")), blank)
    with pytest.raises(BadFile, match=r"\(x \d+, y \d+\): a JPEG mask.*Export the mask as PNG"):
        mask_files.read_mask(saved(tmp_path, 40 * IDS, "a.jpg"))


def test_transparency_of_a_palette_does_not_change_its_ids(tmp_path):
    image = palette(IDS)
    image.info["transparency"] = bytes([0, 9, 255, 3, 4])
    path = saved(tmp_path, image)
    np.testing.assert_array_equal(mask_files.read_mask(path), IDS)
    colours = {(9, 9, 9): 0, (200, 0, 0): 1, (0, 200, 0): 2, (0, 0, 200): 3, (90, 90, 0): 4}
    np.testing.assert_array_equal(mask_files.read_mask(path, colours), IDS)
    assert mask_files.read_mask(path, values="threshold").max() == 0


@pytest.mark.parametrize("bits", [0x7FA00000, 0x7FC00000, 0x7F800000])  # two NaN, infinity
def test_masks_of_floats_that_are_not_finite_are_named(tmp_path, bits):
    values = np.zeros((4, 5), np.uint32)
    values[2, 3] = bits
    with pytest.raises(BadFile, match=r"a mask of floats, such as (nan|0|inf)"):
        mask_files.read_mask(saved(tmp_path, values.view(np.float32), "c.tif"))


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1])
def test_ids_of_more_than_32_bits_are_named(tmp_path, number):
    ids = np.zeros((4, 5), np.int64)
    ids[2, 3], ids[0, 0] = number, number % 2**31  # the other sign of which fits
    tifffile.imwrite(tmp_path / "a.tif", ids)
    with pytest.raises(BadFile, match=rf"x 3, y 2\): id {number}, which needs more than 32 bits"):
        mask_files.read_mask(tmp_path / "a.tif")
    ids[2, 3] = max(min(number, 2**31 - 1), -(2**31))
    tifffile.imwrite(tmp_path / "a.tif", ids)
    np.testing.assert_array_equal(mask_files.read_mask(tmp_path / "a.tif"), ids)


def test_masks_by_threshold(tmp_path):
    eight = np.array([[0, 127, 128, 255]], np.uint8)
    path = saved(tmp_path, eight)
    assert mask_files.read_mask(path, values="threshold").tolist() == [[0, 0, 1, 1]]
    path = saved(tmp_path, eight.astype(np.uint16) * 257)
    assert mask_files.read_mask(path, values="threshold").tolist() == [[0, 0, 1, 1]]
    path = saved(tmp_path, np.float32([[0, 0.5, 0.51, 1]]), "a.tif")
    assert mask_files.read_mask(path, values="threshold").tolist() == [[0, 0, 1, 1]]
    path = saved(tmp_path, np.repeat(eight, 9, 0).repeat(9, 1), "a.jpg", quality=95)
    assert mask_files.read_mask(path, values="threshold")[::9, 4::9].tolist()[0] == [0, 0, 1, 1]
    path = saved(tmp_path, np.array([[0, 3, 9]], np.uint8))
    assert mask_files.read_mask(path, values="instances").tolist() == [[0, 1, 1]]


def test_labels_in_transparency(tmp_path):
    rgba = np.dstack([np.full((*IDS.shape, 3), 8, np.uint8), IDS])
    path = saved(tmp_path, rgba)
    assert mask_files.has_alpha_labels(path)
    np.testing.assert_array_equal(mask_files.read_mask(path, values="alpha"), IDS)
    assert not mask_files.has_alpha_labels(saved(tmp_path, np.dstack([RGB, IDS])))
    assert not mask_files.has_alpha_labels(saved(tmp_path, np.dstack([RGB, IDS * 0])))
    path = saved(tmp_path, IDS)
    assert not mask_files.has_alpha_labels(path)
    with pytest.raises(BadFile, match="has no transparency"):
        mask_files.read_mask(path, values="alpha")


def test_the_first_wrong_pixel_is_named(tmp_path):
    ids = np.zeros((16, 24), np.uint8)
    depth = np.ones((16, 24), np.float32)
    depth[9, 20] = -0.5
    np.save(tmp_path / "d.npy", depth)
    with pytest.raises(BadFile, match=r"x 20, y 9\): a depth of -0.5 m"):
        images.read_depth(tmp_path / "d.npy")
    picture = np.repeat(ids[..., None], 3, -1)
    picture[3, 17] = (0, 0, 1)
    with pytest.raises(BadFile, match=r"x 17, y 3\): a mask in colours, such as \(0, 0, 1\)"):
        mask_files.read_mask(saved(tmp_path, picture))
    floats = np.zeros((16, 24), np.float32)
    floats[5, 6] = 1.25
    with pytest.raises(BadFile, match=r"x 6, y 5\): a mask of floats, such as 1.25"):
        mask_files.read_mask(saved(tmp_path, floats, "f.tif"))


def test_a_flipped_bit_of_a_png_never_changes_a_label_unnoticed(tmp_path):
    ids = np.array([[3, 1, 0], [2, 2, 7]], np.uint8)
    stream = io.BytesIO()
    Image.fromarray(ids).save(stream, "PNG", compress_level=0)  # deflate notices nothing
    whole = stream.getvalue()
    np.testing.assert_array_equal(mask_files.read_mask(write(tmp_path / "a.png", whole)), ids)
    for bit in range(8 * len(whole)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadFile, match=r"checksum of the chunk at byte|ends early|cannot be"):
            mask_files.read_mask(write(tmp_path / "a.png", content))
    content = bytearray(whole)
    content[50] ^= 1
    with pytest.raises(BadFile, match=r"damaged: the checksum of the chunk at byte 33 is wrong"):
        images.read_image(write(tmp_path / "a.png", content))
    np.testing.assert_array_equal(
        mask_files.read_mask(write(tmp_path / "a.png", whole + b"x")), ids
    )
