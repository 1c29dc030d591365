"""Does one piece: starts its commands, and makes a result of what they print.

Every command is a process of its own: the memory of the device is free when it ends, its peak is
that of one piece, and an error ends that piece alone.
"""

import json
import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from launch import checkpoints
from launch.benchmarks.measuring import children
from launch.benchmarks.measuring.children import Clock
from launch.benchmarks.measuring.plan import Piece
from launch.config import loading
from launch.config.errors import Interrupted
from launch.storage.atomic import replacing

logger = logging.getLogger("segen")

# Seconds of one piece, and of one part of a training: with `children.GRACE` below ten minutes.
LONGEST = 540.0
STOCK = ("mnist", "cifar10")  # data sets by name, of which a dry run takes the digits
LEAST_SCORE = 60.0  # seconds that must be left for the score of a finished run to begin
STEPS, REPEATED_STEPS = 20, 50  # of the comparison with the CPU; of two runs with each other
# Largest difference of a loss from the CPU's, relative to the loss or to 1 if that is more: of the
# first step, and of all. Products in float32 ("highest") are rounded in another order, and Adam's
# first steps divide rounding by rounding: two ways to compile the U-Net for the same CPU differ
# by 3.5e-4 within 20 steps. A wrong gradient differs by far more than the tolerance.
TOLERANCE_FIRST, TOLERANCE = 1e-4, 1e-2
HIGHEST = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}
# A program that is compiled twice must be the same one.
UNCACHED = {"JAX_ENABLE_COMPILATION_CACHE": "false"}


class Late(Exception):
    """The time ended before the piece did; a later call goes on."""


class Failed(Exception):
    """A command of the piece failed, for a reason that the message gives."""


class Setting(NamedTuple):
    """What all pieces share.

    Attributes:
      folder: for results, logs and runs.
      card: how many devices of which kind, "1 x NVIDIA H100".
      platform: "gpu", "tpu" or "cpu".
      data: {key of `plan.DATA`: folder} and {key of `plan.FILES`: file}, of those that are given.
      dry: whether everything is tiny and on the CPU.
      environment: variables of every child process beside this process's own.
    """

    folder: Path
    card: str
    platform: str
    data: Mapping[str, Path]
    dry: bool
    environment: Mapping[str, str]


def arguments(piece: Piece, setting: Setting) -> list[str]:
    """The arguments of a command that takes the config of a piece."""
    found = [f"--config={piece.config}", *piece.full, *(piece.small if setting.dry else ())]
    folder = setting.data.get(piece.data)
    if folder:
        key = "data_dir" if piece.data in STOCK else "path"
        found.append(f"--config.data.{key}={folder}")
    elif piece.data in STOCK and setting.dry:
        found.append("--config.data.name=digits")
    return found


def missing(piece: Piece, setting: Setting) -> list[str]:
    """The data set and the file that a piece needs and that are not given.

    Args:
      piece: the piece.
      setting: what all pieces share; a dry run takes the package's digits for a stock data set.
    """
    needed = [] if setting.dry and piece.data in STOCK else [piece.data]
    needed += [] if setting.dry else [piece.file]
    return [name for name in needed if name and name not in setting.data]


def do(piece: Piece, setting: Setting, clock: Clock) -> dict:
    """Does a piece.

    Args:
      piece: one that can be done: its data are there.
      setting: what all pieces share.
      clock: the time until which this call has to end.

    Returns:
      Its result, as JSON; `passed` is among it where something was checked.

    Raises:
      Late: the time ended first.
      Failed: a command failed.
    """
    jobs = {"losses": _losses, "audit": _audit, "repeat": _repeat, "speed": _speed, "train": _train}
    return jobs[piece.job](piece, setting, clock)


def _run(piece, setting, clock, command, environment=None, name="", **options):
    """One command of a piece, ended within `LONGEST` seconds; its log is named by the piece."""
    log = setting.folder / "logs" / f"{piece.name.replace('/', '-')}{name and '-' + name}.log"
    both = {**setting.environment, **(environment or {})}
    return children.run(command, clock.within(LONGEST), log, both, **options)


def _checked(piece, ended, codes=(0,)):
    """How a command ended, if with one of the codes.

    Raises:
      Late: it was stopped.
      Failed: it ended with another code.
    """
    if ended.stopped:
        raise Late(f"{piece.name} was stopped before it ended")
    if ended.code not in codes:
        raise Failed(f"{piece.name}: exit code {ended.code}: {ended.last}")
    return ended


def _steps(piece, setting, clock, name, environment, count):
    """The losses and the hash of the first steps, as `launch.benchmarks.first_steps` prints."""
    rest = [*arguments(piece, setting), "--config.mesh.data=1", f"--steps={count}"]
    command = ["launch.benchmarks.first_steps", *rest]
    ended = _run(piece, setting, clock, command, environment, name)
    return _checked(piece, ended).json()


def _losses(piece: Piece, setting: Setting, clock: Clock) -> dict[str, Any]:
    """Losses of the first steps on the device and on the CPU, in full float32."""
    count, clock = 4 if setting.dry else STEPS, clock.within(LONGEST)
    here = _steps(piece, setting, clock, "device", HIGHEST, count)
    cpu = HIGHEST | {"JAX_PLATFORMS": "cpu"}
    there = _steps(piece, setting, clock, "cpu", cpu, count)
    ours, theirs = np.array(here["losses"]), np.array(there["losses"])
    differences = np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))
    first, worst = float(differences[0]), float(np.max(differences))
    passed = bool(first <= TOLERANCE_FIRST and worst <= TOLERANCE)
    return {"first": first, "largest": worst, "steps": count, "passed": passed}


