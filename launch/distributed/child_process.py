"""Child processes that end when their parent ends."""

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from absl import logging as absl_logging


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


def on_one_cpu_device(action: Callable[[], Any]) -> Any:
    """Calls a function in a child process whose JAX has one CPU device and no other processes.

    Args:
      action: the function; pickle must be able to hold it and its result.

    Returns:
      The result. An error of the function is raised here.
    """
    ours = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}  # the accelerators are taken
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, context, initializer=_begin) as pool:
            child = pool.submit(os.getpid).result()
            try:
                return pool.submit(action).result()
            except BaseException:  # also a signal: the pool would wait for the child's end
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                raise
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _begin():
    """Prepares a child process for functions of this project, as a command is prepared."""
    leave_signals_to_parent()
    absl_logging.set_verbosity(absl_logging.FATAL)
    logger = logging.getLogger("segen")
    logger.addHandler(logging.StreamHandler())
    logger.propagate = False  # to what absl installs
    logger.setLevel(logging.INFO)
