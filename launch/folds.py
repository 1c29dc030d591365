"""python -m launch.folds --folds=5 --config=configs/segment.py --config.data.path=DIR

Cross-validation: divides the images of train and val into parts, and trains a net for each
part, which is left out of its training and scored after it. Prints the scores of the folds,
their mean and their standard deviation. Each fold is a run of its own, in WORKDIR/fold1,
WORKDIR/fold2, ...: the same command goes on where it stopped.
"""

import contextlib
import json
import logging
import math
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from launch import checkpoints, cli
from launch.config import fold, loading, planned, run_config, schema
from launch.config.errors import Interrupted, UserError
from launch.distributed import child_process
from launch.storage.atomic import replacing

logger = logging.getLogger("segen")

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # that a training answers


def main(argv: list[str]) -> None:
    """Trains all folds, one after the other, and prints their scores.

    Args:
      argv: arguments of the command line, without the command's own name.

    Raises:
      UserError: the folds or the config cannot work.
    """
    arguments = cli.parser("folds", "Cross-validation: trains all folds, and compares their scores")
    add = arguments.add_argument
    add("--folds", type=int, default=5, help="how many (default: 5)")
    add("--config", required=True, help="FILE.py or FILE.py:VARIANT")
    text = "holds a run for each fold (default: runs/NAME_folds of the config)"
    add("--workdir", type=cli.workdir, help=text)
    options, overrides = cli.parse(arguments, argv)
    if not 2 <= options.folds <= fold.MOST:
        raise UserError(f"--folds must be 2 to {fold.MOST}, got {options.folds}")
    config = loading.load(options.config)
    if config.data.fold or any(_key(item) == "data.fold" for item in overrides):
        raise UserError("config.data.fold: launch.folds gives each fold itself; leave it out")
    config = loading.override(config, [*overrides, f"--config.data.fold=1/{options.folds}"])
    _check_splits(config.data.split, config.eval.split)
    name = f"runs/{loading.default_name(options.config)}_folds"
    workdir = options.workdir or cli.workdir(name)
    if (workdir / "config.json").exists() or (workdir / "checkpoints").exists():
        raise UserError(f"{workdir} is a run; give the folds a --workdir of their own")
    command = [f"--config={options.config}", *overrides]
    if code := train_folds(command, workdir, options.folds, planned.unset(config)):
        sys.exit(code)
    results = collect(workdir, options.folds, config.checkpoint.best, config.collapse.rule)
    logger.info(table(results))
    print(json.dumps(results), flush=True)
    with replacing(workdir / "folds.json") as working:
        working.write_text(json.dumps(results, indent=2) + "\n")


def _key(item):
    """The key of an argument --config.KEY=VALUE."""
    return item.split("config.", 1)[1].partition("=")[0]


def _check_splits(training, scored):
    """Refuses to train on what a fold leaves out, and to score on anything else."""
    wrong = f"config.data.split={training}" if "val" in training else ""
    wrong = f"config.eval.split={scored}" if scored != "val" else wrong
    if wrong:
        raise UserError(
            f"{wrong}: the part that a fold leaves out is val. Train on train "
            "(--config.data.split=train), and score on val (--config.eval.split=val)"
        )


def train_folds(command: list[str], workdir: Path, folds: int, waiting: list[str]) -> int:
    """Trains the folds, each in a process of its own, until one fails.

    What the plan of the first decides, the others take, so that they differ in their data alone.

    Args:
      command: --config and its overrides.
      workdir: holds a run for each fold.
      folds: how many.
      waiting: the keys that wait for the plan.

    Returns:
      0, or the exit code of the fold that failed or was interrupted.

    Raises:
      Interrupted: a signal came between two folds.
    """
    plan = []
    with _noted_signals() as signals:
        for part in range(1, folds + 1):
            folder = workdir / f"fold{part}"
            logger.info(f"fold {part} of {folds}: {folder}")
            own = [f"--config.data.fold={part}/{folds}", f"--workdir={folder}"]
            if code := train_fold([*command, *plan, *own], signals):
                logger.info(
                    f"fold {part} of {folds} ended with code {code}; those before it are kept, "
                    "and the same command goes on with it"
                )
                return code
            if signals and part < folds:
                raise Interrupted(
                    f"{signal.Signals(signals[0]).name}: fold {part} of {folds} is done; the same "
                    "command goes on with the next"
                )
            if part == 1 and waiting:
                plan = plan_of(folder, waiting)
                logger.info("the other folds take the plan of this one")
    return 0


