"""A lock in a bucket: an object that its holder renews, free once that stops."""

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

from launch import storage
from launch.config.errors import UserError

logger = logging.getLogger("segen")

RENEWAL = 15.0  # seconds between renewals
EXPIRY = 60.0  # seconds without one after which the holder counts as gone


@contextmanager
def held(path: Path, busy: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Holds a lock while the block runs, and renews it.

    Args:
      path: of the object.
      busy: called with who holds it, where somebody does; raises.

    Yields:
      A function that raises UserError where another process has taken the lock, as it may
      from one that did not renew it for a minute.
    """
    with storage.bucket_errors(path):
        mine = _take(path, busy)
    over = threading.Event()

    def still():
        other = _read(path)
        if other.get("token") != mine["token"]:
            taker = other.get("who", "somebody who is gone again")
            raise UserError(
                f"{path.parent} was taken over by {taker}, as this process did not renew its "
                "lock for a minute"
            )

    def renew():
        while not over.wait(RENEWAL):
            try:
                still()
                _write(path, mine | {"renewed": time.time()})
            except UserError:
                return
            except Exception:  # the network; the next time will tell
                continue

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield still
    finally:
        over.set()
        thread.join()
        with suppress(Exception):  # without a network it is free after a minute all the same
            holder = _read(path)
            if holder.get("token") == mine["token"]:
                _remove(path, holder)


def _take(path, busy):
    mine = {
        "who": f"process {os.getpid()} on {socket.gethostname()}",
        "host": socket.gethostname(),
        "process": os.getpid(),
        "token": uuid.uuid4().hex,
        "renewed": time.time(),
    }
    while True:
        holder = _read(path)
        if holder and not _gone(path, holder):
            busy(holder["who"])
        try:
            _remove(path, holder)
            _write(path, mine, "create")
        except FileExistsError:  # somebody was quicker
            continue
        if _read(path).get("token") == mine["token"]:
            return mine


def _gone(path, holder):
    """Whether a holder has ended: seen on its own host, else by its silence."""
    if holder["host"] == socket.gethostname() and not _runs(holder["process"]):
        return True
    logger.info(
        f"{path.parent} was in use by {holder['who']}; waiting up to {EXPIRY:.0f} s for a "
        "sign of it"
    )
    deadline = time.monotonic() + EXPIRY
    while time.monotonic() < deadline:
        time.sleep(min(1.0, EXPIRY / 10))
        now = _read(path)
        if now != holder:
            return not now
    return True


def _runs(process):
    if process == os.getpid():  # an earlier life of this container
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
        return json.loads(storage.bucket().cat_file(str(path)))
    except FileNotFoundError:
        return {}


def _remove(path, holder):
    """Removes the lock if it is still this holder's; FileExistsError where it changes meanwhile."""
    bucket = storage.bucket()
    try:
        generation = bucket.info(str(path))["generation"]
        if _read(path) == holder:
            name, key, _ = bucket.split_path(str(path))
            bucket.call("DELETE", "b/{}/o/{}", name, key, ifGenerationMatch=generation)
    except FileNotFoundError:
        return


def _write(path, content, mode="overwrite"):
    storage.bucket().pipe_file(str(path), json.dumps(content).encode(), mode=mode)
