"""A config while it is planned."""

import dataclasses
import logging
from typing import Any

from ml_collections import ConfigDict

from launch.config import planned, schema

logger = logging.getLogger("segen")


@dataclasses.dataclass
class Draft:
    """A config while it is planned.

    Attributes:
      config: the config, in which more and more values are set.
      values: what the plan has set so far.
    """

    config: ConfigDict
    values: dict[str, Any] = dataclasses.field(default_factory=dict)

    def settle(self, what: str, reason: str, values: dict[str, Any], shown: str = "") -> None:
        """Sets the values of keys that wait, and says why; the user's own stay.

        Args:
          what: the decision in words.
          reason: why these values.
          values: {dotted key: value}.
          shown: the values in words; the last one unless given.
        """
        waiting = set(planned.unset(self.config))
        decided = {key: value for key, value in values.items() if key in waiting}
        self.values |= decided
        self.config = schema.with_values(self.config, decided)
        text = shown if decided and shown else str(schema.value_at(self.config, list(values)[-1]))
        logger.info(f"plan: {what:14} {text}  ({reason if decided else 'given'})")

    def change(self, what: str, reason: str, values: dict[str, Any]) -> None:
        """Sets values that the plan has set before to others; the user's own stay.

        Args:
          what, reason, values: as of `settle`.
        """
        changed = {key: value for key, value in values.items() if key in self.values}
        self.values |= changed
        self.config = schema.with_values(self.config, changed)
        logger.info(f"plan: {what:14} {list(values.values())[-1]}  ({reason})")
