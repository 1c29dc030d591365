"""Label maps beside their truth, over their image, with errors and the meaning of the colours."""

from collections.abc import Sequence

import numpy as np

from jaxseg.pictures import palette
from launch.reporting import sheets

Colour = tuple[int, int, int]
MOST_NAMED = 20  # classes in a legend
OPACITY = 0.6  # of labels over their image
# Colours of Okabe and Ito (2008), which people with any colour vision tell apart.
MISSED, CONFUSED, FALSE = (0, 114, 178), (0, 0, 0), (230, 159, 0)
VOID, VOID_LINES = (205, 205, 205), (150, 150, 150)
BACKGROUNDS = {"background", "bg", "none", "nothing", "other", "0", "class 0"}


def draw(
    image: np.ndarray,
    truth: np.ndarray,
    guess: np.ndarray,
    classes: Sequence[str],
    given: Sequence[Colour] = (),
) -> tuple[list[tuple[np.ndarray, ...]], tuple[sheets.Legend, ...]]:
    """Draws image, truth, prediction and errors of examples, without their padding.

    Args:
      image: uint8 [N, H, W, 3].
      truth: ids [N, H, W, 1]; from K on they are void.
      guess: ids [N, H, W, 1], the predictions.
      classes: the names of the K classes.
      given: their colours, where the data have some.

    Returns:
      Four tiles uint8 [h, w, 3] of each example; and the legends of classes and of errors.
    """
    count, background = len(classes), has_background(classes)
    colours, seen, rows = class_colours(count, background, given), np.zeros(count + 1, np.int64), []
    for picture, *maps in zip(image, truth, guess, strict=True):
        true, predicted = (np.minimum(ids[..., 0], count).astype(np.int64) for ids in maps)
        height, width = sheets.content_size((true < count) | picture.any(-1))
        cut = [array[:height, :width] for array in (picture, true, predicted)]
        rows.append(row_tiles(*cut, colours, background))
        for ids in cut[1:]:
            seen += np.bincount(ids.ravel(), minlength=count + 1)
    thing, confused = classes[1] if count == 2 else "an object", "wrong class" if count > 2 else ""
    missed, false = f"missed: {thing}, called {classes[0]}", f"false: {classes[0]}, called {thing}"
    words = (missed, false, confused) if background else ("", "", confused)
    classes_legend = legend_of_classes(classes, colours, seen, background)
    return rows, (classes_legend, legend_of_errors(*words, void=seen[count] > 0))


def has_background(classes: Sequence[str]) -> bool:
    """Whether class 0 is the background of objects: by its name, or as one of two classes."""
    return len(classes) == 2 or classes[0].strip().lower() in BACKGROUNDS


def class_colours(count: int, background: bool, given: Sequence[Colour] = ()) -> np.ndarray:
    """The colours of classes: those of predicted masks, and blue grey for a class 0 that is drawn.

    Args:
      count: K, the number of classes.
      background: whether class 0 is the background, which is not coloured.
      given: those of the data; others stay.

    Returns:
      uint8 [K + 1, 3]; the last one is never seen.
    """
    table = np.resize(palette(given=given), (max(count + 1, 256), 3))[: count + 1].copy()
    if not background and not given:
        table[0] = (120, 144, 180)
    return table


def row_tiles(
    image: np.ndarray,
    truth: np.ndarray,
    guess: np.ndarray,
    colours: np.ndarray,
    background: bool,
    compared: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, ...]:
    """Draws image, truth, prediction and errors at the size at which a sheet shows them.

    Args:
      image: uint8 [H, W, 3].
      truth: ids [H, W]; K is void.
      guess: ids [H, W].
      colours: uint8 [K + 1, 3].
      background: whether class 0 is the background.
      compared: ids [H, W] of the truth and of the prediction whose differences are the errors;
        `truth` and `guess` unless given.

    Returns:
      Four images uint8 [h, w, 3].
    """
    void = truth == len(colours) - 1
    tiles = (
        image,
        labelled(image, truth, colours, background),
        labelled(image, guess, colours, background),
        errors(image, *(compared or (truth, guess)), background),
    )
    image, *maps = (sheets.scaled(tile) for tile in tiles)
    lines = sheets.scaled(void)
    return image, hatched(maps[0], lines), maps[1], hatched(maps[2], lines)


