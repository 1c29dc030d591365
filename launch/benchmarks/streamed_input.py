"""How fast a split streams, beside what decoding alone allows; figures of `launch.bench`."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from launch.data import batches
from launch.data.image_formats import SUFFIXES
from launch.data.sources import Split

NEAR = 0.9  # share of the decode's rate from which the decode counts as the limit


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Decodes the files of each example and drops the pixels.

    Attributes:
      files: the image files of each example; or (), to read the examples of `split`.
      split: the examples.
    """

    files: Sequence[tuple[Path, ...]]
    split: Split

    def __getitem__(self, index):
        try:
            for path in self.files[index]:
                with Image.open(path) as image:
                    np.asarray(image)
        except Exception:  # no file, or of a kind that Pillow does not know
            self.split[index]
        return {"nothing": np.uint8(0)}


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
      that only decode the files by Pillow (or read the examples, where these are no files);
      their ratio; and `limit`, of a training: "step", "decode", or "input", which is neither.
    """
    alone = dataclasses.replace(data.split, records=Decoded(_files(data.split), data.split))
    rates = [
        rate(batches.train_batches(one, section, seed), section.batch_size, seconds)
        for one in (data, dataclasses.replace(data, split=alone))
    ]
    streamed, decode = rates
    limit = "step" if streamed >= needed else "decode" if streamed >= NEAR * decode else "input"
    return {
        "streamed_input_images_per_second": streamed,
        "decode_images_per_second": decode,
        "streamed_input_to_decode": streamed / decode,
        "limit": limit,
    }


def rate(feed: Iterator[dict], batch_size: int, seconds: float) -> float:
    """Images per second of a feed, once its processes run.

    Args:
      feed: batches without end; it is closed.
      batch_size: images of each.
      seconds: least duration, of the warm-up too.
    """
    for _ in ("to start the processes", "to measure"):
        done, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < seconds or not done:
            next(feed)
            done += batch_size
    feed.close()
    return done / took


def _files(split):
    """The image files of each example; () where the examples are no files."""
    records = split.records
    while isinstance(inner := getattr(records, "split", None), Split):  # preprocessed, tolerant
        records = inner.records
    return [
        tuple(path for path in pair.files if path.suffix.lower() in SUFFIXES)
        for pair in getattr(records, "pairs", ())
    ]
