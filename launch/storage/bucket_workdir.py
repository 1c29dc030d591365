"""A run's folder in a bucket, with a local copy of the files that a run appends to."""

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launch.config.errors import UserError
from launch.storage import bucket, bucket_lock, file_lock
from launch.storage.workdir import Workdir

logger = logging.getLogger("segen")

# Folders that a resumed run does not read from its local copy.
NOT_FETCHED = ("checkpoints", "damaged", "nonfinite", "tensorboard", "scores")


class BucketWorkdir(Workdir):
    """A run's folder in a bucket.

    Args:
      path: the folder, `gs://BUCKET/...`.

    Attributes:
      path: the folder in the bucket, which holds the checkpoints.
      local_path: a temporary folder of this machine, for metrics and figures.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        self.local_path = Path(tempfile.gettempdir()) / f"segen-{os.getpid()}-{path.name}"
        self._sent, self._syncing = {}, threading.Lock()
        self._check_lock = lambda: None

    @contextmanager
    def open(self) -> Iterator[None]:
        """Locks the folder while the block runs; fetches earlier metrics, sends new ones.

        Raises:
          UserError: another process uses the folder, or the bucket cannot be reached.
        """
        bucket.check_exists(self.path)
        lock = self.path / file_lock.NAME
        with bucket_lock.held(lock, self._refuse) as self._check_lock:
            self.local_path.mkdir(exist_ok=True)
            try:
                with bucket.bucket_errors(self.path):
                    self._fetch()
                yield
            except BaseException:
                self._sync_after_error()
                raise
            else:
                with bucket.bucket_errors(self.path):
                    self.sync()
            finally:
                shutil.rmtree(self.local_path)

    def check_held(self) -> None:
        """Checks that this process still holds the folder.

        Raises:
          UserError: another process has taken it over.
        """
        self._check_lock()

    def sync(self) -> None:
        """Copies files that are new or have changed to the bucket.

        Raises:
          UserError: another process has taken over the folder.
        """
        with self._syncing:
            self._check_lock()
            new = {}
            for file in self.local_path.rglob("*"):
                if file.is_file() and file.suffix != ".tmp":
                    name, version = str(file.relative_to(self.local_path)), _version(file)
                    if self._sent.get(name) != version:
                        new[name] = version
            # gcsfs would read a file in parts, and the metrics may grow between them.
            objects = {f"{self.path}/{name}": (self.local_path / name).read_bytes() for name in new}
            if objects:
                bucket.filesystem().pipe(objects)
            self._sent |= new

    def _sync_after_error(self):
        """Syncs, and only logs what goes wrong, so that the first error stays the error."""
        try:
            with bucket.bucket_errors(self.path):
                self.sync()
        except UserError as error:
            logger.error(str(error))

    def _fetch(self):
        skipped = {*NOT_FETCHED, file_lock.NAME}
        names = [n for n in bucket.contents(self.path) if n.partition("/")[0] not in skipped]
        if names:
            bucket.filesystem().get(
                [f"{self.path}/{name}" for name in names],
                [str(self.local_path / name) for name in names],
            )
        self._sent = {name: _version(self.local_path / name) for name in names}


def _version(file):
    status = file.stat()
    return status.st_size, status.st_mtime_ns
