"""The processes that train together. This module has the group of one process.

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
        """Gathers a value of every process. All processes must call this in the same order.

        Args:
          label: a name for the value, for messages.
          value: the value of this process, as JSON can hold it.
          seconds: how long to wait for the other processes; None: as long as `--wait` says.

        Returns:
          The values of all processes, in the order of the processes.

        Raises:
          PeerLost: a process does not arrive in time; names that process.
        """
        return [value]

    def on_all(self, label: str, action: Callable[[], Any], seconds: float | None = None) -> Any:
        """Calls a function on every process.

        Args:
          label: a name for the action, for messages.
          action: the function.
          seconds: how long to wait for the other processes; None: as long as `--wait` says.

        Returns:
          The result of the function on this process.

        Raises:
          UserError: on all processes if the function raises UserError on any; names that one.
          PeerLost: a process does not arrive in time.
        """
        return action()

    def on_process_zero(self, label: str, action: Callable[[], Any]) -> Any:
        """Calls a function on process 0 alone.

        Args:
          label: a name for the action, for messages.
          action: the function; its result must be a value that JSON can hold.

        Returns:
          The result, on all processes.

        Raises:
          UserError: on all processes if the function raises UserError.
          PeerLost: a process does not arrive in time.
        """
        return action()

    def check_same(self, label: str, facts: dict[str, Any]) -> None:
        """Refuses processes that were started differently.

        Args:
          label: a name for the facts, for messages.
          facts: {name: value}, as this process has them and as JSON can hold them.

        Raises:
          UserError: two processes differ; names a process, a fact, and both values.
        """

    def check_shared(self, folder: Path) -> None:
        """Refuses a folder that is not the same folder for all processes.

        Raises:
          UserError: names the processes that do not see a file that process 0 writes.
        """

    def share_compilation_cache(self, workdir: Path) -> None:
        """Lets processes on several hosts find each other's compiled programs.

        Args:
          workdir: the run's folder, which the hosts share.
        """

    def preempted(self, turn: int) -> bool:
        """Whether all processes are to save and leave after this turn.

        The processes agree on the first turn after one of them received SIGTERM.

        Args:
          turn: 1, 2, 3, ...; all processes must ask once in every turn.
        """
        return False

    @contextmanager
    def abort_together(
        self, describe_error: Callable[[BaseException], tuple[str, int] | None]
    ) -> Iterator[None]:
        """Ends all processes when one of them leaves the block by an error.

        Without this, the others would wait in a collective until JAX notices the loss.

        Args:
          describe_error: error -> its message and exit code; None to show the stack trace.
        """
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
        default=300.0,
        metavar="SECONDS",
        help="how long processes wait for each other outside of steps (default: 300)",
    )


def start(options: argparse.Namespace) -> Group:
    """Joins the other processes, if there are any; call this before JAX has devices.

    Args:
      options: the parsed arguments of `add_arguments`.

    Returns:
      The group: ALONE for a run of one process.

    Raises:
      UserError: the arguments do not say which process this is.
      PeerLost: another process does not arrive in time.
    """
    given = (options.coordinator, options.processes, options.process)
    if not options.distributed and given == (None, None, None):
        return ALONE
    if None in given and given != (None, None, None):
        raise UserError("--coordinator, --processes and --process go together: give all or none")
    if options.process is not None and not 0 <= options.process < options.processes:
        raise UserError(
            f"--process={options.process} of --processes={options.processes}: they count from 0"
        )
    from launch.distributed import processes

    return processes.join(given, options.wait)
