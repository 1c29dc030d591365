"""How fast a split streams, beside what decoding alone allows; figures of `launch.bench`."""

import dataclasses
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from launch.data import batches, streaming, transforms
from launch.data.image_formats import SUFFIXES
from launch.data.sources import Split

ROUNDS = 3  # the two rates are measured in turn, as the speed of a machine changes
NEAR = 0.7  # share of a worker's time that decoding takes, from which it counts as the limit


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Decodes and scales the files of each example by Pillow, and drops the pixels.

    Attributes:
      files: the image files of each example, the image first; or (), to read those of `split`.
      reading: how the files become examples.
      split: the examples.
    """

    files: Sequence[tuple[Path, ...]]
    reading: Any
    split: Split

    def __getitem__(self, index):
        try:
            for number, path in enumerate(self.files[index]):
                with Image.open(path) as image:
                    self._decode(image, number == 0)
        except Exception:  # no file, or of a kind that Pillow does not know
            self.split[index]
        return {"nothing": np.uint8(0)}

    def _decode(self, image, is_photo):
        if size := getattr(self.reading, "size", 0):
            plain = image if image.mode in ("L", "RGB") else image.convert("RGB")
            return transforms.centre_square(plain, size)
        canvas = getattr(self.reading, "canvas", image.size[::-1])
        scale = min(canvas[0] / image.height, canvas[1] / image.width)
        if scale < 1:
            shape = [max(1, round(side * scale)) for side in image.size]
            way = Image.Resampling.BILINEAR if is_photo else Image.Resampling.NEAREST
            image = image.resize(shape, way)
        return np.asarray(image)


def measure(data: batches.Data, section, seed: int, seconds: float, needed: float) -> dict:
    """Rates of the input of a split that streams.

    Args:
      data: the split.
      section: `config.data`.
      seed: decides the order.
      seconds: least duration of each measurement, and of the warm-up before it.
      needed: images per second that the compiled step takes.

    Returns:
      `streamed_input_images_per_second`; `decode_images_per_second`, what the same processes give
      that do no more than decode and scale the files (or read the examples, where these are no
      files); their ratio; and `limit`, of a training: "step", "decode", or "input", which is
      neither.
    """
    records = _innermost(data.split)
    alone = Decoded(_files(records), getattr(records, "reading", None), data.split)
    alone = dataclasses.replace(data, split=dataclasses.replace(data.split, records=alone))
    feeds = [batches.train_batches(one, section, seed) for one in (data, alone)]
    rates = [[], []]
    for least in (seconds, *[seconds / ROUNDS] * ROUNDS):
        for feed, found in zip(feeds, rates, strict=True):
            found.append(rate(feed, section.batch_size, least, streaming.ready(section)))
    for feed in feeds:
        feed.close()
    streamed, decode = (statistics.median(found[1:]) for found in rates)
    limit = "step" if streamed >= needed else "decode" if streamed >= NEAR * decode else "input"
    return {
        "streamed_input_images_per_second": streamed,
        "decode_images_per_second": decode,
        "streamed_input_to_decode": streamed / decode,
        "limit": limit,
    }


def rate(feed: Iterator[dict], batch_size: int, seconds: float, ready: int) -> float:
    """Images per second of a feed, without those that it holds ready.

    Args:
      feed: batches without end.
      batch_size: images of each.
      seconds: least duration.
      ready: how many batches it holds ready.
    """
    for _ in range(ready):
        next(feed)
    done, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds or not done:
        next(feed)
        done += batch_size
    return done / took


def _innermost(split):
    """The records of a split, without what wraps them: preprocessing, tolerance of damage."""
    records = split.records
    while isinstance(inner := getattr(records, "split", None), Split):
        records = inner.records
    return records


def _files(records):
    """The image files of each example; () where the examples are no files."""
    return [
        tuple(path for path in pair.files if path.suffix.lower() in SUFFIXES)
        for pair in getattr(records, "pairs", ())
    ]
