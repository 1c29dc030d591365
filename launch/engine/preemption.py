"""What becomes of SIGTERM and Ctrl-C while a training runs."""

import os
import signal
import sys
from contextlib import contextmanager

from launch.config.errors import ABANDONED
from launch.distributed import Group


@contextmanager
def interruptions(group: Group):
    """Turns SIGTERM and the first Ctrl-C into an answer; a second Ctrl-C leaves at once.

    With several processes SIGTERM belongs to JAX's coordination service, which has all of
    them stop after the same turn; Ctrl-C is passed on as one.

    Yields:
      turn -> the signal's name once it has come and all may stop after this turn, else
      None. To be asked once a turn, with turns 1, 2, 3, ...
    """
    seen = []

    def note(number, frame):
        del frame
        if seen and number == signal.SIGINT:
            print("\nleft at once; nothing more was saved", file=sys.stderr, flush=True)
            os._exit(ABANDONED)  # waiting for threads that save would not be at once
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
