"""Types of command-line arguments that several commands take."""

import argparse
import logging
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launch.config import by_name, run_config
from launch.config.errors import UserError

logger = logging.getLogger("segen")

MOST_SEEDS = 10_000_000  # of one command; they lie in memory
# Endings by which a name is that of a file, not of a folder.
FILE_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".json", ".npy", ".npz", ".pdf", ".png")
FILE_ENDINGS += (".tif", ".tiff", ".webp", ".zip")
SAMPLERS = ("ddim", "dpm_solver", "euler", "heun", "leap", "sde")  # of jaxgen.flows


def step(value: str) -> int | str:
    """The argument type of --step: "best", "newest", or the number of a checkpoint.

    Raises:
      ArgumentTypeError: the value has another form.
    """
    if value in ("best", "newest"):
        return value
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{value!r} is no step; write best, newest or a number")
    return int(value)


def add_step(add: Callable[..., argparse.Action]) -> None:
    """Adds --step to the arguments of a command that opens a trained run.

    Args:
      add: `add_argument` of a parser.
    """
    text = "best, newest, or N (default: the best if the run keeps it, else the newest)"
    add("--step", type=step, help=f"which checkpoint: {text}")


def add_sampling(add: Callable[..., argparse.Action], several: bool = False) -> None:
    """Adds what samples depend on: --ema, and of models that sample step by step --sampler,
    --steps, --guidance, --interval, --weaker.

    Args:
      add: `add_argument` of a parser.
      several: whether --ema and --guidance take lists, and each of their values is used.
    """
    add("--sampler", choices=SAMPLERS, help="of a flow (default: config.task.sampling.sampler)")
    add("--steps", type=int, help="of the sampler (default: config.task.sampling.grid.steps)")
    lists, kind = ("; or several, as 1,1.5,2", numbers) if several else ("", float)
    text = f"by the class (default: config.task.sampling.guidance; 1: none){lists}"
    add("--guidance", type=kind, help=text)
    text = "FROM,TO: times between which --guidance acts, from 0, noise, to 1, the image (default: "
    add("--interval", type=interval, help=f"{text}config.task.sampling.interval)")
    add("--weaker", help="RUN or RUN:STEP of a weaker flow that --guidance leads away from")
    lists = "; or several, or all" if several else ""
    text = "which moving average of the parameters: one of the decays of config.optimizer.ema, "
    text += "power:WIDTH (see config.optimizer.power_ema), or none (default: the first)"
    add("--ema", default="", help=f"{text}{lists}")


