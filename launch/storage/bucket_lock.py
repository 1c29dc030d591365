"""A lock in a bucket: an object that its holder renews; it expires when the renewals stop."""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from launch.config.errors import UserError
from launch.storage import bucket

logger = logging.getLogger("segen")

RENEWAL = 15.0  # seconds between renewals
EXPIRY = 60.0  # seconds without a renewal after which the lock is free


@contextmanager
def held(path: Path, busy: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Holds a lock while the block runs, and renews it.

    Args:
      path: the lock's object, in a bucket.
      busy: called with the name of the holder if another process holds the lock; must raise.

    Yields:
      `check_held`, a function that raises UserError if another process has taken the lock,
      which is possible once this process has not renewed it for EXPIRY seconds.

    Raises:
      UserError: the bucket cannot be reached.
    """
    with bucket.bucket_errors(path):
        mine = _take(path, busy)

    def check_held():
        holder = _read(path)
        if holder.get("token") != mine["token"]:
            name = holder.get("who", "a process that has ended since")
            raise UserError(
                f"{path.parent} was taken over by {name}, because this process did not renew "
                f"its lock for {EXPIRY:.0f} seconds"
            )

    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(path, mine, check_held, ended), daemon=True)
    thread.start()
    try:
        yield check_held
    finally:
        ended.set()
        thread.join()
        with suppress(Exception):  # without a network the lock expires by itself
            holder = _read(path)
            if holder.get("token") == mine["token"]:
                _remove(path, holder)


def _renew(path, mine, check_held, ended):
    """Renews the lock until `ended` is set or another process has taken the lock."""
    while not ended.wait(RENEWAL):
        try:
            check_held()
            _write(path, mine | {"renewed": time.time()})
        except UserError:
            return
        except Exception:  # the network: try again at the next renewal
            continue


def _take(path, busy):
    """Waits until the lock is free, takes it, and returns its content."""
    mine = {
        "who": f"process {os.getpid()} on {socket.gethostname()}",
        "host": socket.gethostname(),
        "process": os.getpid(),
        "token": uuid.uuid4().hex,
        "renewed": time.time(),
    }
    while True:
        holder = _read(path)
        if holder and not _has_ended(path, holder):
            busy(holder["who"])
        try:
            _remove(path, holder)
            _write(path, mine, "create")
        except FileExistsError:  # another process took the lock first
            continue
        if _read(path).get("token") == mine["token"]:
            return mine


def _has_ended(path, holder):
    """Whether the holder has ended: its process is gone from this host, or its lock expired."""
    if holder["host"] == socket.gethostname() and not _is_running(holder["process"]):
        return True
    logger.info(
        f"{path.parent} was in use by {holder['who']}; waiting up to {EXPIRY:.0f} s to see "
        "whether that process still runs"
    )
    deadline = time.monotonic() + EXPIRY
    while time.monotonic() < deadline:
        time.sleep(min(1.0, EXPIRY / 10))
        latest = _read(path)
        if latest != holder:
            return not latest
    return True


def _is_running(process):
    """Whether a process of this host, other than this one, has this id."""
    if process == os.getpid():  # the holder ran in this container before a restart
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _read(path):
    try:
        return json.loads(bucket.filesystem().cat_file(str(path)))
    except FileNotFoundError:
        return {}


def _remove(path, holder):
    """Removes the lock of `holder`; FileExistsError if another process changes it meanwhile."""
    filesystem = bucket.filesystem()
    try:
        generation = filesystem.info(str(path))["generation"]
        if _read(path) == holder:
            name, key, _ = filesystem.split_path(str(path))
            filesystem.call("DELETE", "b/{}/o/{}", name, key, ifGenerationMatch=generation)
    except FileNotFoundError:
        return


def _write(path, content, mode="overwrite"):
    bucket.filesystem().pipe_file(str(path), json.dumps(content).encode(), mode=mode)
