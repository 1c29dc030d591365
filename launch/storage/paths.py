"""Folders of this machine and of buckets: a workdir or data may lie in `gs://BUCKET/...`.

A bucket has neither appending, nor renaming, nor locks that die with their process. So
checkpoints go there directly, by Orbax and TensorStore; metrics and figures are written
here and copied before each checkpoint is committed (`launch.storage.workdir`); data are copied here
before they are read (`fetch`).
"""

import base64
import importlib.util
import logging
import os
import re
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etils import epath

from launch.config.errors import UserError
from launch.storage import file_lock

logger = logging.getLogger("segen")


def path(value: str) -> Path:
    """An absolute path here, or in a bucket, where it is an `epath.Path` of the same methods.

    Raises:
      UserError: another scheme than gs://, or what reads buckets is not installed.
    """
    scheme = re.match(r"(\w+)://", value)
    if not scheme:
        return Path(value).expanduser().absolute()
    if scheme[1] != "gs":
        raise UserError(
            f"{value}: of buckets only gs:// is known here; mount any other and give its folder"
        )
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError(f'{value}: buckets need gcsfs: pip install "segen[gcs]"')
    import fsspec

    for name in ("gs", "gcs"):  # TensorStore writes past it, so nothing may be remembered
        fsspec.config.conf.setdefault(name, {})["use_listings_cache"] = False
    return epath.Path(value.rstrip("/"))


def is_bucket(folder: Path) -> bool:
    """Whether a path lies in a bucket."""
    return str(folder).startswith("gs://")


def bucket():
    """What reads and writes objects of buckets: gcsfs."""
    import fsspec

    return fsspec.filesystem("gs")


@contextmanager
def bucket_errors(folder: Path) -> Iterator[None]:
    """Turns what goes wrong with a bucket inside the block into a UserError that names it."""
    if not is_bucket(folder):
        yield
        return
    try:
        yield
    except Exception as error:
        if problem := describe_bucket_error(error):
            raise UserError(f"{folder}: {problem}")
        raise


def describe_bucket_error(error: BaseException) -> str | None:
    """What an error says of a bucket, or of the way to it; None if it is of another kind."""
    if type(error).__module__ == "builtins" and getattr(error, "errno", None) is not None:
        return None  # of a disk here, to which gcsfs was copying
    # Which library it passed, as gcsfs says Forbidden by a bare OSError.
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    passed = {frame.f_globals.get("__name__", "").partition(".")[0] for frame in frames}
    if not passed & {"gcsfs", "aiohttp", "google"}:
        return None
    told = " ".join(str(error).split())[:300] or type(error).__name__
    return (
        f"the bucket cannot be reached: {told}. Is its name right, and has this machine its "
        "rights (gcloud auth application-default login, or a service account)?"
    )


def make(folder: Path) -> None:
    """Makes a folder; of a bucket, sees that it is there, as folders need no making.

    Raises:
      UserError: there is no such bucket, or no way to it.
    """
    if not is_bucket(folder):
        return folder.mkdir(parents=True, exist_ok=True)
    name = str(folder).removeprefix("gs://").partition("/")[0]
    with bucket_errors(folder):
        if not bucket().exists(name):
            raise UserError(
                f"{folder}: there is no bucket {name!r}, or this machine may not see it"
            )


def move(source: Path, target: Path) -> None:
    """Moves a folder, within this machine or within a bucket."""
    if is_bucket(source):
        return bucket().mv(str(source), str(target), recursive=True)
    target.parent.mkdir(exist_ok=True)
    shutil.move(source, target)


def remove(folder: Path) -> None:
    """Removes a folder and what is in it."""
    folder.rmtree() if is_bucket(folder) else shutil.rmtree(folder)


def contents(folder: Path) -> dict[str, dict]:
    """Size and CRC-32C of every object below a bucket's folder, as the bucket tells them.

    Returns:
      {name below the folder: {"bytes": size, "crc32c": eight hexadecimal digits}}.
    """
    found = bucket().find(str(folder), detail=True)
    start = len(str(folder).removeprefix("gs://")) + 1
    return {
        name[start:]: {
            "bytes": int(info["size"]),
            "crc32c": base64.b64decode(info["crc32c"]).hex(),
        }
        for name, info in found.items()
        if info["type"] == "file" and not name.endswith("/")
    }


def fetch(folder: str, cache: Path, parts: tuple[str, ...] = ()) -> Path:
    """A copy on this machine of a bucket's folder; what is as it was is not copied again.

    Args:
      folder: "gs://BUCKET/...".
      cache: below which folder to keep copies.
      parts: copy only files below folders of these names.

    Raises:
      UserError: there is no way to the bucket.
    """
    source = path(folder)
    target = cache / str(source).removeprefix("gs://")
    target.mkdir(parents=True, exist_ok=True)
    with bucket_errors(source), file_lock.held(target / file_lock.NAME, lambda who: None):
        found = bucket().find(str(source), detail=True)
        new = {}
        for name, info in found.items():
            file = cache / name
            wanted = int(info["size"]), _written(info)
            if name.endswith("/") or not {*parts} <= {*name.split("/")[:-1]}:
                continue
            if _kept(file) != wanted:
                new[name] = file, wanted
        if new:
            size = sum(wanted[0] for _, wanted in new.values())
            logger.info(
                f"copying {len(new)} files, {size / 2**20:,.1f} MiB, from {folder} to {target}"
            )
        for name, (file, (_, written)) in new.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            working = file.with_name(file.name + ".part")
            bucket().get_file(name, str(working))
            os.utime(working, (written, written))
            working.replace(file)
    return target


def _kept(file):
    if not file.is_file():
        return None
    found = file.stat()
    return found.st_size, int(found.st_mtime)


def _written(info):
    """When an object was written, in whole seconds: a new version of the same size has another."""
    moment = info.get("mtime")
    return int(moment.timestamp()) if hasattr(moment, "timestamp") else 0