def labelled(
    image: np.ndarray, ids: np.ndarray, colours: np.ndarray, background: bool
) -> np.ndarray:
    """Lays the colours of labels over the grey levels of their image.

    Args:
      image: uint8 [H, W, 3].
      ids: ids [H, W].
      colours: uint8 [K + 1, 3].
      background: whether class 0 shows the image as it is.

    Returns:
      uint8 [H, W, 3].
    """
    shades = np.float32(OPACITY) * colours
    blend = np.round(np.float32(1 - OPACITY) * grey_levels(image) + shades[ids]).astype(np.uint8)
    return np.where((ids == 0)[..., None], image, blend) if background else blend


def errors(image: np.ndarray, truth: np.ndarray, guess: np.ndarray, background: bool) -> np.ndarray:
    """Draws what is wrong over the pale image.

    Args:
      image: uint8 [H, W, 3].
      truth: ids [H, W].
      guess: ids [H, W].
      background: whether class 0 is the background; if not, every error is a wrong class.

    Returns:
      uint8 [H, W, 3], wrong pixels in `MISSED`, `CONFUSED` or `FALSE`, void ones as right ones.
    """
    pale = np.round(150 + np.float32(0.38) * grey_levels(image)).astype(np.uint8)
    picture = np.broadcast_to(pale, image.shape).copy()
    wrong = truth != guess
    picture[wrong] = CONFUSED
    if background:
        picture[wrong & (guess == 0)] = MISSED
        picture[wrong & (truth == 0)] = FALSE
    return picture


def hatched(picture: np.ndarray, void: np.ndarray) -> np.ndarray:
    """Covers void pixels with grey stripes.

    Args:
      picture: uint8 [H, W, 3].
      void: bool [H, W].

    Returns:
      uint8 [H, W, 3].
    """
    covered, (down, right) = picture.copy(), np.nonzero(void)
    lines = ((down + right) % 8 < 3)[:, None]
    covered[down, right] = np.where(lines, VOID_LINES, VOID)
    return covered


def grey_levels(image: np.ndarray) -> np.ndarray:
    """The brightness of an image uint8 [H, W, 3]: float32 [H, W, 1] (ITU-R BT.601)."""
    return image.astype(np.float32) @ np.float32([[0.299], [0.587], [0.114]])


def legend_of_classes(
    classes: Sequence[str], colours: np.ndarray, seen: np.ndarray, background: bool
) -> sheets.Legend:
    """Names the classes that occur, the most frequent ones, in the order of their ids.

    Args:
      classes: the names of the K classes.
      colours: uint8 [K + 1, 3].
      seen: integers [K + 1], the pixels of each id; K is void.
      background: whether class 0 is the background, which is not coloured.
    """
    present = np.flatnonzero(seen[:-1])
    named = np.sort(present[np.argsort(-seen[present], kind="stable")][:MOST_NAMED])
    entries = []
    for number in named:
        if background and number == 0:
            entries.append((sheets.swatch(sheets.PAPER), f"{classes[0]} (not coloured)"))
        else:
            entries.append((sheets.swatch(colours[number]), classes[number]))
    if more := len(present) - len(named):
        entries.append(note(f"and {more} more"))
    return sheets.Legend("classes", tuple(entries))


def legend_of_errors(missed: str, false: str, confused: str, void: bool) -> sheets.Legend:
    """Says what the colours of errors mean.

    Args:
      missed, false, confused: the meaning of each colour; "" for one that does not occur.
      void: whether some pixels do not count.
    """
    meanings = {MISSED: missed, FALSE: false, CONFUSED: confused}
    entries = [(sheets.swatch(colour), words) for colour, words in meanings.items() if words]
    if void:
        square, side = sheets.swatch(VOID), sheets.SWATCH - 2
        square[1:-1, 1:-1] = hatched(square[1:-1, 1:-1], np.ones((side, side), bool))
        entries.append((square, "void: does not count"))
    return sheets.Legend("errors", tuple(entries))


def note(words: str) -> tuple[np.ndarray, str]:
    """An entry of a legend without a colour."""
    return np.full((sheets.SWATCH, 1, 3), 255, np.uint8), words
