"""The node's resolv.conf. Rules DNS-16, KUBELET-51.

Source: resolv.conf(5); Kubernetes documentation, "Kubelet Configuration (v1beta1)" (resolvConf).
"""

from pathlib import Path

from refk8s.core.value import Value

DEFAULT = Path("/etc/resolv.conf")
SYSTEMD = Path("/run/systemd/resolve/resolv.conf")
"""The file with the servers behind systemd's stub at 127.0.0.53, which pods cannot reach."""
STUB = "127.0.0.53"
SIZE_MAX = 1 << 20  # bytes


class ResolvConf(Value, frozen=True):
    """How a machine resolves names."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse(text: str) -> ResolvConf:
    """The servers in their order; of search domains and options those of the last line."""
    servers: list[str] = []
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    for line in text.splitlines():
        match line.split():
            case ["nameserver", server, *_]:
                servers.append(server)
            case ["search", *domains]:
                searches = tuple([domain.rstrip(".") or "." for domain in domains])
            case ["options", *words]:
                options = tuple(words)
    return ResolvConf(tuple(dict.fromkeys(servers)), searches, options)


def read(path: Path) -> ResolvConf:
    """The content of the file; nothing if it cannot be read."""
    try:
        with path.open("rb") as file:
            return parse(file.read(SIZE_MAX).decode("utf-8", "replace"))
    except OSError:
        return ResolvConf()


def for_pods(path: Path | None) -> Path:
    """The file for pods: the given one, else the machine's, or that of systemd behind its stub."""
    if path is not None:
        return path
    return SYSTEMD if read(DEFAULT).servers == (STUB,) and SYSTEMD.exists() else DEFAULT
