"""A file that one process holds at a time; the system lets go of it when that one dies."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = ".lock"


@contextmanager
def held(path: Path, busy: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock while the block runs.

    Args:
      path: of the file, made if it is not there; its folder must be.
      busy: called with who holds the lock, "process 12 on HOST", where somebody does:
        raises to give up, returns to wait until it is free.
    """
    with path.open("a+") as stream:
        try:
            import fcntl
        except ImportError:  # not on Windows, where nothing is locked
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
