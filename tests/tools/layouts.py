"""One run on several numbers of processes and devices, and moved between them.

python -m tests.tools.layouts --family=vae

Compares the losses of 20 steps on 2 x 4, 4 x 2 (parameters sharded over 2) and 1 x 8
processes x devices with those on 1 x 1; those of a run that moves from 2 x 4 to 1 x 1 to 4 x 2
across two restarts; and the final bits of a run that restarts on 2 x 4. All devices are simulated
on CPUs.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from launch.reporting import metrics_file
from tests.tools import runs

STEPS = 20
LAYOUTS = {"1x1": (1, 1), "2x4": (2, 4), "4x2": (4, 2), "1x8": (1, 8)}
SMALLER = {"2x2": (2, 2), "1x4": (1, 4)}


def train(folder: Path, family: str, layout: str, steps: int, *arguments: str) -> None:
    """Trains, or goes on, up to a step; raises with the output if that fails."""
    processes, devices = (LAYOUTS | SMALLER)[layout]
    done = runs.run(
        "local",
        f"--processes={processes}",
        f"--devices={devices}",
        "--restarts=0",
        "--",
        f"--config=tests/tools/small.py:{family}",
        f"--workdir={folder}",
        f"--config.train.steps={steps}",
        *(["--config.mesh.fsdp=2"] if layout == "4x2" else []),
        *arguments,
    )
    assert done.returncode == 0, f"{layout}, to step {steps}:\n{done.stderr}"


def losses(folder: Path) -> np.ndarray:
    """The training loss of every step."""
    pairs = metrics_file.read(folder / "metrics.jsonl").series("loss", "train")
    return np.array([loss for _, loss in pairs])


def compare(folder: Path, family: str, *arguments: str) -> dict:
    """The largest differences of a loss to one process with one device; and bit equality."""
    found = {"family": family}
    for layout in LAYOUTS:
        train(folder / layout, family, layout, STEPS, *arguments)
        assert len(losses(folder / layout)) == STEPS
    alone = losses(folder / "1x1")
    for layout in ("2x4", "4x2", "1x8"):
        found[layout] = float(np.abs(losses(folder / layout) - alone).max())
    for layout, steps in (("2x4", 7), ("1x1", 13), ("4x2", STEPS)):
        train(folder / "moved", family, layout, steps, *arguments)
    found["2x4 -> 1x1 -> 4x2"] = float(np.abs(losses(folder / "moved") - alone).max())
    for steps in (7, STEPS):
        train(folder / "again", family, "2x4", steps, *arguments)
    ends = [runs.state_hash(folder / name, STEPS) for name in ("again", "2x4")]
    found["2x4 -> 2x4 to the bit"] = ends[0] == ends[1]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="vae", choices=("vae", "gan", "rnn", "flow", "unet"))
    options, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(compare(Path(place), options.family, *rest)))
