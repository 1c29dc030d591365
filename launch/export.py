"""python -m launch.export --workdir=runs/vae --out=model.zip

Writes one file with a function of a trained model, which runs with jax alone:
`python model.zip` checks it, `segen_model.load()` inside it opens it. See docs/export.md.
"""

import argparse
import hashlib
import io
import json
import logging
import os
from pathlib import Path

import jax
import numpy as np

from launch import cli
from launch.config import run_config
from launch.config.errors import CommandExit, UserError
from launch.data import batches
from launch.engine import sharding, trained_runs
from launch.exported import archive, golden, loader, tracing
from launch.exported.tracing import ExportedFunction
from launch.inference import flags
from launch.storage import atomic

logger = logging.getLogger("segen")

# How far outputs may be from the golden outputs. bfloat16 has 8 bits, and a device that sums
# in another order rounds differently in every layer.
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05}  # of floats, absolute
LEVELS = {"float32": 1, "bfloat16": 13}  # of images, in grey levels of 255
SHARE = {"float32": 0.001, "bfloat16": 0.05}  # of integers: how many may differ at all


def main(argv: list[str]) -> None:
    """Parses the command line and exports.

    Args:
      argv: the arguments after the command's name.

    Raises:
      UserError: a mistake in the arguments, or the function cannot be exported.
      CommandExit: the exported function differs from the run.
    """
    options, overrides = _parse(argv)
    _check_target("--out", options.out)
    flags.check_ending("--out", options.out, (".zip",), "a zip archive that runs with jax alone")
    if options.params is not None:
        _check_target("--params", options.params)
        if options.params.absolute() == options.out.absolute():
            raise UserError(f"--params={options.params} is --out; give it a name of its own")
        flags.check_ending("--params", options.params, (".safetensors",), "safetensors")
    sharding.set_up_jax()
    restored = trained_runs.restore(options.workdir, overrides, options.step, None)
    write(restored, tracing.choose(restored, options.what), options.out, options.params)


def write(
    restored: trained_runs.Restored, name: str, out: Path, params: Path | None = None
) -> None:
    """Exports a function of a run; the file appears once its outputs agree with the run's.

    Args:
      restored: a trained run.
      name: the function; see `tracing.choose`.
      out: the file.
      params: a file for the parameters alone; None for no such file.

    Raises:
      UserError: the function cannot be exported.
      CommandExit: the exported function differs from the run.
    """
    # Otherwise GPUs and TPUs round the factors of products, each in its own way.
    with jax.default_matmul_precision("highest"):
        function = tracing.make_function(restored, name)
        program = tracing.export_function(function, restored.config.task.name)
        arrays = golden.make(restored, function)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    members = archive.code() | {
        loader.PROGRAM: bytes(program.serialize()),
        loader.GOLDEN: stream.getvalue(),
        loader.PARAMETERS: archive.parameters(function.parameters),
    }
    text = json.dumps(card(restored, function, arrays, members), indent=2) + "\n"
    with atomic.replacing(out) as working:
        archive.write(working, members | {loader.CARD: text.encode()})
        _check_parity(working)
    if params is not None:
        with atomic.replacing(params) as working:
            working.write_bytes(members[loader.PARAMETERS])
    size, inputs = out.stat().st_size / 2**20, ", ".join(function.inputs)
    logger.info(
        f"{name}({inputs}) of step {restored.step:,} in {out}, {size:.2f} MiB; "
        f"`python {out}` checks it on any machine"
    )


def card(
    restored: trained_runs.Restored,
    function: ExportedFunction,
    arrays: dict,
    members: dict[str, bytes],
) -> dict:
    """Makes the content of card.json.

    Args:
      restored: the run.
      function: the exported function.
      arrays: the golden arrays, which have the shapes and dtypes of the outputs.
      members: {member: content} of the archive, for the hashes.

    Returns:
      Values that JSON can hold.
    """
    record = json.loads(run_config.to_json(restored.config, batches.facts(restored.data)))
    sizes = [array.nbytes for array in function.parameters.values()]
    prefix, dtype = f"{golden.SIZES[0]}/out/", restored.config.dtype
    outputs = {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    content = {
        "format": 1,
        "function": function.name,
        "task": restored.config.task.name,
        "step": restored.step,
        "classes": _class_names(restored),
        "inputs": {
            name: _spec(leaf.dtype, leaf.shape) | {"values": golden.allowed(restored, name)}
            for name, leaf in function.inputs.items()
        },
        "outputs": {
            name: _spec(array.dtype, array.shape[1:]) | _tolerance(dtype, name, array)
            for name, array in outputs.items()
        },
        "parameters": {"arrays": len(sizes), "bytes": sum(sizes)},
        "platforms": list(tracing.PLATFORMS),
        "golden_on": jax.default_backend(),
        "versions": record["versions"],
        "config": record["config"],
        "data": record["data"],
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    }
    content = json.loads(json.dumps(content))  # then all its keys are text, as when it is read
    content["sha256"][loader.CARD] = loader.seal(content)
    return content


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    arguments = cli.parser("export", "One file with a function of a run, for jax alone.")
    add = arguments.add_argument
    add("--workdir", type=cli.workdir, required=True, help="a run")
    add("--out", type=Path, required=True, help="the file, such as model.zip")
    add(
        "--what",
        choices=tracing.FUNCTIONS,
        help="which of the task's functions (default: predict for a segmenter, else sample)",
    )
    flags.add_step(add)
    add("--params", type=Path, help="also writes the parameters to this .safetensors file")
    return cli.parse(arguments, argv)


def _check_target(flag, path):
    """Refuses a file that could not be written, before anything is computed."""
    if path.is_dir():
        raise UserError(f"{flag}={path} is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise UserError(f"{flag}={path}: no such folder: {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{flag}={path}: cannot write into {path.parent}")


def _check_parity(path):
    """Opens an archive as its user will, and compares it with its golden outputs."""
    model = loader.load(path)
    differences = model.differences()
    for name, difference in differences.items():
        logger.info(f"  {name}: {loader.describe(difference)} from the run")
    if beyond := model.beyond_tolerance(differences):
        raise CommandExit(
            f"the exported function differs from the run: {', '.join(beyond)}; nothing was written"
        )


def _spec(dtype, shape):
    return {"dtype": str(np.dtype(dtype)), "shape": ["B", *shape]}


def _tolerance(dtype, name, array):
    """How far an output of a run of a dtype may differ, and at which share of its values."""
    if array.dtype.kind not in "iu":
        return {"tolerance": TOLERANCE[dtype], "share": 1.0}
    # A grey level has neighbours. Where two classes are equally likely, ids differ by anything.
    levels = LEVELS[dtype] if name == "images" else int(np.iinfo(array.dtype).max)
    return {"tolerance": levels, "share": SHARE[dtype]}


def _class_names(restored):
    """Names of the classes that the model knows, or numbers where they have none."""
    count = restored.config.task.get("classes", 0)
    names = restored.config.task.get("names") or restored.data.split.classes
    return list(names) if len(names) == count else list(map(str, range(count)))


if __name__ == "__main__":
    cli.run(main)
