"""python -m launch.benchmarks.accelerator --minutes=30 --data_dir=DIR --camvid=DIR --bsds=DIR \
    --cifar10=DIR --inception=FILE

Measures on a GPU or TPU what docs/results.md marks as not measured, in pieces: first whether it
computes what a CPU computes, then throughput, then the runs of paper length. It ends after
--minutes and at most a minute more; the same command goes on where it stopped. Prints the rows
for docs/results.md to stdout. One device is used.
"""

import argparse
import json
import logging
import math
import time
from importlib import metadata
from pathlib import Path

from launch import cli
from launch.benchmarks.measuring import children, plan, rows, work
from launch.benchmarks.measuring.children import Clock
from launch.benchmarks.measuring.plan import DATA, FILES, Piece
from launch.benchmarks.measuring.record import Record
from launch.benchmarks.measuring.work import Failed, Late, Setting
from launch.config.errors import CommandExit, UserError
from launch.storage import is_bucket

logger = logging.getLogger("segen")

LOOK_SECONDS = 180.0  # for JAX to find its devices
# What a child process prints of them; a device of another kind does not count.
LOOK = (
    "import jax, json; d = jax.devices(); "
    "print(json.dumps({'platform': d[0].platform, 'kind': d[0].device_kind}))"
)


def main(argv: list[str]) -> None:
    """Parses the command line, does what fits into the time, and prints the rows.

    Args:
      argv: the arguments after the command's name.

    Raises:
      UserError: a mistake in the arguments, or there is no accelerator.
      CommandExit: a check failed, or a command of a piece did.
    """
    options = _parse(argv)
    clock = Clock(time.monotonic() + 60.0 * options.minutes)
    chosen = plan.choose(options.pieces, options.dry_run)
    setting = prepare(options)
    versions = {name: metadata.version(name) for name in ("segen", "jax")}
    record = Record(setting.folder, setting.card, versions)
    again = chosen if options.again else ()
    left, failures = perform(chosen, setting, record, clock, again)
    results = {piece: result for piece in chosen if (result := record.get(piece)) is not None}
    print(rows.tables(results, setting.card, versions, setting.dry))
    for line in remaining(left, setting):
        logger.info(line)
    wrong = [piece.name for piece, result in results.items() if not result.get("passed", True)]
    failures += [f"{name}: the check failed, see its row" for name in wrong]
    if failures:
        raise CommandExit("\n".join(failures))


def _parse(argv: list[str]) -> argparse.Namespace:
    arguments = cli.parser("benchmarks.accelerator", "Measures what only an accelerator can show.")
    add = arguments.add_argument
    add("--minutes", type=float, default=30.0, help="time for this call (default: 30)")
    add(
        "--workdir",
        type=cli.workdir,
        default="runs/accelerator",
        help="for results and runs, which later calls go on with (default: runs/accelerator)",
    )
    add("--pieces", default="", help=f"{', '.join(plan.GROUPS)}, or names (default: all)")
    add("--again", action="store_true", help="measure again what is done; runs are never repeated")
    add("--dry_run", action="store_true", help="every piece on the CPU, tiny, to try the machinery")
    for name, (flag, place) in DATA.items():
        add(flag, type=cli.workdir, dest=name, metavar="DIR", help=f"{name}: {place}")
    for name, (flag, content) in FILES.items():
        add(flag, type=Path, dest=name, metavar="FILE", help=content)
    options = cli.parse_alone(arguments, argv)
    if not (options.minutes > 0 and math.isfinite(options.minutes)):
        raise UserError(f"--minutes must be a number above 0, got {options.minutes:g}")
    if is_bucket(options.workdir):
        raise UserError(f"--workdir={options.workdir}: give a folder of this machine")
    for name, (flag, _) in DATA.items():
        folder = getattr(options, name)
        if folder and not folder.is_dir():
            raise UserError(f"{flag}={folder}: no such directory")
    for name, (flag, _) in FILES.items():
        file = getattr(options, name)
        if file and not file.is_file():
            raise UserError(f"{flag}={file}: no such file")
    return options


