"""Files below a directory that a container may change at the same time. Rules RT-7, RT-8, RT-30.

Every name is opened relative to an open directory, and symbolic links are not followed. So nothing
outside of the directory is read, written or removed, even if a container changes its content at the
same time. A name is one component of a path. Source: openat(2), "Rationale for openat() and other
directory file descriptor APIs".
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC if hasattr(os, "O_PATH") else DIRECTORY
FILE_MODE = 0o644
DIRECTORY_MODE = 0o755
KEEP = -1
"""A user or group that is not changed."""


class NotPossible(Exception):
    """This node cannot carry out the operation as requested; the message is the reason."""


class UnsafePath(NotPossible):
    """A path inside a volume leads out of it."""


def check_name(name: str) -> str:
    """The name, if it is one component of a path. Raises UnsafePath if it is not."""
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise UnsafePath(f"{name!r} is not a file name")
    return name


def split_path(path: str) -> list[str]:
    """The components of a relative path. Raises UnsafePath if it is absolute, empty or has ".."."""
    if not path or path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise UnsafePath(f"the path {path!r} leads out of its volume")
    return [name for name in path.split("/") if name not in ("", ".")]


@contextmanager
def opened(path: Path | str, at: int | None = None) -> Iterator[int]:
    """Open a directory; its last component must not be a symbolic link."""
    directory = os.open(path, DIRECTORY, dir_fd=at)
    try:
        yield directory
    finally:
        os.close(directory)


@contextmanager
def made(name: str, at: int, mode: int = DIRECTORY_MODE) -> Iterator[int]:
    """Open a directory in this one, and create it if it is missing."""
    with suppress(FileExistsError):
        os.mkdir(check_name(name), mode, dir_fd=at)
    with opened(check_name(name), at) as directory:
        yield directory


def is_link(name: str, at: int) -> bool:
    """Whether the name is a symbolic link."""
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def exists(name: str, at: int) -> bool:
    """Whether a file of any type has this name."""
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def walk(root: int, names: list[str], flags: int = DIRECTORY) -> int:
    """Open the file at this path; every component before the last is a directory and not a link.
    The caller closes it."""
    at = os.dup(root)
    for position, name in enumerate(names):
        last = position + 1 == len(names)
        try:
            following = os.open(check_name(name), flags if last else DIRECTORY, dir_fd=at)
        finally:
            os.close(at)
        at = following
    return at


# --- files ----------------------------------------------------------------------------------------


def write(
    name: str, at: int, content: bytes, mode: int = FILE_MODE, user: int = KEEP, group: int = KEEP
) -> None:
    """Write a regular file in this directory. A file of another type is replaced."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(check_name(name), flags, mode & 0o700, dir_fd=at)
        if not stat.S_ISREG(os.fstat(file).st_mode) or os.fstat(file).st_nlink != 1:
            os.close(file)
            raise OSError(f"{name} is not a regular file")
    except OSError:
        remove(name, at)
        file = os.open(name, flags | os.O_EXCL, mode & 0o700, dir_fd=at)
    try:
        os.ftruncate(file, 0)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
        if (user, group) != (KEEP, KEEP):
            os.fchown(file, user, group)
        os.chmod(file, mode)  # After the change of owner, which clears setuid and setgid bits.
    finally:
        os.close(file)


def read(name: str, at: int, bytes_max: int) -> bytes | None:
    """The first bytes of a regular file; None if there is none of this name."""
    try:
        file = os.open(
            check_name(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at
        )
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        found = b""
        while len(found) < bytes_max and (more := os.read(file, bytes_max - len(found))):
            found += more
        return found
    finally:
        os.close(file)


# --- removal --------------------------------------------------------------------------------------


def remove(name: str, at: int) -> None:
    """Remove a file, a link or a whole tree from this directory; a missing one is no error.

    O(entries), for any depth.
    """
    try:
        os.unlink(check_name(name), dir_fd=at)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):  # Linux and POSIX name a directory differently.
        with suppress(FileNotFoundError):
            with opened(name, at) as directory:
                empty(directory)
            os.rmdir(name, dir_fd=at)


def empty(top: int) -> None:
    """Remove the content of this directory, on its own file system only.

    A directory two levels down is moved to the top before it is emptied. So neither a stack nor an
    open directory is needed for each level.
    """
    device = os.fstat(top).st_dev
    while names := os.listdir(top):
        for name in names:
            if _unlinked(name, top):
                continue
            with opened(name, top) as inner:
                if os.fstat(inner).st_dev != device:
                    raise OSError(f"{name} is on another file system")
                for below in os.listdir(inner):
                    if not _unlinked(below, inner):
                        os.rename(
                            below,
                            f"..removed-{secrets.token_hex(8)}",
                            src_dir_fd=inner,
                            dst_dir_fd=top,
                        )
            os.rmdir(name, dir_fd=top)


def _unlinked(name: str, at: int) -> bool:
    """Remove a file or an empty directory; returns whether it was removed."""
    if stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
        try:
            os.rmdir(name, dir_fd=at)
        except OSError:
            return False
        return True
    os.unlink(name, dir_fd=at)
    return True


# --- paths that a container can change ------------------------------------------------------------


def open_inside(root: int, place: str, inner: str, mode: int) -> int:
    """Open the file or directory at a subPath of the volume at `place`; the caller closes it
    (RT-7).

    Links are followed if they stay in the volume. Missing directories are created. Raises
    UnsafePath if the path leads out of the volume, and OSError if it was changed meanwhile.
    """
    wanted = split_path(inner)
    real = os.path.realpath(place)
    found = os.path.realpath(os.path.join(real, *wanted))
    if not is_inside(found, real):
        raise UnsafePath(f"the subPath {inner!r} leads out of its volume")
    names = [name for name in os.path.relpath(found, real).split("/") if name != "."]
    at = os.dup(root)
    for name in names[:-1]:
        try:
            following = _directory(name, at, mode)
        finally:
            os.close(at)
        at = following
    if not names:
        return at
    try:
        if not exists(names[-1], at):
            os.close(_directory(names[-1], at, mode))
        last = os.open(names[-1], PLACE, dir_fd=at)
        if stat.S_ISLNK(os.fstat(last).st_mode):
            os.close(last)
            raise UnsafePath(f"the subPath {inner!r} was changed while it was opened")
        return last
    finally:
        os.close(at)


def _directory(name: str, at: int, mode: int) -> int:
    try:
        os.mkdir(check_name(name), mode & 0o777, dir_fd=at)
    except FileExistsError:
        return os.open(name, DIRECTORY, dir_fd=at)
    following = os.open(name, DIRECTORY, dir_fd=at)
    os.chmod(following, mode | os.fstat(following).st_mode & stat.S_ISGID)
    return following


def is_inside(path: str, root: str) -> bool:
    """Whether an absolute path is this directory or below it. Components are compared: /vol-2 is
    not below /vol."""
    return os.path.commonpath([path, root]) == root
