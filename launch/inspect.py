"""python -m launch.inspect runs/vae [--config=configs/vae.py]

What a run's folder holds: its steps and whether they are whole, its config and how that
differs from what is installed and configured now, and its metrics with their curves.
Exits with 1 if something is damaged.
"""

import json
import math
from pathlib import Path

from ml_collections import ConfigDict

from launch import checkpoints, cli
from launch.config import loading, run_config, schema
from launch.config.errors import CommandExit
from launch.engine import nonfinite
from launch.storage import checksums

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 32  # columns of a curve
LEFT_OUT = ("step", "split", "images_per_second", "data_wait")


def main(argv: list[str]) -> None:
    """Parses the command line and inspects."""
    arguments = cli.parser("inspect", "What a run's folder holds; 1 if something is damaged.")
    arguments.add_argument("workdir", type=cli.workdir, help="a run")
    arguments.add_argument(
        "--config", default="", help="FILE.py or FILE.py:VARIANT to compare with"
    )
    options, overrides = cli.parse(arguments, argv)
    record, _ = run_config.read(options.workdir)
    other = loading.override(loading.load(options.config), overrides) if options.config else None
    damaged, steps = saved(options.workdir)
    print(
        "\n".join(
            [
                *about(options.workdir, record),
                *steps,
                *differences(options.workdir, record, other),
                *curves(options.workdir / "metrics.jsonl"),
            ]
        )
    )
    if damaged:
        raise CommandExit(f"{options.workdir}: damaged: {', '.join(damaged)}")


def about(workdir: Path, record: dict) -> list[str]:
    """What runs there, and how far it is."""
    config, data = record["config"], record["data"]
    steps = checkpoints.steps(workdir / "checkpoints")
    done = f"{steps[-1]:,}" if steps else "none"
    source = data.get("title") or config["data"]["name"]
    return [
        f"{workdir}: {config['task']['name']} on {source}; {done} of "
        f"{config['train']['steps']:,} steps saved"
    ]


def saved(workdir: Path) -> tuple[list[str], list[str]]:
    """What is damaged, and a line for each saved step, whole or not."""
    folder, damaged, lines = workdir / "checkpoints", [], []
    for step in checkpoints.steps(folder):
        fault = checksums.find_damage(folder / str(step))
        size = checksums.size(folder / str(step))
        metrics = {} if fault else checkpoints.metrics(folder, step) or {}
        told = ", ".join(
            f"{name} {value:.4g}"
            for name, value in metrics.items()
            if "/" not in name and value is not None
        )
        lines.append(
            f"  step {step:>9,}  {size / 2**20:8.1f} MiB  {fault or 'whole'}"
            + (f"  {told}" if told else "")
        )
        damaged += [f"step {step}"] if fault else []
    for path in checkpoints.unfinished(folder):
        lines.append(f"  {path.name}: a save that was cut off; the next start removes it")
    for path in sorted((workdir / "damaged").glob("*")):
        lines.append(f"  damaged/{path.name}: set aside when the run went on without it")
    for path in sorted((workdir / nonfinite.FOLDER).glob("*.npz")):
        lines.append(f"  {nonfinite.FOLDER}/{path.name}: a batch whose loss was not finite")
    return damaged, lines or ["  nothing is saved yet"]


def differences(workdir: Path, record: dict, other: ConfigDict | None = None) -> list[str]:
    """How the run's versions and config differ from those of now."""
    now = json.loads(run_config.to_json(run_config.read_config(workdir)))["versions"]
    lines = [
        f"  {package}: {version} then, {now.get(package)} now"
        for package, version in record.get("versions", {}).items()
        if version != now.get(package)
    ]
    lines = ["versions that differ:", *lines] if lines else ["versions: as installed now"]
    if other is not None:
        before, after = (
            schema.flatten(json.loads(json.dumps(c))) for c in (record["config"], other.to_dict())
        )
        changed = [
            f"  {key}: {before.get(key)!r} here, {after.get(key)!r} there"
            for key in sorted(before.keys() | after.keys())
            if before.get(key) != after.get(key)
        ]
        lines += ["config keys that differ:", *changed] if changed else ["config: as given"]
    return lines


def curves(path: Path) -> list[str]:
    """A line for each metric: how it went, its first and its last value."""
    if not path.is_file():
        return ["no metrics yet"]
    series, broken = {}, 0
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            broken += 1
            continue
        for name, value in line.items():
            if name not in LEFT_OUT and "/" not in name and isinstance(value, int | float):
                series.setdefault((line["split"], name), []).append(float(value))
    wide = max((len(" ".join(key)) for key in series), default=0)
    lines = [
        f"  {' '.join(key):<{wide}}  {sparkline(values):<{WIDTH}}  "
        f"{values[0]:.4g} -> {values[-1]:.4g}"
        for key, values in series.items()
    ]
    if broken:
        lines.append(f"  {broken} lines cannot be read; the next start drops what it does not know")
    return ["metrics:", *lines]


def sparkline(values: list[float]) -> str:
    """Up to `WIDTH` values as bars between the least and the largest; "x" for no number."""
    chosen = [
        values[round(i * (len(values) - 1) / max(min(WIDTH, len(values)) - 1, 1))]
        for i in range(min(WIDTH, len(values)))
    ]
    finite = [value for value in chosen if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    span = (high - low) or 1.0
    level = lambda value: BARS[min(int((value - low) / span * len(BARS)), len(BARS) - 1)]
    return "".join(level(value) if math.isfinite(value) else "x" for value in chosen)


if __name__ == "__main__":
    cli.run(main)
