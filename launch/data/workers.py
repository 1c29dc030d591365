"""Processes that read batches: threads of one process would wait for one another.

Each is `python -m launch.data.workers`. It writes what it reads into memory that it shares
with the process that started it, so no pixel is sent. It ends when that process ends.
"""

import collections
import contextlib
import ctypes
import logging
import math
import mmap
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import weakref

import numpy as np
from PIL import ImageFile

from launch.config.errors import UserError
from launch.data import cache
from launch.data.sources import Split, first_line

logger = logging.getLogger("segen")

# Bytes that Pillow decodes or copies at a time: its default cuts a photo into many pieces, and
# joins them by another copy.
BLOCK = 2**20
DEATHS = 3  # of workers, before a run gives up
ALIGNMENT = 64  # bytes; JAX on a CPU takes such arrays as they are
# glibc gives the memory of each decoded image back to the system and asks for it again, page
# by page, which takes as long as half of the decoding.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
    "JAX_PLATFORMS": "cpu",  # the user's own function may import JAX, which would take the GPU
}


class Workers:
    """Reads batches in other processes; where none is free, in the thread that asks.

    So the first batches do not wait for the processes to start.

    Args:
      split: the examples.
      rows: of every batch.
      count: of the processes.
      held: batches that the receiver holds at once, for which memory is shared. There may be
        more; these are read by the thread that asks.

    Raises:
      pickle.PicklingError, TypeError, AttributeError: the split cannot be sent to a process.
    """

    def __init__(self, split: Split, rows: int, count: int, held: int):
        self._split, self.count = split, count
        self._places = lay_out(split[0], rows)
        self._source = pickle.dumps((split, self._places))
        self._size = self._places[-1][-1]  # of a batch, in bytes
        self._file = _shared_file(self._size * held)
        self._memory = mmap.mmap(self._file, self._size * held)
        # The memory that was used last is taken first: the caches of the cores still have it.
        self._free, self._idle = collections.deque(range(held)), collections.deque()
        self._lock, self._processes, self._deaths, self._closed = threading.Lock(), [], 0, False
        for _ in range(count):
            threading.Thread(target=self._start, args=(self._launch(),), daemon=True).start()

    def read(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Reads examples.

        Args:
          index: int [B], their places in the split.

        Returns:
          {key: [B, ...]}.

        Raises:
          UserError: an example cannot be read, or workers die again and again.
        """
        try:
            slot = self._free.pop()
        except IndexError:  # the receiver holds many batches
            return cache.read_rows(self._split, index)
        lent = self._lend(slot)
        try:
            worker = self._idle.pop()
        except IndexError:  # the processes still start
            return cache.read_rows(self._split, index)
        while True:
            try:
                worker.send((slot, index))
                error = worker.recv()
                break
            except (EOFError, OSError):
                worker = self._replace()
        self._idle.append(worker)
        if error is not None:
            raise error
        return arrays(lent, self._places)

    def close(self) -> None:
        """Ends the processes."""
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.kill()
            for process in self._processes:
                process.wait()
        with contextlib.suppress(OSError):
            os.close(self._file)

    def _launch(self):
        """Starts a process, to which the split must be sent; the connection to it."""
        ours, theirs = multiprocessing.Pipe()
        handles = theirs.fileno(), self._file
        places = os.pathsep.join(place or os.getcwd() for place in sys.path)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, *map(str, handles)],
                pass_fds=handles,
                stdin=subprocess.DEVNULL,
                env=os.environ | ENVIRONMENT | {"PYTHONPATH": places},
            )
        self._processes.append(process)
        return ours

    def _start(self, connection):
        """Waits until a process is ready, and offers it to those who read."""
        problem = self._prepare(connection)
        if problem is None:
            self._idle.append(connection)
        elif not self._closed:
            logger.warning(
                f"a data worker cannot start ({problem}); this process reads in its place. "
                "config.data.workers=0 starts none"
            )

    def _prepare(self, connection):
        """Sends the split to a process; the reason why that cannot read, None for none."""
        try:
            connection.send_bytes(self._source)
            return connection.recv()
        except (EOFError, OSError):
            return "it ended at once"

    def _replace(self):
        """A new worker for one that died.

        Raises:
          UserError: too many died.
        """
        while True:
            with self._lock:
                if self._closed:
                    raise EOFError
                self._deaths += 1
                if self._deaths > DEATHS:
                    raise UserError(
                        f"{self._split.title}: data workers died again and again. Memory may be "
                        f"short: give a smaller config.data.workers than {self.count}"
                    )
                logger.warning("a data worker died; starting another, which reads its batch")
                connection = self._launch()
            if self._prepare(connection) is None:
                return connection

    def _lend(self, slot):
        """The bytes of a slot, which is free again when no array uses them any more."""
        # An object of its own: arrays that are made of it keep it alive, and nothing else does.
        lent = (ctypes.c_ubyte * self._size).from_buffer(self._memory, slot * self._size)
        weakref.finalize(lent, self._free.append, slot).atexit = False
        return lent


def lay_out(example: dict, rows: int) -> list[tuple[str, tuple, str, int]]:
    """Where the arrays of a batch lie in memory.

    Args:
      example: {key: [...]}.
      rows: B, of the batch.

    Returns:
      The key, shape, dtype and first byte of each; at last the number of all bytes, as the first
      byte of an empty array.
    """
    places, start = [], 0
    for key, array in example.items():
        places.append((key, (rows, *array.shape), array.dtype.str, start))
        start += -(-rows * array.nbytes // ALIGNMENT) * ALIGNMENT
    return [*places, ("", (0,), "|u1", max(start, ALIGNMENT))]


def arrays(memory, places: list[tuple[str, tuple, str, int]]) -> dict[str, np.ndarray]:
    """The arrays of a batch in memory, without a copy.

    Args:
      memory: as many bytes as `lay_out` says.
      places: what it returned.

    Returns:
      {key: [B, ...]}.
    """
    return {
        key: np.frombuffer(memory, dtype, math.prod(shape), start).reshape(shape)
        for key, shape, dtype, start in places[:-1]
    }


def serve(connection: multiprocessing.connection.Connection, file: int) -> None:
    """Reads batches into shared memory until nobody asks any more.

    Args:
      connection: gives the split and the layout of a batch, then (slot, index) for each batch;
        takes None or an error for each of them.
      file: the handle of the shared memory.
    """
    try:
        split, places = pickle.loads(connection.recv_bytes())
    except Exception as error:  # the user's own classes raise errors of any type
        connection.send(first_line(error))
        return
    connection.send(None)
    memory, size = memoryview(mmap.mmap(file, 0)), places[-1][-1]
    while True:
        slot, index = connection.recv()
        try:
            cache.read_rows(split, index, arrays(memory[slot * size :], places))
        except Exception as error:
            known = isinstance(error, UserError)
            connection.send(error if known else RuntimeError(first_line(error)))
        else:
            connection.send(None)


def _shared_file(size):
    """The handle of a file without a name, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("segen")
        os.ftruncate(file, size)
        return file
    with tempfile.TemporaryFile() as stream:
        stream.truncate(size)
        return os.dup(stream.fileno())


def main(handle: str, file: str) -> None:
    """Runs a worker, for the process that holds the other end of a connection."""
    for number in (signal.SIGINT, signal.SIGTERM):  # that process handles them, and closes
        signal.signal(number, signal.SIG_IGN)
    ImageFile.MAXBLOCK = BLOCK
    with contextlib.suppress(EOFError, OSError):
        serve(multiprocessing.connection.Connection(int(handle)), int(file))


if __name__ == "__main__":
    main(*sys.argv[1:])
