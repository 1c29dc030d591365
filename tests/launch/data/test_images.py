import io
import os

import numpy as np
import pytest
from PIL import Image

from launch.data import images
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


def test_sixteen_bits_and_one_bit(tmp_path):
    deep = np.array([[0, 257, 65535], [128, 129, 256]], np.uint16)
    read = images.read_image(saved(tmp_path, deep))
    np.testing.assert_array_equal(read[..., 0], [[0, 1, 255], [0, 1, 1]])
    path = saved(tmp_path, Image.fromarray(GREY > 127))
    np.testing.assert_array_equal(images.read_image(path)[..., 1], 255 * (GREY > 127))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photographs_are_upright(tmp_path, orientation):
    turns = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]  # of 90 degrees, by which the file is rotated
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, np.rot90(RGB, turns).copy(), "a.png", exif=exif)
    np.testing.assert_array_equal(images.read_image(path), RGB)
    assert images.read_size(path) == (17, 31)


@pytest.mark.parametrize("shape", [(1, 1), (17, 31)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, bool])
def test_grey_values_are_ids(tmp_path, shape, dtype):
    ids = IDS[: shape[0], : shape[1]].astype(dtype)
    path = saved(tmp_path, ids, "a.tif")
    np.testing.assert_array_equal(images.read_mask(path), ids)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_ids_of_few_bits_are_not_stretched(tmp_path, bits):
    """Pillow reads a PNG of 4 bit greys times 17."""
    ids = IDS % np.uint8(2**bits)
    stream = io.BytesIO()
    palette(ids).save(stream, "PNG", bits=bits)
    content = bytearray(stream.getvalue())
    assert (content[24], content[25]) == (bits, 3)
    (tmp_path / "palette.png").write_bytes(content)
    np.testing.assert_array_equal(images.read_mask(tmp_path / "palette.png"), ids)
    (tmp_path / "grey.png").write_bytes(_as_grey(content))
    np.testing.assert_array_equal(images.read_mask(tmp_path / "grey.png"), ids)


def _as_grey(content):
    """The same PNG with colour type 0, without its palette."""
    import struct
    import zlib

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
    np.testing.assert_array_equal(images.read_mask(path), IDS)
    colours = {(9, 9, 9): 4, (200, 0, 0): 3, (0, 200, 0): 2, (0, 0, 200): 1, (90, 90, 0): 0}
    np.testing.assert_array_equal(images.read_mask(path, colours), 4 - IDS)


@pytest.mark.parametrize("kept", [(0, 2, 5), (0, 255), (255,), (7,)])
def test_grey_values_of_a_gif_are_ids_though_its_palette_is_renumbered(tmp_path, kept):
    ids = np.array(kept, np.uint8)[IDS % len(kept)]
    path = saved(tmp_path, ids, "a.gif")
    np.testing.assert_array_equal(images.read_mask(path), ids)


def test_colours_are_looked_up(tmp_path):
    colours = {(128, 64, 128): 0, (0, 0, 0): 255, (70, 70, 70): 2, (255, 255, 255): 1, (1, 2, 3): 7}
    ids = np.array(list(colours.values()))[IDS]
    picture = np.array(list(colours), np.uint8)[IDS]
    np.testing.assert_array_equal(images.read_mask(saved(tmp_path, picture), colours), ids)
    opaque = np.concatenate([picture, np.full((17, 31, 1), 255, np.uint8)], -1)
    np.testing.assert_array_equal(images.read_mask(saved(tmp_path, opaque), colours), ids)
    picture[4, 9] = (1, 2, 4)
    with pytest.raises(BadFile, match=r"a.png \(x 9, y 4\): colour \(1, 2, 4\) is not in classes"):
        images.read_mask(saved(tmp_path, picture), colours)


def test_equal_channels_are_grey(tmp_path):
    path = saved(tmp_path, np.repeat(IDS[..., None], 3, -1))
    np.testing.assert_array_equal(images.read_mask(path), IDS)


def test_a_binary_jpeg_passes_and_one_with_ids_does_not(tmp_path):
    blank = np.full((16, 16), 255, np.uint8)
    np.testing.assert_array_equal(images.read_mask(saved(tmp_path, blank, "a.jpg")), blank)
    with pytest.raises(BadFile, match=r"\(x \d+, y \d+\): a JPEG mask.*Export the mask as PNG"):
        images.read_mask(saved(tmp_path, 40 * IDS, "a.jpg"))


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
        (png()[:300], r"cannot be read \(.*\)"),
        (b"not a picture at all", r"cannot be read \(cannot identify image file\)"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "a Git LFS pointer.*git lfs pull",
        ),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, content, message):
    path = write(tmp_path / "a.png", content)
    for read in (images.read_image, images.read_mask, images.read_depth):
        with pytest.raises(BadFile, match="a.png: " + message):
            read(path)


def test_refused_images(tmp_path):
    with pytest.raises(BadFile, match="no such file"):
        images.read_image(tmp_path / "none.png")
    with pytest.raises(BadFile, match=r"holds floats.*8 or 16 bits"):
        images.read_image(saved(tmp_path, np.ones((2, 2), np.float32), "a.tif"))
    with pytest.raises(BadFile, match=r"x 1, y 0\): a mask of floats, such as 0.5"):
        images.read_mask(saved(tmp_path, np.array([[1, 0.5]], np.float32), "a.tif"))
    with pytest.raises(BadFile, match=r"x 0, y 0\): a mask in colours, such as \(.*classes.csv"):
        images.read_mask(saved(tmp_path, RGB))
    pages = [Image.fromarray(GREY) for _ in range(3)]
    path = saved(tmp_path, pages[0], "b.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(BadFile, match=r"holds 3 images\. Save each"):
        images.read_image(path)
    with pytest.raises(BadFile, match="grey values of -1 to 70000"):
        images.read_image(saved(tmp_path, np.array([[-1, 70000]], np.int32), "c.tif"))


def test_a_grey_that_is_out_of_range_by_one_is_refused(tmp_path):
    for low, high in ((-1, 5), (0, 65536)):
        with pytest.raises(BadFile, match=f"grey values of {low} to {high}"):
            images.read_image(saved(tmp_path, np.array([[low, high]], np.int32), "c.tif"))
    read = images.read_image(saved(tmp_path, np.array([[0, 65535]], np.int32), "d.tif"))
    np.testing.assert_array_equal(read[0, :, 0], [0, 255])


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
        images.read_mask(saved(tmp_path, picture))
    floats = np.zeros((16, 24), np.float32)
    floats[5, 6] = 1.25
    with pytest.raises(BadFile, match=r"x 6, y 5\): a mask of floats, such as 1.25"):
        images.read_mask(saved(tmp_path, floats, "f.tif"))


def test_a_mask_of_another_size_than_its_image():
    bad = images.wrong_size("m.png", (5, 7), "folder/i.png", (6, 7, 3))
    assert str(bad) == "m.png: is 7 x 5, its image 7 x 6. Export it at the size of i.png."
    bad = images.wrong_size("m.png", (5, 7), "i.png", (7, 5, 3))
    assert bad.fix.startswith("One of them lies on its side")


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (images.read_image, "a.png"),
        (images.read_mask, "a.png"),
        (images.read_size, "a.jpg"),
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
