"""Files that a reader never sees half written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path to write to, and renames it to `path` when the block ends.

    Where the block raises, `path` stays as it was and the half-written file is removed.

    Args:
      path: the file to write; its folder is made if it is not there.

    Yields:
      A path in the same folder, with the suffix `.tmp`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    working = path.with_name(f"{path.name}.tmp")
    try:
        yield working
        working.replace(path)
    except BaseException:
        working.unlink(missing_ok=True)
        raise
