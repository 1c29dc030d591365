"""Damaged records: left out and named, as long as their share stays within a limit."""

import dataclasses
import logging

import numpy as np

from launch.config.errors import UserError
from launch.data.sources import Split

logger = logging.getLogger("segen")

KEY = "damaged"  # the key of an example that says whether another record replaces it
# Records that are tried after a damaged one. More in a row are not an accident.
TRIES = 100
SHOWN = 5  # indices of damaged records in one message


@dataclasses.dataclass(frozen=True)
class Tolerant:
    """Records in which the next readable record replaces a damaged one, and is marked.

    Attributes:
      split: the split that may hold damaged records.
    """

    split: Split

    def __getitem__(self, index):
        first = None
        for step in range(min(TRIES, self.split.size)):
            try:
                example = self.split[(index + step) % self.split.size]
            except UserError as error:
                first = first or error
            else:
                return {**example, KEY: np.bool_(step > 0)}
        raise first


def tolerate(split: Split) -> Split:
    """Makes a split that reads on after a damaged record.

    Args:
      split: any split. One whose records are arrays in memory is returned as it is.

    Returns:
      The split, with KEY in every example.
    """
    if isinstance(split.records, dict):
        return split
    fingerprint = split.fingerprint and f"{split.fingerprint}-tolerant"
    return dataclasses.replace(split, records=Tolerant(split), fingerprint=fingerprint)


class Tally:
    """Counts damaged records, names them, and stops when there are too many.

    Args:
      split: the result of `tolerate`.
      share: the largest share of the split's records that may be damaged, in [0, 1].
    """

    def __init__(self, split: Split, share: float):
        self._split, self._share, self._indices = split, share, set()

    def note(self, indices: np.ndarray) -> None:
        """Counts damaged records, and logs those that are new.

        Args:
          indices: integers [N] of damaged records, whether counted before or not.

        Raises:
          UserError: more records are damaged than the share allows. The message has the
            new indices and the error of the first.
        """
        new = sorted(set(map(int, indices)) - self._indices)
        if not new:
            return
        self._indices.update(new)
        count, size = len(self._indices), self._split.size
        shown = ", ".join(map(str, new[:SHOWN])) + (", ..." if len(new) > SHOWN else "")
        title = self._split.title
        damaged = f"{title}: {count} of {size:,} records read so far are damaged: {shown}"
        problem = self._problem(new[0])
        if count > self._share * size:
            limit = f"config.data.damaged={self._share:g}"
            raise UserError(f"{damaged}. That is more than {limit} allows. {problem}")
        logger.info(f"{damaged}; left out, others replace them. {problem}")

    def _problem(self, index):
        """The error that reading a record raises."""
        try:
            self._split.records.split[index]
        except UserError as error:
            return str(error)
        return "It can be read now."
