"""python -m launch.benchmarks.cpu

Convolutions on this machine's CPU by the rules of `launch.cpu` and by JAX's own, for small and
large layers: milliseconds of each use, and the FLOP from which the rules win for every layer. By
such a table LEAST_FLOP and LEAST_CHANNELS of `launch.cpu.lowerings` were chosen; measure again
with a new jaxlib or on another machine.
"""

import json
import logging
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
from jax import lax

from launch import cli
from launch.config.errors import UserError
from launch.cpu import lowerings, onednn
from launch.engine import experiments, sharding

logger = logging.getLogger("segen")

# (batch, side, channels in, channels out) of 3 x 3 convolutions, by FLOP.
LAYERS = (
    *((4, 4, 4, 4), (4, 8, 8, 8), (16, 8, 8, 16), (32, 8, 16, 32), (32, 14, 16, 32)),
    *((16, 28, 32, 32), (4, 128, 3, 32), (4, 128, 32, 32), (4, 64, 128, 64), (4, 16, 256, 256)),
)
USES = ("forward", "by the image", "by the kernel")


def main(argv: list[str]) -> None:
    """Parses the command line and measures."""
    arguments = cli.parser("benchmarks.cpu", "Convolutions by our rules and by JAX's own.")
    arguments.add_argument("--seconds", type=float, default=0.2, help="per measurement")
    options = cli.parse_alone(arguments, argv)
    if options.seconds <= 0:
        raise UserError(f"--seconds={options.seconds}: must be above 0")
    sharding.set_up_jax()
    if jax.default_backend() != "cpu":
        raise UserError("this measures CPUs; start it with JAX_PLATFORMS=cpu")
    if not onednn.available():
        raise UserError("jaxlib has no oneDNN here, so the rules leave convolutions to XLA")
    rows = [compare(layer, options.seconds) for layer in LAYERS]
    for row in rows:
        times = ", ".join(f"{use} {row[use][0]:.3f} / {row[use][1]:.3f}" for use in USES)
        logger.info(f"{row['layer']}: {row['flop']:.1e} FLOP; ms by the rules / by JAX: {times}")
    print(json.dumps({"layers": rows} | experiments.for_json({"least_flop": least_flop(rows)})))


def compare(layer: tuple[int, int, int, int], seconds: float) -> dict:
    """Times of one layer.

    Args:
      layer: as in `LAYERS`.
      seconds: least duration of each measurement.

    Returns:
      {"layer": ..., "flop": of one use, use: [ms by the rules, ms by JAX's own]}.
    """
    batch, side, channels, features = layer
    draw = np.random.default_rng(0).standard_normal
    x = draw((batch, side, side, channels)).astype(np.float32)
    kernel = draw((3, 3, channels, features)).astype(np.float32)
    slope = draw((batch, side, side, features)).astype(np.float32)
    row = {"layer": list(layer), "flop": 18 * batch * side**2 * channels * features}
    least, fewest = lowerings.LEAST_FLOP, lowerings.LEAST_CHANNELS
    try:
        lowerings.LEAST_FLOP = lowerings.LEAST_CHANNELS = 0
        for use, function in zip(USES, uses(), strict=True):
            lowerings.install()
            ours = compiled(function, x, kernel, slope)
            lowerings.remove()
            own = compiled(function, x, kernel, slope)
            pairs = [(seconds_of(ours, seconds / 3), seconds_of(own, seconds / 3)) for _ in "abc"]
            row[use] = [1e3 * statistics.median(times) for times in zip(*pairs, strict=True)]
    finally:
        lowerings.LEAST_FLOP, lowerings.LEAST_CHANNELS = least, fewest
        lowerings.install()
    return row


def uses() -> tuple[Callable, Callable, Callable]:
    """Functions (x, kernel, slope) -> array, one for each of `USES`."""
    convolve = lambda x, kernel: lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return (
        lambda x, kernel, slope: convolve(x, kernel),
        lambda x, kernel, slope: jax.vjp(lambda x: convolve(x, kernel), x)[1](slope)[0],
        lambda x, kernel, slope: jax.vjp(lambda k: convolve(x, k), kernel)[1](slope)[0],
    )


def compiled(function: Callable, *arrays: np.ndarray) -> Callable:
    """A function without arguments that runs a program on arrays that are on the device."""
    arrays = jax.device_put(arrays)
    program = jax.jit(lambda *arrays: function(*arrays)).lower(*arrays).compile()
    return lambda: jax.block_until_ready(program(*arrays))


def seconds_of(call: Callable, seconds: float) -> float:
    """The median duration of a call, over calls of `seconds` in all."""
    call()
    times, began = [], time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def least_flop(rows: list[dict]) -> float:
    """The least FLOP from which on the rules are faster, all uses of a layer together.

    Args:
      rows: what `compare` returns.

    Returns:
      The FLOP of a use; infinity where the largest layer is faster by JAX's own rules.
    """
    least = float("inf")
    for row in sorted(rows, key=lambda row: -row["flop"]):
        ours, own = (sum(row[use][n] for use in USES) for n in range(2))
        if ours > own:
            break
        least = float(row["flop"])
    return least


if __name__ == "__main__":
    cli.run(main)
