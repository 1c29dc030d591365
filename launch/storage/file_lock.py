"""A lock file that one process holds at a time; the system releases it when the process dies."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = ".lock"


@contextmanager
def held(path: Path, busy: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock while the block runs. On Windows nothing is locked.

    Args:
      path: the lock file, made if it is missing; its folder must exist.
      busy: called with the name of the holder, "process 12 on HOST", if another process
        holds the lock. It raises to give up, or returns to wait until the lock is free.
    """
    with open(path, "a+", opener=_no_link) as stream:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            busy(stream.read().strip() or "another process")
            fcntl.flock(stream, fcntl.LOCK_EX)
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        stream.flush()
        yield


def _no_link(path, flags):
    """Opens a file unless it is a link, because the lock file is emptied."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
