"""Private files, atomic replacement of files, and the lock of the data directory.

Rules HOST-3 ... HOST-6 (spec/host.md).

At start, every file of the data directory is checked before it is used. An error is a `CannotRun`
with one line that names the file and the next step. Modes are set explicitly, so that they do not
depend on the umask.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PRIVATE_DIRECTORY, PRIVATE_FILE = 0o700, 0o600
OURS = ("cluster-id", "pki", "ca.crt")
"""A directory with one of these files is a data directory of refk8s or its `pki`: its mode may be
tightened."""
FILE_BYTES_MAX = 1 << 20
SHARED_LOCK_SECONDS_MAX = 30.0
"""How long a start waits for another one that creates keys, which takes less than a second."""
SHARED_LOCK_POLL_SECONDS = 0.01


class CannotRun(Exception):
    """The cluster cannot start; the message is one line that names the next step."""


def read_bounded(path: str, flag: str, bytes_max: int) -> bytes:
    """The content of the file that a flag names; `bytes_max` is a number of whole MiB. Raises
    CannotRun if the file cannot be read or is longer."""
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise CannotRun(f"{flag} {path}: {error.strerror}") from None
    if len(data) > bytes_max:
        raise CannotRun(f"{flag} {path}: longer than {bytes_max >> 20} MiB")
    return data


def write_file(
    path: Path, content: bytes, mode: int = PRIVATE_FILE, owner: tuple[int, int] | None = None
) -> None:
    """Replace the content of the file atomically and durably (HOST-5).

    `owner`: uid and gid of the new file, if other than this process's. Raises CannotRun.
    """
    # a fixed name: a file left by a killed process is removed
    beside = path.with_name(f".{path.name}.refk8s-new")
    try:
        with suppress(FileNotFoundError):
            # left by a process that was killed; the data directory is locked, so no other process
            # writes it
            beside.unlink()
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if owner is not None and owner != (os.geteuid(), os.getegid()):
                    os.fchown(descriptor, *owner)
                os.fchmod(descriptor, mode)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            beside.replace(path)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise CannotRun(
            f"cannot write {path}: {error.strerror}; "
            f"free the disk or correct the permissions of {path.parent}"
        ) from None


def sync_directory(path: Path) -> None:
    """Sync the entries of a directory to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path, bytes_max: int = FILE_BYTES_MAX) -> bytes | None:
    """The content of a private file, or None if it does not exist.

    Raises CannotRun if it cannot be read or is not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CannotRun(f"cannot read {path}: {error.strerror}; correct its permissions") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CannotRun(f"{path} is not a regular file; move it away")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise CannotRun(f"{path} has more than {bytes_max} bytes; restore it from a backup")
    return content


def make_directory(path: Path, flag: str) -> list[Path]:
    """Create the directory and its parents; returns the created directories, innermost first.

    Another process may create the same directories at the same time (API servers share the one of
    their keys). Raises CannotRun if the directory is not writable.
    """
    made: list[Path] = []
    try:
        for each in reversed([each for each in (path, *path.parents) if not each.exists()]):
            try:
                each.mkdir(mode=PRIVATE_DIRECTORY)
            except FileExistsError:
                if not each.is_dir():
                    raise
            else:
                each.chmod(PRIVATE_DIRECTORY)
                made.insert(0, each)
    except FileExistsError:
        raise CannotRun(
            f"cannot make the directory {path}: a file is in the way; choose another with {flag}"
        ) from None
    except OSError as error:
        raise CannotRun(
            f"cannot make the directory {path}: {error.strerror}; choose another with {flag}"
        ) from None
    if not path.is_dir():
        raise CannotRun(f"{path} is not a directory; choose another with {flag}")
    if not os.access(path, os.W_OK | os.X_OK):
        raise CannotRun(f"the directory {path} is not writable; choose another with {flag}")
    return made


def remove_directories(made: Iterable[Path]) -> None:
    """Remove those directories that `make_directory` created and that are empty."""
    for each in made:
        with suppress(OSError):
            each.rmdir()


def make_private(path: Path) -> None:
    """Make the data directory inaccessible to other users (HOST-3).

    The mode is tightened if the directory is empty or a data directory of refk8s. Any other
    directory is left unchanged and rejected: other users may need it, as /tmp.
    """
    found = path.stat()
    user = os.geteuid()
    if found.st_uid != user and not (user == 0 and os.environ.get("SUDO_UID") == str(found.st_uid)):
        raise CannotRun(
            f"the directory {path} belongs to another user ({found.st_uid}); "
            "choose another with --data-dir"
        )
    if not stat.S_IMODE(found.st_mode) & 0o077:
        return
    is_ours = any(os.path.lexists(path / name) for name in OURS) or not any(path.iterdir())
    if not is_ours or found.st_mode & stat.S_ISVTX:
        mode = stat.S_IMODE(found.st_mode)
        raise CannotRun(
            f"the directory {path} is open to other users (mode {mode:04o}): chmod 700 it, "
            "or choose another with --data-dir"
        )
    _change_mode(path, PRIVATE_DIRECTORY)


def tighten(path: Path) -> bool:
    """Restrict a file to this user; returns whether others had access before (HOST-3).

    Raises CannotRun.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode):
        raise CannotRun(f"{path} is not a regular file; move it away")
    if not stat.S_IMODE(found.st_mode) & 0o077:
        return False
    _change_mode(path, PRIVATE_FILE)
    return True


