"""SIGTERM, SIGHUP (a closed terminal) and Ctrl-C: a training saves, then leaves."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from launch.config.errors import ABANDONED
from launch.distributed import Group

HANGUP = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()  # Windows has none


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came where nothing can be saved. No `except Exception` catches it."""


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Turns SIGTERM and SIGHUP into `Terminated` while the block runs.

    So a command removes its half-written files before it leaves.
    """

    def leave(number, frame):
        del frame
        name = signal.Signals(number).name
        raise Terminated(f"{name}: left, and saved nothing more; give the same command again")

    with _handlers(leave, signal.SIGTERM, *HANGUP):
        yield


@contextmanager
def interruptions(group: Group) -> Iterator[Callable[[int], str | None]]:
    """Notes SIGTERM, SIGHUP and the first Ctrl-C; a second Ctrl-C ends the process at once.

    With several processes JAX's coordination service handles SIGTERM: all of them stop
    after the same turn. SIGHUP and Ctrl-C are passed on as SIGTERM.

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

    stopping = (signal.SIGINT, *HANGUP)
    with _handlers(note, *stopping, *((signal.SIGTERM,) if group.processes == 1 else ())):
        yield answer


@contextmanager
def _handlers(handler, *numbers):
    """Handles signals while the block runs, but none that the process was started to ignore.

    `nohup` starts a process that ignores SIGHUP, so that it outlives the terminal.
    """
    handled = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
