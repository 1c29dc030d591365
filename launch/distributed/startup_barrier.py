"""A barrier before JAX connects the processes: it names the processes that are missing.

JAX's own start aborts every process and does not say which one did not come. So process 0
first listens on the coordinator's port, every other process connects and sends its number,
and only when all have come does process 0 close the port, which JAX then uses.
"""

import json
import logging
import math
import socket
import time

from launch.config.errors import PeerLost, UserError

logger = logging.getLogger("segen")

NOTICE_AFTER = 20.0  # seconds after which process 0 names the processes that it waits for
PAUSE = 0.2  # seconds between attempts to connect to process 0


def wait_for_all(address: str, processes: int, process: int, seconds: float) -> None:
    """Returns once all processes have called this function.

    Args:
      address: HOST:PORT of process 0; the port must be free there.
      processes: how many processes there are.
      process: the number of this process, from 0.
      seconds: how long to wait.

    Raises:
      PeerLost: processes did not come in time; says their numbers.
      UserError: the address cannot be used, or the processes were started inconsistently.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator={address}: expected HOST:PORT")
    deadline = time.monotonic() + seconds
    if process == 0:
        _receive(int(port), processes, deadline)
    elif processes > 1:
        _arrive(host.strip("[]"), int(port), processes, process, deadline)


def _receive(port, processes, deadline):
    """Process 0: waits for all others, and sends each the problem, or null to go on."""
    try:
        server = socket.create_server(("", port), backlog=processes)
    except OSError as error:
        raise UserError(f"--coordinator: port {port} cannot be used here: {error.strerror}")
    arrived, notice_at, problem = {}, time.monotonic() + NOTICE_AFTER, None
    with server:
        server.settimeout(0.5)
        while len(arrived) < processes - 1 and time.monotonic() < deadline and not problem:
            try:
                connection, _ = server.accept()
            except TimeoutError:
                if time.monotonic() > notice_at:
                    notice_at = math.inf
                    logger.info(f"waiting for {_missing(arrived, processes)}")
                continue
            problem = _admit(connection, arrived, processes)
        if not problem and len(arrived) < processes - 1:
            problem = f"did not come: {_missing(arrived, processes)}. Look at their own output"
        for connection in arrived.values():
            _answer(connection, problem)
    _raise(problem)


def _admit(connection, arrived, processes):
    """Adds a process to `arrived`; returns the problem with that process, or None."""
    connection.settimeout(5.0)
    try:
        number, count = json.loads(connection.makefile().readline())
    except (OSError, ValueError):  # not one of our processes
        connection.close()
        return None
    if count != processes:
        problem = f"--processes={processes} at process 0, {count} at process {number}"
    elif number in arrived:
        problem = f"two processes were started with --process={number}"
    else:
        arrived[number] = connection
        return None
    _answer(connection, problem)
    return problem


def _answer(connection, problem):
    connection.sendall(json.dumps(problem).encode() + b"\n")
    connection.close()


def _arrive(host, port, processes, process, deadline):
    """Another process: connects to process 0, sends its number, and waits for the answer."""
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=5.0) as connection:
                connection.sendall(json.dumps([process, processes]).encode() + b"\n")
                # Process 0 answers at its own deadline, with the names of those missing.
                connection.settimeout(max(deadline - time.monotonic(), 0.0) + 5.0)
                answer = connection.makefile().readline()
        except OSError:
            answer = ""
        if answer:
            return _raise(json.loads(answer))
        time.sleep(PAUSE)
    raise PeerLost(f"process 0 of {processes} did not answer at {host}:{port}; look at its output")


def _raise(problem):
    """Raises the error for a problem; nothing if there is no problem."""
    if problem:
        raise (PeerLost if problem.startswith("did not") else UserError)(problem)


def _missing(arrived, processes):
    missing = [number for number in range(1, processes) if number not in arrived]
    return ", ".join(f"process {number} of {processes}" for number in missing)
