"""A run's folder: one process holds it while the run trains."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launch import storage
from launch.config.errors import UserError
from launch.storage import file_lock


class Workdir:
    """A run's folder on this machine, or on a file system that all hosts mount.

    Args:
      path: the folder, absolute.

    Attributes:
      path: the folder, which holds the checkpoints.
      local_path: the folder to write metrics and figures to: here, `path` itself.
    """

    def __init__(self, path: Path):
        self.path = self.local_path = path
        self._lock: os.stat_result | None = None  # of the lock file, while it is held

    @contextmanager
    def open(self) -> Iterator[None]:
        """Makes the folder and locks it while the block runs.

        Raises:
          UserError: another process uses the folder, or the block failed because the folder
            was removed or renamed.
        """
        storage.make(self.path)
        lock = self.path / file_lock.NAME
        with file_lock.held(lock, self._refuse):
            self._lock = lock.stat()
            try:
                yield
            except Exception:
                self.check_held()
                raise
            finally:
                self._lock = None

    def check_held(self) -> None:
        """Checks that `path` is still the folder that this process opened.

        Raises:
          UserError: it was removed or renamed. Writing would make another folder there.
        """
        lock = self.path / file_lock.NAME
        if self._lock and not (lock.is_file() and os.path.samestat(lock.stat(), self._lock)):
            raise UserError(
                f"{self.path} was removed or renamed while the run went on, so the run stops. If "
                "you renamed it, give --workdir its new name: the run goes on from its last step"
            )

    def sync(self) -> None:
        """Copies new metrics and figures to `path`: here there is nothing to copy."""

    def _refuse(self, holder):
        raise UserError(f"{self.path} is in use by {holder}; let it end, or take another --workdir")


def make_workdir(path: Path) -> Workdir:
    """The `Workdir` for a local path, or the `BucketWorkdir` for a path in a bucket."""
    if not storage.is_bucket(path):
        return Workdir(path)
    from launch.storage.bucket_workdir import BucketWorkdir

    return BucketWorkdir(path)
