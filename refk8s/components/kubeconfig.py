"""Adds the entries of this cluster to a kubeconfig file, and removes them. Rules HOST-7, HOST-8.

As in kubectl, kind and minikube: entries with the same names are replaced, all others are kept, the
file is replaced atomically, and `PATH.lock` exists while the file is read and written. The other
entries are not interpreted; only comments are lost.

Source: Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files".
"""

import base64
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refk8s.components.files import PRIVATE_FILE, CannotRun, read_file, write_file

if TYPE_CHECKING:
    from refk8s.components.credentials import Credentials

CLUSTER = CONTEXT = "refk8s"
USER = "refk8s-admin"
BYTES_MAX = 16 << 20
LOCK_SECONDS_MAX = 5.0
"""How long to wait for the lock of the file; kubectl holds it for milliseconds."""
LOCK_POLL_SECONDS = 0.02
LISTS = (("clusters", CLUSTER), ("users", USER), ("contexts", CONTEXT))


def default_path(environment: "os._Environ[str] | dict[str, str]") -> Path:
    """The file that kubectl would change.

    The first existing path of KUBECONFIG, else its first path, else ~/.kube/config.
    """
    named = [
        Path(part).expanduser()
        for part in environment.get("KUBECONFIG", "").split(os.pathsep)
        if part
    ]
    return next(
        (path for path in named if path.exists()),
        named[0] if named else Path("~/.kube/config").expanduser(),
    )


def kubeconfig_of(server: str, credentials: "Credentials") -> str:
    """A kubeconfig with this cluster only.

    It has a client certificate and a token, since some clients support only one of them.
    """

    def encoded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    return f"""apiVersion: v1
kind: Config
current-context: {CONTEXT}
clusters:
- name: {CLUSTER}
  cluster:
    server: {server}
    certificate-authority-data: {encoded(credentials.authority)}
users:
- name: {USER}
  user:
    client-certificate-data: {encoded(credentials.admin_certificate)}
    client-key-data: {encoded(credentials.admin_key)}
    token: {credentials.admin_token}
contexts:
- name: {CONTEXT}
  context:
    cluster: {CLUSTER}
    user: {USER}
"""


def check_kubeconfig(path: Path) -> None:
    """Raises CannotRun if `merge_kubeconfig` would reject the existing file."""
    content = read_file(path, BYTES_MAX)
    if content is not None and content.strip():
        _parse(path, content)


def merge_kubeconfig(path: Path, ours: str) -> None:
    """Add the entries of `ours` to the file and make its context the current one (HOST-7).

    Raises CannotRun; the file is then unchanged.
    """

    def merged(content: bytes) -> bytes:
        if not content.strip() or content == ours.encode():
            return ours.encode()
        theirs, mine = _parse(path, content), _parse(path, ours.encode())
        for field, name in LISTS:
            entry = _value(mine, field).value[0]
            entries = _entries(theirs, field)
            if not entries:
                _set(theirs, field, _value(mine, field))
                continue
            place = next(
                (place for place, each in enumerate(entries) if _name(each) == name), len(entries)
            )
            entries[:] = [each for each in entries if _name(each) != name]
            entries.insert(place, entry)
        _set(theirs, "current-context", _value(mine, "current-context"))
        return _text(theirs)

    _change(path, merged)


def remove_from_kubeconfig(path: Path) -> bool:
    """Remove the entries of this cluster from the file (HOST-8); returns whether there were any.

    Raises CannotRun; the file is then unchanged.
    """
    found: list[str] = []

    def without(content: bytes) -> bytes:
        if not content.strip():
            return content
        theirs = _parse(path, content)
        for field, name in LISTS:
            entries = _entries(theirs, field)
            if any(_name(each) == name for each in entries):
                found.append(name)
                entries[:] = [each for each in entries if _name(each) != name]
        current = _value(theirs, "current-context")
        if current is not None and current.value == CONTEXT:
            current.value, current.style = "", '"'
            found.append(CONTEXT)
        return _text(theirs) if found else content

    if path.exists():
        _change(path, without)
    return bool(found)


# --- The file -------------------------------------------------------------------------------------


