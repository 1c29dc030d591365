"""Flips bits, truncates and deletes files of a checkpoint; each damage must be noticed.

python -m tests.tools.damage_storm --trials=100
"""

import argparse
import collections
import contextlib
import json
import logging
import random
import shutil
import tempfile
from pathlib import Path

from launch import checkpoints
from launch.storage import checksums
from tests.tools import runs

KINDS = ("flip", "truncate", "delete")


def damage(path: Path, kind: str, chance: random.Random) -> None:
    """Does one kind of damage to a file."""
    content = bytearray(path.read_bytes())
    if kind == "delete":
        path.unlink()
    elif kind == "truncate":
        path.write_bytes(content[: chance.randrange(len(content))] if content else b"x")
    elif content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
    else:
        path.write_bytes(b"x")  # an empty file has no bit to flip


@contextlib.contextmanager
def captured_warnings():
    """Yields the list of messages that the logger "segen" gets while the block runs."""
    logger, handler, messages = logging.getLogger("segen"), logging.Handler(), []
    handler.emit = lambda record: messages.append(record.getMessage())
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    try:
        yield messages
    finally:
        logger.handlers, logger.propagate = before


def storm(folder: Path, trials: int, seed: int = 0) -> dict:
    """Damages the newest checkpoint of a run `trials` times, and repairs it each time.

    Args:
      folder: a run's checkpoints folder, with two steps or more.
      trials: how many times.
      seed: the seed of the damage.

    Returns:
      How often each kind of damage was done, how often it was noticed, and how often it hit
      only a marker file that restoring does not need.
    """
    chance = random.Random(seed)
    *_, before, newest = checkpoints.steps(folder)
    kept = folder.parent / "kept"
    shutil.copytree(folder / str(newest), kept)
    files = sorted(str(p.relative_to(kept)) for p in kept.rglob("*") if p.is_file())
    count = collections.Counter()
    for trial in range(trials):
        name, kind = files[trial % len(files)], KINDS[(trial // len(files) + trial) % 3]
        damage(folder / str(newest) / name, kind, chance)
        with captured_warnings() as messages:
            found = checkpoints.newest_whole(folder)
        tracked = Path(name).name not in checksums.UNTRACKED or Path(name).name == checksums.NAME
        count[kind] += 1
        count["touched_data" if tracked else "touched_a_marker"] += 1
        if tracked:
            assert found == before, f"{kind} of {name} was not noticed"
            assert len(messages) == 1, messages
            assert Path(name).name in messages[0], messages
            assert str(newest) in messages[0], messages
            count["noticed_and_named"] += 1
        else:
            assert found == newest
        shutil.rmtree(folder / str(newest))
        shutil.copytree(kept, folder / str(newest))
    assert checkpoints.newest_whole(folder) == newest
    shutil.rmtree(kept)
    return dict(count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        workdir = Path(place) / "run"
        arguments = [*runs.SHORT, f"--config.data.data_dir={place}/data", f"--workdir={workdir}"]
        done = runs.run("train", *arguments, "--config.train.steps=60")
        assert done.returncode == 0, done.stderr
        print(json.dumps(storm(workdir / "checkpoints", options.trials)))
        # The run itself goes on from the step before.
        newest = max(checkpoints.steps(workdir / "checkpoints"))
        (victim,) = (workdir / "checkpoints" / str(newest) / "state" / "d").iterdir()
        damage(victim, "flip", random.Random(1))
        again = runs.run("train", *arguments, "--config.train.steps=80")
        assert again.returncode == 0, again.stderr
        print("\n".join(again.stderr.splitlines()[:3]))
