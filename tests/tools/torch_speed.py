"""The speed of our compiled steps beside the same nets in PyTorch, on this machine.

  python -m tests.tools.torch_speed --net=unet --torch=/path/to/python

PyTorch is no dependency of this project: --torch is the interpreter of an environment that
has it. Both sides have the same layers, batch and loss, float32 and Adam, without a moving
average and without clipping; ours are the engine's own compiled steps, so they compute the
sums for metrics too. The sides work in turn, never at the same time; figures are medians
over rounds. Prints one line of JSON; `ratio` is above 1 where ours is faster;
`others_cores`, the cores that other programs used meanwhile, must be near 0.

Nets: unet (128 x 128, batch 4); folder and folder_batch, the net of configs/unet.py:folder
with group and batch norm (256 x 256, batch 8); dcgan, pixelcnn and conv_vae on 28 x 28;
edges, EdgeNet on 160 x 160; predict, photographs of 500 x 375 by unet in windows.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

from launch import cli
from launch.config.errors import UserError
from tests.tools import in_turn

ROOT = Path(__file__).resolve().parents[2]
ADAM = {"name": "optax:adam", "learning_rate": 1e-3, "clip_norm": 0.0, "ema": 0.0}
CLASSES = 11
NETS = ("unet", "folder", "folder_batch", "dcgan", "pixelcnn", "conv_vae", "edges", "predict")


def main(argv: list[str]) -> None:
    """Parses the command line, and measures or serves."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.torch_speed", allow_abbrev=False)
    parser.add_argument("--net", choices=NETS, required=True)
    parser.add_argument("--torch", default=sys.executable, help="an interpreter with PyTorch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="least duration of a round")
    parser.add_argument("--side", choices=("ours",), help="for the tool itself: one side alone")
    options = parser.parse_args(argv)
    if options.rounds < 1 or options.seconds < 0:
        raise UserError("--rounds must be at least 1, and --seconds at least 0")
    if options.side:
        serve(options.net, options.seconds)
        return
    torch = options.torch  # the children start in another folder
    torch = os.path.abspath(torch) if os.path.dirname(torch) else torch
    check_torch(torch)
    print(json.dumps(compare(options.net, torch, options.rounds, options.seconds)))


def check_torch(python: str) -> None:
    """Refuses an interpreter that does not run or has no PyTorch."""
    script = "import sys, importlib.util as util; sys.exit(0 if util.find_spec('torch') else 3)"
    help_ = (
        "give an interpreter that has it by --torch=PYTHON, for example of an environment made "
        "by `python -m venv DIR` and `DIR/bin/pip install torch`"
    )
    try:
        code = subprocess.run([python, "-c", script], stdin=subprocess.DEVNULL).returncode
    except OSError as error:
        raise UserError(f"--torch={python} does not run ({error.strerror}); {help_}")
    if code:
        raise UserError(f"{python} has no PyTorch; {help_}")


def compare(net: str, torch: str, rounds: int, seconds: float) -> dict:
    """Starts both sides and measures them in turn; see `figures`."""
    arguments = [f"--net={net}", f"--seconds={seconds}"]
    commands = {
        "ours": [sys.executable, "-m", "tests.tools.torch_speed", "--side=ours", *arguments],
        "PyTorch": [torch, "-m", "tests.tools.torch_side", *arguments],
    }
    children = []
    try:
        for name, command in commands.items():
            children.append(in_turn.Child(name, command, cwd=ROOT))
        ours, theirs = children
        check_facts(net, ours.facts, theirs.facts)
        return figures(net, *in_turn.measure((ours, theirs), rounds), ours.facts["batch"])
    except in_turn.ChildDied as error:
        raise UserError(f"--net={net}: {error}; what it said stands above")
    finally:
        for child in children:
            child.close()


def check_facts(net: str, ours: dict, theirs: dict) -> None:
    """Says how large both nets are; refuses nets or batches of two sizes."""
    counts = f"{ours['parameters']:,} parameters of ours, {theirs['parameters']:,} in PyTorch"
    print(f"{net}: {counts}; batches of {ours['batch']}", file=sys.stderr)
    if ours != theirs:
        raise UserError(f"--net={net}: the sides differ: ours {ours}, PyTorch {theirs}")


def figures(net: str, ours: float, theirs: float, others: float, batch: int) -> dict:
    """The line of JSON.

    Args:
      net: its name.
      ours: seconds of our step.
      theirs: seconds of the step in PyTorch.
      others: cores that other programs used meanwhile, at most.
      batch: images of a step.
    """
    return {
        "net": net,
        "ours_images_per_second": round(batch / ours, 2),
        "torch_images_per_second": round(batch / theirs, 2),
        "ratio": round(theirs / ours, 3),
        "ours_ms": round(1e3 * ours, 2),
        "torch_ms": round(1e3 * theirs, 2),
        "others_cores": round(others, 2),
        "batch": batch,
        "machine": machine(),
    }


def machine() -> str:
    """The number of cores and the model of the CPU."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} x {(models or [platform.processor()])[0]}"


def serve(net: str, seconds: float) -> None:
    """Our side: answers the parent with seconds per step."""
    import jax

    from launch.data import batches
    from launch.engine import experiments, sharding

    sharding.set_up_jax()
    config, example = config_of(net)
    size = config.data.batch_size
    data = in_memory(example, size)
    experiment = experiments.build(config, data)
    state = experiment.compiled.load(experiments.initial_state(experiment))
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    if net == "predict":
        step, size = predicting(config, data, experiment, state), 1
    else:
        feed = batches.feed(data, config.data, config.seed, 0)
        step = training(experiment, state, experiment.compiled.put_feed(next(feed)))
    in_turn.serve(step, {"parameters": count, "batch": size}, seconds)


def training(experiment, state, batch):
    """A function that takes one step of training."""
    import jax

    done = 0

    def step():
        nonlocal state, done
        state, outputs = experiment.compiled.train(state, batch, done)
        done += 1
        jax.block_until_ready((state, outputs))

    return step


def predicting(config, data, experiment, state, photographs=50):
    """A function that labels the next photograph."""
    from launch.engine.trained_runs import Restored
    from launch.inference.segmenter import Segmenter

    segmenter = Segmenter([Restored(config, data, experiment, state, 0)], batch_size=1, depth=False)
    images, done = random_array((photographs, 375, 500, 3)), 0

    def step():
        nonlocal done
        done += 1
        segmenter.label([{"image": images[done % photographs]}], None)

    return step


def random_array(shape, high=256):
    return np.random.default_rng(0).integers(0, high, shape, np.uint8)


def in_memory(example: dict, size: int):
    """A split of `size` random examples, of {key: (shape, number of values)}."""
    import jax

    from launch.data import batches, sources

    arrays = {key: random_array((size, *shape), high) for key, (shape, high) in example.items()}
    if "edges" in arrays:  # as one annotator draws them: 1 pixel in 16
        arrays["edges"] = np.where(arrays["edges"] < 16, 255, 0).astype(np.uint8)
    spec = {key: jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for key, a in arrays.items()}
    return batches.Data(sources.Split(arrays, size, "random examples"), arrays, spec)


def config_of(net: str):
    """The config of a net, and the form of its examples for `in_memory`."""
    from configs import edges, gan, rnn, unet, vae
    from launch.config import loading

    masks = lambda side: {
        "image": ((side, side, 3), 256),
        "segmentation": ((side, side, 1), CLASSES),
    }
    digits = {"image": ((28, 28, 1), 256)}
    config, example = {
        "dcgan": lambda: (gan.get_config("mnist_conv"), digits),
        "pixelcnn": lambda: (rnn.get_config("mnist_pixelcnn"), digits),
        "conv_vae": lambda: (vae.get_config("mnist_conv"), digits),
        "edges": lambda: (
            edges.get_config(),
            {"image": ((160, 160, 3), 256), "edges": ((160, 160, 1), 256)},
        ),
        "folder": lambda: (unet.get_config("folder"), masks(256)),
        "folder_batch": lambda: (unet.get_config("folder"), masks(256)),
    }.get(net, lambda: (unet.get_config("folder"), masks(128)))()
    if "segmentation" in example:
        config.task.classes = CLASSES
        config.task.loss = {"name": "jaxseg.losses:cross_entropy"}
    if net == "folder_batch":
        config.model.norm = "batch"
    if net in ("unet", "predict"):
        config.model.update(widths=(32, 64, 128, 256, 512), stem=1, norm="batch", up="transpose")
        config.data.batch_size = 4
    several = "name" not in config.model and net == "dcgan"
    config.optimizer = {"generator": ADAM, "discriminator": ADAM} if several else ADAM
    config.data.update(resident=False, augment=[])
    config.train.steps_per_dispatch = 1
    return loading.with_defaults(config, net), example


if __name__ == "__main__":
    cli.run(main)
