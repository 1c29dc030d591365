"""How fast a folder of JPEGs streams, beside what Pillow alone decodes with all cores.

python -m tests.tools.input_speed --config=configs/unet.py:folder --config.data.path=DIR

Two processes, or as many as there are cores, decode the files of the training split by plain
Pillow and do nothing else. A second figure counts the scaling that the data set asks for. They
and the stream are measured in turn, a second each; all figures are medians.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from PIL import Image

from launch.benchmarks import streamed_input
from launch.config import loading, schema
from launch.data import batches, streaming

SECONDS = 1.0


def decode(records: streamed_input.Decoded, index: int) -> None:
    """Decodes the files of an example as RGB, masks as they are; nothing is scaled."""
    for number, path in enumerate(records.files[index]):
        with Image.open(path) as image:
            np.asarray(image if number else image.convert("RGB"))


def decode_and_scale(records: streamed_input.Decoded, index: int) -> None:
    """Decodes the files of an example, and scales them as the examples are scaled."""
    records[index]


def repeat(function, records, first: int, step: int, seconds: float) -> float:
    """Examples per second of one process."""
    done, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        function(records, (first + done * step) % len(records.files))
        done += 1
    return done / took


def measure(config, rounds: int) -> dict[str, float]:
    """Medians of all rates in images/s, and of the ratios within each round."""
    section, count = config.data, streaming.cores()
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        data = batches.open_data(section, section.split)
        inner = streamed_input._innermost(data.split)
        files = streamed_input._files(inner)
        records = streamed_input.Decoded(files, inner.reading, data.split)
        feed = batches.train_batches(data, section, config.seed)

        def pillow(function):
            calls = [(function, records, first, count, SECONDS) for first in range(count)]
            return sum(pool.map(repeat, *zip(*calls, strict=True)))

        def stream():
            return streamed_input.rate(feed, section.batch_size, SECONDS, streaming.ready(section))

        for warm in (stream, stream, stream, lambda: pillow(decode)):
            warm()
        rows = [
            (pillow(decode), stream(), pillow(decode_and_scale), stream()) for _ in range(rounds)
        ]
        feed.close()
    plain, streamed, scaled, again = np.array(rows).T
    return {
        "decode": statistics.median(plain),
        "decode_and_scale": statistics.median(scaled),
        "stream": statistics.median([*streamed, *again]),
        "stream_to_decode": statistics.median(streamed / plain),
        "stream_to_decode_and_scale": statistics.median(again / scaled),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options, overrides = parser.parse_known_args()
    chosen = loading.override(loading.load(options.config), overrides)
    print(json.dumps(measure(schema.with_values(chosen, {"data.cache_mib": 0}), options.rounds)))
