"""The data directory of a process that runs a node. Rule PROC-7 (spec/processes.md)."""

import uuid
from pathlib import Path

from refk8s.components.credentials import CLUSTER_ID, read_cluster_id, write_cluster_id
from refk8s.components.files import (
    DirectoryLock,
    make_directory,
    make_private,
    remove_directories,
)

DEFAULT = "~/.refk8s/node"


def data_path(flag: str | None) -> Path:
    """The directory of `--data-dir`."""
    return Path(flag or DEFAULT).expanduser().absolute()


class NodeDirectory:
    """The directory, private and locked. It has the volumes of the pods, and the id that the
    containers of this node are labelled with.

    Raises CannotRun; then nothing is left of it.
    """

    def __init__(self, path: str | None) -> None:
        self.path = data_path(path)
        self._made = make_directory(self.path, "--data-dir")
        self._lock: DirectoryLock | None = None
        self._is_new = False
        self.cluster_id = ""
        try:
            make_private(self.path)
            self._lock = DirectoryLock(self.path)
            self.cluster_id = read_cluster_id(self.path, can_be_recovered=False)
            if not self.cluster_id:
                self.cluster_id = str(uuid.uuid4())
                write_cluster_id(self.path, self.cluster_id)
                self._is_new = True
        except BaseException:
            self.abandon()
            raise

    def release(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.release()

    def remove(self) -> None:
        """Release the lock, and remove the directory unless it has other files."""
        if self._lock is not None:
            self._lock.release(remove=True)
        remove_directories([self.path])

    def abandon(self) -> None:
        """Release the lock, and remove what this process created: its start failed (PROC-1)."""
        if self._is_new:
            (self.path / CLUSTER_ID).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.release(remove=self.path in self._made)
        remove_directories(self._made)
