"""A run's folder while the run is on: held by one process, and its journal's way there."""

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from launch import storage
from launch.config.errors import UserError
from launch.storage import bucket_lock, file_lock

logger = logging.getLogger("segen")

# Of a workdir, what a run that goes on never reads again; checkpoints are read in place.
NOT_FETCHED = ("checkpoints", "damaged", "nonfinite", "tensorboard", "scores")


class Workdir:
    """Where a run writes its metrics and figures.

    Args:
      workdir: the run's folder.

    Attributes:
      workdir: the same.
      folder: the workdir, or for a bucket a folder of this machine that follows it.
    """

    def __init__(self, workdir: Path):
        self.workdir = self.folder = workdir
        if storage.is_bucket(workdir):
            self.folder = Path(tempfile.gettempdir()) / f"segen-{os.getpid()}-{workdir.name}"
        self._sent, self._busy = {}, threading.Lock()
        self._still: Callable[[], None] = lambda: None

    @contextmanager
    def open(self) -> Iterator[None]:
        """Makes the workdir and holds it; fetches what the run wrote before, and sends the rest.

        Raises:
          UserError: another process has it, or there is no way to it.
        """
        storage.make(self.workdir)
        path = self.workdir / file_lock.NAME
        if not storage.is_bucket(self.workdir):
            with file_lock.held(path, self._refuse):
                yield
            return
        with bucket_lock.held(path, self._refuse) as self._still:
            self.folder.mkdir(parents=True, exist_ok=True)
            whole = False
            try:
                with storage.bucket_errors(self.workdir):
                    self._fetch()
                yield
                whole = True
            finally:
                self._leave(whole)

    def _leave(self, whole):
        try:
            with storage.bucket_errors(self.workdir):
                self.publish()
        except UserError as mistake:
            if whole:
                raise
            logger.info(str(mistake))  # not instead of what is ending the run
        finally:
            shutil.rmtree(self.folder)

    def _refuse(self, holder):
        raise UserError(
            f"{self.workdir} is in use by {holder}; let it end, or take another --workdir"
        )

    def publish(self) -> None:
        """Copies what is new or has changed into the bucket.

        Raises:
          UserError: another process has the workdir now.
        """
        if not storage.is_bucket(self.workdir):
            return
        with self._busy:
            self._still()
            new = {}
            for file in self.folder.rglob("*"):
                if file.is_file() and file.suffix != ".tmp":
                    name, facts = str(file.relative_to(self.folder)), _facts(file)
                    if self._sent.get(name) != facts:
                        new[name] = facts
            # Read here and not by gcsfs: the journal may grow meanwhile.
            content = {f"{self.workdir}/{name}": (self.folder / name).read_bytes() for name in new}
            if content:
                storage.bucket().pipe(content)
            self._sent |= new

    def _fetch(self):
        left = {*NOT_FETCHED, file_lock.NAME}
        names = [n for n in storage.contents(self.workdir) if n.partition("/")[0] not in left]
        if names:
            storage.bucket().get(
                [f"{self.workdir}/{name}" for name in names],
                [str(self.folder / name) for name in names],
            )
        self._sent = {name: _facts(self.folder / name) for name in names}


def _facts(file):
    found = file.stat()
    return found.st_size, found.st_mtime_ns
