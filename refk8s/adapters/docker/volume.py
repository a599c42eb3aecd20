"""The pods' volumes on this machine's disk, under DATA_DIR/pods/UID/volumes/NAME. Rules RT-6, RT-7, RT-9.

A volume of files changes as Kubernetes changes it: each version is a directory of its own, `..data` is a link to the one that counts,
what a container sees are links through `..data`, and a change is the one rename of that link: a reader sees the old or the new, whole.
Source: Kubernetes documentation, "Secrets" and "ConfigMaps" (mounted ConfigMaps are updated automatically).
"""

import contextlib
import ctypes
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from refk8s.adapters.docker.abilities import Abilities
from refk8s.core.ports import Done, Failed, Result, WriteVolume

DATA = "..data"
NEW_DATA = "..data_tmp"


class LeadsOut(Exception):
    """A path inside a volume that leads out of it."""


class Volumes:
    """The volumes of every pod of one cluster."""

    def __init__(self, root: Path, abilities: Abilities) -> None:
        self._root = root
        self._abilities = abilities

    def _pod(self, pod_uid: str) -> Path:
        return self._root / _part(pod_uid)

    def path(self, pod_uid: str, volume: str) -> Path:
        """Where a volume is (for a path of the node: a link to it)."""
        return self._pod(pod_uid) / "volumes" / _part(volume)

    def write(self, operation: WriteVolume) -> Result:
        """Make or refresh a volume."""
        place = self.path(operation.pod_uid, operation.volume)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        if operation.host_path:
            return self._link(place, operation)
        if operation.files or (place / DATA).is_symlink():
            write_files(place, operation.files, operation.mode)
            return Done()
        if not place.exists():
            place.mkdir()
            if operation.medium == "Memory":
                self._mount_tmpfs(place)
            place.chmod(operation.mode if operation.mode & 0o111 else 0o755)
        return Done()

    def _link(self, place: Path, operation: WriteVolume) -> Result:
        source = Path(operation.host_path)
        problem = prepare_host_path(source, operation.host_path_type)
        if problem:
            return Failed("FailedMount", f"hostPath type check failed: {problem}")
        with contextlib.suppress(FileNotFoundError):
            place.unlink()
        place.symlink_to(source)
        return Done()

    def _mount_tmpfs(self, place: Path) -> None:
        if mount_tmpfs(place) != 0:
            self._abilities.say_once("volumes in memory are directories on disk here: this process may not mount")

    def write_file(self, pod_uid: str, name: str, content: bytes) -> Path:
        """A file of the pod that is no volume."""
        place = self._pod(pod_uid) / name
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        place.write_bytes(content)
        place.chmod(0o644)
        return place

    def file(self, pod_uid: str, name: str) -> Path | None:
        """That file, where there is one."""
        place = self._pod(pod_uid) / name
        return place if place.exists() else None

    def source(self, pod_uid: str, source: str) -> Path:
        """The path to mount for "volume" or "volume/inner/path". LeadsOut where that is not inside the volume (RT-7)."""
        volume, _, inner = source.partition("/")
        root = Path(os.path.realpath(self.path(pod_uid, volume)))
        if not inner:
            return root
        place = Path(os.path.realpath(root / inner))
        if root != place and root not in place.parents:
            raise LeadsOut(f"the subPath {inner!r} leads out of volume {volume!r}")
        if not place.exists():
            place.mkdir(parents=True, mode=0o750)
            place.chmod(stat.S_IMODE(root.stat().st_mode))
        return place

    def remove(self, pod_uid: str) -> None:
        """Everything of this pod."""
        place = self._pod(pod_uid)
        volumes = place / "volumes"
        for volume in volumes.iterdir() if volumes.is_dir() else ():
            if not volume.is_symlink() and os.path.ismount(volume):
                unmount(volume)
        shutil.rmtree(place, ignore_errors=True)
        if place.exists():
            self._abilities.say_once(f"files of ended pods are left in {self._root}: this process may not remove them")

    def remove_all(self) -> None:
        """Everything of every pod."""
        for place in sorted(self._root.iterdir()) if self._root.is_dir() else ():
            self.remove(place.name)
        with contextlib.suppress(OSError):
            self._root.rmdir()


