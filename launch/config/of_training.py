"""Refuses keys that only a training reads, where a run that is trained is opened."""

from collections.abc import Collection

from launch.config.errors import UserError
from launch.config.schema import is_in

OF_TRAINING = (
    *("train", "optimizer", "log", "collapse.action", "collapse.after", "collapse.times"),
    *("nonfinite", "eval.every", "checkpoint.every", "checkpoint.keep", "init_from", "encoder"),
    *("plan", "init_part"),
    *("data.batch_size", "data.augment", "data.resident", "data.resident_mib", "data.threads"),
    *("data.workers", "score.samples"),
)


def check_trained(given: Collection[str]) -> None:
    """Refuses keys that only a training reads, for a run that is trained.

    Args:
      given: the keys given by flags.

    Raises:
      UserError: names the key.
    """
    for key in given:
        if is_in(key, OF_TRAINING):
            raise UserError(
                f"--config.{key} has no effect: it is read in training, and this command takes the "
                "run as it was trained"
            )