def _audit(piece: Piece, setting: Setting, clock: Clock) -> dict[str, Any]:
    """The audit of a model: its Jacobian's exact zeros among it."""
    command = ["launch.audit", *arguments(piece, setting)]
    ended = _checked(piece, _run(piece, setting, clock, command), (0, 1))
    lines = [line.split(maxsplit=1) for line in ended.output.splitlines() if line.strip()]
    if not lines:
        raise Failed(f"{piece.name}: exit code {ended.code}: {ended.last}")
    outcomes = [line[0] for line in lines]
    return {
        "passed": ended.code == 0,
        "counts": {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
        "failures": [line[1] for line in lines if line[0] == "FAIL"],
    }


def _repeat(piece: Piece, setting: Setting, clock: Clock) -> dict[str, Any]:
    """Whether two runs end with the same bits, each compiled anew."""
    count, clock = 4 if setting.dry else REPEATED_STEPS, clock.within(LONGEST)
    hashes = {_steps(piece, setting, clock, name, UNCACHED, count)["sha256"] for name in ("1", "2")}
    return {"steps": count, "passed": len(hashes) == 1}


def _speed(piece: Piece, setting: Setting, clock: Clock) -> dict[str, Any]:
    """What `launch.bench` prints."""
    seconds = ["--seconds=0.1", "--loop_seconds=0.1"] if setting.dry else ["--loop_seconds=20"]
    rest = [*arguments(piece, setting), "--config.mesh.data=1", *seconds]
    flags = {**os.environ, **setting.environment}.get("XLA_FLAGS", "")
    more = {"XLA_FLAGS": f"{flags} {piece.flags}".strip()} if piece.flags else {}
    return _checked(piece, _run(piece, setting, clock, ["launch.bench", *rest], more)).json()


def _train(piece: Piece, setting: Setting, clock: Clock) -> dict[str, Any]:
    """A training in parts, each of which saves and is gone on with; then its score."""
    run, total = folder_of(piece, setting), total_steps(piece, setting)
    parts = setting.folder / "runs" / f"{run.name}.json"
    done = json.loads(parts.read_text()) if parts.is_file() else []
    command = ["launch.train", *arguments(piece, setting), "--config.mesh.data=1"]
    command.append(f"--workdir={run}")
    first = run / "metrics.jsonl"
    interrupt = (lambda: first.is_file() and first.stat().st_size > 0) if setting.dry else None
    while (step := newest(run)) < total and (rest := seconds_left(piece, done)) > 0:
        if clock.left() < piece.least:
            raise Late(f"{piece.name} stands at step {step:,} of {total:,}")
        # A dry run is stopped as soon as it trains, once: it shows that it goes on.
        options = {"stop_early": interrupt} if interrupt and not done else {}
        began = time.monotonic()
        until = clock.within(rest)
        ended = _run(piece, setting, until, command, name=str(len(done)), **options)
        took = time.monotonic() - began
        done.append({"card": setting.card, "from": step, "to": newest(run), "seconds": took})
        with replacing(parts) as working:
            working.write_text(json.dumps(done))
        unfinished = ended.code == 0 and newest(run) < total
        if unfinished or (ended.code not in (0, Interrupted.exit_code) and not ended.stopped):
            raise Failed(f"{piece.name}: exit code {ended.code}: {ended.last}")
        logger.info(f"  step {newest(run):,} of {total:,}")
    return _scores(piece, setting, clock, run) | {
        "parts": len(done),
        "trained_on": sorted({part["card"] for part in done}),
        "training_seconds": sum(part["seconds"] for part in done),
    }


def _scores(piece, setting, clock, run):
    """The metrics of a trained run, as the commands of the piece print them; each runs once."""
    places = {"{run}": str(run), "{data}": str(setting.data.get(piece.data, ""))}
    places["{file}"] = str(setting.data.get(piece.file, ""))
    found = {}
    for number, words in enumerate(piece.small_score if setting.dry else piece.score):
        command = list(words)
        for name, place in places.items():
            command = [word.replace(name, place) for word in command]
        path = run.with_name(f"{run.name}-score{number}.json")
        kept = json.loads(path.read_text()) if path.is_file() else {}
        if kept.get("command") != command:
            if clock.left() < LEAST_SCORE:
                raise Late(f"{piece.name} is trained; its score is not computed yet")
            ended = _run(piece, setting, clock, command, name=f"score{number}")
            kept = {"command": command, "result": _checked(piece, ended).json()}
            with replacing(path) as working:
                working.write_text(json.dumps(kept))
        found |= {key: value for key, value in kept["result"].items() if key != "card"}
    return found


def seconds_left(piece: Piece, done: list[dict]) -> float:
    """Seconds that a run may still train.

    Args:
      piece: the run.
      done: its parts so far, each with its `seconds`.
    """
    if not piece.minutes:
        return math.inf
    return 60.0 * piece.minutes - sum(part["seconds"] for part in done)


def folder_of(piece: Piece, setting: Setting) -> Path:
    """The workdir of a run; trainings go on there whatever the card."""
    return setting.folder / "runs" / piece.name.partition("/")[2]


def newest(run: Path) -> int:
    """The newest step that a run has saved; 0 if none."""
    return max(checkpoints.steps(run / "checkpoints"), default=0)


def total_steps(piece: Piece, setting: Setting) -> int:
    """The last step of a run, by its config and the overrides of this command."""
    key = "--config.train.steps="
    given = [one for one in arguments(piece, setting) if one.startswith(key)]
    return int(given[-1].removeprefix(key)) if given else loading.load(piece.config).train.steps
