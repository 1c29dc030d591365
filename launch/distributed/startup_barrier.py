"""Where processes meet before JAX connects them, so that one that is missing has a name.

JAX's own start aborts every process, without a word about whom it waited for. So the
first process listens on the coordinator's port for a moment, each other one says which
it is, and only when all have come is the port left to JAX.
"""

import json
import logging
import socket
import time

from launch.config.errors import PeerLost, UserError

logger = logging.getLogger("segen")

PATIENCE = 20.0  # seconds after which the first process says for whom it waits
PAUSE = 0.2  # seconds between attempts to reach it


def wait_for_all(address: str, processes: int, process: int, seconds: float) -> None:
    """Returns once all processes are there.

    Args:
      address: HOST:PORT of the first process, free to listen on.
      processes, process: how many there are, and which one this is.
      seconds: how long to wait.

    Raises:
      PeerLost: names the processes that did not come, by their numbers.
      UserError: the address cannot be used, or two processes say they are the same one.
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
    """Waits for all others, and tells each whether to go on."""
    try:
        listening = socket.create_server(("", port), backlog=processes)
    except OSError as error:
        raise UserError(f"--coordinator: port {port} cannot be used here: {error.strerror}")
    arrived, patience = {}, time.monotonic() + PATIENCE
    with listening:
        fault = None
        while len(arrived) < processes - 1 and time.monotonic() < deadline and not fault:
            listening.settimeout(0.5)
            try:
                visitor, _ = listening.accept()
            except TimeoutError:
                if time.monotonic() > patience:
                    patience = deadline
                    logger.info(f"waiting for {_names(arrived, processes)}")
                continue
            fault = _admit(visitor, arrived, processes)
        if not fault and len(arrived) < processes - 1:
            fault = f"did not come: {_names(arrived, processes)}. Look at their own output"
        for visitor in arrived.values():
            visitor.sendall(json.dumps(fault).encode() + b"\n")
            visitor.close()
    if fault:
        raise (PeerLost if fault.startswith("did not") else UserError)(fault)


def _admit(visitor, arrived, processes):
    """Notes who came; returns what is wrong with that, None for nothing."""
    visitor.settimeout(5.0)
    try:
        number, count = json.loads(visitor.makefile().readline())
    except (OSError, ValueError):  # somebody else's program
        visitor.close()
        return None
    if count != processes:
        fault = f"--processes={processes} at process 0, {count} at process {number}"
    elif number in arrived:
        fault = f"two processes were started with --process={number}"
    else:
        arrived[number] = visitor
        return None
    visitor.sendall(json.dumps(fault).encode() + b"\n")
    visitor.close()
    return fault


def _arrive(host, port, processes, process, deadline):
    """Tells the first process who is there, and waits for its answer."""
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=5.0) as stream:
                stream.sendall(json.dumps([process, processes]).encode() + b"\n")
                # It knows who is missing, and says so when its own time is up.
                stream.settimeout(max(deadline - time.monotonic(), 0.0) + 5.0)
                answer = stream.makefile().readline()
        except OSError:
            answer = ""
        if answer:
            fault = json.loads(answer)
            if fault:
                raise (PeerLost if fault.startswith("did not") else UserError)(fault)
            return
        time.sleep(PAUSE)
    raise PeerLost(f"process 0 of {processes} did not answer at {host}:{port}; look at its output")


def _names(arrived, processes):
    missing = [number for number in range(1, processes) if number not in arrived]
    return ", ".join(f"process {number} of {processes}" for number in missing)
