"""Trained auto-encoders as parts of configs.

{"name": "launch.inference.codecs:codec", "run": "DIR:STEP"} is the auto-encoder, or the VAE, of the
run in DIR.
"""

import functools

from jaxgen.task import Codec
from launch import checkpoints
from launch.config.errors import UserError
from launch.engine import trained_runs


def codec(run: str) -> Codec:
    """The auto-encoder of a run.

    Args:
      run: WORKDIR:STEP of a run whose task has a `codec`. The step is part of it, so that what is
        trained on the latents goes on with the same ones.

    Raises:
      UserError: no such run or step, or a run of a task without latents.
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
    restored = trained_runs.restore(workdir, [], step, None, local=True)
    if restored.experiment.task.codec is None:
        raise UserError(
            f"config.task.codec.run={workdir}: {restored.config.task.name} has no latents that "
            "another model can generate; give a run of configs/autoencoder.py or configs/vae.py "
            "(without classes, no ladder)"
        )
    return restored.experiment.task.codec(restored.state)
