"""The group of several processes: they exchange values, and end together.

JAX runs one process per host. Compiled steps exchange arrays by XLA's collectives. All other
values (the config, facts about the data, errors) are exchanged as JSON through the key-value
store of JAX's coordination service. A process that waits names the processes it waits for,
and gives up with their names.
"""

import json
import logging
import math
import os
import re
import secrets
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from launch import storage
from launch.config.errors import PeerLost, UserError
from launch.distributed import private_jax, startup_barrier
from launch.distributed.group import Group

logger = logging.getLogger("segen")

# Seconds without a sign of life after which JAX ends the processes that wait for a process.
HEARTBEAT = 30
# Seconds in which all processes notice a failure that they have in common.
GRACE = 3.0
# Seconds of waiting after which process 0 names the processes that it waits for.
NOTICE_AFTER = 20.0
# Seconds after which a process that waits looks whether a signal has come.
ATTENTION = 5.0

# Words by which XLA's collectives and JAX's service report that a process has gone.
_CONNECTION_LOST = re.compile("Gloo|onnection|heartbeat|UNAVAILABLE|ABORTED|CANCELLED")
_ADVICE = "Look at its own output; the same command goes on from the last checkpoint"


class ProcessGroup(Group):
    """Several processes that run one command together; the methods of `Group` for them.

    Args:
      client: the client of JAX's coordination service.
      process: the number of this process, from 0.
      processes: how many processes there are.
      seconds: how long to wait for other processes outside of compiled steps.
    """

    def __init__(self, client: Any, process: int, processes: int, seconds: float):
        super().__init__()
        self.process, self.processes = process, processes
        self._client, self._seconds, self._count = client, seconds, 0
        self._ended = threading.Event()

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
        self._count += 1
        key = f"segen/{self._count}"
        deadline = time.monotonic() + (seconds or self._seconds)
        self._client.key_value_set(f"{key}/{self.process}", json.dumps(value))
        if not self.is_process_zero:
            # Process 0 knows who is missing, so wait a little longer than process 0 does.
            text = self._get(f"{key}/all", deadline + 2 * GRACE)
            if text is None:
                raise PeerLost(f"{self.title(0)} did not come to: {label}. {_ADVICE}")
            return json.loads(text)
        texts = self._collect(key, label, deadline)
        missing = self._missing(texts)
        if missing:
            raise PeerLost(f"did not come to: {label}: {missing}. {_ADVICE}")
        values = [json.loads(text) for text in texts]
        self._client.key_value_set(f"{key}/all", json.dumps(values))
        return values

    def _collect(self, key, label, deadline):
        """The texts of all processes, None for those that do not arrive by the deadline."""
        texts, notice_at = [None] * self.processes, time.monotonic() + NOTICE_AFTER
        while None in texts and time.monotonic() < deadline:
            for process, text in enumerate(texts):
                if text is None:
                    texts[process] = self._get(f"{key}/{process}", time.monotonic() + 0.5)
            if None in texts and time.monotonic() > notice_at:
                notice_at = math.inf
                logger.info(f"waiting for {self._missing(texts)}: {label}")
        return texts

    def _missing(self, texts):
        return ", ".join(self.title(p) for p, text in enumerate(texts) if text is None)

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
        result, message = None, None
        try:
            result = action()
        except UserError as error:
            message = str(error)
        messages = self.all_gather(label, message, seconds)
        failed = [(self.title(p), text) for p, text in enumerate(messages) if text is not None]
        if len({text for _, text in failed}) == 1 and len(failed) == self.processes:
            raise UserError(failed[0][1])
        if failed:
            raise UserError("\n".join(f"{title}: {text}" for title, text in failed))
        return result

    def on_process_zero(
        self, label: str, action: Callable[[], Any], seconds: float | None = None
    ) -> Any:
        """Calls a function on process 0 alone.

        Args:
          label: a name for the action, for messages.
          action: the function; its result must be a value that JSON can hold.
          seconds: how long to wait for process 0; None: as long as `--wait` says.

        Returns:
          The result, on all processes.

        Raises:
          UserError: on all processes if the function raises UserError.
          PeerLost: a process does not arrive in time.
        """
        answer = None
        if self.is_process_zero:
            try:
                answer = {"value": action()}
            except UserError as error:
                answer = {"error": str(error)}
        answer = self.all_gather(label, answer, seconds)[0]
        if "error" in answer:
            raise UserError(answer["error"])
        return answer["value"]

    def check_same(self, label: str, facts: dict[str, Any]) -> None:
        """Refuses processes that were started differently.

        Args:
          label: a name for the facts, for messages.
          facts: {name: value}, as this process has them and as JSON can hold them.

        Raises:
          UserError: two processes differ; names a process, a fact, and both values.
        """
        facts = self.all_gather(label, facts)
        first = facts[0]
        for process, other in enumerate(facts):
            for name in sorted(other.keys() | first.keys()):
                if first.get(name) != other.get(name):
                    raise UserError(
                        f"{label}: {self.title(process)} has {name} = {other.get(name)!r}, "
                        f"{self.title(0)} has {first.get(name)!r}; start all processes alike"
                    )

    def check_shared(self, folder: Path, flag: str = "--workdir") -> None:
        """Refuses a folder that is not the same folder for all processes.

        Args:
          folder: the folder.
          flag: the argument that names it, for the message.

        Raises:
          UserError: names the processes that do not see a file that process 0 writes.
        """
        probe = folder / f".probe-{secrets.token_hex(8)}"
        self.on_process_zero("a probe file", lambda: probe.touch(exist_ok=False))
        name = self.all_gather("the name of the probe file", probe.name)[0]
        seen = self.all_gather(f"a shared {flag}", (folder / name).exists())
        if self.is_process_zero:
            probe.unlink()
        blind = [self.title(process) for process, sees in enumerate(seen) if not sees]
        if blind:
            raise UserError(
                f"{folder} is not shared: {', '.join(blind)} does not see what {self.title(0)} "
                f"writes there. Put {flag} on storage that all hosts mount"
            )

    def share_compilation_cache(self, workdir: Path) -> None:
        """Lets processes on several hosts find each other's compiled programs.

        Only process 0 writes to JAX's compilation cache. Processes on other hosts find its
        entries in the workdir, unless JAX_COMPILATION_CACHE_DIR names another folder. On
        CPUs the cache is turned off, for the reason in `launch.engine.sharding.set_up_jax`.

        Args:
          workdir: the run's folder.
        """
        if jax.default_backend() == "cpu":
            jax.config.update("jax_enable_compilation_cache", False)
        if len(set(self.hosts)) == 1 or storage.is_bucket(workdir):
            return
        if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
            jax.config.update("jax_compilation_cache_dir", str(workdir / "compiled"))

    def preempted(self, turn: int) -> bool:
        """Whether all processes are to save and leave after this turn.

        The processes agree on the first turn after one of them received SIGTERM.

        Args:
          turn: 1, 2, 3, ...; all processes must ask once in every turn.
        """
        return multihost_utils.reached_preemption_sync_point(turn)

    @contextmanager
    def abort_together(
        self, describe_error: Callable[[BaseException], tuple[str, int] | None]
    ) -> Iterator[None]:
        """Ends all processes when one of them leaves the block by an error.

        Without this, the others would wait in a collective until JAX notices the loss.

        Args:
          describe_error: error -> its message and exit code; None to show the stack trace.
        """
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()
        try:
            yield
            self.all_gather("the end", None)
        except BaseException as error:
            self._abort(error, describe_error)
        self._ended.set()
        watcher.join()
        jax.distributed.shutdown()

    def _abort(self, error, describe_error):
        """Reports an error of this process to the others, and exits."""
        self._ended.set()
        if isinstance(error, jax.errors.JaxRuntimeError) and _CONNECTION_LOST.search(str(error)):
            error = PeerLost(f"another process is gone: {_line(error)}")
        message, code = describe_error(error) or (traceback.format_exc(), 1)
        if not self.is_process_zero and self._is_told(message):
            self._exit(code)
        try:
            report = json.dumps([self.process, message, code])
            self._client.key_value_set("segen/failed", report)
            reported = True
        except Exception:  # another process reported first, or the service is gone
            reported = False
        if reported or self.is_process_zero:
            own = message if self.is_process_zero else f"{self.title(self.process)}: {message}"
            logger.error(own)
        self._exit(code)

    def _is_told(self, message):
        """Whether process 0 reports the same error, as where all were given a wrong option."""
        try:
            report = self._get("segen/failed", time.monotonic() + GRACE / 3)
        except PeerLost:
            return False
        return report is not None and json.loads(report)[:2] == [0, message]

    def _watch(self):
        """Exits when another process reports an error."""
        while not self._ended.wait(1.0):
            try:
                process, message, code = json.loads(self._client.key_value_try_get("segen/failed"))
            except Exception:  # no process has reported an error
                continue
            if self._ended.wait(GRACE):  # this process has noticed the failure by itself
                return
            if self.is_process_zero:
                logger.error(f"{self.title(process)}: {message}")
            self._exit(code)

    def _exit(self, code):
        """Exits at once; process 0 exits last, because the service ends with it.

        `sys.exit` would run exit handlers of libraries, which wait for processes that are gone.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        deadline = time.monotonic() + 2 * GRACE
        try:
            if not self.is_process_zero:
                self._client.key_value_set(f"segen/left/{self.process}", "")
            for process in range(1, self.processes) if self.is_process_zero else ():
                self._get(f"segen/left/{process}", deadline)
        finally:
            os._exit(code)

    def _get(self, key, deadline):
        """Waits for the text under a key; None if there is none by the deadline."""
        while True:
            left = deadline - time.monotonic()
            milliseconds = int(1000 * max(min(left, ATTENTION), 0.001))
            try:
                return self._client.blocking_key_value_get(key, milliseconds)
            except Exception as error:
                if "DEADLINE_EXCEEDED" not in str(error) and "NOT_FOUND" not in str(error):
                    title = self.title(0)
                    raise PeerLost(f"the coordination service of {title} is gone: {_line(error)}")
            if left <= ATTENTION:
                return None


def join(given: tuple[str | None, int | None, int | None], seconds: float) -> ProcessGroup:
    """Waits for the other processes, and connects JAX with them.

    Args:
      given: HOST:PORT of process 0, how many processes there are, and the number of this one;
        all None to find them in the cluster's environment.
      seconds: how long to wait for the other processes.

    Returns:
      The group, in which every process knows the hosts of all.

    Raises:
      UserError: no cluster is found, or the address cannot be used.
      PeerLost: another process does not arrive in time.
    """
    address, count, number, devices = _find_place(given, seconds)
    startup_barrier.wait_for_all(address, count, number, seconds)
    try:
        jax.distributed.initialize(
            coordinator_address=address,
            num_processes=count,
            process_id=number,
            local_device_ids=devices,
            initialization_timeout=int(seconds),
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=int(4 * GRACE),
        )
    except Exception as error:
        raise PeerLost(f"--distributed: the processes were not connected: {_line(error)}")
    group = ProcessGroup(*private_jax.coordination_service(), seconds)
    if not group.is_process_zero:
        logger.setLevel(logging.ERROR)
    group.hosts = group.all_gather("the start", socket.gethostname())
    return group


def _find_place(given, seconds):
    """Address, count of processes, number of this one, and its devices (None: all)."""
    if None not in given:
        return *given, None
    place = private_jax.detect_cluster(seconds)
    if None in place[:3]:
        raise UserError(
            "--distributed: no cluster found here (Cloud TPU, Slurm, Open MPI, Kubernetes); give "
            "--coordinator=HOST:PORT, --processes and --process"
        )
    return place


def _line(error):
    return " ".join(str(error).split())[:300]