def _part(name: str) -> str:
    """A name as one part of a path."""
    if not name or "/" in name or name in (".", ".."):
        raise LeadsOut(f"{name!r} is no name of a directory")
    return name


# --- files that change as one --------------------------------------------------------------------------------------------


def write_files(place: Path, files: Mapping[str, bytes], mode: int) -> bool:
    """Make the volume hold exactly these files, all at once; whether anything changed (RT-6)."""
    place.mkdir(exist_ok=True)
    place.chmod(0o755)
    for path in files:
        if path.startswith("/") or not path or ".." in path.split("/"):
            raise LeadsOut(f"the file {path!r} leads out of its volume")
    data = place / DATA
    old = Path(os.path.realpath(data)) if data.is_symlink() else None
    if old is not None and _holds(old, files, mode):
        _show(place, files)
        return False
    version = Path(tempfile.mkdtemp(prefix="..", dir=place))
    version.chmod(0o755)
    for path, content in sorted(files.items()):
        target = version / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)
    new = place / NEW_DATA
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    new.symlink_to(version.name)
    new.rename(data)
    _show(place, files)
    for entry in place.iterdir():
        if entry.name.startswith("..") and entry.is_dir() and not entry.is_symlink() and entry.name != version.name:
            shutil.rmtree(entry, ignore_errors=True)
    return True


def _holds(version: Path, files: Mapping[str, bytes], mode: int) -> bool:
    found = {str(path.relative_to(version)): path for path in version.rglob("*") if path.is_file()}
    return found.keys() == files.keys() and all(
        path.read_bytes() == files[name] and stat.S_IMODE(path.stat().st_mode) == mode for name, path in found.items()
    )


def _show(place: Path, files: Mapping[str, bytes]) -> None:
    """The links that a container sees: one for each file or directory at the top."""
    wanted = {path.partition("/")[0] for path in files}
    for name in sorted(wanted):
        link = place / name
        if not link.is_symlink():
            link.symlink_to(f"{DATA}/{name}")
    for entry in place.iterdir():
        if entry.name not in wanted and not entry.name.startswith("..") and entry.is_symlink():
            entry.unlink()


# --- paths of the node -----------------------------------------------------------------------------------------------------

_CHECKS = {
    "Directory": (Path.is_dir, "a directory"),
    "File": (Path.is_file, "a file"),
    "Socket": (Path.is_socket, "a socket file"),
    "CharDevice": (Path.is_char_device, "a character device"),
    "BlockDevice": (Path.is_block_device, "a block device"),
}


def prepare_host_path(path: Path, kind: str) -> str:
    """Why the path is not what its type says; empty when it is, or was made so.

    | type | a path that is not there |
    |---|---|
    | none, DirectoryOrCreate | becomes an empty directory |
    | FileOrCreate | becomes an empty file |
    | Directory, File, Socket, CharDevice, BlockDevice | is refused |
    """
    if kind in ("", "DirectoryOrCreate"):
        if not path.exists():
            path.mkdir(parents=True, mode=0o755)
        return f"{path} is not a directory" if kind and not path.is_dir() else ""
    if kind == "FileOrCreate":
        if not path.exists():
            path.touch(mode=0o644)
        return "" if path.is_file() else f"{path} is not a file"
    check, words = _CHECKS.get(kind, (Path.exists, "there"))
    return "" if check(path) else f"{path} is not {words}"


# --- memory ----------------------------------------------------------------------------------------------------------------


def mount_tmpfs(place: Path) -> int:
    """Mount an empty file system in memory; 0, or the error's number."""
    library = ctypes.CDLL(None, use_errno=True)
    flags = 2 | 4  # MS_NOSUID, MS_NODEV
    done = library.mount(b"tmpfs", os.fsencode(place), b"tmpfs", ctypes.c_ulong(flags), b"mode=0777")
    return 0 if done == 0 else ctypes.get_errno()


def unmount(place: Path) -> None:
    """Take a mount away, also where it is still in use somewhere."""
    ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(place), 2)  # MNT_DETACH
