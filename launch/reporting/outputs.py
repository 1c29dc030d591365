"""Standard output and standard error that a command can do without."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from launch.config.errors import UserError


class Output:
    """A text stream whose `write` and `flush` never raise; what cannot be written is dropped.

    The reader may have left (`| head -1`), the terminal may be closed, the disk full. The file
    descriptor then leads to the null device, because libraries in C write to it too, and
    because the text that waits in Python's buffer would fail again when Python ends.

    Args:
      stream: the stream to write to.

    Attributes:
      error: the first error of the stream; None if there was none.
    """

    def __init__(self, stream):
        self._stream, self.error = stream, None
        if hasattr(stream, "reconfigure"):  # names of files may hold what the encoding lacks
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes text, if that is possible; returns its length."""
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, if that is possible."""
        self._attempt(self._stream.flush)

    def _attempt(self, action, *arguments):
        try:
            action(*arguments)
        except (OSError, ValueError) as error:  # ValueError: the stream was closed in Python
            self.error = self.error or error
            if isinstance(error, OSError) and not isinstance(error, BlockingIOError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)


@contextmanager
def protected() -> Iterator[None]:
    """Replaces standard output and standard error by an `Output` each while the block runs."""
    _open_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        Output(stream or os.fdopen(number, "w", closefd=False))
        for number, stream in enumerate(before, start=1)
    )
    try:
        yield
    finally:
        for output in (sys.stdout, sys.stderr):
            output.flush()
        sys.stdout, sys.stderr = before


def check_results() -> None:
    """Checks that standard output took everything; call it at the end of a `protected` block.

    Raises:
      UserError: it did not. But a reader that left early has read what it wants.
    """
    sys.stdout.flush()
    error = sys.stdout.error
    if isinstance(error, OSError) and error.errno != errno.EPIPE:
        raise UserError(f"cannot write the results to stdout: {error.strerror}")


def _open_closed():
    """Opens the null device for each closed standard stream.

    The next file that opens would have its number: libraries would write messages into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
