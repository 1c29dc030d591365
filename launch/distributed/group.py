"""Several processes of one run: who they are, what they agree on, how all leave together.

JAX runs one process a host. Compiled steps exchange arrays by XLA's collectives; all
else that processes tell each other (is the config the same, did your data open, what
went wrong) goes as JSON through the key-value store of JAX's coordination service.
A process that waits says for whom, and gives up with that name.
"""

import argparse
import json
import logging
import os
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax._src import clusters  # what jax.distributed.initialize finds, before it connects
from jax._src import distributed as service  # the key-value store has no public name
from jax.experimental import multihost_utils

from launch import cli
from launch.config.errors import PeerLost, UserError
from launch.distributed import startup_barrier

logger = logging.getLogger("segen")

# Seconds after which a silent process counts as dead; those that wait for it in a
# collective are then ended by JAX.
HEARTBEAT = 30
# Seconds in which processes that fail together have all noticed.
GRACE = 3.0
# Seconds of waiting after which the first process says for whom.
PATIENCE = 20.0


class Group:
    """The processes of a run. `ALONE` is the group of one, which asks nobody.

    Args:
      client: of JAX's coordination service; None for one process.
      process, processes: which one this is, out of how many.
      seconds: how long to wait for the others outside of compiled steps.
    """

    def __init__(
        self, client: Any = None, process: int = 0, processes: int = 1, seconds: float = 300.0
    ):
        self.process, self.processes, self.hosts = process, processes, [socket.gethostname()]
        self._client, self._seconds, self._count = client, seconds, 0
        self._over = threading.Event()

    @property
    def first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.process == 0

    def title(self, process: int) -> str:
        """How messages call a process: "process 2 of 4 (HOST)"."""
        host = self.hosts[process] if process < len(self.hosts) else "host unknown"
        return f"process {process} of {self.processes} ({host})"

    def all_gather(self, what: str, value: Any, seconds: float | None = None) -> list:
        """Every process's value (JSON), in the order of the processes, on every process.

        Args:
          what: what is waited for, for messages; all processes must ask in the same order.
          value: this process's.
          seconds: how long to wait, if not as long as usual.

        Raises:
          PeerLost: names the processes that did not come.
        """
        if self.processes == 1:
            return [value]
        self._count += 1
        key = f"segen/{self._count}"
        deadline = time.monotonic() + (seconds or self._seconds)
        self._client.key_value_set(f"{key}/{self.process}", json.dumps(value))
        if not self.first:
            # Longer than the first process waits, which knows who is missing.
            answer = self._get(f"{key}/all", deadline + 2 * GRACE)
            if answer is None:
                raise PeerLost(f"{self.title(0)} did not come to: {what}. {_ADVICE}")
            return json.loads(answer)
        answers = self._collect(key, what, deadline)
        missing = [self.title(p) for p, answer in enumerate(answers) if answer is None]
        if missing:
            raise PeerLost(f"did not come to: {what}: {', '.join(missing)}. {_ADVICE}")
        whole = [json.loads(answer) for answer in answers]
        self._client.key_value_set(f"{key}/all", json.dumps(whole))
        return whole

    def _collect(self, key, what, deadline):
        answers, patience = [None] * self.processes, time.monotonic() + PATIENCE
        while None in answers and time.monotonic() < deadline:
            for process, answer in enumerate(answers):
                if answer is None:
                    answers[process] = self._get(f"{key}/{process}", time.monotonic() + 0.5)
            if None in answers and time.monotonic() > patience:
                patience = deadline
                waited = [self.title(p) for p, answer in enumerate(answers) if answer is None]
                logger.info(f"waiting for {', '.join(waited)}: {what}")
        return answers

    def on_all(self, what: str, action: Callable[[], Any], seconds: float | None = None) -> Any:
        """Does something on every process; returns what it gave here.

        Raises:
          UserError: on all processes, where any of them made one; says which did.
        """
        result, fault = None, None
        try:
            result = action()
        except UserError as mistake:
            fault = str(mistake)
        faults = self.all_gather(what, fault, seconds)
        found = [(self.title(p), text) for p, text in enumerate(faults) if text is not None]
        if len({text for _, text in found}) == 1 and len(found) == self.processes:
            raise UserError(found[0][1])
        if found:
            raise UserError("\n".join(f"{title}: {text}" for title, text in found))
        return result

    def on_process_zero(self, what: str, action: Callable[[], Any]) -> Any:
        """Does something on the first process alone; returns what it gave (JSON) on all.

        Raises:
          UserError: on all processes, where the first made one.
        """
        answer = None
        if self.first:
            try:
                answer = {"value": action()}
            except UserError as mistake:
                answer = {"mistake": str(mistake)}
        answer = self.all_gather(what, answer)[0]
        if "mistake" in answer:
            raise UserError(answer["mistake"])
        return answer["value"]

    def check_same(self, what: str, facts: dict[str, Any]) -> None:
        """Refuses processes that differ.

        Args:
          what: what the facts are of, for messages.
          facts: name -> JSON, as this process has them.

        Raises:
          UserError: names a process, a fact, and both its values.
        """
        facts = json.loads(json.dumps(facts))
        everyone = self.all_gather(what, facts)
        for process, other in enumerate(everyone):
            for name in sorted(other.keys() | everyone[0].keys()):
                here, there = everyone[0].get(name), other.get(name)
                if here != there:
                    raise UserError(
                        f"{what}: {self.title(process)} has {name} = {there!r}, "
                        f"{self.title(0)} has {here!r}; start all processes alike"
                    )

    def check_shared(self, folder: Path) -> None:
        """Refuses a folder that is not one and the same for all processes.

        Raises:
          UserError: names the processes that do not see what the first one writes.
        """
        if self.processes == 1:
            return
        probe = folder / f".probe-{os.getpid()}"
        self.on_process_zero("a probe file", lambda: probe.write_text("") and None)
        name = self.all_gather("its name", probe.name)[0]
        seen = self.all_gather("a shared workdir", (folder / name).exists())
        if self.first:
            probe.unlink()
        blind = [self.title(process) for process, sees in enumerate(seen) if not sees]
        if blind:
            raise UserError(
                f"{folder} is not shared: {', '.join(blind)} does not see what {self.title(0)} "
                "writes there. Put --workdir on storage that all hosts mount"
            )

    def preempted(self, turn: int) -> bool:
        """Whether this is the turn after which all processes are to save and leave.

        A SIGTERM to any of them is told to all, and the first turn that none of them
        has begun is agreed on. Ask once a turn, on all processes, with turns 1, 2, 3, ...
        """
        return multihost_utils.reached_preemption_sync_point(turn)

    @contextmanager
    def abort_together(self):
        """Ends all processes when one of them leaves the block by an error.

        Without this, the others would wait for it in a collective until its heartbeat is
        missed. The error's message is shown by the first process too, wherever it arose.
        """
        if self.processes == 1:
            yield
            return
        watch = threading.Thread(target=self._watch, daemon=True)
        watch.start()
        try:
            yield
            self.all_gather("the end", None)
        except BaseException as error:
            self._leave(error)
        self._over.set()
        watch.join()
        jax.distributed.shutdown()

    def _leave(self, error):
        # Not by sys.exit: libraries' own farewells wait for processes that are gone.
        self._over.set()
        if isinstance(error, jax.errors.JaxRuntimeError) and _PARTED.search(str(error)):
            error = PeerLost(f"another process is gone: {_line(error)}")
        message, code = cli.ending(error) or (traceback.format_exc(), 1)
        try:
            report = json.dumps([self.process, message, code])
            self._client.key_value_set("segen/failed", report)
            told = True
        except Exception:  # another process was quicker, or the service is gone
            told = False
        if told or self.first:
            logger.error(message if self.first else f"{self.title(self.process)}: {message}")
        self._exit(code)

    def _watch(self):
        while not self._over.wait(1.0):
            try:
                process, message, code = json.loads(self._client.key_value_try_get("segen/failed"))
            except Exception:  # nobody has failed
                continue
            if self._over.wait(GRACE):  # this process has noticed by itself
                return
            if self.first:
                logger.error(f"{self.title(process)}: {message}")
            self._exit(code)

    def _exit(self, code):
        """Leaves at once; the first process last, as the service ends with it."""
        sys.stderr.flush()
        deadline = time.monotonic() + 2 * GRACE
        try:
            if not self.first:
                self._client.key_value_set(f"segen/left/{self.process}", "")
            for process in range(1, self.processes) if self.first else ():
                self._get(f"segen/left/{process}", deadline)
        finally:
            os._exit(code)

    def _get(self, key, deadline):
        """The text under a key, waited for; None if it does not come in time."""
        left = int(1000 * max(deadline - time.monotonic(), 0.001))
        try:
            return self._client.blocking_key_value_get(key, left)
        except Exception as error:
            if "DEADLINE_EXCEEDED" in str(error) or "NOT_FOUND" in str(error):
                return None
            raise PeerLost(f"the coordination service of {self.title(0)} is gone: {_line(error)}")


