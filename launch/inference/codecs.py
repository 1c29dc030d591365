"""Trained auto-encoders as parts of configs.

{"name": "launch.inference.codecs:codec", "run": "DIR:STEP"} is the auto-encoder of the run in DIR.
"""

import functools

from jaxgen import autoencoder
from jaxgen.autoencoder import Codec
from launch import checkpoints
from launch.config import run_config
from launch.config.errors import UserError
from launch.engine import experiments, trained_runs

TASK = "jaxgen.autoencoder:autoencoder"


def codec(run: str) -> Codec:
    """The auto-encoder of a run.

    Args:
      run: WORKDIR:STEP of a run of `jaxgen.autoencoder:autoencoder`. The step is part of it, so
        that what is trained on the latents goes on with the same ones.

    Raises:
      UserError: no such run or step, or a run of another task.
    """
    if not run:
        raise UserError(
            "config.task.codec.run: give a trained auto-encoder as DIR:STEP, such as of\n"
            "python -m launch.train --config=configs/autoencoder.py --workdir=runs/autoencoder\n"
            "(a model of codes needs one with codes, configs/autoencoder.py:fsq)"
        )
    workdir, step = trained_runs.place(run)
    if not isinstance(step, int):
        newest = checkpoints.steps(workdir / "checkpoints")[-1:]
        example = f"{run.partition(':')[0]}:{newest[0]}" if newest else "runs/autoencoder:2000"
        raise UserError(f"config.task.codec.run={run}: give the step too, as {example}")
    return _of(workdir, step)


@functools.cache  # a task is made several times
def _of(workdir, step):
    config = run_config.read_config(workdir)
    if config.task.name != TASK:
        raise UserError(
            f"config.task.codec.run={workdir}: it trained {config.task.name}, not {TASK}"
        )
    restored = trained_runs.restore(workdir, [], step, None, local=True)
    encoder, decoder = (
        experiments.make_net(config.model[key], f"config.model.{key}", config.dtype)
        for key in ("encoder", "decoder")
    )
    arguments = {key: value for key, value in config.task.items() if key != "name"}
    model = autoencoder.model_of(encoder, decoder, restored.experiment.example, **arguments)
    return autoencoder.codec(model, restored.state)
