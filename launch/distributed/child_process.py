"""Child processes that do not outlive their parent, however that one dies."""

import ctypes
import signal
import sys


def die_with_parent(*_) -> None:
    """Has the system kill this process when its parent ends; on Linux alone.

    Called in the child. A parent that is killed with -9 can tell its children nothing.
    """
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def leave_signals_to_parent(*_) -> None:
    """`die_with_parent`, for a child in whose terminal Ctrl-C is the parent's to handle."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
