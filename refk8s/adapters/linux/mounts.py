"""Mounts: tmpfs, bind mounts, and the table of mounts. Rules RT-9, RT-31, RT-34.

A process without the right to mount keeps such files in its own directory on an existing tmpfs:
XDG_RUNTIME_DIR or /dev/shm.
"""

import ctypes
import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

MS_NOSUID, MS_NODEV, MS_BIND, MS_REC = 2, 4, 0x1000, 0x4000
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
MOUNTINFO = "/proc/self/mountinfo"
IN_MEMORY = ("tmpfs", "ramfs")


def mount_tmpfs(place: str, mode: int, group: int = -1, size_bytes: int = 0) -> int:
    """Mount an empty tmpfs; returns 0 or the errno."""
    options = [f"mode={mode:o}"]
    if group >= 0:
        options.append(f"gid={group}")
    if size_bytes:
        options.append(f"size={size_bytes}")
    return _mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, ",".join(options))


def bind(opened: int, place: str) -> int:
    """Bind-mount an open file or directory, with its submounts; returns 0 or the errno.

    The source is given by its descriptor, so it cannot be replaced between a check and the mount.
    """
    return _mount(f"/proc/self/fd/{opened}", place, "", MS_BIND | MS_REC, "")


def _mount(source: str, place: str, kind: str, flags: int, options: str) -> int:
    try:
        call = ctypes.CDLL(None, use_errno=True).mount
    except (AttributeError, OSError):
        return -1  # A system without these calls.
    done = call(
        os.fsencode(source),
        os.fsencode(place),
        kind.encode(),
        ctypes.c_ulong(flags),
        options.encode(),
    )
    return 0 if done == 0 else ctypes.get_errno()


def unmount(place: str) -> None:
    """Unmount, even if the mount is in use; a link is not followed."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(place), MNT_DETACH | UMOUNT_NOFOLLOW)


# --- what is mounted ------------------------------------------------------------------------------


def mounted(below: str = "/", text: str | None = None) -> list[tuple[str, str]]:
    """(place, kind of file system) of each mount at this place or below it, in the order in which
    they were mounted.

    `text` is the table of mounts; none: this process's own. A machine without such a table has
    none.
    """
    if text is None:
        try:
            text = Path(MOUNTINFO).read_text()
        except OSError:
            return []
    found = []
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields.split(" ")[4])
        if place == below or below == "/" or place.startswith(f"{below}/"):
            found.append((place, rest.split(" ")[0]))
    return found


def is_mounted(place: str) -> bool:
    """Whether something is mounted at exactly this place."""
    return any(found == place for found, _ in mounted(place))


def unmount_below(place: str) -> list[str]:
    """Unmount all at this place and below; returns the places where a mount is left."""
    for found, _ in reversed(mounted(place)):
        unmount(found)
    return [found for found, _ in mounted(place)]


# --- memory without the right to mount ------------------------------------------------------------


def is_in_memory(place: str) -> bool:
    """Whether files at this place are kept in memory."""
    over = [
        (found, kind)
        for found, kind in mounted()
        if place == found or place.startswith(f"{found.rstrip('/')}/")
    ]
    return bool(over) and max(over, key=lambda mount: len(mount[0]))[1] in IN_MEMORY


def memory_directory(owner: str, environment: Mapping[str, str], make: bool = True) -> str | None:
    """A directory in memory that only this user may enter, for the files of `owner` (a path); None
    where there is none."""
    name = f"refk8s-{os.getuid()}-{blake2b(owner.encode(), digest_size=4).hexdigest()}"
    for parent in (environment.get("XDG_RUNTIME_DIR", ""), "/dev/shm"):
        if (
            not os.path.isabs(parent)
            or not os.path.isdir(parent)
            or not is_in_memory(os.path.realpath(parent))
        ):
            continue
        place = os.path.join(parent, name)
        if make:
            with suppress(FileExistsError, PermissionError):
                os.mkdir(place, 0o700)
        try:
            found = os.lstat(place)
        except OSError:
            continue
        if (
            stat.S_ISDIR(found.st_mode)
            and found.st_uid == os.getuid()
            and not found.st_mode & 0o077
        ):
            return place  # A directory of another user could expose the files.
    return None
