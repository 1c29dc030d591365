"""A trained flow as the teacher of a mean flow: what it gives, and whom it can teach."""

from functools import partial

from jaxgen.flows.mean_velocity import Teacher
from jaxgen.flows.model import Model, denoise


def teacher(model: Model, params: dict) -> Teacher:
    """A trained flow as functions, for a mean flow that learns from it.

    Args:
      model: the model.
      params: of the net, which the functions hold.

    Returns:
      The teacher. It is not guided: the student guides itself, when it makes images.
    """
    return Teacher(
        denoise=partial(denoise, model, params),
        shape=model.shape,
        classes=model.classes,
        class_dropout=model.class_dropout,
        levels=model.levels,
        codec=model.codec,
    )


def check(model: Model) -> None:
    """Checks that the teacher of a mean flow models what the mean flow does.

    Args:
      model: with or without a teacher.

    Raises:
      ValueError: the teacher models other images, latents or classes.
    """
    teacher = model.mean_flow.teacher if model.mean_flow else None
    if teacher is None:
        return
    if teacher.codec is not model.codec:
        raise ValueError(
            f"teacher: it models {_of(teacher.codec)}, and this flow {_of(model.codec)}; both need "
            "the same codec (the same run and step), or none"
        )
    if teacher.shape != model.shape:
        raise ValueError(f"teacher: it is for images {teacher.shape}; these are {model.shape}")
    if 2 in (teacher.levels, model.levels) and teacher.levels != model.levels:
        raise ValueError(
            f"teacher: it has levels={teacher.levels}, and this flow levels={model.levels}; only "
            "with 2 are pixels drawn as black or white"
        )
    if teacher.classes != model.classes:
        raise ValueError(
            f"teacher: it has classes={teacher.classes}, and this flow classes={model.classes}"
        )
    if model.classes and model.class_dropout and not teacher.class_dropout:
        raise ValueError(
            "teacher: it never trained without classes (class_dropout=0), and this flow does with "
            f"class_dropout={model.class_dropout}; give 0"
        )


def _of(codec):
    return "latents of a codec" if codec else "pixels"
