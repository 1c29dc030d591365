"""The processes that run one command together. This module has the group of one process.

`launch.distributed.processes` has the group of several processes. It is imported only when
a command is started with `--distributed` or with a coordinator.
"""

import argparse
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launch.config.errors import UserError

WAIT_SECONDS = 300.0  # that processes wait for each other outside of steps, without --wait
DATA_SECONDS = 3600.0  # that processes wait for one that still decodes its data
# The same for one that works alone, as long as that takes: JAX notices if it is lost.
WORK_SECONDS = 7 * 24 * 3600.0


class Group:
    """The group of one process. `ProcessGroup` overrides every method for several processes.

    Attributes:
      process: the number of this process, from 0.
      processes: how many processes there are.
      hosts: the host of each process.
    """

    process, processes = 0, 1

    def __init__(self):
        self.hosts = [socket.gethostname()]

    @property
    def is_process_zero(self) -> bool:
        """Whether this process is the one that writes metrics, figures and config.json."""
        return self.process == 0

    def title(self, process: int) -> str:
        """The name of a process in messages: "process 2 of 4 (HOST)"."""
        host = self.hosts[process] if process < len(self.hosts) else "host unknown"
        return f"process {process} of {self.processes} ({host})"

    def all_gather(self, label: str, value: Any, seconds: float | None = None) -> list:
        """Gathers a value of every process; see `ProcessGroup`."""
        return [value]

    def on_all(self, label: str, action: Callable[[], Any], seconds: float | None = None) -> Any:
        """Calls a function on every process; see `ProcessGroup`."""
        return action()

    def on_process_zero(
        self, label: str, action: Callable[[], Any], seconds: float | None = None
    ) -> Any:
        """Calls a function on process 0 alone; see `ProcessGroup`."""
        return action()

    def check_same(self, label: str, facts: dict[str, Any]) -> None:
        """Refuses processes that were started differently; see `ProcessGroup`."""

    def check_shared(self, folder: Path, flag: str = "--workdir") -> None:
        """Refuses a folder that is not the same folder for all processes; see `ProcessGroup`."""

    def share_compilation_cache(self, workdir: Path) -> None:
        """Shares compiled programs between hosts; see `ProcessGroup`."""

    def preempted(self, turn: int) -> bool:
        """Whether all processes are to save and leave after this turn; see `ProcessGroup`."""
        return False

    @contextmanager
    def abort_together(
        self, describe_error: Callable[[BaseException], tuple[str, int] | None]
    ) -> Iterator[None]:
        """Ends all processes when one of them leaves the block by an error; see `ProcessGroup`."""
        yield


ALONE = Group()


def add_arguments(arguments: argparse.ArgumentParser) -> None:
    """Adds the arguments of a command that several processes may run together."""
    add = arguments.add_argument
    add(
        "--distributed",
        action="store_true",
        help="one of several processes; on Cloud TPU, Slurm, Open MPI and Kubernetes they find "
        "each other, elsewhere give also:",
    )
    add("--coordinator", metavar="HOST:PORT", help="the address at which process 0 listens")
    add("--processes", type=int, help="how many processes there are")
    add("--process", type=int, help="the number of this process, from 0")
    add(
        "--wait",
        type=float,
        metavar="SECONDS",
        help=f"how long processes wait for each other outside of steps (default: {WAIT_SECONDS:g})",
    )


def start(options: argparse.Namespace) -> Group:
    """Joins the other processes, if there are any; call this before JAX has devices.

    Args:
      options: the parsed arguments of `add_arguments`.

    Returns:
      The group: ALONE for a run of one process.

    Raises:
      UserError: the arguments do not say which process this is, or have no effect.
      PeerLost: another process does not arrive in time.
    """
    given = (options.coordinator, options.processes, options.process)
    if not options.distributed and given == (None, None, None):
        if options.wait is not None:
            raise UserError("--wait has no effect without --distributed")
        return ALONE
    if None in given and given != (None, None, None):
        raise UserError("--coordinator, --processes and --process go together: give all or none")
    if options.process is not None and not 0 <= options.process < options.processes:
        raise UserError(
            f"--process={options.process} of --processes={options.processes}: they count from 0"
        )
    from launch.distributed import processes

    return processes.join(given, WAIT_SECONDS if options.wait is None else options.wait)
