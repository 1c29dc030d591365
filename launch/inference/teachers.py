"""Trained flows as teachers of mean flows.

{"name": "launch.inference.teachers:teacher", "run": "DIR:STEP"} is the flow of the run in DIR.
"""

from jaxgen.flows.mean_velocity import Teacher
from launch.inference import parts

TEACHER = parts.Part(
    field="teacher",
    key="config.task.mean_flow.teacher.run",
    example="runs/flow:6000",
    missing="give a trained flow as DIR:STEP, such as of\n"
    "python -m launch.train --config=configs/flow.py --workdir=runs/flow",
    unfit="is no flow; give a run of configs/flow.py",
    unread="\n(only training needs the teacher: a trained run makes images without it, with "
    "--config.task.mean_flow.teacher=None)",
)


def teacher(run: str) -> Teacher:
    """The flow of a run, by the moving average of its parameters and without guidance.

    Args:
      run: WORKDIR:STEP of a run of `jaxgen.flow:flow`.

    Raises:
      UserError: no such run or step, or a run of another task.
    """
    return parts.part_of(TEACHER, run)
