"""hostPath volumes: checks the path, and creates it if its type allows. Rules RT-7, RT-30.

| type | a path that is not there |
|---|---|
| none, DirectoryOrCreate | becomes an empty directory |
| FileOrCreate | becomes an empty file |
| Directory, File, Socket, CharDevice, BlockDevice | is refused |

Source: Kubernetes documentation, "Volumes" (hostPath volume types).
"""

import os
from contextlib import suppress
from pathlib import Path

from refk8s.adapters.linux import tree

_CHECKS = {
    "Directory": (Path.is_dir, "a directory"),
    "File": (Path.is_file, "a file"),
    "Socket": (Path.is_socket, "a socket file"),
    "CharDevice": (Path.is_char_device, "a character device"),
    "BlockDevice": (Path.is_block_device, "a block device"),
}


def prepare_host_path(place: str, kind: str) -> str:
    """Check or create the path; returns why it does not match its type, or an empty text.

    Existing links are followed, since the administrator made them. New files are created in open
    directories, so a link that appears meanwhile is an error.
    """
    path = Path(place)
    if kind in ("", "DirectoryOrCreate"):
        if not path.exists():
            _make_directories(os.path.realpath(path))
        return f"{path} is not a directory" if kind and not path.is_dir() else ""
    if kind == "FileOrCreate":
        if not path.exists():
            real = os.path.realpath(path)
            with tree.opened(os.path.dirname(real)) as parent, suppress(FileExistsError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                os.close(os.open(os.path.basename(real), flags, tree.FILE_MODE, dir_fd=parent))
        return "" if path.is_file() else f"{path} is not a file"
    check, words = _CHECKS.get(kind, (Path.exists, "there"))
    return "" if check(path) else f"{path} is not {words}"


def _make_directories(real: str) -> None:
    at = os.open("/", tree.DIRECTORY)
    try:
        for name in tree.split_path(real.lstrip("/")):
            with tree.made(name, at) as following:
                os.close(at)
                at = os.dup(following)
    finally:
        os.close(at)
