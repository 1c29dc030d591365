"""Files that a reader never sees half written."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launch.storage.paths import is_bucket


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path to write to, and renames it to `path` when the block ends.

    Where the block raises, `path` stays as it was and the half-written file is removed.

    Args:
      path: the file to write; its folder is made if it is not there.

    Yields:
      A new empty file in the same folder (in a bucket, a path without an object), with the
      suffix `.tmp` and a name that nobody can have taken before, such as for a link.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    working = path.with_name(f".{secrets.token_hex(8)}.tmp")
    if not is_bucket(path):
        os.close(os.open(working, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield working
        working.replace(path)
    except BaseException:
        working.unlink(missing_ok=True)
        raise
