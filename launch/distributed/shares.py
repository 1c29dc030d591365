"""Work on a list that several processes share out: each has every P-th item."""

from collections.abc import Sequence
from typing import Any

from launch.distributed.group import WORK_SECONDS, Group

AT_ONCE = 500  # results of each process that are exchanged in one message


def own(group: Group, items: Sequence) -> Sequence:
    """The items of this process."""
    return items[group.process :: group.processes]


def in_order(group: Group, label: str, results: Sequence, count: int) -> list[Any]:
    """Gathers the results of all processes, in the order of the items.

    Args:
      group: the processes, each of which calls this when it is done with its own items.
      label: a name for the results, for messages.
      results: those of `own`, as JSON can hold them.
      count: how many items all processes have.

    Returns:
      The results of all items, on every process.

    Raises:
      PeerLost: a process does not arrive.
    """
    parts = [[] for _ in range(group.processes)]
    for start in range(0, -(-count // group.processes), AT_ONCE):
        gathered = group.all_gather(label, results[start : start + AT_ONCE], WORK_SECONDS)
        for part, more in zip(parts, gathered, strict=True):
            part += more
    return [parts[number % group.processes][number // group.processes] for number in range(count)]