def prepare(options: argparse.Namespace) -> Setting:
    """Looks for the accelerator, in a process of its own, so that this one takes no memory of it.

    Args:
      options: the parsed arguments of the command.

    Raises:
      UserError: there is none, and the run is not dry.
    """
    dry, environment = options.dry_run, {}
    if dry:
        environment = {"JAX_PLATFORMS": "cpu"}
        found = {"platform": "cpu", "kind": "cpu"}
    else:
        found = look_for_device(options.workdir / "logs" / "devices.log")
    if found["platform"] == "cpu" and not dry:
        raise UserError(
            "JAX finds no GPU or TPU on this machine, so there is nothing to measure. Install "
            "segen[cuda] or segen[tpu] on a machine that has one; --dry_run tries everything on "
            "this CPU, at tiny sizes"
        )
    data = {name: path for name in (*DATA, *FILES) if (path := getattr(options, name))}
    folder = options.workdir / "dry_run" if dry else options.workdir
    card = f"1 x {found['kind']}"
    return Setting(folder, card, found["platform"], data, dry, environment)


def look_for_device(log: Path) -> dict[str, str]:
    """The platform and the kind of the first device of JAX.

    Args:
      log: a file for what JAX writes.

    Raises:
      UserError: JAX cannot open its devices.
    """
    clock = Clock(time.monotonic() + LOOK_SECONDS)
    ended = children.run(["-c", LOOK], clock, log)
    if ended.code:
        raise UserError(f"JAX cannot open its devices: {ended.last}")
    return json.loads(ended.output.strip().splitlines()[-1])


def perform(
    chosen: tuple[Piece, ...],  # in their order
    setting: Setting,  # what all pieces share
    record: Record,  # the results so far, which grow
    clock: Clock,  # the time until which this call has to end
    again: tuple[Piece, ...] = (),  # pieces to do although they are done
) -> tuple[dict[Piece, str], list[str]]:
    """Does the pieces that are not done, can be done, and fit into the time.

    Returns:
      {piece that is not done: why}, and the messages of commands that failed.
    """
    left, failures = {}, []
    for piece in chosen:
        if record.get(piece) is not None and (piece not in again or piece.group == "runs"):
            continue
        if needed := work.missing(piece, setting):
            left[piece] = f"skipped: it needs {' and '.join(needed)}"
            continue
        if clock.left() < piece.least:
            left[piece] = "no time left"
            continue
        logger.info(f"{piece.name} ({piece.config}), {clock.left() / 60:.1f} min left")
        try:
            record.put(piece, work.do(piece, setting, clock))
        except Late as late:
            left[piece] = str(late)
        except Failed as failed:
            failures.append(str(failed))
            left[piece] = "failed"
    return left, failures


def remaining(left: dict[Piece, str], setting: Setting) -> list[str]:
    """Lines that say what is left, and what is known of the time that it takes.

    Args:
      left: {piece: why it is not done}.
      setting: what all pieces share.
    """
    if not left:
        return ["everything that was asked for is done"]
    lines = [f"left to do ({len(left)} pieces):"]
    for piece, why in left.items():
        lines.append(f"  {piece.name}: {why}{_estimate(piece, setting)}")
    for name in dict.fromkeys(name for piece in left for name in work.missing(piece, setting)):
        flag, place = (DATA | FILES)[name]
        what = "DIR" if name in DATA else "FILE"
        lines.append(f"  {name}: add {flag}={what} to this command ({place})")
    lines.append("the same command goes on")
    return lines


def _estimate(piece, setting):
    """The time that a run still needs, at the rate of its parts so far, if that is known."""
    if piece.job != "train":
        return ""
    total, step = work.total_steps(piece, setting), work.newest(work.folder_of(piece, setting))
    kept = setting.folder / "runs" / f"{work.folder_of(piece, setting).name}.json"
    parts = json.loads(kept.read_text()) if kept.is_file() else []
    steps, seconds = (sum(map(value, parts)) for value in (_steps_of, lambda x: x["seconds"]))
    if piece.minutes:
        return f" ({max(work.seconds_left(piece, parts), 0.0) / 60:.0f} min of training)"
    if not steps or step >= total:
        return f" ({total - step:,} steps)" if step < total else ""
    return f" ({total - step:,} steps, about {(total - step) * seconds / steps / 60:.0f} min)"


def _steps_of(part):
    return part["to"] - part["from"]


if __name__ == "__main__":
    cli.run(main)
