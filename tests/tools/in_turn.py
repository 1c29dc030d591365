"""Two programs measured in turn, so that both see the same state of the machine.

Each is a child process that answers over its standard input and output; while one works the
other waits. Imports the standard library alone, as a child may lack this project's packages.
"""

import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

WARM_UP, LEAST = 3, 3


class ChildDied(Exception):
    """A child ended before it answered."""


class Child:
    """A program that calls `serve`.

    Args:
      name: for messages.
      command: the program and its arguments.
      options: of `subprocess.Popen`.

    Attributes:
      facts: what the child says of itself; waits until it is ready.

    Raises:
      ChildDied: the program ends before that.
    """

    def __init__(self, name: str, command: list[str], **options):
        self.name = name
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, text=True, **pipes, **options)
        self.facts = self._answer()

    def seconds(self) -> float:
        """Runs one round: the median of its seconds per step."""
        with contextlib.suppress(BrokenPipeError):  # `_answer` says how it ended
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the child."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.close()
            raise ChildDied(f"{self.name} ended with exit code {code}")
        return json.loads(line)


def serve(step: Callable, facts: dict, seconds: float) -> None:
    """Answers a `Child`: warms up, then runs a round for every line of standard input.

    Args:
      step: what is timed; returns when its work is done.
      facts: what to say when ready.
      seconds: least duration of a round, which has at least 3 steps.
    """
    answers, sys.stdout = sys.stdout, sys.stderr  # what else prints does not mix with answers
    for _ in range(WARM_UP):
        step()
    print(json.dumps(facts), file=answers, flush=True)
    for _ in sys.stdin:
        marks = [time.perf_counter()]
        while marks[-1] < marks[0] + seconds or len(marks) <= LEAST:
            step()
            marks.append(time.perf_counter())
        took = [after - before for before, after in itertools.pairwise(marks)]
        print(json.dumps(statistics.median(took)), file=answers, flush=True)


def measure(children: tuple[Child, Child], rounds: int) -> tuple[float, float, float]:
    """Lets both work in turn; the one that begins changes each round.

    Returns:
      Seconds per step of both, medians over rounds; and the most cores that other programs used
      during a round: above about 0.1 the times mean little.
    """
    found, most = {child: [] for child in children}, 0.0
    for number in range(rounds):
        began, used = time.perf_counter(), seconds_of_others(children)
        for child in children[:: 1 if number % 2 == 0 else -1]:
            found[child].append(child.seconds())
        others = (seconds_of_others(children) - used) / (time.perf_counter() - began)
        times = (f"{child.name} {1e3 * found[child][-1]:.2f} ms" for child in children)
        line = f"round {number + 1}: {', '.join(times)}; other programs used {others:.2f} cores"
        print(line, file=sys.stderr)
        most = max(most, others)
    return *(statistics.median(found[child]) for child in children), most


def seconds_of_others(children: tuple[Child, Child]) -> float:
    """Seconds of CPU time that all programs but these took since the start; 0.0 off Linux."""
    if sys.platform != "linux":
        return 0.0
    fields = Path("/proc/stat").read_text().split()[1:9]
    ticks = sum(map(int, fields[:3] + fields[5:]))  # not idle, not waiting for a disk
    for child in children:
        own = Path(f"/proc/{child.process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks -= int(own[11]) + int(own[12])  # utime, stime
    return ticks / os.sysconf("SC_CLK_TCK")
