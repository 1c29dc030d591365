import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from launch.config.errors import UserError
from launch.data import bounds
from launch.data.bad_file import BadFile


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (3, 5, 4)])
def test_the_number_of_pixels_is_limited(monkeypatch, shape):
    monkeypatch.setenv("SEGEN_MOST_PIXELS", "15")
    bounds.check_pixels("a.png", shape)
    monkeypatch.setenv("SEGEN_MOST_PIXELS", "14")
    message = r"a.png: 15 pixels, of which SEGEN_MOST_PIXELS allows 14\. .*SEGEN_MOST_PIXELS=15"
    with pytest.raises(BadFile, match=message):
        bounds.check_pixels("a.png", shape)
    monkeypatch.setenv("SEGEN_MOST_PIXELS", "-1")
    with pytest.raises(UserError, match="SEGEN_MOST_PIXELS=-1 in the environment"):
        bounds.check_pixels("a.png", shape)


def test_two_to_the_27th_pixels_are_allowed(monkeypatch):
    monkeypatch.delenv("SEGEN_MOST_PIXELS", raising=False)
    bounds.check_pixels("a.png", (2**13, 2**14))
    with pytest.raises(BadFile, match="allows 134,217,728"):
        bounds.check_pixels("a.png", (2**13, 2**14 + 1))


def test_the_checksum_of_every_chunk_counts(tmp_path):
    stream = io.BytesIO()
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(pixels).save(stream, "PNG", pnginfo=None)
    whole, path = stream.getvalue(), tmp_path / "a.png"
    path.write_bytes(whole)
    bounds.check_png(path)
    path.write_bytes(whole + b"more")  # after the last chunk nothing counts
    bounds.check_png(path)
    start, starts = 8, []
    while start < len(whole):
        starts.append(start)
        (length,) = struct.unpack(">I", whole[start : start + 4])
        start += 12 + length
    for start in starts:
        changed = bytearray(whole)
        changed[start + 5] ^= 1  # a letter of its kind
        path.write_bytes(changed)
        with pytest.raises(BadFile, match=rf"checksum of the chunk at byte {start} is wrong"):
            bounds.check_png(path)
    for size in (len(whole) - 1, 20):
        path.write_bytes(whole[:size])
        with pytest.raises(BadFile, match="it ends early"):
            bounds.check_png(path)
    assert zlib.crc32(whole[12:29]) == int.from_bytes(whole[29:33], "big")
