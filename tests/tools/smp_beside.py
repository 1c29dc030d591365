"""Our default command beside segmentation_models_pytorch on a folder, in the same time.

  python -m tests.tools.smp_beside --data=DIR --seconds=240 --torch=/path/to/python \\
      [--pretrained] [--config.KEY=VALUE ...]

segmentation_models_pytorch 0.6 is no dependency of this project: --torch is the interpreter of
an environment that has it. The sides work one after the other. Ours is `launch.train` with
configs/segment.py:

  - ours gets SECONDS as `config.plan.minutes`, and all that it does counts: start, reading,
    planning, compiling, training, evaluation on the validation split. The scores are those of
    `launch.evaluate --split=test`, which counts every pixel of the test split once, at the
    working size that our plan chose;
  - smp gets SECONDS, or as long as ours really took where that is longer. Its start and its
    training count; reading, scaling and the validation split do not, as it is handed our
    images and masks, scaled by us. Its masks of the test images are scored as ours.

See tests/tools/smp_side.py for its recipe. With --pretrained both encoders start from the same
weights file of EfficientNet-Lite0; without, smp's has the same layers and random weights, and
ours is the default net. Prints one line of JSON; `others_cores`, the cores that other programs
used meanwhile, must be near 0.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from jaxseg.labels import truth as truth_of
from jaxseg.metrics import pixel_scores
from launch import cli
from launch.config import run_config
from launch.config.errors import UserError
from launch.data import sources
from launch.data.folders import examples, tiles
from launch.data.folders.dataset import Folder
from launch.weights import encoders
from tests.tools import in_turn
from tests.tools.torch_speed import machine

ROOT = Path(__file__).resolve().parents[2]
LEAST = 30  # seconds, in which neither side does more than start
TOLD = ("config.data.path", "config.plan.minutes")  # by --data and --seconds
PRETRAINED = "efficientnet-lite0"
PIXELS = 2**18  # counted at a time


def main(argv: list[str]) -> None:
    """Parses the command line and compares."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.smp_beside", allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="a folder of images and masks")
    parser.add_argument("--seconds", type=float, required=True, help="of each side")
    parser.add_argument("--torch", default=sys.executable, help="an interpreter with smp")
    parser.add_argument("--pretrained", action="store_true", help="both from ImageNet's weights")
    parser.add_argument("--workdir", type=Path, help="keeps our run and smp's masks; must be new")
    options, overrides = cli.parse(parser, argv)
    check(options, overrides)
    weights = str(encoders.find(PRETRAINED)) if options.pretrained else ""
    with tempfile.TemporaryDirectory() as temporary:
        workdir = (options.workdir or Path(temporary) / "sides").absolute()
        workdir.mkdir(parents=True)
        ours = train_ours(options.data, options.seconds, weights, overrides, workdir / "ours")
        limit = max(options.seconds, ours["seconds"])
        theirs = train_theirs(workdir, options.torch, limit, weights)
    line = {
        "data": str(options.data),
        "seconds": options.seconds,
        "pretrained": options.pretrained,
        "ours": ours,
        "smp": theirs,
        "machine": machine(),
    }
    print(json.dumps(line))


def check(options: argparse.Namespace, overrides: list[str]) -> None:
    """Refuses arguments that cannot work, before anything takes long."""
    if options.seconds < LEAST:
        raise UserError(f"--seconds={options.seconds:g}: give at least {LEAST}")
    if not options.data.is_dir():
        raise UserError(f"--data: no such directory: {options.data}")
    if options.workdir and options.workdir.exists():
        raise UserError(f"--workdir={options.workdir} is there already; give a new one")
    for override in overrides:
        if (key := override.lstrip("-").partition("=")[0]) in TOLD:
            raise UserError(f"--{key}: --data and --seconds say this")
    check_smp(options.torch)


def check_smp(python: str) -> None:
    """Refuses an interpreter that does not run or lacks segmentation_models_pytorch."""
    package = "segmentation_models_pytorch"
    script = (
        f"import sys, importlib.util as util; sys.exit(0 if util.find_spec('{package}') else 3)"
    )
    help_ = (
        "give an interpreter that has it by --torch=PYTHON, for example of an environment made "
        f"by `python -m venv DIR` and `DIR/bin/pip install {package}==0.6.0`"
    )
    try:
        code = subprocess.run([python, "-c", script], stdin=subprocess.DEVNULL).returncode
    except OSError as error:
        raise UserError(f"--torch={python} does not run ({error.strerror}); {help_}")
    if code:
        raise UserError(f"{python} has no {package}; {help_}")


def train_ours(data: Path, seconds: float, weights: str, overrides: list[str], run: Path) -> dict:
    """Trains by our default command, and evaluates the run on the test split.

    Returns:
      The scores with `seconds`, `steps` and `others_cores` of the training.
    """
    arguments = [
        f"--config=configs/segment.py{':lite0' if weights else ''}",
        f"--config.data.path={data.absolute()}",
        f"--config.plan.minutes={seconds / 60}",
        f"--workdir={run}",
        *overrides,
    ]
    _, took, others = timed([sys.executable, "-m", "launch.train", *arguments])
    found, *_ = timed([sys.executable, "-m", "launch.evaluate", f"--workdir={run}", "--split=test"])
    steps = run_config.read_config(run).train.steps
    return selected(json.loads(found)) | facts(took, steps, others)