def _change_mode(path: Path, mode: int) -> None:
    try:
        path.chmod(mode)
    except OSError as error:
        raise CannotRun(
            f"{path} is open to other users and cannot be closed: {error.strerror}; "
            f"chmod {mode:o} it"
        ) from None


class DirectoryLock:
    """The exclusive lock of a data directory, until this process ends (HOST-4).

    Raises CannotRun if another process holds the lock.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        self._descriptor = -1
        try:
            while not self._take():
                pass  # the file was removed between open and flock: the lock on it locks nothing
        except OSError as error:
            raise CannotRun(
                f"cannot lock {self._path}: {error.strerror}; "
                "choose another directory with --data-dir"
            ) from None

    def _take(self) -> bool:
        descriptor = os.open(
            self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE
        )
        try:
            os.fchmod(descriptor, PRIVATE_FILE)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = os.path.lexists(self._path) and os.path.samestat(
                os.fstat(descriptor), os.lstat(self._path)
            )
        except OSError as error:
            holder = (
                os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
                if error.errno in _HELD
                else ""
            )
            os.close(descriptor)
            if error.errno not in _HELD:
                raise
            who = f" (process {holder})" if holder.isdigit() else ""
            words = f"the data directory {self._path.parent} is in use by another refk8s{who}"
            raise CannotRun(f"{words}: stop that one, or choose another with --data-dir") from None
        if not current:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return True

    def release(self, remove: bool = False) -> None:
        """Release the lock; `remove`: also delete its file, after a failed start created it."""
        if self._descriptor >= 0:
            if remove:
                with suppress(OSError):
                    self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def shared_lock(directory: Path) -> Iterator[None]:
    """Wait until no other process creates files in this directory, and keep others from it.

    The lock ends with its process. Raises CannotRun after SHARED_LOCK_SECONDS_MAX.
    """
    path = directory / "lock"
    end = time.monotonic() + SHARED_LOCK_SECONDS_MAX
    try:
        descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE
        )
        os.fchmod(descriptor, PRIVATE_FILE)
    except OSError as error:
        raise CannotRun(
            f"cannot lock {path}: {error.strerror}; correct the permissions of {directory}"
        ) from None
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in _HELD or time.monotonic() >= end:
                    raise CannotRun(
                        f"{path} is locked by another process: "
                        "wait until it has started, or stop it"
                    ) from None
            time.sleep(SHARED_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


_HELD = (errno.EWOULDBLOCK, errno.EACCES)
