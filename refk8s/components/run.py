"""`refk8s run`: opens the store, serves the API, and starts every component in one process.

Start: first the parts that can fail (engine, port, directory, store); a failed start leaves nothing
behind. Stop: the components, then their containers and rules (unless `--keep` is set), then the
server, then the store.
"""

import asyncio
import errno
import gc
import ipaddress
import logging
import re
import signal
import socket
import struct
import sys
from pathlib import Path

from attrs import frozen

from refk8s.components.files import CannotRun
from refk8s.components.output import Output, descriptor_of

log = logging.getLogger("refk8s")

LOCAL = "127.0.0.1"
PKI = "pki"  # the folder of the keys, below the data directory
SERVICE_ADDRESS = "10.96.0.1"  # of the service default/kubernetes
DNS_ADDRESS = "10.96.0.10"  # of the service kube-system/kube-dns
EVENT_TTL_SECONDS = (1, 10 * 365 * 86_400)  # the least and the most
NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
)


@frozen
class RunOptions:
    """The flags of `refk8s run`."""

    adapter: str = "auto"
    nodes: int | None = None
    store: str | None = None
    bind: str = LOCAL
    port: int = 6443
    data_dir: str | None = None
    kubeconfig: str | None = None
    story: bool = False
    keep: bool = False
    manifests: tuple[str, ...] = ()
    event_ttl_seconds: float = 3600
    resolv_conf: str | None = None

    @property
    def data(self) -> Path:
        return Path(self.data_dir or "~/.refk8s").expanduser().absolute()

    @property
    def kubeconfig_path(self) -> Path:
        return (
            Path(self.kubeconfig).expanduser().absolute()
            if self.kubeconfig
            else self.data / "kubeconfig"
        )

    @property
    def resolv_conf_path(self) -> Path | None:
        return Path(self.resolv_conf).absolute() if self.resolv_conf else None

    @property
    def store_url(self) -> str:
        return self.store or f"sqlite:{self.data / 'store.db'}"


def run_cluster(options: RunOptions) -> int:
    """Run until a signal; returns the exit status. CannotRun: nothing was created."""
    # States are immutable values: most garbage is young and free of cycles, so full collections
    # find nothing.
    gc.set_threshold(50_000, 20, 100)
    gc.disable()  # until all modules are loaded, which creates little garbage
    out, err = Output(descriptor_of(sys.stdout)), Output(descriptor_of(sys.stderr))
    logging.basicConfig(stream=err, level=logging.WARNING, format="refk8s: %(message)s")
    # its messages at the end of a watch are not useful
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_run(options, out))
        finally:
            gc.enable()
            out.close()
            err.close()


def listen(bind: str, port: int, devices: tuple[str, ...] = ()) -> socket.socket:
    """A listening socket of the API server (HOST-1).

    `devices`: accept only packets that arrive at one of these. Raises CannotRun.
    """
    address = ipaddress.ip_address(bind)
    server = socket.socket(
        socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM
    )
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.version == 6:
            # "::" is every address, including those of IPv4
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if devices:
            take_only_from(server, devices)
        server.bind((bind, port))
        server.listen(1024)
    except OSError as error:
        server.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotRun(
                f"port {port} is in use: choose another with --port, or 0 for any free one"
            ) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise CannotRun(
                f"{bind} is no address of this machine: choose another with --bind"
            ) from None
        raise CannotRun(
            f"cannot listen at {bind} on port {port}: {error.strerror}; choose another with --bind or --port"
        ) from None
    server.setblocking(False)
    return server


def take_only_from(server: socket.socket, devices: tuple[str, ...]) -> None:
    """Drop packets that arrive at any other device; accepted connections inherit the filter.

    SO_BINDTODEVICE would bind the answers as well, and answers to this host's own addresses have no
    route through a device. Raises OSError.
    """
    import ctypes  # only where there are pods with a network

    program = [(_LOAD_WORD, 0, 0, _DEVICE_NUMBER)]
    for place, device in enumerate(devices):
        program.append((_JUMP_IF_EQUAL, len(devices) - place, 0, socket.if_nametoindex(device)))
    program += [(_RETURN, 0, 0, 0), (_RETURN, 0, 0, 0xFFFFFFFF)]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    server.setsockopt(
        socket.SOL_SOCKET,
        _SO_ATTACH_FILTER,
        struct.pack("HP", len(program), ctypes.addressof(buffer)),
    )


_SO_ATTACH_FILTER = 26
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_DEVICE_NUMBER = 0xFFFFF000 + 8
"""Instructions of Linux' socket filters (linux/filter.h, linux/bpf_common.h): load the device of a
packet, then accept or drop it."""


def parse_duration(text: str) -> float:
    """The seconds of a duration such as 1h, 90s or 1h30m. Raises ValueError if it is invalid."""
    if not _DURATION.fullmatch(text):
        raise ValueError(text)
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|h|m|s)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


def is_address(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address, without a zone."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def url_of(bind: str, port: int) -> str:
    """The URL of the API server for clients on this machine."""
    address = ipaddress.ip_address(bind)
    if address.is_unspecified:
        address = ipaddress.ip_address(LOCAL)
    return f"https://[{address}]:{port}" if address.version == 6 else f"https://{address}:{port}"


def names_of(bind: str, node_name: str, node_address: str) -> tuple[str, ...]:
    """The names and addresses in the server's certificate (HOST-1)."""
    address = ipaddress.ip_address(bind)
    also = (node_address, "::1") if address.is_unspecified else (str(address),)
    return tuple(dict.fromkeys((*NAMES, node_name, LOCAL, SERVICE_ADDRESS, *also)))


async def _run(options: RunOptions, out: Output) -> int:
    from refk8s.components.running_cluster import RunningCluster

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    cluster = RunningCluster(options, out.say)
    try:
        await cluster.start()
        gc.freeze()  # modules and stored objects stay until the end: never collected
        gc.enable()
        out.say(cluster.ready_line)
        for manifest in options.manifests:
            from refk8s.components.manifests import apply

            for line in await apply(Path(manifest), cluster.call):
                out.say(line)
        await stop.wait()
    finally:
        # A second signal while stopping ends the process at once.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        await cluster.stop()
    return 0