def _change(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Replace the content under the lock that kubectl uses.

    For a symbolic link, its target is replaced.
    """
    with _locked(path):
        target = Path(os.path.realpath(path))
        before = read_file(target, BYTES_MAX)
        after = change(before or b"")
        if after == before:
            return
        mode, owner = PRIVATE_FILE, None
        with suppress(FileNotFoundError):
            found = target.stat()
            mode, owner = stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid)
        write_file(target, after, mode, owner)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = path.with_name(path.name + ".lock")
    end = time.monotonic() + LOCK_SECONDS_MAX
    while True:
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            os.close(descriptor)
            break
        except FileExistsError:
            if _is_left_behind(lock):
                with suppress(OSError):
                    lock.unlink()
                continue
            if time.monotonic() >= end:
                raise CannotRun(
                    f"{path} is locked by {lock}: wait for the program that changes it, "
                    "or remove that file"
                ) from None
            time.sleep(LOCK_POLL_SECONDS)
        except OSError as error:
            raise CannotRun(
                f"cannot write beside {path}: {error.strerror}; choose another with --kubeconfig"
            ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()


def _is_left_behind(lock: Path) -> bool:
    """Whether the lock names a refk8s process that has ended.

    kubectl writes no process id, so its locks are never removed.
    """
    try:
        with open(lock, "rb") as file:
            os.kill(int(file.read(20)), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return False


# --- YAML as a tree of nodes: other entries keep their tags, styles and order ---------------------


def _parse(path: Path, content: bytes) -> Any:
    """The file's mapping. Raises CannotRun if the file is not a kubeconfig."""
    import yaml

    try:
        root = yaml.compose(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise _broken(path, " ".join(str(error).split())) from None
    if not isinstance(root, yaml.MappingNode):
        raise _broken(path, "it is not a mapping")
    kind = _value(root, "kind")
    if kind is not None and kind.value != "Config":
        raise _broken(
            path,
            f"it is a {kind.value}" if isinstance(kind.value, str) else "its kind is not a string",
        )
    for field, _ in LISTS:
        found = _value(root, field)
        if (
            found is not None
            and not isinstance(found, yaml.SequenceNode)
            and found.tag != "tag:yaml.org,2002:null"
        ):
            raise _broken(path, f"{field} is not a list")
        for place, entry in enumerate(_entries(root, field)):
            if not isinstance(entry, yaml.MappingNode) or _name(entry) is None:
                raise _broken(path, f"{field}[{place}] has no name")
    return root


def _broken(path: Path, why: str) -> CannotRun:
    return CannotRun(
        f"{path} is not a kubeconfig ({why}): correct it or move it away, "
        "or choose another with --kubeconfig"
    )


def _text(root: Any) -> bytes:
    import yaml

    _quote_times(root)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: bytes = yaml.serialize(
        root, Dumper=dumper, encoding="utf-8", width=1 << 30, allow_unicode=True
    )
    return text


def _quote_times(node: Any, seen: "set[int] | None" = None) -> None:
    """Quote scalars such as 12:30:45.

    Kubernetes reads them as text, but the library reads a number, which it cannot write in braces.
    """
    seen = set() if seen is None else seen
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node.value, str):
        if ":" in node.value and not node.style and node.tag != "tag:yaml.org,2002:str":
            node.tag, node.style = "tag:yaml.org,2002:str", "'"
        return
    for each in node.value:
        for inner in each if isinstance(each, tuple) else (each,):
            _quote_times(inner, seen)


def _value(mapping: Any, name: str) -> Any:
    return next((value for key, value in mapping.value if key.value == name), None)


def _entries(mapping: Any, field: str) -> list[Any]:
    """The nodes of a list, to be changed in place; empty for an absent or null list."""
    found = _value(mapping, field)
    return found.value if found is not None and isinstance(found.value, list) else []


def _set(mapping: Any, name: str, value: Any) -> None:
    for place, (key, _) in enumerate(mapping.value):
        if key.value == name:
            mapping.value[place] = (key, value)
            return
    import yaml

    mapping.value.append((yaml.ScalarNode("tag:yaml.org,2002:str", name), value))


def _name(entry: Any) -> Any:
    found = _value(entry, "name")
    return None if found is None or not isinstance(found.value, str) else found.value
