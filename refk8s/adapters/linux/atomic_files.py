"""Volumes of files that are updated atomically. Rules RT-6, RT-30.

Each version is a directory, and `..data` is a link to the current one. A container sees links
through `..data`. An update renames a new link to `..data`, so a reader sees the old or the new
version as a whole. This module follows no link of the volume, so a container gains nothing if it
replaces `..data` (RT-30). Source: Kubernetes documentation, "Secrets" and "ConfigMaps" (mounted
ConfigMaps are updated automatically).
"""

import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from refk8s.adapters.linux import tree

DATA = "..data"
NEW_DATA = "..data_tmp"
VERSION_BYTES = 8


class File(NamedTuple):
    """One file of a volume: its bytes, its permissions, its user."""

    content: bytes
    mode: int = tree.FILE_MODE
    user: int = tree.KEEP


def write_files(place: int, files: Mapping[str, File], group: int = tree.KEEP) -> bool:
    """Replace the files of the volume (an open directory); returns whether any changed (RT-6).

    With fsGroup, the group owns every file and directory. It can read them, and new files inherit
    it (RT-32).
    """
    wanted = {}
    for path, file in files.items():
        mode = file.mode & 0o777 | (0o440 if group != tree.KEEP else 0)
        wanted["/".join(tree.split_path(path))] = file._replace(mode=mode)
    _own(place, group)
    old = _link(DATA, place)
    if old is not None and _holds(place, old, wanted, group):
        _show(place, wanted)
        return False
    version = f"..{secrets.token_hex(VERSION_BYTES)}"
    with tree.made(version, place) as directory:
        _own(directory, group)
        for path, file in sorted(wanted.items()):
            _write(directory, path.split("/"), file, group)
    tree.remove(NEW_DATA, place)
    os.symlink(version, NEW_DATA, dir_fd=place)
    if not tree.is_link(DATA, place):
        # A container may have put a directory in its place, which a rename does not replace.
        tree.remove(DATA, place)
    os.rename(NEW_DATA, DATA, src_dir_fd=place, dst_dir_fd=place)
    _show(place, wanted)
    for name in os.listdir(place):
        if name.startswith("..") and name not in (version, DATA):
            tree.remove(name, place)
    return True


def _own(directory: int, group: int) -> None:
    mode = tree.DIRECTORY_MODE
    if group != tree.KEEP:
        os.fchown(directory, tree.KEEP, group)
        mode |= stat.S_ISGID
    os.chmod(directory, mode)


def _link(name: str, place: int) -> str | None:
    """The version that this link names; None if the link is missing or made by a container."""
    try:
        target = os.readlink(name, dir_fd=place)
    except OSError:
        return None
    return target if target.startswith("..") and "/" not in target and target != ".." else None


def _write(directory: int, names: list[str], file: File, group: int) -> None:
    if len(names) == 1:
        tree.write(names[0], directory, file.content, file.mode, file.user, group)
        return
    with tree.made(names[0], directory) as inner:
        _own(inner, group)
        _write(inner, names[1:], file, group)


def _holds(place: int, version: str, wanted: Mapping[str, File], group: int) -> bool:
    """Whether this version has exactly these files."""
    try:
        with tree.opened(version, place) as directory:
            paths = _files(directory, "", {path.rpartition("/")[0] for path in wanted})
            return paths == set(wanted) and all(
                _is(directory, path, file, group) for path, file in wanted.items()
            )
    except OSError:
        return False


def _files(directory: int, prefix: str, folders: set[str]) -> set[str]:
    """The paths that are not directories, and the directories that are not wanted."""
    found: set[str] = set()
    for name in os.listdir(directory):
        path = f"{prefix}{name}"
        within = any(folder == path or folder.startswith(f"{path}/") for folder in folders)
        if within and stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            with tree.opened(name, directory) as inner:
                found |= _files(inner, f"{path}/", folders)
        else:
            found.add(path)
    return found


def _is(directory: int, path: str, file: File, group: int) -> bool:
    names = path.split("/")
    inner = tree.walk(directory, names[:-1])
    try:
        found = os.stat(names[-1], dir_fd=inner, follow_symlinks=False)
        if stat.S_IMODE(found.st_mode) != file.mode or (
            group != tree.KEEP and found.st_gid != group
        ):
            return False
        if file.user != tree.KEEP and found.st_uid != file.user:
            return False
        return tree.read(names[-1], inner, len(file.content) + 1) == file.content
    finally:
        os.close(inner)


def _show(place: int, files: Mapping[str, File]) -> None:
    """The links that a container sees: one for each file or directory at the top."""
    wanted = {path.partition("/")[0]: f"{DATA}/{path.partition('/')[0]}" for path in files}
    for name, target in sorted(wanted.items()):
        if tree.is_link(name, place) and os.readlink(name, dir_fd=place) == target:
            continue
        tree.remove(name, place)
        os.symlink(target, name, dir_fd=place)
    for name in os.listdir(place):
        if name not in wanted and not name.startswith("..") and tree.is_link(name, place):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=place)
