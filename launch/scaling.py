"""python -m launch.scaling --config=configs/unet.py --devices=8,64,256

What a training step sends over the network, read from the program that XLA compiles for
simulated devices: data parallel, and with parameters sharded (fsdp) over all of them. With
the bandwidth between devices and their speed this tells from which batch on computing
takes longer than sending.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax

from launch import cli
from launch.config import loading
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import experiments, sharding

logger = logging.getLogger("segen")

# Bytes that one device sends in a ring of n, as a multiple of the operation's size: the
# operand of a reduction, the result of a gathering. (Thakur et al. 2005, section 4.)
RING = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1.0,
}
SIZES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s16": 2,
    "u16": 2,
    "f32": 4,
    "s32": 4,
    "u32": 4,
    "f64": 8,
    "s64": 8,
    "u64": 8,
}


class Collective(NamedTuple):
    """One collective operation of a compiled program.

    Attributes:
      kind: a key of `RING`.
      size: bytes of its result, or of its operand for a reduce-scatter.
      group: how many devices take part together.
    """

    kind: str
    size: int
    group: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends, in a ring."""
        return RING[self.kind](self.group) * self.size


def main(argv: list[str]) -> None:
    """Parses the command line and compiles."""
    arguments = cli.parser("scaling", "What a training step sends over the network.")
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
        help="that a device computes, as measured and not as promised (default: 200)",
    )
    options, overrides = cli.parse(arguments, argv)
    config = loading.override(loading.load(options.config), overrides)
    counts = _counts(options.devices)
    jax.config.update("jax_num_cpu_devices", max(counts))
    jax.config.update("jax_platforms", "cpu")
    sharding.set_up_jax()
    rows = list(measure(config, counts, options.bandwidth * 1e9, options.flops * 1e12))
    logger.info(table(rows))
    print(json.dumps(rows))


def measure(config, counts: list[int], bandwidth: float, speed: float) -> Iterator[dict]:
    """Rows for data parallel and fsdp on each number of devices.

    Args:
      config: a complete, checked config; its batch is what each device gets.
      counts: numbers of devices.
      bandwidth: bytes/s that a device sends.
      speed: FLOP/s that a device computes.
    """
    data = batches.open_data(config.data, config.data.split, "config.data")
    config = experiments.with_classes(config, data.split)
    local = config.data.batch_size
    for count in counts:
        for layout, fsdp in (("data", 1), ("fsdp", count)):
            variant = config.copy_and_resolve_references()
            variant.mesh.update(data=count // fsdp, fsdp=fsdp)
            variant.data.update(batch_size=count * local, resident=False)
            variant.train.update(steps_per_dispatch=1, accumulate=1)
            variant.parallel = "jit"
            experiment = experiments.build(variant, data)
            spec = batches.batch_spec(data.example, count * local)
            compiled = experiment.compiled.train.lower(
                experiment.compiled.template, spec, 0
            ).compile()
            found = collectives(compiled.as_text(), count)
            sent = sum(item.sent for item in found)
            flop = float(compiled.cost_analysis()["flops"])
            memory = compiled.memory_analysis()
            yield {
                "devices": count,
                "layout": layout,
                "sent_mb": sent / 1e6,
                "operations": dict(Counter(item.kind for item in found)),
                "state_mb": memory.argument_size_in_bytes / 1e6,
                "temporaries_mb": memory.temp_size_in_bytes / 1e6,
                "gflop_per_image": flop / local / 1e9,
                "images_per_device_to_hide": sent / bandwidth / (flop / local / speed),
            }


def collectives(text: str, devices: int) -> list[Collective]:
    """The collective operations of a compiled program's HLO text.

    Operations inside loops count once: their number of turns is not in the text.

    Args:
      text: of `compiled.as_text()`.
      devices: of the program, for operations that name no groups.
    """
    kinds = "|".join(RING)
    pattern = re.compile(rf"= (\(.*?\)|\S+) ({kinds})(?:-start)?\((.*)$", re.MULTILINE)
    found = []
    for shape, kind, rest in pattern.findall(text):
        size = sum(map(_bytes, re.findall(r"(\w+)\[([\d,]*)\]", shape)))
        group = _group(rest, devices)
        size *= group if kind == "reduce-scatter" else 1
        if group > 1:
            found.append(Collective(kind, size, group))
    return found


def _bytes(shape):
    """Bytes of ("f32", "2,3")."""
    count = 1
    for side in filter(None, shape[1].split(",")):
        count *= int(side)
    return count * SIZES.get(shape[0], 4)


def _group(rest, devices):
    """Devices in the groups of an operation: {{0,1},{2,3}}, or [groups,size]<=[...]."""
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", rest)
    if listed:
        return listed[1].count(",") + 1
    tiled = re.search(r"replica_groups=\[(\d+),(\d+)\]", rest)
    return int(tiled[2]) if tiled else devices


def table(rows: list[dict]) -> str:
    """Rows as lines for the terminal."""
    head = (
        "devices",
        "layout",
        "sent/step",
        "state/device",
        "temporaries",
        "GFLOP/image",
        "hidden from",
    )
    lines = [head]
    for row in rows:
        images = f"{row['images_per_device_to_hide']:,.1f} images/device"
        lines.append(
            (
                f"{row['devices']}",
                row["layout"],
                f"{row['sent_mb']:,.1f} MB",
                f"{row['state_mb']:,.1f} MB",
                f"{row['temporaries_mb']:,.1f} MB",
                f"{row['gflop_per_image']:,.2f}",
                images,
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    pad = partial("{:>{}}".format)
    return "\n".join("  ".join(map(pad, line, widths)) for line in lines)


def _counts(value):
    try:
        counts = [int(part) for part in value.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 2:
        raise UserError(f"--devices={value}: expected numbers from 2 on, as in 8,64,256")
    return counts


if __name__ == "__main__":
    cli.run(main)
