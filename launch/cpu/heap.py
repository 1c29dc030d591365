"""Large pages for XLA's arrays on Linux.

XLA allocates the temporary arrays of a step anew for each step, and Linux clears every page
of 4 KiB when it is first written: a sixth of a U-Net's step on two cores. Pages of 2 MiB cost
a twentieth of that. Many systems give them only to programs that ask; glibc asks for all that
it allocates if the environment says so when the process starts.
"""

import itertools
import os
import sys
from collections.abc import Mapping
from pathlib import Path

TUNABLE = "glibc.malloc.hugetlb"  # since glibc 2.35; older ones ignore it
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def large_pages(environment: Mapping[str, str], setting: Path = SETTING) -> dict[str, str]:
    """The variables that let a process that starts with them use large pages.

    Args:
      environment: the variables so far; what they say of large pages stays.
      setting: the system's own setting.

    Returns:
      {name: value} to add; empty where the system gives large pages to all or to none.
    """
    try:
        asked = sys.platform == "linux" and "[madvise]" in setting.read_text()
        glibc = bool(os.confstr("CS_GNU_LIBC_VERSION")) if asked else False
    except (OSError, ValueError):
        return {}
    tunables = environment.get("GLIBC_TUNABLES", "")
    if not glibc or TUNABLE in tunables:
        return {}
    return {"GLIBC_TUNABLES": ":".join(filter(None, (tunables, f"{TUNABLE}=1")))}


def restart_command() -> None:
    """Starts a command again, in the same process, where that gives it large pages.

    For `launch/__init__.py`: Python reads it before anything else of a command. What is no
    `python -m launch.COMMAND` goes on as it is, a library user's program for example.
    """
    started = getattr(sys, "orig_argv", [])
    pairs = itertools.pairwise(started)
    names = [after for before, after in pairs if before == "-m"]
    if not names or not names[0].startswith("launch."):
        return
    added = large_pages(os.environ)
    if added:
        os.execve(sys.executable, started, {**os.environ, **added})
