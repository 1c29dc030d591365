"""Damaged records: named and left out, up to a stated share, never silently."""

import dataclasses
import logging

import numpy as np

from launch.config.errors import UserError
from launch.data.sources import Split

logger = logging.getLogger("segen")

KEY = "damaged"  # of an example: whether another one stands in for it
# Neighbours that are tried for a record. More in a row is no accident.
TRIES = 100
SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Tolerant:
    """Records of which some cannot be read; the next readable one stands in, marked."""

    split: Split

    def __getitem__(self, index):
        first = None
        for step in range(min(TRIES, self.split.size)):
            try:
                example = self.split[(index + step) % self.split.size]
            except UserError as mistake:
                first = first or mistake
            else:
                return {**example, KEY: np.bool_(step > 0)}
        raise first


def tolerate(split: Split) -> Split:
    """A split whose damaged records do not stop who reads it; arrays in memory are whole."""
    if isinstance(split.records, dict):
        return split
    fingerprint = split.fingerprint and f"{split.fingerprint}-tolerant"
    return dataclasses.replace(split, records=Tolerant(split), fingerprint=fingerprint)


class Tally:
    """Counts the damaged records that were met, says which, and stops above the share.

    Args:
      split: what `tolerate` returned.
      share: of the split's records that may be damaged.
    """

    def __init__(self, split: Split, share: float):
        self._split, self._share, self._met = split, share, set()

    def note(self, indices: np.ndarray) -> None:
        """Takes indices of damaged records, known or new.

        Raises:
          UserError: there are more than the share allows; names some, and the first's fault.
        """
        new = sorted(set(map(int, indices)) - self._met)
        if not new:
            return
        self._met.update(new)
        count, size = len(self._met), self._split.size
        shown = ", ".join(map(str, new[:SHOWN])) + (", ..." if len(new) > SHOWN else "")
        found = f"{self._split.title}: {count} of {size:,} records met so far are damaged: {shown}"
        fault = self._fault(new[0])
        if count > self._share * size:
            raise UserError(
                f"{found}. That is more than config.data.damaged={self._share:g} allows. {fault}"
            )
        logger.info(f"{found}; left out, others stand in. {fault}")

    def _fault(self, index):
        try:
            self._split.records.split[index]
        except UserError as mistake:
            return str(mistake)
        return "It can be read now."