def numbers(value: str) -> list[float]:
    """The argument type of a list of different numbers, "1,1.5,2".

    Raises:
      ArgumentTypeError: the value has another form.
    """
    try:
        found = [float(part) for part in value.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise argparse.ArgumentTypeError(f"{value!r} is no list of numbers; write 1,1.5,2")
    return list(dict.fromkeys(found))


def interval(value: str) -> tuple[float, float]:
    """The argument type of --interval: two times, "0.2,0.8".

    Raises:
      ArgumentTypeError: the value has another form, or times outside 0 to 1.
    """
    try:
        first, last = map(float, value.split(","))
    except ValueError:
        first = last = math.nan
    if not 0.0 <= first <= last <= 1.0:
        raise argparse.ArgumentTypeError(
            f"{value!r} is no interval; write two times from 0 to 1, the earlier one first: 0.2,0.8"
        )
    return first, last


def check_interval(times: tuple[float, float] | None, task: Mapping[str, Any]) -> None:
    """Refuses --interval where no guidance acts.

    Args:
      times: of --interval; None where it is not given.
      task: `config.task` of the run as it is used.

    Raises:
      UserError: the guidance is 1.
    """
    if times and (task.get("sampling") or {}).get("guidance", 1.0) == 1.0:
        raise UserError("--interval has no effect with a guidance of 1; give another --guidance")


def asked_for(asked: dict[str, Any]) -> str:
    """What was asked for, as a part of the name of a file: "-guidance-1.5-interval-0.2_0.8".

    Args:
      asked: {flag: value}.
    """
    plain = lambda value: re.sub(r"[^\w.]+", "_", str(value)).strip("_")
    return "".join(f"-{key}-{plain(value)}" for key, value in asked.items())


def sampling(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a run's task that the options of `add_sampling` change.

    Args:
      options: with `workdir`, `sampler`, `steps`, `guidance` (one), `interval`, `weaker` and
        perhaps `start`.

    Returns:
      {key below config.task: value}, for `trained_runs.restore`.

    Raises:
      UserError: the run's model does not sample step by step.
    """
    sampler = options.sampler and {"name": f"jaxgen.flows:{options.sampler}"}
    given = {"sampler": sampler, "grid.steps": options.steps, "guidance": options.guidance}
    given["interval"] = options.interval
    given["start"] = getattr(options, "start", None)  # of launch.sample alone
    given["autoguidance"] = True if options.weaker else None
    given = {key: value for key, value in given.items() if value is not None}
    if not given:
        return {}
    task = run_config.read_config(options.workdir).task
    if not by_name.accepts(task.name, "sampling", "config.task.name"):
        first = next(iter(given))
        flag = {"grid.steps": "steps", "autoguidance": "weaker"}.get(first, first)
        raise UserError(f"--{flag}: {task.name} does not sample step by step")
    now = task.get("sampling") or {}
    leaps = "leap" in str((now.get("sampler") or {}).get("name", ""))
    if leaps and options.sampler not in (None, "leap"):
        # The grid of leaps has few steps, which are no steps for others.
        count = given.pop("grid.steps", 20)
        given["grid"] = {"name": "jaxgen.flows:even_times", "steps": count}
        logger.info(f"--sampler={options.sampler}: {count} even steps, not the grid of leaps")
    elif "grid.steps" in given and not now.get("grid"):
        steps = given.pop("grid.steps")
        given["grid"] = {"name": "jaxgen.flows:even_times", "steps": steps}
    if not now:
        return {"sampling": {"name": "jaxgen.flows:step_by_step", **given}}
    return {f"sampling.{key}": value for key, value in given.items()}


def out_folder(value: str) -> Path:
    """The argument type of an --out that is a folder.

    Raises:
      ArgumentTypeError: the value is a file, or ends as one does.
    """
    path = Path(value)
    if path.suffix.lower() in FILE_ENDINGS or path.is_file():
        raise argparse.ArgumentTypeError(
            f"{value} is the name of a file, and several are written; give that of a folder"
        )
    return path


def check_ending(flag: str, path: Path, endings: tuple[str, ...], content: str) -> None:
    """Refuses a file whose name ends otherwise than its content would.

    Args:
      flag: the flag that gave the file, for the message.
      path: the file.
      endings: those that are right, such as (".png", ".npy").
      content: what is written, for the message.

    Raises:
      UserError: names the endings.
    """
    if path.suffix not in endings:
        raise UserError(
            f"{flag}={path}: {content} is written; end the name in {' or '.join(endings)}"
        )


def seed_range(value: str) -> list[int]:
    """The argument type of --seeds: "7", "0-63", or a list "0-3,8,12-15".

    Raises:
      ArgumentTypeError: the value has another form, or more seeds than MOST_SEEDS.
    """
    seeds = []
    for part in value.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first or last >= 2**31:
            raise argparse.ArgumentTypeError(
                f"{value!r} is not a range of seeds; write 7, 0-63 or 0-3,8,12-15"
            )
        if len(seeds) + last - first >= MOST_SEEDS:
            raise argparse.ArgumentTypeError(
                f"{value!r} has more than {MOST_SEEDS:,} seeds; ask for them in several calls"
            )
        seeds.extend(range(first, last + 1))
    return seeds
