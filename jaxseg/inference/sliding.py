"""Prediction of images of any size by overlapping windows of one size.

One window shape means one compilation, and results leave in strips, so memory grows
with the image's width and the window's height, not with the image's height.
"""

from collections.abc import Callable, Iterator

import numpy as np


def strips(
    predict: Callable[[dict], dict],
    example: dict[str, np.ndarray],
    window: tuple[int, int],
    overlap: float = 0.5,
    multiple: int = 1,
    batch_size: int = 1,
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Predicts an image window by window; runs on the host around a compiled `predict`.

    In the zone that two windows share, the first and last quarter belong to the window
    whose border is farther away, and between them one fades into the other. So where the
    net's receptive field reaches no further than a quarter of that zone
    (window * overlap / 4 pixels to either side), the result is that of the whole
    image at once. There is no fading at the image's borders.

    Args:
      predict: {key: [B, h, w, C], "index": int32 [B]} -> {name: [B, h, w, ...]}.
      example: arrays [H, W, C], from which windows are cut.
      window: (h, w), multiples of `multiple`; smaller images are enlarged to it by
        repeating their last row and column, and the result cropped.
      overlap: share of the window that the next one covers again, in [0, 1).
      multiple: windows start at multiples of it, as the net's strides require.
      batch_size: windows at a time.

    Yields:
      (top, {name: float32 [n, W, ...]}): the finished rows top, ..., top + n - 1.

    Raises:
      ValueError: `overlap` outside [0, 1), or a window that is no multiple.
    """
    if not 0.0 <= overlap < 1.0:
        raise ValueError(f"overlap must be in [0, 1), got {overlap}")
    if any(side % multiple or side < 1 for side in window):
        raise ValueError(f"window {window} must be multiples of {multiple}")
    height, width = next(iter(example.values())).shape[:2]
    tops = starts(height, window[0], overlap, multiple)
    lefts = starts(width, window[1], overlap, multiple)
    horizontal = [fade(lefts, column, window[1]) for column in range(len(lefts))]
    found = _windows(predict, example, window, tops, lefts, batch_size)
    sums, weight, done = {}, None, 0
    for row, top in enumerate(tops):
        vertical = fade(tops, row, window[0])[:, None]
        for left, across in zip(lefts, horizontal, strict=True):
            outputs, weights = next(found), vertical * across
            if weight is None:
                shape = (window[0], lefts[-1] + window[1])
                weight = np.zeros(shape, np.float32)
                sums = {
                    key: np.zeros((*shape, *leaf.shape[2:]), np.float32)
                    for key, leaf in outputs.items()
                }
            part = (slice(None), slice(left, left + window[1]))
            weight[part] += weights
            for key, leaf in outputs.items():
                sums[key][part] += leaf * _spread(weights, leaf)
        # Rows above the next window are finished; the other rows move up.
        end = tops[row + 1] if row + 1 < len(tops) else height
        ready = end - top
        used = {
            key: total[:ready, :width] / _spread(weight[:ready, :width], total)
            for key, total in sums.items()
        }
        yield done, {key: leaf[: height - done] for key, leaf in used.items()}
        done = end
        for total in (weight, *sums.values()):
            total[: -ready or None] = total[ready:].copy() if ready < window[0] else 0
            total[max(0, window[0] - ready) :] = 0


def starts(size: int, window: int, overlap: float, multiple: int = 1) -> list[int]:
    """Computes where windows begin along one side: evenly, the last one ending with the image.

    The image counts as enlarged to a multiple of `multiple`, and to a window at least.

    Args:
      size: of the side, in pixels.
      window: of the window's side.
      overlap: share of the window that the next one covers again, in [0, 1).
      multiple: windows start at multiples of it.

    Returns:
      The first pixel of each window.
    """
    full = max(window, -(-size // multiple) * multiple)
    stride = max(multiple, int(window * (1.0 - overlap)) // multiple * multiple)
    return [*range(0, full - window, stride), full - window]


def fade(places: list[int], number: int, window: int) -> np.ndarray:
    """Computes the weights of one window along one side; 1 towards a side of the image.

    Args:
      places: first pixel of each window, of `starts`.
      number: which of them.
      window: pixels of the window's side.

    Returns:
      float32 [window].
    """
    weights, inside = np.ones(window, np.float32), np.arange(window) + 0.5
    if number > 0:
        weights *= _ramp(inside, window - (places[number] - places[number - 1]))
    if number < len(places) - 1:
        weights *= _ramp(window - inside, window - (places[number + 1] - places[number]))
    return weights


def whole(strips_of_image: Iterator[tuple[int, dict]]) -> dict[str, np.ndarray]:
    """Joins strips to whole maps, for images that fit in memory.

    Args:
      strips_of_image: of `strips`.

    Returns:
      {name: float32 [H, W, ...]}.
    """
    parts = [rows for _, rows in strips_of_image]
    return {key: np.concatenate([rows[key] for rows in parts]) for key in parts[0]}


def _ramp(depth, zone):
    """0 in the first quarter of a shared zone, 1 from the last one on."""
    return np.clip((depth - zone / 4) / (zone / 2), 0.0, 1.0) if zone else np.ones_like(depth)


def _windows(predict, example, window, tops, lefts, batch_size):
    """Yields the outputs of each window, row by row.

    JAX computes the next batch of windows while the caller uses the last one.
    """
    places = [(top, left) for top in tops for left in lefts]
    outputs, used = None, 0
    for first in range(0, len(places), batch_size):
        full = places[first : first + batch_size]
        full += [full[-1]] * (batch_size - len(full))
        batch = {
            key: np.stack([_cut(array, *place, window) for place in full])
            for key, array in example.items()
        }
        batch["index"] = np.arange(first, first + batch_size, dtype=np.int32)
        last, outputs = outputs, predict(batch)
        if last is not None:
            yield from _each(last, batch_size)
            used += batch_size
    yield from _each(outputs, len(places) - used)


def _each(outputs, count):
    """Yields the first `count` examples of a batch of outputs."""
    outputs = {key: np.asarray(leaf, np.float32) for key, leaf in outputs.items()}
    for number in range(count):
        yield {key: leaf[number] for key, leaf in outputs.items()}


def _cut(array, top, left, window):
    """A window of an array, edge pixels repeated beyond its end."""
    part = array[top : top + window[0], left : left + window[1]]
    missing = [(0, want - have) for want, have in zip(window, part.shape, strict=False)]
    return np.pad(part, (*missing, (0, 0)), mode="edge") if any(m for _, m in missing) else part


def _spread(weights, leaf):
    return weights.reshape(*weights.shape, *[1] * (leaf.ndim - 2))