def train_theirs(workdir: Path, python: str, seconds: float, weights: str) -> dict:
    """Hands our images over, trains by smp, and scores its masks of the test images.

    Args:
      workdir: holds our run as `ours`; gets what is handed over and handed back.
      python: the interpreter that has smp.
      seconds: that its training may take, from the start of its command.
      weights: the file for its encoder; "" for random ones.

    Returns:
      As `train_ours`.
    """
    config = run_config.read_config(workdir / "ours")
    splits = {split: open_folder(config.data, split) for split in (config.data.split, "test")}
    train, test = splits.values()
    truth = hand_over(train, test, workdir / "data.npz")
    command = [
        *(os.path.abspath(python) if os.path.dirname(python) else python, "-m"),
        *("tests.tools.smp_side", f"--data={workdir / 'data.npz'}"),
        *(f"--out={workdir / 'masks.npz'}", f"--classes={len(test.classes)}"),
        *(f"--weights={weights}", f"--seconds={seconds}", f"--began={time.time()}"),
        *(["--turns"] if turns_freely(config.data.augment) else []),
    ]
    answer, _, others = timed(command)
    with np.load(workdir / "masks.npz") as masks:
        found = scores([masks[name] for name in sorted(masks.files)], truth, test.classes)
    answer = json.loads(answer)
    return selected(found) | facts(answer["seconds"], answer["steps"], others)


def timed(command: list[str]) -> tuple[str, float, float]:
    """Runs a command: its output, its seconds, and the cores that other programs used.

    Raises:
      UserError: the command fails.
    """
    own = lambda: sum(os.times()[:4])  # seconds of CPU time, of this process and its children
    began, used, mine = time.perf_counter(), in_turn.seconds_of_others(()), own()
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        name = command[2] if command[1] == "-m" else command[0]
        raise UserError(f"{name} ended with {done.returncode}; what it said stands above")
    took = time.perf_counter() - began
    others = in_turn.seconds_of_others(()) - used - (own() - mine)
    return done.stdout, took, max(0.0, others / took)


def facts(seconds: float, steps: int, others: float) -> dict:
    """What is said of a training beside its scores."""
    return {"seconds": round(seconds, 1), "steps": steps, "others_cores": round(others, 2)}


def selected(found: dict) -> dict:
    """Mean IoU, mean Dice and the IoU of each class, of what `pixel_scores.scores` returns."""
    wanted = [key for key in found if key in ("mean_iou", "mean_dice") or key.startswith("iou/")]
    known = lambda value: value is not None and value == value  # NaN, in JSON null
    short = {key: round(found[key], 4) if known(found[key]) else None for key in wanted}
    iou = {key.removeprefix("iou/"): short[key] for key in wanted if key.startswith("iou/")}
    return {"mean_iou": short["mean_iou"], "mean_dice": short["mean_dice"], "iou": iou}


def turns_freely(augment) -> bool:
    """Whether our augmentation turns images freely, as they have no up and down."""
    return any(step.get("rotate", 0.0) >= 90 for step in augment)


def open_folder(section, split: str) -> Folder:
    """A split as a run's `config.data` reads it.

    Raises:
      UserError: the data is no folder, or has no such split.
    """
    records = sources.open_split(section, split).records
    if not isinstance(records, Folder):
        raise UserError(f"config.data.name={section.name}: folders are compared")
    return records


def hand_over(train: Folder, test: Folder, path: Path) -> list[np.ndarray]:
    """Writes the images of both splits and the masks of `train`, whole, at the working size.

    Args:
      train: the training split.
      test: the test split.
      path: a .npz file with train/image/N uint8 [H, W, C], train/mask/N uint8 [H, W], 255
        where ignored, and test/image/N.

    Returns:
      The masks of `test`.
    """
    arrays, truth = {}, []
    for title, folder in (("train", train), ("test", test)):
        for number, pair in enumerate(folder.pairs):
            image, mask = whole(folder, pair)
            arrays[f"{title}/image/{number:06d}"] = image
            if title == "train":
                arrays[f"train/mask/{number:06d}"] = mask
            else:
                truth.append(mask)
    np.savez(path, **arrays)
    return truth


def whole(folder: Folder, pair) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask as a folder scales them, neither padded nor cut into tiles."""
    how = folder.reading
    read = examples.read_pair(pair, folder.rule, how)
    image, mask = read["image"], read["segmentation"]
    fitting = min(1.0, *(side / full for side, full in zip(how.canvas, mask.shape, strict=True)))
    size = tiles.scaled(mask.shape, how.scale if how.tiled else fitting)
    return examples.resize(image, size), examples.resize(mask, size)


def scores(predicted: list, truth: list, names: tuple[str, ...]) -> dict[str, float]:
    """The scores of one confusion matrix over the pixels of all images.

    Args:
      predicted: uint8 [H, W] each.
      truth: of the same shapes, 255 where ignored.
      names: of the classes.

    Returns:
      As `pixel_scores.scores`.
    """
    count = jax.jit(lambda ids, mask: pixel_scores.confusion(ids, truth_of(mask, len(names))))
    counts = np.zeros((len(names), len(names)))
    flat = [np.concatenate([one.ravel() for one in masks]) for masks in (predicted, truth)]
    for start in range(0, flat[0].size, PIXELS):
        guess, mask = (ids[start : start + PIXELS] for ids in flat)
        missing = PIXELS - mask.size  # one shape is compiled once
        guess, mask = np.pad(guess, (0, missing)), np.pad(mask, (0, missing), constant_values=255)
        counts += count(guess[None].astype(np.int32), mask[None])
    return pixel_scores.scores(counts, names)


if __name__ == "__main__":
    cli.run(main)
