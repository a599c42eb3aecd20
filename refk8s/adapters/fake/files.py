"""The file system of a simulated container: its image, its mounts, and the written files. Rule
SHELL-4 (spec/shell.md).

A disk is a value: the paths that were written or removed. It is a layer over a small image (the
container's own disk) or over the files that the kubelet wrote (the disk of a volume). Paths are
absolute and normal. A directory exists if it was created or contains something.
"""

from collections.abc import Iterator, Mapping
from posixpath import dirname, join, normpath
from typing import Protocol

from immutables import Map
from msgspec import Struct

from refk8s.core.ports import Mount

FILE_BYTES_MAX = 1 << 22
DISK_BYTES_MAX = 1 << 23
ENTRIES_MAX = 2_000
PATH_CHARACTERS_MAX = 4096

NO_FILE = "No such file or directory"
IS_DIRECTORY = "Is a directory"
NOT_DIRECTORY = "Not a directory"
READ_ONLY = "Read-only file system"
NO_SPACE = "No space left on device"

ROOT = ""
"""The name of the container's own disk; the others have their volumes' names."""


class FileProblem(Exception):
    """A path cannot be used; the message is the kernel's."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words


class Entry(Struct, frozen=True, gc=False):
    """A file, or a directory where `data` is None. `gone`: removed from the layer below."""

    data: bytes | None = None
    mode: int = 0o644
    gone: bool = False


DIRECTORY = Entry(None, 0o755)
GONE = Entry(None, 0, True)


class Disk(Struct, frozen=True):
    """The written entries by path, and their size."""

    entries: Map[str, Entry] = Map()
    size: int = 0

    def put(self, path: str, entry: Entry) -> "Disk":
        """The disk with this entry. Raises FileProblem if the disk is full."""
        before = self.entries.get(path)
        size = (
            self.size
            - len(before.data or b"" if before is not None else b"")
            + len(entry.data or b"")
        )
        if (
            size > DISK_BYTES_MAX
            or len(entry.data or b"") > FILE_BYTES_MAX
            or (before is None and len(self.entries) >= ENTRIES_MAX)
        ):
            raise FileProblem(NO_SPACE)
        return Disk(self.entries.set(path, entry), size)


NO_DISK = Disk()

IMAGE_DIRECTORIES = (
    "/bin",
    "/dev",
    "/etc",
    "/home",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/local",
    "/var",
)
IMAGE_FILES: Mapping[str, bytes] = {
    "/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "/etc/os-release": b'NAME="refk8s simulated container"\nID=refk8s\n',
}


class Disks(Protocol):
    """Provides the disks of a container."""

    def disk(self, name: str) -> Disk:
        """The container's own disk, or a volume's."""

    def put(self, name: str, path: str, entry: Entry) -> None:
        """Write one entry. Raises FileProblem if the disk is full."""

    def given(self, name: str) -> Mapping[str, Entry]:
        """The layer below: the files of a volume, or of the image."""


class Files:
    """The files as a container sees them."""

    def __init__(
        self, disks: Disks, mounts: tuple[Mount, ...], read_only_root: bool = False
    ) -> None:
        self._disks = disks
        self._read_only_root = read_only_root
        # The longest path first: that mount hides the others.
        self._mounts = sorted(
            [(_normal(mount.path), mount) for mount in mounts], key=lambda pair: -len(pair[0])
        )

    def _locate(self, path: str) -> tuple[str, str, bool]:
        """(disk, path on it, whether it is read-only)."""
        if len(path) > PATH_CHARACTERS_MAX:
            raise FileProblem("File name too long")
        path = _normal(path)
        for place, mount in self._mounts:
            if path == place or path.startswith(place.rstrip("/") + "/"):
                volume, _, inner = mount.source.partition("/")
                return volume, _normal(f"/{inner}/{path[len(place) :]}"), mount.read_only
        return ROOT, path, self._read_only_root

    def _entry(self, disk: str, path: str) -> Entry | None:
        entry = self._disks.disk(disk).entries.get(path) or self._disks.given(disk).get(path)
        return None if entry is None or entry.gone else entry

    def _below(self, disk: str, path: str) -> Iterator[str]:
        """The names on this disk directly below a path; some more than once."""
        prefix = path.rstrip("/") + "/"
        written, given = self._disks.disk(disk).entries, self._disks.given(disk)
        for paths in (written, given):
            for at in paths:
                if at.startswith(prefix) and at != prefix:
                    entry = written.get(at) or given.get(at)
                    if entry is not None and not entry.gone:
                        yield at[len(prefix) :].partition("/")[0]

    def kind(self, path: str) -> str:
        """ "file", "directory", or empty if the path does not exist."""
        disk, inner, _ = self._locate(path)
        if inner == "/":
            return "directory"
        entry = self._entry(disk, inner)
        if entry is not None and entry.data is not None:
            return "file"
        is_directory = (
            entry is not None
            or next(self._below(disk, inner), None) is not None
            or bool(self._mounts_below(path))
        )
        return (
            "directory"
            if is_directory or any(_normal(path) == place for place, _ in self._mounts)
            else ""
        )

    def _mounts_below(self, path: str) -> set[str]:
        prefix = _normal(path).rstrip("/") + "/"
        return {
            place[len(prefix) :].partition("/")[0]
            for place, _ in self._mounts
            if place.startswith(prefix) and place != prefix
        }

    def list(self, path: str) -> list[str]:
        """The names in a directory."""
        kind = self.kind(path)
        if kind != "directory":
            raise FileProblem(NOT_DIRECTORY if kind else NO_FILE)
        disk, inner, _ = self._locate(path)
        return sorted({*self._below(disk, inner), *self._mounts_below(path)})

    def read(self, path: str) -> bytes:
        """The content of a file."""
        if _normal(path) == "/dev/null":
            return b""
        disk, inner, _ = self._locate(path)
        entry = self._entry(disk, inner)
        if entry is not None and entry.data is not None:
            return entry.data
        raise FileProblem(IS_DIRECTORY if self.kind(path) else NO_FILE)

    def mode(self, path: str) -> int:
        """The mode of a file or directory, without its kind."""
        disk, inner, _ = self._locate(path)
        entry = self._entry(disk, inner)
        return entry.mode if entry is not None else 0o755

    def write(self, path: str, data: bytes, append: bool = False, mode: int | None = None) -> None:
        """Write a file in an existing directory."""
        if (
            _normal(path).startswith("/dev/")
            and not _normal(path).startswith("/dev/shm/")
            and _normal(path) != "/dev/termination-log"
        ):
            return
        disk, inner, read_only = self._locate(path)
        kind = self.kind(path)
        if kind == "directory":
            raise FileProblem(IS_DIRECTORY)
        if self.kind(dirname(_normal(path))) != "directory":
            raise FileProblem(NO_FILE)
        if read_only:
            raise FileProblem(READ_ONLY)
        before = self._entry(disk, inner)
        if append and before is not None:
            data = (before.data or b"") + data
        self._disks.put(
            disk,
            inner,
            Entry(data, mode if mode is not None else before.mode if before is not None else 0o644),
        )

    def make_directory(self, path: str) -> None:
        """Create one directory in an existing one."""
        disk, inner, read_only = self._locate(path)
        if self.kind(path):
            raise FileProblem("File exists")
        if self.kind(dirname(_normal(path))) != "directory":
            raise FileProblem(NO_FILE)
        if read_only:
            raise FileProblem(READ_ONLY)
        self._disks.put(disk, inner, DIRECTORY)

    def make_directories(self, path: str) -> None:
        """Create a directory and the missing ones above it."""
        missing, at = [], _normal(path)
        while self.kind(at) != "directory":
            missing.append(at)
            at = dirname(at)
        for place in reversed(missing):
            self.make_directory(place)

    def remove(self, path: str) -> None:
        """Remove a file, or a directory with its content."""
        kind = self.kind(path)
        if not kind:
            raise FileProblem(NO_FILE)
        disk, inner, read_only = self._locate(path)
        if any(place == _normal(path) for place, _ in self._mounts) or inner == "/":
            raise FileProblem("Resource busy")
        if read_only:
            raise FileProblem(READ_ONLY)
        if kind == "directory":
            for name in self.list(path):
                self.remove(join(path, name))
        self._disks.put(disk, inner, GONE)

    def set_mode(self, path: str, mode: int) -> None:
        """Change the mode of a file."""
        disk, inner, read_only = self._locate(path)
        entry = self._entry(disk, inner)
        if not self.kind(path):
            raise FileProblem(NO_FILE)
        if read_only:
            raise FileProblem(READ_ONLY)
        self._disks.put(disk, inner, Entry(entry.data if entry is not None else None, mode))


def _normal(path: str) -> str:
    return normpath("/" + path.lstrip("/"))
