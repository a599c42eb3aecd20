"""The pods' volumes on this machine, under DATA_DIR/pods/UID/volumes/NAME. Rules RT-6 ... RT-9,
RT-30 ... RT-32, RT-34.

| below pods/UID | what it is |
|---|---|
| volumes/NAME | a directory (in memory if the volume says so), or a link to a path of the node |
| volume-subpaths/CONTAINER/INDEX | a mount of a subPath, which the engine mounts |
| etc-hosts, resolv.conf, NAME.ATTEMPT.message | files of the pod outside its volumes |

Containers can change what is in their volumes at any time, so everything there is opened by name in
an open directory, and no link is followed (RT-30). No container sees the directories above
the volumes. Source: Kubernetes documentation, "Volumes" (emptyDir, hostPath, using subPath),
"Secrets" (tmpfs).
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from refk8s.adapters.docker.engine.location import sees_this_process
from refk8s.adapters.linux import mounts, tree
from refk8s.adapters.linux.abilities import Abilities
from refk8s.adapters.linux.atomic_files import DATA, File, write_files
from refk8s.adapters.linux.host_path import prepare_host_path
from refk8s.core.ports import Done, Failed, Mount, Result, WriteVolume

VOLUMES, SUBPATHS = "volumes", "volume-subpaths"
PRIVATE_MODE = 0o750
NEW = ".new-"
"""Begins the name of a directory that is not complete; no volume can have such a name."""


class Volumes:
    """The volumes of every pod of one cluster."""

    def __init__(self, root: Path, abilities: Abilities) -> None:
        self._root = root
        self._abilities = abilities
        self._may_mount = True
        # open subPaths by (pod uid, container, index)
        self._held: dict[tuple[str, str, int], int] = {}

    def _pod(self, pod_uid: str) -> Path:
        return self._root / tree.check_name(pod_uid)

    def path(self, pod_uid: str, volume: str) -> Path:
        """The path of a volume; for a path of the node, the path of the link."""
        return self._pod(pod_uid) / VOLUMES / tree.check_name(volume)

    @contextmanager
    def _opened(self, pod_uid: str, *names: str) -> Iterator[int]:
        """A directory of the pod, which is created if it is missing."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        at = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in (pod_uid, *names):
                with tree.made(name, at, PRIVATE_MODE) as following:
                    os.close(at)
                    at = os.dup(following)
            yield at
        finally:
            os.close(at)

    # --- volumes ----------------------------------------------------------------------------------

    def write(self, operation: WriteVolume) -> Result:
        """Create or update a volume."""
        try:
            return self._write(operation)
        except PermissionError:
            if operation.fs_group < 0:
                raise
            return Failed(
                "FailedMount",
                f"fsGroup {operation.fs_group} cannot own the volume: "
                "this process may not (run it as root)",
            )

    def _write(self, operation: WriteVolume) -> Result:
        name = tree.check_name(operation.volume)
        with self._opened(operation.pod_uid, VOLUMES) as volumes:
            if operation.host_path:
                problem = prepare_host_path(operation.host_path, operation.host_path_type)
                if problem:
                    return Failed("FailedMount", f"hostPath type check failed: {problem}")
                tree.remove(name, volumes)
                os.symlink(operation.host_path, name, dir_fd=volumes)
                return Done()
            if operation.medium == "Memory":
                problem = self._have_memory(volumes, operation)
                if problem:
                    return Failed("FailedMount", problem)
            elif not tree.exists(name, volumes):
                self._make(volumes, operation)
            place = os.open(
                os.readlink(name, dir_fd=volumes) if tree.is_link(name, volumes) else name,
                tree.DIRECTORY,
                dir_fd=volumes,
            )
        try:
            if operation.files or tree.exists(DATA, place):
                write_files(place, self._files(operation), operation.fs_group)
        finally:
            os.close(place)
        return Done()

    def _files(self, operation: WriteVolume) -> dict[str, File]:
        """Write the files of a volume. If a file cannot get its owner, all users of the pod can
        read it (RT-9)."""
        files = {}
        for path, content in operation.files.items():
            mode, user = (
                operation.modes.get(path, operation.mode),
                operation.users.get(path, tree.KEEP),
            )
            if user not in (tree.KEEP, os.geteuid()) and os.geteuid() != 0:
                self._abilities.warn_once(
                    "tokens can be read by every user of their pod: "
                    "this process may not give files away"
                )
                mode, user = mode | 0o444, tree.KEEP
            files[path] = File(content, mode, user)
        return files

    def _make(self, volumes: int, operation: WriteVolume) -> None:
        """Create an empty directory together with its owner and permissions."""
        new = NEW + operation.volume
        tree.remove(new, volumes)
        with tree.made(new, volumes) as directory:
            _own(directory, operation)
        os.rename(new, operation.volume, src_dir_fd=volumes, dst_dir_fd=volumes)

    def has(self, operation: WriteVolume) -> bool:
        """Whether the volume exists."""
        with self._opened(operation.pod_uid, VOLUMES) as volumes:
            return tree.exists(tree.check_name(operation.volume), volumes)

    @contextmanager
    def making(self, operation: WriteVolume) -> Iterator[str]:
        """The path of an empty directory, which becomes the volume at the end of the block."""
        name = tree.check_name(operation.volume)
        with self._opened(operation.pod_uid, VOLUMES) as volumes:
            tree.remove(NEW + name, volumes)
            with tree.made(NEW + name, volumes) as directory:
                _own(directory, operation)
            yield os.path.realpath(self._pod(operation.pod_uid)) + f"/{VOLUMES}/{NEW}{name}"
            os.rename(NEW + name, name, src_dir_fd=volumes, dst_dir_fd=volumes)

    def _have_memory(self, volumes: int, operation: WriteVolume) -> str:
        """Keep this volume in memory (RT-31); returns why that is not possible, or empty."""
        name, place = (
            operation.volume,
            os.path.realpath(self.path(operation.pod_uid, operation.volume).parent),
        )
        place = f"{place}/{name}"
        if tree.is_link(name, volumes):
            return self._elsewhere(volumes, operation)
        if mounts.is_mounted(place):
            return ""
        if self._may_mount:
            with tree.made(name, volumes) as directory:
                tree.empty(directory)  # An earlier process left it on the disk.
            failed = mounts.mount_tmpfs(
                place, _mode(operation), operation.fs_group, operation.size_limit_bytes
            )
            if not failed:
                return ""
            if failed not in (errno.EPERM, -1):
                return f"no file system in memory: {os.strerror(failed)}"
            self._may_mount = False
            os.rmdir(name, dir_fd=volumes)
        return self._elsewhere(volumes, operation)

    def _elsewhere(self, volumes: int, operation: WriteVolume) -> str:
        """A directory in memory that is not mounted for it, or on the disk where the machine has
        none (RT-9)."""
        if operation.size_limit_bytes:
            return "sizeLimit of a volume in memory cannot be enforced: this process may not mount"
        memory = mounts.memory_directory(str(self._root), os.environ)
        if memory is None:
            self._abilities.warn_once(
                "volumes in memory are directories on disk here: this process may not mount"
            )
            if not tree.exists(operation.volume, volumes):
                self._make(volumes, operation)
            return ""
        with tree.opened(memory) as top, tree.made(operation.pod_uid, top, 0o700) as pod:
            if not tree.exists(operation.volume, pod):
                self._make(pod, operation)
        if not tree.is_link(operation.volume, volumes):
            tree.remove(operation.volume, volumes)
            os.symlink(
                f"{memory}/{operation.pod_uid}/{operation.volume}", operation.volume, dir_fd=volumes
            )
        return ""

    # --- files of the pod -------------------------------------------------------------------------

    def write_file(
        self, pod_uid: str, name: str, content: bytes, mode: int = tree.FILE_MODE
    ) -> Path:
        """Write a file of the pod outside its volumes."""
        with self._opened(pod_uid) as pod:
            tree.write(name, pod, content, mode)
        return self._pod(pod_uid) / name

    def read_file(self, pod_uid: str, name: str, bytes_max: int) -> bytes | None:
        """The first bytes of that file; None if it does not exist."""
        try:
            with tree.opened(self._pod(pod_uid)) as pod:
                return tree.read(name, pod, bytes_max)
        except OSError:
            return None

    def file(self, pod_uid: str, name: str) -> Path | None:
        """The path of that file, or None if it does not exist."""
        place = self._pod(pod_uid) / tree.check_name(name)
        return place if place.is_file() and not place.is_symlink() else None

    # --- what a container mounts ------------------------------------------------------------------

    def source(
        self, pod_uid: str, mount: Mount, container: str = "container", index: int = 0
    ) -> Path:
        """The path to mount for "volume" or "volume/inner/path"; `index` counts the container's
        mounts.

        Raises NotPossible if the inner path is not inside the volume (RT-7). A container cannot
        replace the file or directory that the result refers to: the result is a mount of it, or
        refers to it by an open descriptor of this process (RT-34).
        """
        volume, _, inner = mount.source.partition("/")
        place = os.path.realpath(self.path(pod_uid, volume))
        if not inner:
            return Path(place)
        root = os.open(place, tree.PLACE)
        try:
            mode = stat.S_IMODE(os.fstat(root).st_mode)
            found = tree.open_inside(root, place, inner, mode)
        finally:
            os.close(root)
        if mount.managed and not self._may_mount:
            os.close(found)
            return Path(place, *tree.split_path(inner))
        return self._shown(pod_uid, container, index, found)

    def _shown(self, pod_uid: str, container: str, index: int, found: int) -> Path:
        """A path for the engine that leads to this open file or directory and to nothing else."""
        self._release(pod_uid, container, index)
        if self._may_mount:
            with self._opened(pod_uid, SUBPATHS, container) as directory:
                name = str(index)
                place = os.path.realpath(self._pod(pod_uid)) + f"/{SUBPATHS}/{container}/{name}"
                if mounts.unmount_below(place):
                    os.close(found)
                    raise OSError(errno.EBUSY, "still mounted", place)
                tree.remove(name, directory)
                if stat.S_ISDIR(os.fstat(found).st_mode):
                    os.mkdir(name, PRIVATE_MODE, dir_fd=directory)
                else:
                    tree.write(name, directory, b"", 0o600)
                failed = mounts.bind(found, place)
                if not failed:
                    os.close(found)
                    return Path(place)
                tree.remove(name, directory)
            if failed not in (errno.EPERM, -1):
                os.close(found)
                raise OSError(failed, os.strerror(failed), place)
            self._may_mount = False
        if not stat.S_ISDIR(os.fstat(found).st_mode) or not sees_this_process():
            os.close(found)
            raise tree.NotPossible(
                "a subPath in a volume that containers can change needs a process that may mount "
                "(run it as root); "
                "without it, the engine supports only directories of this machine"
            )
        self._held[pod_uid, container, index] = found
        return Path(f"/proc/{os.getpid()}/fd/{found}")

    def is_held(self, source: str) -> bool:
        """Whether the path names a file or directory that this process has open for a mount."""
        head, _, number = source.rpartition("/fd/")
        return (
            head == f"/proc/{os.getpid()}"
            and number.isdigit()
            and int(number) in self._held.values()
        )

    def release(self, pod_uid: str, container: str) -> None:
        """The container has started: close what was open for its mounts."""
        for uid, name, index in list(self._held):
            if (uid, name) == (pod_uid, container):
                self._release(uid, name, index)

    def _release(self, pod_uid: str, container: str, index: int) -> None:
        found = self._held.pop((pod_uid, container, index), None)
        if found is not None:
            os.close(found)

    # --- removal ----------------------------------------------------------------------------------

    def remove(self, pod_uid: str) -> None:
        """Remove all directories of this pod. Nothing is removed below a path on which something is
        still mounted."""
        place = self._pod(pod_uid)
        for uid, container, index in list(self._held):
            if uid == pod_uid:
                self._release(uid, container, index)
        memory = mounts.memory_directory(str(self._root), os.environ, make=False)
        left = bool(mounts.unmount_below(os.path.realpath(place)))
        if not left:
            left = not _removed(self._root, pod_uid, VOLUMES) or not _removed(self._root, pod_uid)
        if memory is not None:
            left = not _removed(Path(memory), pod_uid) or left
        if left:
            self._abilities.warn_once(
                f"files of ended pods are left in {self._root}: this process may not remove them"
            )

    def remove_all(self) -> None:
        """Remove all directories of all pods, also of a pod that has only files in memory."""
        memory = mounts.memory_directory(str(self._root), os.environ, make=False)
        places = [self._root] if memory is None else [self._root, Path(memory)]
        for name in sorted(
            {pod.name for place in places if place.is_dir() for pod in place.iterdir()}
        ):
            self.remove(name)
        for place in places:
            with suppress(OSError):
                place.rmdir()


def _mode(operation: WriteVolume) -> int:
    """The permissions of the volume's directory. New files get the group that owns it (RT-32)."""
    mode = (
        operation.mode & 0o777
        if not operation.files and operation.mode & 0o111
        else tree.DIRECTORY_MODE
    )
    return mode | (stat.S_ISGID if operation.fs_group >= 0 else 0)


def _own(directory: int, operation: WriteVolume) -> None:
    if operation.fs_group >= 0:
        os.fchown(directory, tree.KEEP, operation.fs_group)
    os.chmod(directory, _mode(operation))


def _removed(root: Path, name: str, inner: str = "") -> bool:
    """Remove this tree, or each entry of a directory in it; returns whether all was removed."""
    try:
        with tree.opened(root) as at:
            if not inner:
                tree.remove(name, at)
                return True
            with tree.opened(name, at) as pod, tree.opened(inner, pod) as directory:
                gone = [_removed_one(entry, directory) for entry in os.listdir(directory)]
                return all(gone)  # Each is tried, even if an earlier one could not be removed.
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _removed_one(name: str, at: int) -> bool:
    try:
        tree.remove(name, at)
    except OSError:
        return False
    return True
