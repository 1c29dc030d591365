"""kill -9 at random moments, until the run is done; then compare to the bit.

python -m tests.tools.kill_storm --kills=50
python -m tests.tools.kill_storm --kills=10 --config=configs/gan.py --config.train.steps=400 ...

Arguments that it does not know are those of launch.train, in place of a small VAE's.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.tools import runs


def storm(kills: int, folder: Path, seed: int = 0, arguments: list[str] = runs.SHORT) -> dict:
    """Kills one run `kills` times and compares its end with an uninterrupted run.

    Each kill falls at a random moment between start-up and a little after the first
    step. After the last one the run is left alone.

    Args:
      kills: how many.
      folder: where both runs and the data go.
      seed: of the moments.
      arguments: of launch.train, without --workdir.

    Returns:
      How many kills hit, how many left a half-written checkpoint, and whether
      parameters, optimiser state and metrics are equal to the bit.
    """
    chance = random.Random(seed)
    arguments = [*arguments, f"--config.data.data_dir={folder / 'data'}"]
    straight, killed = folder / "straight", folder / "killed"
    began = time.monotonic()
    done = runs.run("train", *arguments, f"--workdir={straight}")
    assert done.returncode == 0, done.stderr
    length = time.monotonic() - began
    count = {"kills": 0, "mid_save": 0, "restarts": 0}
    finished = False
    while count["kills"] < kills and not finished:
        process = runs.start("train", *arguments, f"--workdir={killed}")
        began = time.monotonic()
        count["restarts"] += 1
        time.sleep(chance.uniform(0.2, 1.0) * length)
        finished = process.poll() is not None
        if not finished:
            process.send_signal(signal.SIGKILL)
            count["kills"] += 1
        _, stderr = process.communicate()
        assert not finished or process.returncode == 0, stderr
        half = list((killed / "checkpoints").glob("*.orbax-checkpoint-tmp*"))
        count["mid_save"] += bool(half)
        if finished and count["kills"] < kills:
            # Done before the storm was over: the same again, elsewhere. What is compiled
            # already makes later runs shorter than the first.
            _compare(straight, killed)
            length = min(length, time.monotonic() - began)
            killed, finished = folder / f"killed-{count['restarts']}", False
    last = runs.run("train", *arguments, f"--workdir={killed}")
    assert last.returncode == 0, last.stderr
    return count | _compare(straight, killed)


def _compare(straight, killed):
    step = max(int(path.name) for path in (straight / "checkpoints").iterdir())
    same = runs.state_hash(straight, step) == runs.state_hash(killed, step)
    metrics = [_metrics(folder) for folder in (straight, killed)]
    assert same, f"{killed}: the final state differs"
    assert metrics[0] == metrics[1], f"{killed}: metrics.jsonl differs"
    return {"identical_state": same, "identical_metrics": True, "final_step": step}


def _metrics(folder):
    """Every line of metrics.jsonl, less what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    clock = ("images_per_second", "data_wait")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(storm(options.kills, Path(place), options.seed, rest or runs.SHORT)))
    sys.exit(0)
