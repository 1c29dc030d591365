"""python -m launch.inspect runs/vae [--config=configs/vae.py]

Shows the contents of a run's folder: its steps and whether they are damaged, the
differences between its versions and config and those of now, and its metrics. Exits with
1 if something is damaged.
"""

import json
from pathlib import Path

from ml_collections import ConfigDict

from launch import checkpoints, cli, storage
from launch.checkpoints import state_files
from launch.config import loading, run_config, schema
from launch.config.errors import CommandExit, UserError
from launch.engine import recovery, trained_runs
from launch.inference import flags
from launch.reporting import metrics_damage, metrics_file
from launch.storage import checksums

# Keys of metrics.jsonl that are not metrics of the model.
NOT_METRICS = ("step", "split", "images_per_second", "data_wait")


def main(argv: list[str]) -> None:
    """Parses the command line and inspects.

    Args:
      argv: the arguments after the command's name.

    Raises:
      UserError: a mistake in the arguments, or the folder is not a run.
      CommandExit: a step is damaged.
    """
    arguments = cli.parser("inspect", "Shows the contents of a run's folder.")
    arguments.add_argument("workdir", type=cli.workdir, help="a run")
    arguments.add_argument(
        "--config", default="", help="FILE.py or FILE.py:VARIANT to compare with"
    )
    flags.add_step(arguments.add_argument)
    options, overrides = cli.parse(arguments, argv)
    workdir = options.workdir
    if overrides and not options.config:
        raise UserError(f"{' '.join(overrides)}: give --config too, which the run is compared with")
    record, _ = run_config.read(workdir)
    storage.check_regular(workdir)
    other = loading.override(loading.load(options.config), overrides) if options.config else None
    damaged, steps = describe_steps(workdir)
    steps.append(describe_choice(workdir, options.step))
    print("\n".join([*about(workdir), *steps]))
    print("\n".join([*differences(workdir, record, other), *describe_metrics(workdir)]))
    if damage := find_metrics_damage(workdir):
        print(f"  {damage}")
        damaged.append("metrics.jsonl")
    if damaged:
        raise CommandExit(f"{workdir}: damaged: {', '.join(damaged)}")


def about(workdir: Path) -> list[str]:
    """Describes the task, the data and the progress of a run.

    Args:
      workdir: the run.

    Returns:
      One line.
    """
    config = run_config.read_config(workdir)
    steps = checkpoints.steps(workdir / "checkpoints")
    saved = f"{steps[-1]:,}" if steps else "none"
    return [
        f"{workdir}: {config.task.get('name')} on {config.data.name}; {saved} of "
        f"{config.train.steps:,} steps saved"
    ]


def describe_steps(workdir: Path) -> tuple[list[str], list[str]]:
    """Checks every saved step for damage.

    Args:
      workdir: the run.

    Returns:
      The damaged steps, and a line for each step and each other file that a run leaves.
    """
    folder, damaged, lines = workdir / "checkpoints", [], []
    for step in checkpoints.steps(folder):
        damage = state_files.find_damage(folder / str(step))
        size = checksums.size(folder / str(step))
        metrics = {} if damage else checkpoints.metrics(folder, step) or {}
        if step not in checkpoints.steps(folder):
            lines.append(f"  step {step:>9,}  removed just now by the run, which trains")
            continue
        values = ", ".join(
            f"{name} {value:.4g}"
            for name, value in metrics.items()
            if "/" not in name and value is not None
        )
        line = f"  step {step:>9,}  {size / 2**20:8.1f} MiB  {damage or 'whole'}  {values}"
        lines.append(line.rstrip())
        damaged += [f"step {step}"] if damage else []
    for path in checkpoints.unfinished(folder):
        lines.append(f"  {path.name}: an interrupted save; the next start removes it")
    for path in sorted((workdir / "damaged").glob("*")):
        lines.append(f"  damaged/{path.name}: set aside when the run continued without it")
    for path in sorted((workdir / recovery.FOLDER).glob("*.npz")):
        lines.append(f"  {recovery.FOLDER}/{path.name}: a batch whose loss was not finite")
    return damaged, lines or ["  nothing is saved yet"]


def describe_choice(workdir: Path, step: int | str | None) -> str:
    """Says which step the other commands take, and why.

    Args:
      workdir: the run.
      step: the value of --step; None where it is not given.

    Returns:
      A line.

    Raises:
      UserError: there is no such step.
    """
    config, flag = run_config.read_config(workdir), "" if step is None else f" with --step={step}"
    try:
        best, rule = config.checkpoint.best, config.collapse.rule
        taken, reason = trained_runs.choose_step(workdir / "checkpoints", step, best, rule)
    except UserError as error:
        if step is not None:
            raise
        return f"commands take no step: {error}"
    return f"commands take step {taken:,}{flag}: {reason}"


def differences(workdir: Path, record: dict, other: ConfigDict | None = None) -> list[str]:
    """Lists the differences between a run's versions and config and those of now.

    Args:
      workdir: the run.
      record: the content of its config.json.
      other: a config to compare with; None for none.

    Returns:
      Lines.
    """
    now = json.loads(run_config.to_json(run_config.read_config(workdir)))["versions"]
    lines = [
        f"  {package}: {version} then, {now.get(package)} now"
        for package, version in record.get("versions", {}).items()
        if version != now.get(package)
    ]
    lines = ["versions that differ:", *lines] if lines else ["versions: as installed now"]
    if other is None:
        return lines
    before, after = (
        schema.flatten(json.loads(json.dumps(c))) for c in (record["config"], other.to_dict())
    )
    changed = [
        f"  {key}: {before.get(key)!r} here, {after.get(key)!r} there"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    return lines + (["config keys that differ:", *changed] if changed else ["config: the same"])


def find_metrics_damage(workdir: Path) -> str | None:
    """Compares metrics.jsonl with the checksum that the newest whole step keeps of it.

    Args:
      workdir: the run.

    Returns:
      The damage in a few words; None if there is none, or no step is whole.
    """
    folder = workdir / "checkpoints"
    for step in reversed(checkpoints.steps(folder)):
        if not state_files.find_damage(folder / str(step)):
            written = checkpoints.record(folder, step).get("metrics")
            return metrics_damage.find(workdir / "metrics.jsonl", written)
    return None


def describe_metrics(workdir: Path) -> list[str]:
    """Lists the first and the last value of each metric, and where its curve is.

    Args:
      workdir: the run.

    Returns:
      Lines.
    """
    metrics = metrics_file.read(workdir / "metrics.jsonl")
    if not metrics.lines and not metrics.broken:
        return ["no metrics yet"]
    series = {}
    for line in metrics.lines:
        for name, value in line.items():
            if name not in NOT_METRICS and "/" not in name and isinstance(value, int | float):
                series.setdefault(f"{line['split']} {name}", []).append(float(value))
    width = max(map(len, series), default=0)
    lines = ["metrics:"]
    for name, values in series.items():
        lines.append(f"  {name:<{width}}  {values[0]:.4g} -> {values[-1]:.4g}")
    if metrics.broken:
        count = f"{metrics.broken} line{'' if metrics.broken == 1 else 's'} of metrics.jsonl"
        lines.append(f"  {count} cannot be read")
    curves = workdir / "figures" / "curves.png"
    return [*lines, f"curves: {curves}"] if curves.is_file() else lines


if __name__ == "__main__":
    cli.run(main)
