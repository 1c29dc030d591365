"""Trained auto-encoders as parts of configs.

{"name": "launch.inference.codecs:codec", "run": DIR} is the auto-encoder of the run in DIR.
"""

import functools

from jaxgen.autoencoder import Codec, Model
from jaxgen.autoencoder import codec as codec_of
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
            "config.task.codec.run: give the folder of a trained auto-encoder, as of\n"
            "python -m launch.train --config=configs/autoencoder.py --workdir=runs/autoencoder"
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
    task, shape = config.task, restored.experiment.example["image"].shape
    model = Model(encoder, decoder, shape, task.get("kl", 0.0), tuple(task.get("levels", ())))
    return codec_of(model, restored.state)
