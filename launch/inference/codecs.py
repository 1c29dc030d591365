"""Trained auto-encoders as parts of configs.

{"name": "launch.inference.codecs:codec", "run": DIR} is the auto-encoder of the run in DIR.
"""

import functools

from jaxgen.autoencoder import Codec, Model
from jaxgen.autoencoder import codec as codec_of
from launch.config.errors import UserError
from launch.engine import experiments, trained_runs

TASK = "jaxgen.autoencoder:autoencoder"


def codec(run: str) -> Codec:
    """The auto-encoder of a run.

    Args:
      run: WORKDIR of a run of `jaxgen.autoencoder:autoencoder` (its newest step), or WORKDIR:STEP.

    Raises:
      UserError: no such run or step, or a run of another task.
    """
    if not run:
        raise UserError(
            "config.task.codec.run: give the folder of a trained auto-encoder, as of\n"
            "python -m launch.train --config=configs/autoencoder.py --workdir=runs/autoencoder"
        )
    return _of(*trained_runs.place(run))


@functools.cache  # a task is made several times
def _of(workdir, step):
    restored = trained_runs.restore(workdir, [], step, None)
    config, shape = restored.config, restored.experiment.example["image"].shape
    if config.task.name != TASK:
        raise UserError(
            f"config.task.codec.run={workdir}: it trained {config.task.name}, not {TASK}"
        )
    encoder, decoder = (
        experiments.make_net(config.model[key], f"config.model.{key}", config.dtype)
        for key in ("encoder", "decoder")
    )
    model = Model(encoder, decoder, shape, config.task.kl, tuple(config.task.levels))
    return codec_of(model, restored.state)
