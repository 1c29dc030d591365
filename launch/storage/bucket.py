"""Google Cloud Storage, by gcsfs: paths, listings, copies, and messages for its errors.

A bucket cannot append to an object, rename one, or release a lock when a process dies. So
Orbax and TensorStore write checkpoints there directly; metrics and figures are written on
this machine and copied before each checkpoint is committed (`launch.storage.bucket_workdir`);
data sets are copied to this machine before they are read (`fetch`).
"""

import base64
import importlib.util
import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etils import epath

from launch.config.errors import UserError
from launch.storage import atomic, file_lock, paths

logger = logging.getLogger("segen")


def path(value: str) -> Path:
    """Parses `gs://BUCKET/...`; call this before any other function of this module.

    Raises:
      UserError: the scheme is not `gs://`, or gcsfs is not installed.
    """
    if not paths.is_bucket(value):
        raise UserError(
            f"{value}: of buckets only gs:// is supported; mount any other and give its folder"
        )
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError(f'{value}: buckets need gcsfs: pip install "segen[gcs]"')
    import fsspec

    # TensorStore writes objects that gcsfs does not know of, so listings must not be cached.
    for name in ("gs", "gcs"):
        fsspec.config.conf.setdefault(name, {})["use_listings_cache"] = False
    return epath.Path(value.rstrip("/"))


def filesystem() -> Any:
    """The gcsfs file system, which reads and writes objects."""
    import fsspec

    return fsspec.filesystem("gs")


@contextmanager
def bucket_errors(folder: Path) -> Iterator[None]:
    """Turns errors of the bucket inside the block into a UserError that names the folder.

    Args:
      folder: the folder in the bucket; for a local folder, errors stay as they are.

    Raises:
      UserError: the bucket cannot be reached.
    """
    if not paths.is_bucket(folder):
        yield
        return
    try:
        yield
    except Exception as error:
        if problem := describe_bucket_error(error):
            raise UserError(f"{folder}: {problem}") from error
        raise


def describe_bucket_error(error: BaseException) -> str | None:
    """A message for an error of a bucket or of the network; None for any other error."""
    if type(error).__module__ == "builtins" and getattr(error, "errno", None) is not None:
        return None  # an error of the local disk to which gcsfs was copying
    # gcsfs raises a bare OSError for "Forbidden", so look which libraries the error passed.
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    libraries = {frame.f_globals.get("__name__", "").partition(".")[0] for frame in frames}
    if not libraries & {"gcsfs", "aiohttp", "google"}:
        return None
    text = " ".join(str(error).split())[:300] or type(error).__name__
    return (
        f"the bucket cannot be reached: {text}. Is its name right, and does this machine have "
        "access (gcloud auth application-default login, or a service account)?"
    )


def check_exists(folder: Path) -> None:
    """Refuses a folder whose bucket does not exist.

    Raises:
      UserError: the bucket does not exist or cannot be reached.
    """
    name = str(folder).removeprefix("gs://").partition("/")[0]
    with bucket_errors(folder):
        if not filesystem().exists(name):
            raise UserError(
                f"{folder}: there is no bucket {name!r}, or this machine may not see it"
            )


def move(source: Path, target: Path) -> None:
    """Moves a folder within a bucket."""
    filesystem().mv(str(source), str(target), recursive=True)


def contents(folder: Path) -> dict[str, dict]:
    """Size and CRC-32C of every object below a folder, without reading the objects.

    Returns:
      {name below the folder: {"bytes": size, "crc32c": eight hexadecimal digits}}.
    """
    objects = filesystem().find(str(folder), detail=True)
    start = len(str(folder).removeprefix("gs://")) + 1
    return {
        name[start:]: {
            "bytes": int(info["size"]),
            "crc32c": base64.b64decode(info["crc32c"]).hex(),
        }
        for name, info in objects.items()
        if info["type"] == "file" and not name.endswith("/")
    }


def fetch(folder: str, cache: Path, parts: tuple[str, ...] = ()) -> Path:
    """Copies a folder to this machine; files that have not changed are not copied again.

    Args:
      folder: "gs://BUCKET/...".
      cache: the local folder below which copies are kept.
      parts: copy only files that lie below folders of all these names.

    Returns:
      The local folder.

    Raises:
      UserError: the bucket cannot be reached.
    """
    source = path(folder)
    target = cache / str(source).removeprefix("gs://")
    target.mkdir(parents=True, exist_ok=True)
    with bucket_errors(source), file_lock.held(target / file_lock.NAME, lambda holder: None):
        new = {}
        for name, info in filesystem().find(str(source), detail=True).items():
            if name.endswith("/") or not {*parts} <= {*name.split("/")[:-1]}:
                continue
            version = int(info["size"]), _modified(info)
            if _local_version(cache / name) != version:
                new[name] = version
        if new:
            mebibytes = sum(size for size, _ in new.values()) / 2**20
            logger.info(
                f"copying {len(new)} files, {mebibytes:,.1f} MiB, from {folder} to {target}"
            )
        for name, (_, modified) in new.items():
            _copy(name, cache / name, modified)
    return target


def _copy(name, file, modified):
    """Copies one object and gives the copy the object's time."""
    with atomic.replacing(file) as working:
        filesystem().get_file(name, str(working))
        os.utime(working, (modified, modified))


def _local_version(file):
    """Size and time of a copy, None if there is no copy."""
    if not file.is_file():
        return None
    status = file.stat()
    return status.st_size, int(status.st_mtime)


def _modified(info):
    """When an object was written, in whole seconds. A new object of the same size differs."""
    moment = info.get("mtime")
    return int(moment.timestamp()) if hasattr(moment, "timestamp") else 0
