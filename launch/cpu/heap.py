"""Memory that stays with the process between the steps of a training."""

import ctypes
import os
import sys

# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Lets the C library keep freed memory rather than give it back at once.

    XLA allocates the temporary arrays of a step anew for each step. glibc takes blocks of that
    size from the system and returns them, and the system clears every page again: a tenth to
    a sixth of a U-Net's step on two cores. Kept memory counts as the process's own: two blocks,
    as one dispatch waits behind the other, or more where small arrays lie in the way (2.0 to 2.8
    GiB in place of 1.4 for a U-Net whose block is 0.65). `stop_keeping` is for machines that
    have no such room, and for dispatches of several steps, which clear pages so seldom that
    nothing is gained. Call before threads start.

    On more than four cores nothing is done: threads that allocate would wait for each other.

    Returns:
      Whether the C library is glibc and took the settings.
    """
    library = _glibc()
    if library is None or (os.cpu_count() or 1) > 4:
        return False
    # Only the main arena keeps blocks above 64 MiB, so a thread that belongs to the other one
    # still asks the system for them; but with one arena the threads of XLA's compiler wait for
    # each other, and a U-Net compiles 1.5 times as long.
    settings = ((_ARENA_MAX, 2), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1))
    return all(library.mallopt(name, value) for name, value in settings)


def stop_keeping() -> None:
    """Undoes `keep_freed_memory`: glibc's defaults again, for what is freed from now on."""
    if library := _glibc():
        for name, value in ((_MMAP_MAX, 65_536), (_TRIM_THRESHOLD, 128 * 1024)):
            library.mallopt(name, value)


def give_back() -> None:
    """Returns freed memory to the system, so that what the system says is free is true."""
    if library := _glibc():
        library.malloc_trim(0)


def _glibc():
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