ALONE = Group()
# How XLA's collectives and JAX's service say that somebody has left.
_PARTED = re.compile("Gloo|onnection|heartbeat|UNAVAILABLE|ABORTED|CANCELLED")
_ADVICE = "Look at its own output; the same command goes on from the last checkpoint"


def add_arguments(arguments: argparse.ArgumentParser) -> None:
    """The arguments of a command that several processes may run together."""
    add = arguments.add_argument
    add(
        "--distributed",
        action="store_true",
        help="one of several processes; on Cloud TPU, "
        "Slurm, Open MPI and Kubernetes they find each other, elsewhere give also:",
    )
    add("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    add("--processes", type=int, help="how many processes there are")
    add("--process", type=int, help="which one this is, from 0")
    add(
        "--wait",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long processes wait for each other outside of steps (default: 300)",
    )


def start(options: argparse.Namespace) -> Group:
    """Joins the other processes, if there are to be any; call before JAX has devices.

    Raises:
      UserError: arguments that do not name a place among processes.
      PeerLost: the others did not come.
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
    place = _place(given, options.wait)
    startup_barrier.wait_for_all(*place[:3], options.wait)
    try:
        jax.distributed.initialize(
            *place,
            initialization_timeout=int(options.wait),
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=int(4 * GRACE),
        )
    except Exception as error:
        raise PeerLost(f"--distributed: the processes were not connected: {_line(error)}")
    state = service.global_state
    group = Group(state.client, state.process_id, state.num_processes, options.wait)
    if not group.first:
        logger.setLevel(logging.ERROR)
    group.hosts = group.all_gather("the start", socket.gethostname())
    return group


def _place(given, seconds):
    """Address, number of processes, this one's place, and its devices, where not all."""
    if None not in given:
        return *given, None
    place = clusters.ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, int(seconds)
    )
    if None in place[:3]:
        raise UserError(
            "--distributed: no cluster found here (Cloud TPU, Slurm, Open MPI, Kubernetes); give "
            "--coordinator=HOST:PORT, --processes and --process"
        )
    return place


def _line(error):
    return " ".join(str(error).split())[:300]
