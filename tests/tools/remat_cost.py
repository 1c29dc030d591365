"""Measures what `config.train.remat` saves in memory and costs in time.

python -m tests.tools.remat_cost --config=configs/unet.py:folder --shape=512,512,3 --classes=11

Compiles the training step of a config for each choice, on random examples, and runs them in
turn. Prints the peak of a step by XLA's count (arguments, outputs and temporaries), the peak of
this process, which also holds Python and all that ran before, and the time of each step beside
the first choice's in the same round. --rounds=0 compiles alone; --choices=all measures the
process with one choice.
"""

import argparse
import json
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from launch import cli
from launch.config import loading, schema
from launch.engine import experiments, memory, remat, sharding

# What the tasks need beside an image: the truth's key, and whether it is a map.
TRUTHS = {
    "jaxseg.segmentation:segmentation": ("segmentation", True),
    "jaxseg.edge_detection:edge_detection": ("edges", True),
    "jaxseg.classification:classification": ("label", False),
    "jaxgen.translation:translation": ("segmentation", True),
}


def measure(config, shape: tuple[int, ...], choices: list[str], rounds: int) -> dict:
    """Peaks in MiB and seconds of a step for each choice; see the docstring of the module."""
    example = {"image": jax.ShapeDtypeStruct(shape, np.uint8)}
    if config.task.name in TRUTHS:
        key, is_map = TRUTHS[config.task.name]
        example[key] = jax.ShapeDtypeStruct((*shape[:2], 1) if is_map else (), np.uint8)
    rows, most = config.data.batch_size, max(2, config.task.get("classes", 0))
    draw = np.random.default_rng(0).integers
    batch = {
        name: jnp.asarray(draw(256 if name == "image" else most, size=(rows, *leaf.shape)), "uint8")
        for name, leaf in example.items()
    }
    batch |= {"index": jnp.arange(rows, dtype=jnp.int32), "mask": jnp.ones(rows, bool)}
    task, key = experiments.make_task(config, example)[0], jax.random.key(0)
    form = jax.eval_shape(task.init, key, batch)
    mesh, found, programs = sharding.make_mesh(1, 1), {}, {}
    for choice in choices:
        step, options = task.train_step, {}
        if choice != "nothing":
            step = remat.with_remat(step, choice, config.task.name, form, batch, key)
            options = remat.compiler_options(mesh)
        step = jax.jit(step, donate_argnums=0, compiler_options=options)
        programs[choice] = step.lower(form, batch, key).compile()
        peak = round(memory.peak(programs[choice]) / 2**20)
        found[choice] = {"step_peak_mib": peak, "seconds": []}
    init = jax.jit(lambda batch: task.init(key, batch))
    states = {choice: init(batch) for choice in choices} if rounds else {}
    for number in range(rounds + 1 if rounds else 0):
        for choice, program in programs.items():
            began = time.perf_counter()
            states[choice], _ = jax.block_until_ready(program(states[choice], batch, key))
            if number:  # the first round warms up
                found[choice]["seconds"].append(round(time.perf_counter() - began, 3))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10
    return found | {"process_peak_mib": peak}


def main() -> None:
    """Parses the command line, measures, and prints JSON."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--config", required=True)
    arguments.add_argument("--shape", default="512,512,3", help="height, width and channels")
    arguments.add_argument("--classes", type=int, default=0, help="of config.task")
    arguments.add_argument("--choices", default="nothing,blocks,all")
    arguments.add_argument("--rounds", type=int, default=3)
    options, overrides = cli.parse(arguments, sys.argv[1:])
    config = loading.override(loading.load(options.config), overrides)
    if options.classes:
        config = schema.with_values(config, {"task.classes": options.classes})
    shape = tuple(int(side) for side in options.shape.split(","))
    cli.quiet()
    sharding.set_up_jax()
    print(json.dumps(measure(config, shape, options.choices.split(","), options.rounds)))


if __name__ == "__main__":
    main()
