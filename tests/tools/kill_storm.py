"""Kills a run by kill -9 at random moments until it is done, and compares the final bits.

python -m tests.tools.kill_storm --kills=50
python -m tests.tools.kill_storm --kills=13 --processes=2 --config=tests/tools/small.py:gan ...

All other arguments are passed to launch.train; without any it trains a small VAE. With several
processes each kill hits one of them, and launch.local starts all again.
"""

import argparse
import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from launch.reporting import metrics_file
from tests.tools import runs


class Attempts:
    """Starts a run again and again, and reads its output.

    Args:
      arguments: of launch.train, with the workdir.
      processes: 1: this starts launch.train after each kill; more: launch.local does.
    """

    def __init__(self, arguments: list[str], processes: int):
        self._arguments, self._processes, self.lines = arguments, processes, []
        self._running, self._reader = None, None

    def ensure(self) -> None:
        """Starts the run if it is not running."""
        if self._running is not None:
            return
        local = f"--processes={self._processes}", "--restarts=1000000", "--"
        command = ("local", *local) if self._processes > 1 else ("train",)
        self._running = runs.start(*command, *self._arguments)
        self._reader = threading.Thread(target=self._read, args=(self._running.stderr,))
        self._reader.start()

    def _read(self, stream):
        self.lines.extend(stream)

    def ended(self) -> bool:
        """Whether the training is done; raises if it ended neither by itself nor by a kill."""
        if self._running is None or (code := self._running.poll()) is None:
            return False
        self._reader.join()
        self._running.stdout.close()
        self._running.stderr.close()
        self._running = None
        assert code in (0, -signal.SIGKILL), "".join(self.lines[-40:])
        return code == 0

    def kill(self, chance: random.Random) -> bool:
        """Kills the run, or one of its processes; False if there is none to kill."""
        if self._processes == 1:
            self._running.kill()
            self._running.wait()
            self.ended()
            return True
        children = Path(f"/proc/{self._running.pid}/task/{self._running.pid}/children")
        pids = children.read_text().split()
        if len(pids) < self._processes:
            return False
        os.kill(int(chance.choice(pids)), signal.SIGKILL)
        return True


def storm(
    kills: int, folder: Path, seed: int = 0, arguments: list[str] = runs.SHORT, processes: int = 1
) -> dict:
    """Kills one run `kills` times and compares its end with an uninterrupted run.

    Each kill comes at a random moment between the start and a little after the first step.
    After the last kill the run goes on to its end.

    Args:
      kills: how many.
      folder: the folder for both runs and the data.
      seed: the seed of the moments.
      arguments: arguments of launch.train, without --workdir.
      processes: how many processes the run has.

    Returns:
      How many kills hit the run, and how many left a half-written checkpoint; the longest time
      from a start to its first step; the most steps lost by a kill; and whether parameters,
      optimiser state and metrics have the same bits.
    """
    chance = random.Random(seed)
    arguments = [*arguments, f"--config.data.data_dir={folder / 'data'}"]
    straight, killed = folder / "straight", folder / "killed"
    began = time.monotonic()
    _to_the_end(Attempts([*arguments, f"--workdir={straight}"], processes))
    length = time.monotonic() - began
    count = {"kills": 0, "mid_save": 0, "runs": 1, "first_step_seconds": 0.0, "steps_lost": 0}
    run = Attempts([*arguments, f"--workdir={killed}"], processes)
    while count["kills"] < kills:
        run.ensure()
        pause, began = chance.uniform(0.2, 1.0) * length, time.monotonic()
        while time.monotonic() - began < pause and not (done := run.ended()):
            time.sleep(0.01)
        if done:
            # The run was done before the last kill: run once more, in another folder. Later
            # runs are shorter than the first, because they find compiled programs.
            _compare(straight, killed)
            _note(count, run)
            length = max(2.0, 0.9 * length)
            killed = folder / f"killed-{count['runs']}"
            run = Attempts([*arguments, f"--workdir={killed}"], processes)
            count["runs"] += 1
            continue
        reached = _last_step(killed)
        if not run.kill(chance):
            continue
        count["kills"] += 1
        count["mid_save"] += bool(list((killed / "checkpoints").glob("*.orbax-checkpoint-tmp*")))
        saved = [int(p.name) for p in (killed / "checkpoints").glob("*") if p.name.isdigit()]
        count["steps_lost"] = max(count["steps_lost"], reached - max(saved, default=0))
    _to_the_end(run)
    _note(count, run)
    return count | _compare(straight, killed)


def _to_the_end(run):
    run.ensure()
    while not run.ended():
        time.sleep(0.05)
        run.ensure()


def _note(count, run):
    """Adds the longest start of a finished run, its first one left out."""
    text = "".join(run.lines)
    starts = [float(seconds) for seconds in re.findall(r"first step after ([\d.]+) s", text)]
    count["first_step_seconds"] = max(count["first_step_seconds"], *starts[1:], 0.0)


def _last_step(workdir):
    """The last training step in metrics.jsonl."""
    lines = metrics_file.read(workdir / "metrics.jsonl").lines
    return max((line["step"] for line in lines if line["split"] == "train"), default=0)


def _compare(straight, killed):
    step = max(int(path.name) for path in (straight / "checkpoints").iterdir())
    same = runs.state_hash(straight, step) == runs.state_hash(killed, step)
    metrics = [_metrics(folder) for folder in (straight, killed)]
    assert same, f"{killed}: the final state differs"
    assert metrics[0] == metrics[1], f"{killed}: metrics.jsonl differs"
    return {"identical_state": same, "identical_metrics": True, "final_step": step}


def _metrics(folder):
    """Every line of metrics.jsonl, without the values that depend on the clock."""
    clock, file = ("images_per_second", "data_wait"), metrics_file.read(folder / "metrics.jsonl")
    assert not file.broken, folder
    return [{k: v for k, v in line.items() if k not in clock} for line in file.lines]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    options, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as place:
        rest = rest or runs.SHORT
        print(json.dumps(storm(options.kills, Path(place), options.seed, rest, options.processes)))
    sys.exit(0)
