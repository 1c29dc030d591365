"""python -m launch.scaling --config=configs/unet.py --devices=8,64,256

Reports how many bytes each device sends in a training step, read from the program that
XLA compiles for simulated devices: data parallel, and with parameters sharded (fsdp) over
all devices. With the bandwidth between devices and their speed, this gives the batch above
which computing takes longer than sending.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from launch import cli
from launch.config import loading, planned
from launch.config.errors import UserError
from launch.cpu import lowerings
from launch.data import batches
from launch.engine import experiments, flops, sharding

logger = logging.getLogger("segen")

# Bytes that one device of a ring of n sends, as a multiple of the operation's size: of the
# operand of a reduction, of the result of a gathering. (Thakur et al. 2005, section 4.)
RING = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1.0,
}


class Collective(NamedTuple):
    """One collective operation of a compiled program.

    Attributes:
      kind: a key of `RING`.
      size: bytes of its result, or of its operand for a reduce-scatter.
      group: how many devices take part.
    """

    kind: str
    size: int
    group: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends, in a ring."""
        return RING[self.kind](self.group) * self.size


def main(argv: list[str]) -> None:
    """Compiles a training step for simulated devices and prints what it sends.

    Args:
      argv: arguments of the command line, without the command's own name.

    Raises:
      UserError: the config cannot work, or --devices is no list of numbers.
    """
    options, overrides = cli.parse(_arguments(), argv)
    config = loading.override(loading.load(options.config), overrides)
    counts = parse_counts(options.devices)
    jax.config.update("jax_num_cpu_devices", max(counts))
    jax.config.update("jax_platforms", "cpu")
    sharding.set_up_jax()
    lowerings.remove()  # the programs stand for those of accelerators
    rows = list(measure(config, counts, options.bandwidth * 1e9, options.flops * 1e12))
    logger.info(table(rows))
    print(json.dumps(rows))


def _arguments():
    arguments = cli.parser("scaling", "How many bytes a training step sends over the network.")
    add = arguments.add_argument
    add("--config", required=True, help="FILE.py or FILE.py:VARIANT")
    add("--devices", default="8,64,256", help="how many to simulate (default: 8,64,256)")
    add(
        "--bandwidth",
        type=float,
        default=50.0,
        metavar="GB/s",
        help="that each device can send (default: 50, InfiniBand of 400 Gbit/s)",
    )
    add(
        "--flops",
        type=float,
        default=200.0,
        metavar="TFLOP/s",
        help="that a device computes: as measured, not the data sheet's (default: 200)",
    )
    return arguments


def parse_counts(value: str) -> list[int]:
    """Reads numbers of devices, "8,64,256".

    Raises:
      UserError: it is no such list, or a number is below 2.
    """
    try:
        counts = [int(part) for part in value.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 2:
        raise UserError(f"--devices={value}: expected numbers from 2 on, as in 8,64,256")
    return counts


def measure(
    config: ConfigDict, counts: list[int], bandwidth: float, speed: float
) -> Iterator[dict]:
    """Compiles a training step for each number of devices, data parallel and fsdp.

    Args:
      config: a complete, checked config; its batch is that of one device.
      counts: numbers of devices.
      bandwidth: bytes/s that a device sends.
      speed: FLOP/s that a device computes.

    Yields:
      A row of numbers for each compiled program.
    """
    config = planned.filled(config, planned.values(config))
    data = batches.open_data(config.data, config.data.split, "config.data")
    config = experiments.with_classes(config, data.split)
    local = config.data.batch_size
    for count in counts:
        for layout, fsdp in (("data", 1), ("fsdp", count)):
            steps, arguments = _step(config, data, count, fsdp)
            compiled = steps.lower_train(*arguments).compile()
            operations = collectives(compiled.as_text(), count)
            sent = sum(operation.sent for operation in operations)
            flop = flops.count(steps.train.function, *arguments) / count
            memory = compiled.memory_analysis()
            yield {
                "devices": count,
                "layout": layout,
                "sent_mb": sent / 1e6,
                "operations": dict(Counter(operation.kind for operation in operations)),
                "state_mb": memory.argument_size_in_bytes / 1e6,
                "temporaries_mb": memory.temp_size_in_bytes / 1e6,
                "gflop_per_image": flop / local / 1e9,
                "images_per_device_to_hide": sent / bandwidth / (flop / local / speed),
            }


def _step(config, data, count, fsdp):
    """The steps on `count` devices, parameters over `fsdp` of them, and arguments of a training."""
    rows = count * config.data.batch_size
    variant = config.copy_and_resolve_references()
    variant.mesh.update(data=count // fsdp, fsdp=fsdp)
    variant.data.update(batch_size=rows, resident=False)
    variant.train.update(steps_per_dispatch=1, accumulate=1)
    variant.parallel = "jit"
    steps = experiments.build(variant, data).compiled
    return steps, (steps.template, batches.batch_spec(data.example, rows), 0)


def collectives(text: str, devices: int) -> list[Collective]:
    """The collective operations of a compiled program.

    An operation inside a loop counts once: the text does not say how often the loop runs.

    Args:
      text: HLO, from `compiled.as_text()`.
      devices: of the program, for operations that name no groups.
    """
    kinds = "|".join(RING)
    pattern = re.compile(rf"= (\(.*?\)|\S+) ({kinds})(?:-start)?\((.*)$", re.MULTILINE)
    operations = []
    for shape, kind, attributes in pattern.findall(text):
        size = sum(_bytes(*array) for array in re.findall(r"(\w+)\[([\d,]*)\]", shape))
        group = _group(attributes, devices)
        size *= group if kind == "reduce-scatter" else 1
        if group > 1:
            operations.append(Collective(kind, size, group))
    return operations


def _bytes(dtype: str, sides: str) -> int:
    """Bytes of an array of HLO, such as ("bf16", "2,3"); the dtype's name holds its bits."""
    bits = re.search(r"\d+", "8" if dtype == "pred" else dtype)
    count = int(bits[0]) if bits else 0  # a token has no bits
    for side in filter(None, sides.split(",")):
        count *= int(side)
    return count // 8


def _group(attributes: str, devices: int) -> int:
    """Devices in each group of an operation: {{0,1},{2,3}}, or [groups,size]<=[...]."""
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", attributes)
    if listed:
        return listed[1].count(",") + 1
    tiled = re.search(r"replica_groups=\[(\d+),(\d+)\]", attributes)
    return int(tiled[2]) if tiled else devices


def table(rows: list[dict]) -> str:
    """Rows of `measure` as lines for the terminal."""
    lines = [
        (
            "devices",
            "layout",
            "sent/step",
            "state/device",
            "temporaries",
            "GFLOP/image",
            "hidden from",
        )
    ]
    for row in rows:
        lines.append(
            (
                f"{row['devices']}",
                row["layout"],
                f"{row['sent_mb']:,.1f} MB",
                f"{row['state_mb']:,.1f} MB",
                f"{row['temporaries_mb']:,.1f} MB",
                f"{row['gflop_per_image']:,.2f}",
                f"{row['images_per_device_to_hide']:,.1f} images/device",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    pad = partial("{:>{}}".format)
    return "\n".join("  ".join(map(pad, line, widths)) for line in lines)


if __name__ == "__main__":
    cli.run(main)
