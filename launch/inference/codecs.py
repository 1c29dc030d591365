"""Trained auto-encoders as parts of configs.

{"name": "launch.inference.codecs:codec", "run": "DIR:STEP"} is the auto-encoder, or the VAE, of the
run in DIR.
"""

from jaxgen.task import Codec
from launch.inference import parts

CODEC = parts.Part(
    field="codec",
    key="config.task.codec.run",
    example="runs/autoencoder:2000",
    missing="give a trained auto-encoder as DIR:STEP, such as of\n"
    "python -m launch.train --config=configs/autoencoder.py --workdir=runs/autoencoder\n"
    "(a model of codes needs one with codes, configs/autoencoder.py:fsq)",
    unfit="has no latents that another model can generate; give a run of configs/autoencoder.py "
    "or configs/vae.py (without classes, no ladder)",
)


def codec(run: str) -> Codec:
    """The auto-encoder of a run.

    Args:
      run: WORKDIR:STEP of a run whose task has a `codec`.

    Raises:
      UserError: no such run or step, or a run of a task without latents.
    """
    return parts.part_of(CODEC, run)
