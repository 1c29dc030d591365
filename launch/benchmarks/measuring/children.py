"""Commands as child processes that end by a time."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from launch.distributed import child_process

GRACE = 40.0  # seconds that a command has to save after SIGTERM, before it is killed
LOOK = 0.1  # seconds between two looks at a child


class Ended(NamedTuple):
    """How a child process ended.

    Attributes:
      code: its exit code, negative for the signal that ended it.
      stopped: whether it was asked to stop before it ended by itself.
      output: what it wrote to stdout.
      last: the last line that it wrote to stderr.
    """

    code: int
    stopped: bool
    output: str
    last: str

    def json(self) -> dict:
        """The last line of the output, which is JSON.

        Raises:
          ValueError: it is not.
        """
        return json.loads(self.output.strip().splitlines()[-1])


class Clock(NamedTuple):
    """The time until which everything has to end.

    Attributes:
      deadline: of `time.monotonic()`, in seconds.
    """

    deadline: float

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def within(self, seconds: float) -> "Clock":
        """A clock with a deadline so many seconds from now, or this one if it is earlier."""
        return Clock(min(self.deadline, time.monotonic() + seconds))


def run(
    command: list[str],  # a module and its arguments, or "-c" and a program
    clock: Clock,  # when the child is asked to stop
    log: Path,  # a file for its stderr; stdout goes beside it
    environment: Mapping[str, str] = {},  # variables beside those of this process
    stop_early: Callable[[], bool] = lambda: False,  # whether to ask before that
) -> Ended:
    """Runs a command of Python; asks it to stop by SIGTERM at the deadline.

    A child that is still there after `GRACE` seconds more is killed, and so is one whose parent
    is left by an exception. It has a session of its own: Ctrl-C reaches this process alone, which
    then asks the child to stop, so that a training saves.

    Returns:
      How it ended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    printed = log.with_suffix(".out")
    with log.open("wb") as errors, printed.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *(command if command[0] == "-c" else ("-m", *command))],
            stdout=output,
            stderr=errors,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(environment),
            start_new_session=True,
            preexec_fn=child_process.die_with_parent,
        )
        try:
            stopped = _wait(process, lambda: clock.left() <= 0 or stop_early())
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    text = log.read_text(errors="replace").replace("\r", "\n")
    lines = [line for line in text.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else f"it wrote nothing to {log}"
    return Ended(process.returncode, stopped, printed.read_text(errors="replace"), last)


def _wait(process, asked):
    """Waits for the end of a process; whether it was `asked` to stop before."""
    while process.poll() is None:
        if asked():
            return True
        time.sleep(LOOK)
    return False
