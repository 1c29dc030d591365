"""Pictures with words: rows of images below titles, with headings and legends."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TILE = (320, 384)  # height and width that an image fills at most, in pixels
MARGIN, GAP, SWATCH = 12, 8, 16
SIZE, BIG = 14, 16  # of letters, in pixels
INK, PAPER = (25, 25, 25), (255, 255, 255)
NARROWEST = 640  # width of a sheet, so that its words have a place


class Row(NamedTuple):
    """A row of a sheet.

    Attributes:
      heading: what is written above it, its first part in bold letters: (bold, plain).
      tiles: uint8 [H, W, 3], one for each column, all of one size.
    """

    heading: tuple[str, str]
    tiles: tuple[np.ndarray, ...]


class Legend(NamedTuple):
    """The meaning of colours.

    Attributes:
      title: what is written before it.
      entries: (uint8 [SWATCH, SWATCH, 3], name) of each colour.
    """

    title: str
    entries: tuple[tuple[np.ndarray, str], ...]


def scaled(tile: np.ndarray, box: tuple[int, int] = TILE) -> np.ndarray:
    """Brings an image to the size at which a sheet shows it.

    Args:
      tile: uint8 or bool [H, W] or [H, W, C].
      box: the largest height and width.

    Returns:
      The image enlarged by the largest whole factor that fits, or, where it is larger than the
      box, scaled down by averaging; bool stays bool, by the majority.
    """
    height, width = tile.shape[:2]
    if tile.dtype == bool:
        return scaled(tile.astype(np.uint8) * 255, box) > 127
    factor = min(box[0] // height, box[1] // width)
    if factor >= 1:
        return tile.repeat(factor, 0).repeat(factor, 1)
    scale = min(box[0] / height, box[1] / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(tile).resize(size, Image.Resampling.BOX))


def content_size(content: np.ndarray) -> tuple[int, int]:
    """The height and width of an image without its padding below and at the right.

    Args:
      content: bool [H, W], False where there may be padding.

    Returns:
      Those up to the last pixel of content; the whole size where there is none.
    """
    if not content.any():
        return content.shape
    rows, columns = np.flatnonzero(content.any(1)), np.flatnonzero(content.any(0))
    return int(rows[-1]) + 1, int(columns[-1]) + 1


def as_rgb(image: np.ndarray) -> np.ndarray:
    """An image [H, W, 1 or 3], uint8 or float in [0, 1], as uint8 [H, W, 3]."""
    if image.dtype != np.uint8:
        image = np.round(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    return np.broadcast_to(image, (*image.shape[:2], 3))


def swatch(colour: Sequence[int]) -> np.ndarray:
    """A square of one colour with a thin dark frame, for a legend."""
    square = np.full((SWATCH, SWATCH, 3), 110, np.uint8)
    square[1:-1, 1:-1] = colour
    return square


def draw(
    heading: str, titles: Sequence[str], rows: Sequence[Row], legends: Sequence[Legend] = ()
) -> np.ndarray:
    """Draws a sheet.

    Args:
      heading: written above everything.
      titles: of the columns.
      rows: the images.
      legends: written below.

    Returns:
      uint8 [H, W, 3], about 4 * 384 pixels wide at most for four columns.
    """
    widths = [
        max(_width(title, SIZE, bold=True), *(row.tiles[k].shape[1] for row in rows))
        for k, title in enumerate(titles)
    ]
    lefts = np.cumsum([MARGIN] + [width + GAP for width in widths])
    width = max(int(lefts[-1]) - GAP + MARGIN, NARROWEST)
    placed, legend_height = _place(legends, width)
    line = SIZE + GAP
    heights = [line + max(tile.shape[0] for tile in row.tiles) + GAP for row in rows]
    top = MARGIN + BIG + GAP + line
    sheet = Image.new("RGB", (width, top + sum(heights) + legend_height + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    _write(pen, (MARGIN, MARGIN), _fitting(heading, width - 2 * MARGIN, BIG, True), BIG, bold=True)
    for left, title in zip(lefts, titles, strict=False):
        _write(pen, (int(left), MARGIN + BIG + GAP), title, SIZE, bold=True)
    for row, height in zip(rows, heights, strict=True):
        bold, plain = row.heading
        after = MARGIN + (_width(bold, SIZE, bold=True) + GAP if bold else 0)
        _write(pen, (MARGIN, top), bold, SIZE, bold=True)
        _write(pen, (after, top), _fitting(plain, width - MARGIN - after, SIZE, False), SIZE)
        for left, tile in zip(lefts, row.tiles, strict=False):
            sheet.paste(Image.fromarray(tile), (int(left), top + line))
        top += height
    for x, y, item, bold in placed:
        if isinstance(item, str):
            _write(pen, (x, top + y), item, SIZE, bold=bold)
        else:
            sheet.paste(Image.fromarray(item), (x, top + y))
    return np.asarray(sheet)


def _place(legends, width):
    """Where the words and the swatches of legends go: (x, y, item, bold) each; and the height."""
    placed, y, line = [], GAP, SWATCH + GAP
    indent = MARGIN + max((_width(one.title, SIZE, True) for one in legends), default=0) + GAP
    for legend in legends:
        placed.append((MARGIN, y, legend.title, True))
        x = indent
        for square, name in legend.entries:
            name = _fitting(name, width - indent - MARGIN - SWATCH - GAP, SIZE, False)
            needed = SWATCH + GAP // 2 + _width(name, SIZE)
            if x > indent and x + needed > width - MARGIN:
                x, y = indent, y + line
            placed += [(x, y, square, False), (x + SWATCH + GAP // 2, y, name, False)]
            x += needed + 2 * GAP
        y += line
    return placed, y if legends else 0


@functools.lru_cache(maxsize=8)
def _font(size, bold):
    """The font that matplotlib brings along: it is there on every machine, and has most letters."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf", name)), size)


def _write(pen, place, text, size, bold=False):
    pen.text(place, text, fill=INK, font=_font(size, bold))


def _width(text, size, bold=False):
    return int(np.ceil(_font(size, bold).getlength(text)))


def _fitting(text, width, size, bold):
    """The text, without its middle where it is too long."""
    kept = len(text)
    short = text
    while kept > 2 and _width(short, size, bold) > width:
        kept -= 1
        short = f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"
    return short
