"""python -m launch.export --workdir=runs/vae --out=model.zip

One file that holds what a trained model does and runs with jax alone:
`python model.zip` checks it, `segen_model.load()` inside it calls it. See docs/export.md.
"""

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

logger = logging.getLogger("segen")

# How far outputs may be from the golden ones. bfloat16 has 8 bits, which another order of
# summing rounds elsewhere, layer by layer.
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05}
SHARE = {"float32": 0.001, "bfloat16": 0.05}  # of the integers among them that may differ
LEVELS = {"float32": 1, "bfloat16": 13}  # of 255, by how much an image may


def main(argv: list[str]) -> None:
    """Parses the command line and exports."""
    arguments = cli.parser("export", "One file that does what a run learnt, with jax alone.")
    add = arguments.add_argument
    add("--workdir", type=cli.workdir, required=True, help="a run")
    add("--out", type=Path, required=True, help="the file, such as model.zip")
    add(
        "--what",
        choices=tracing.FUNCTIONS,
        help="which of the task's functions (default: predict for a segmenter, else sample)",
    )
    add("--step", type=int, help="which checkpoint (default: the newest)")
    add("--params", type=Path, help="writes the parameters as a .safetensors file of their own too")
    options, overrides = cli.parse(arguments, argv)
    _check_place("--out", options.out)
    if options.params is not None:
        _check_place("--params", options.params)
        if options.params.absolute() == options.out.absolute():
            raise UserError(f"--params={options.params} is --out; give it a name of its own")
    sharding.set_up_jax()
    restored = trained_runs.restore(options.workdir, overrides, options.step, None)
    write(restored, tracing.choose(restored, options.what), options.out, options.params)


def write(
    restored: trained_runs.Restored, what: str, out: Path, params: Path | None = None
) -> None:
    """Exports a function of a run; the file appears once it is found to do the same.

    Args:
      restored: a trained run.
      what: the function, see `tracing.choose`.
      out: the file.
      params: a file for the parameters alone.

    Raises:
      UserError: the function cannot be exported.
      CommandExit: the file does not give what the run gives.
    """
    # Else GPUs and TPUs round the factors of products, and no two of them would agree.
    with jax.default_matmul_precision("highest"):
        function = tracing.build(restored, what)
        program = tracing.exported(function, restored.config.task.name)
        arrays = golden.make(restored, function)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    members = archive.code() | {
        loader.PROGRAM: bytes(program.serialize()),
        loader.GOLDEN: stream.getvalue(),
        loader.PARAMETERS: archive.parameters(function.parameters),
    }
    told = json.dumps(card(restored, function, arrays, members), indent=2) + "\n"
    _written(out, lambda path: _sound(path, members | {loader.CARD: told.encode()}))
    if params is not None:
        _written(params, lambda path: path.write_bytes(members[loader.PARAMETERS]))
    size, names = out.stat().st_size / 2**20, ", ".join(function.inputs)
    logger.info(
        f"{what}({names}) of step {restored.step:,} in {out}, {size:.2f} MiB; "
        f"`python {out}` checks it anywhere"
    )


def card(
    restored: trained_runs.Restored,
    function: ExportedFunction,
    arrays: dict,
    members: dict[str, bytes],
) -> dict:
    """What card.json says.

    Args:
      restored: the run.
      function: what is exported.
      arrays: the golden ones, which have the shapes and dtypes of the outputs.
      members: of the archive, to be hashed.
    """
    record = json.loads(run_config.to_json(restored.config, batches.facts(restored.data)))
    sizes = [array.nbytes for array in function.parameters.values()]
    prefix = f"{golden.SIZES[0]}/out/"
    outputs = {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    return {
        "format": 1,
        "what": function.what,
        "task": restored.config.task.name,
        "step": restored.step,
        "classes": _names(restored),
        "inputs": {
            name: _told(leaf.dtype, leaf.shape) | {"values": golden.allowed(restored, name)}
            for name, leaf in function.inputs.items()
        },
        "outputs": {
            name: _told(array.dtype, array.shape[1:]) | _tolerance(restored, name, array)
            for name, array in outputs.items()
        },
        "parameters": {"arrays": len(sizes), "bytes": sum(sizes)},
        "platforms": list(tracing.PLATFORMS),
        "golden_on": jax.default_backend(),
        "versions": record["versions"],
        "config": record["config"],
        "data": record["data"],
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in members.items()},
    }


def _told(dtype, shape):
    return {"dtype": str(np.dtype(dtype)), "shape": ["B", *shape]}


def _tolerance(restored, name, array):
    """By how much an output may differ, and at how many of its values."""
    kind = restored.config.dtype
    if array.dtype.kind not in "iu":
        return {"tolerance": TOLERANCE[kind], "share": 1.0}
    # Levels have neighbours; of two classes that are as likely, any two ids may be.
    levels = LEVELS[kind] if name == "images" else int(np.iinfo(array.dtype).max)
    return {"tolerance": levels, "share": SHARE[kind]}


def _names(restored):
    """Names of the classes that the model knows, numbers where they have none."""
    count = restored.config.task.get("classes", 0)
    named = restored.config.task.get("names") or restored.data.split.classes
    return list(named) if len(named) == count else list(map(str, range(count)))


def _sound(path, members):
    """Writes an archive and holds it to its golden outputs, as whoever gets it would."""
    archive.write(path, members)
    model = loader.load(path)
    differences = model.differences()
    for name, found in differences.items():
        logger.info(f"  {name}: {loader.told(found)} from the run")
    if beyond := model.beyond(differences):
        raise CommandExit(
            f"the exported function does not give what the run gives: {', '.join(beyond)} "
            "differ; nothing was written"
        )


def _written(path, write):
    """Lets `write` make a file, which takes its name when it is whole."""
    working = path.with_name(f"{path.name}.tmp")
    try:
        write(working)
        working.replace(path)
    finally:
        working.unlink(missing_ok=True)


def _check_place(flag, path):
    """Refuses a file that could not be written, before anything is opened."""
    if path.is_dir():
        raise UserError(f"{flag}={path} is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise UserError(f"{flag}={path}: no such folder: {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{flag}={path}: cannot write into {path.parent}")


if __name__ == "__main__":
    cli.run(main)
