"""Child processes that end when their parent ends."""

import ctypes
import signal
import sys


def die_with_parent(*_) -> None:
    """Asks the system to kill this process when its parent ends; works on Linux only.

    Call this in the child. A parent that is killed with -9 cannot end its children itself.
    """
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def leave_signals_to_parent(*_) -> None:
    """`die_with_parent`, and ignores Ctrl-C, which the parent handles for its children."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
