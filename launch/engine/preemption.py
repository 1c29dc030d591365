"""SIGTERM and Ctrl-C during a training: save, then leave."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from launch.config.errors import ABANDONED
from launch.distributed import Group


@contextmanager
def interruptions(group: Group) -> Iterator[Callable[[int], str | None]]:
    """Notes SIGTERM and the first Ctrl-C; a second Ctrl-C ends the process at once.

    With several processes JAX's coordination service handles SIGTERM: all of them stop
    after the same turn. Ctrl-C is passed on as SIGTERM.

    Args:
      group: the processes of the run.

    Yields:
      A function turn -> the name of the signal if the run is to stop after this turn, else
      None. Call it once a turn, with turns 1, 2, 3, ...
    """
    seen = []

    def note(number, frame):
        del frame
        if seen and number == signal.SIGINT:
            print("\nleft at once; nothing more was saved", file=sys.stderr, flush=True)
            os._exit(ABANDONED)  # not sys.exit, which waits for threads that save
        seen.append(signal.Signals(number).name)
        if group.processes > 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def answer(turn):
        if group.processes > 1:
            return "SIGTERM" if group.preempted(turn) else None
        return seen[0] if seen else None

    ours = (signal.SIGINT,) if group.processes > 1 else (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, note) for number in ours}
    try:
        yield answer
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
