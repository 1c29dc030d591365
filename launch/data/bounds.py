"""Refuses files before they fill the memory, and damage that Pillow does not notice."""

import math
import os
import zlib

from launch.config.errors import UserError
from launch.data.bad_file import BadFile

MOST_PIXELS = "SEGEN_MOST_PIXELS"  # the environment variable


def check_pixels(path, shape: tuple) -> None:
    """Refuses a huge image by its header: a file of a few kB can fill the memory.

    Args:
      path: the file.
      shape: (width, height) or (height, width), and perhaps channels.

    Raises:
      BadFile: it has more pixels than $SEGEN_MOST_PIXELS (2^27 where that is not set).
      UserError: that variable is no number.
    """
    text = os.environ.get(MOST_PIXELS) or str(2**27)
    if not text.isdecimal():
        raise UserError(f"{MOST_PIXELS}={text} in the environment: give a number of pixels")
    pixels = math.prod(shape[:2])
    if pixels > int(text):
        problem = f"{pixels:,} pixels, of which {MOST_PIXELS} allows {int(text):,}"
        fix = f"Cut it into tiles, or set the environment variable {MOST_PIXELS}={pixels}."
        raise BadFile(path, problem, fix)


def check_png(path) -> None:
    """Compares the checksums of all chunks; Pillow skips that of the chunks with the pixels.

    Args:
      path: a PNG.

    Raises:
      BadFile: a checksum is wrong, or the file ends early.
    """
    with open(path, "rb") as file:
        data, start, kind = memoryview(file.read()), 8, b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        end = start + 8 + length
        if end + 4 > len(data):
            raise BadFile(path, "cannot be read (it ends early)", "Copy or export it again.")
        if zlib.crc32(data[start + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            problem = f"damaged: the checksum of the chunk at byte {start} is wrong"
            raise BadFile(path, problem, "Copy or export it again.")
        start = end + 4
