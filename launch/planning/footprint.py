"""The memory of this process on CPUs, where a program's is the process's."""

from pathlib import Path
from typing import Any

import jax

from launch.cpu import heap
from launch.engine import memory


def least(compiled: Any, dispatches: int) -> int:
    """The bytes that a training takes at least, before its compiled step first runs.

    Args:
      compiled: a compiled program; its arguments are in memory already.
      dispatches: how many of it are under way at a time on CPUs, where each has temporaries.

    Returns:
      On CPUs the bytes of this process, elsewhere, or where a system does not tell them, those
      on one device.
    """
    heap.give_back()  # what the compiler held
    beside = memory.beside_arguments(compiled.memory_analysis())
    return held() + dispatches * beside if held() else memory.peak(compiled)


def held() -> int:
    """The bytes that this process holds on CPUs; 0 on others, or where the system is silent."""
    return _of_process("VmRSS") if jax.default_backend() == "cpu" else 0


def process_peak() -> int:
    """The most bytes that this process held since `forget_peak`; 0 where the system is silent."""
    return _of_process("VmHWM")


def forget_peak() -> bool:
    """Lets `process_peak` count from now on, where the system allows it; says whether it does."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # another system than Linux, or a container
        return False
    return True


def _of_process(name):
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.is_file() else []
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024 * int(found[0]) if found else 0
