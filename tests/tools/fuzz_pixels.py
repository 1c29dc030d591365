"""Files of pixels for `tests.tools.fuzz`: many formats, damaged or replaced, by every reader."""

import functools
import io
import random
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import tifffile
from PIL import Image

from launch.data import image_formats, images, mask_files
from launch.data.folders import masks
from tests.tools import fuzz, fuzz_changes


@functools.cache
def pictures() -> dict[str, bytes]:
    """{name: content} of small images of many formats."""
    rng = np.random.default_rng(0)
    rgb, ids = rng.integers(0, 256, (12, 16, 3), np.uint8), rng.integers(0, 3, (12, 16), np.uint8)
    colour, grey = Image.fromarray(rgb), Image.fromarray(ids)
    exif = Image.Exif()
    exif[0x0112] = 6
    images = {
        "colour.png": (colour, {}),
        "grey.png": (grey, {}),
        "bits.png": (grey.convert("1"), {}),
        "two.png": (grey.convert("P"), {"bits": 2}),
        "palette.png": (colour.quantize(8), {"transparency": 1}),
        "alpha.png": (colour.convert("RGBA"), {}),
        "grey_alpha.png": (grey.convert("LA"), {}),
        "deep.png": (Image.fromarray(ids.astype(np.uint16) * 999), {}),
        "turned.png": (colour, {"exif": exif}),
        "colour.jpg": (colour, {}),
        "turned.jpg": (colour, {"exif": exif, "dpi": (72, 72)}),
        "progressive.jpg": (colour, {"progressive": True}),
        "cmyk.jpg": (colour.convert("CMYK"), {}),
        "colour.tif": (colour, {}),
        "packed.tif": (colour, {"compression": "tiff_lzw"}),
        "jpeg.tif": (colour, {"compression": "jpeg"}),
        "deflate.tif": (grey, {"compression": "tiff_adobe_deflate"}),
        "float.tif": (Image.fromarray(rgb[..., 0].astype(np.float32)), {}),
        "deep.tif": (Image.fromarray(ids.astype(np.uint16)), {}),
        "pages.tif": (colour, {"save_all": True, "append_images": [colour]}),
        "colour.gif": (colour, {}),
        "moving.gif": (colour, {"save_all": True, "append_images": [grey]}),
        "colour.bmp": (colour, {}),
        "grey.bmp": (grey, {}),
        "colour.webp": (colour, {}),
        "exact.webp": (colour, {"lossless": True}),
        "colour.jp2": (colour, {}),
        "colour.avif": (colour, {}),
    }
    result = {}
    for name, (image, options) in images.items():
        stream = io.BytesIO()
        kind = {"jpg": "jpeg", "tif": "tiff", "jp2": "jpeg2000"}.get(name.split(".")[1])
        image.save(stream, kind or name.split(".")[1], **options)
        result[name] = stream.getvalue()
    for name, array in {"depth.npy": ids.astype(np.float32), "ids.npy": ids}.items():
        stream = io.BytesIO()
        np.save(stream, array)
        result[name] = stream.getvalue()
    deep = rng.integers(0, 60_000, (16, 16, 5), np.uint16)
    for name, options in {
        "five.tif": {"photometric": "minisblack", "planarconfig": "contig"},
        "planes.tif": {"photometric": "minisblack", "planarconfig": "separate"},
        "tiles.tif": {"tile": (16, 16), "compression": "zlib", "photometric": "rgb"},
        "large.tif": {"bigtiff": True, "photometric": "rgb", "compression": "lzw"},
        "wavelets.tif": {"compression": "jpeg2000", "photometric": "rgb"},
    }.items():
        stream, rgb = io.BytesIO(), options.get("photometric") == "rgb"
        array = np.moveaxis(deep, -1, 0) if name == "planes.tif" else deep
        tifffile.imwrite(stream, deep[..., :3] if rgb else array, **options)
        result[name] = stream.getvalue()
    result["deep_colour.png"] = imagecodecs.png_encode(np.ascontiguousarray(deep[..., :3]))
    result["deep_colour.jp2"] = imagecodecs.jpeg2k_encode(np.ascontiguousarray(deep[..., :3]))
    stream = io.BytesIO()
    pillow_heif.from_pillow(colour).save(stream)
    result["colour.heic"] = stream.getvalue()
    return result


def change(chance: random.Random, path: Path) -> None:
    """Damages or replaces a file of pixels."""
    kind, content = chance.randrange(8), path.read_bytes()
    if kind == 0:
        fuzz_changes.replace(chance, path, list(pictures().values()))
    elif kind < 4 and path.suffix == ".png":
        path.write_bytes(fuzz_changes.change_png(chance, content))
    elif kind < 4 and path.suffix == ".tif" and content[2] == 42:  # not of the 64 bits of BigTIFF
        path.write_bytes(_change_tag(chance, content))
    else:
        path.write_bytes(fuzz_changes.change_bytes(chance, content))


def _change_tag(chance, data):
    """Changes the tag, the type, the count or the value of one entry of a TIFF."""
    (start,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[start : start + 2])
    at = start + 2 + 12 * chance.randrange(count)
    place, size = chance.choice(((0, 2), (2, 2), (4, 4), (8, 4)))
    value = fuzz_changes.number(chance) % 256**size
    if place == 0:
        value = chance.choice((256, 257, 258, 259, 262, 273, 277, 278, 279, 317, 322, 330, 339))
    return data[: at + place] + value.to_bytes(size, "little") + data[at + place + size :]


def _files(chance, templates, root):
    """Files of pixels alone, by every reader; quicker than in folders."""
    del templates
    readers = [image_formats.read_size, images.read_image, images.read_pixels, images.read_depth]
    readers += [functools.partial(images.read_image, own_range=True), mask_files.has_alpha_labels]
    readers += [functools.partial(mask_files.read_mask, values=values) for values in masks.VALUES]
    readers += [functools.partial(mask_files.read_mask, colours={(0, 0, 0): 1, (1, 1, 1): 2})]
    codes = set()
    for number in range(8):
        name = chance.choice(sorted(pictures()))
        path = root / f"{number}.{name.split('.')[1]}"
        path.write_bytes(pictures()[name])
        change(chance, path)
        codes |= {fuzz.answer(read, path) for read in readers}
    return max(codes)


KINDS = {"files": fuzz.Kind(_files, 4)}