def train_fold(arguments: list[str], signals: list[int]) -> int:
    """Runs `launch.train`, and passes on signals.

    Args:
      arguments: of the command.
      signals: a list to which a handler adds what this process receives.

    Returns:
      Its exit code; 128 and the number of the signal that killed it.
    """
    process, passed_on = _start(arguments), 0
    try:
        while process.poll() is None:
            for number in signals[passed_on:]:
                process.send_signal(number)
                passed_on += 1
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
    finally:
        process.kill()
        process.wait()
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def plan_of(folder: Path, waiting: list[str]) -> list[str]:
    """What the plan of a run decided, as arguments --config.KEY=VALUE.

    Args:
      folder: the run.
      waiting: the keys that waited for the plan.
    """
    decided = run_config.read_config(folder).to_dict()
    return [f"--config.{key}={schema.value_at(decided, key)}" for key in waiting]


def collect(workdir: Path, folds: int, best: str, rule: str = "") -> dict:
    """The scores of trained folds, each at its best checkpoint.

    Args:
      workdir: holds a run for each fold.
      folds: how many.
      best: `config.checkpoint.best`.
      rule: `config.collapse.rule`.

    Returns:
      {"folds": of each its fold, workdir, step and metrics; "metrics": of each metric that any
      has: its mean over the folds, its standard deviation (n - 1; None of one fold), and of how
      many folds it is known}.

    Raises:
      UserError: a fold has no checkpoint, or none with scores.
    """
    from launch.engine import trained_runs  # loads JAX, which the trainings do by themselves
    from launch.engine.experiments import for_json

    runs = []
    for part in range(1, folds + 1):
        folder = workdir / f"fold{part}"
        step, _ = trained_runs.choose_step(folder / "checkpoints", None, best, rule)
        metrics = checkpoints.metrics(folder / "checkpoints", step)
        if not metrics:
            raise UserError(f"checkpoint {step} of {folder} holds no scores of an evaluation")
        known = {"fold": f"{part}/{folds}", "workdir": str(folder), "step": step}
        runs.append(known | {"metrics": for_json(metrics)})
    names = dict.fromkeys(name for run in runs for name in run["metrics"])
    spread = {name: _spread([run["metrics"].get(name) for run in runs]) for name in names}
    return {"folds": runs, "metrics": spread}


def table(results: dict) -> str:
    """The scores of the folds in columns, beside their mean and standard deviation.

    Args:
      results: what `collect` returned; metrics with a slash, as those of each class, are left out.

    Returns:
      Lines.
    """
    runs = results["folds"]
    rows = [["", *(f"fold{number}" for number in range(1, len(runs) + 1)), "mean", "deviation"]]
    rows.append(["step", *(f"{run['step']:,}" for run in runs), "", ""])
    for name, spread in results["metrics"].items():
        if "/" not in name:
            values = [run["metrics"].get(name) for run in runs]
            cells = [*values, spread["mean"], spread["deviation"]]
            rows.append([name, *("-" if cell is None else f"{cell:.4g}" for cell in cells)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def _spread(values):
    """Mean and standard deviation of the values that are known, and their number."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    mean = statistics.fmean(known) if known else None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": mean, "deviation": deviation, "folds": len(known)}


def _start(arguments):
    """Starts a training whose signals come from here alone; it ends when this process is killed."""
    return subprocess.Popen(
        [sys.executable, "-m", "launch.train", *arguments],
        start_new_session=True,  # else Ctrl-C would reach it twice, and it would not save
        preexec_fn=child_process.die_with_parent,
    )


@contextlib.contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """Yields a list to which the signals that arrive in the block are added."""
    received: list[int] = []
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    # Under nohup a signal is ignored, here and by the training.
    handled = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    note = lambda number, frame: received.append(number)
    before = {number: signal.signal(number, note) for number in handled}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    cli.run(main)
