"""A run's folder: one process holds it while the run trains."""

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

    @contextmanager
    def open(self) -> Iterator[None]:
        """Makes the folder and locks it while the block runs.

        Raises:
          UserError: another process uses the folder, or it holds links or special files.
        """
        storage.make(self.path)
        storage.check_regular(self.path)
        with file_lock.held(self.path / file_lock.NAME, self._refuse):
            yield

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
