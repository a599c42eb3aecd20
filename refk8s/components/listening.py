"""The address of the API server: its listening socket, its URL and the names in its certificate.
Rules HOST-1, HOST-2 (spec/host.md).
"""

import errno
import ipaddress
import socket
import struct

from refk8s.components.files import CannotRun

LOCAL = "127.0.0.1"
SERVICE_ADDRESS = "10.96.0.1"  # of the service default/kubernetes
SERVICE_CIDR = "10.96.0.0/12"  # of all services, unless --service-cluster-ip-range says otherwise
DNS_ADDRESS = "10.96.0.10"  # of the service kube-system/kube-dns
NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
)


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
                f"{bind} is not an address of this machine: choose another with --bind"
            ) from None
        raise CannotRun(
            f"cannot listen at {bind} on port {port}: {error.strerror}; "
            "choose another with --bind or --port"
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


def advertised_url(bind: str, port: int, node_address: str) -> str:
    """The URL of the API server for other machines; a loopback one if they cannot reach it."""
    unspecified = ipaddress.ip_address(bind).is_unspecified
    return url_of(node_address if unspecified else bind, port)


def names_of(
    bind: str, node_name: str, node_address: str, service_address: str = SERVICE_ADDRESS
) -> tuple[str, ...]:
    """The names and addresses in the server's certificate (HOST-1). `service_address`: of the
    service default/kubernetes."""
    address = ipaddress.ip_address(bind)
    also = (node_address, "::1") if address.is_unspecified else (str(address),)
    return tuple(dict.fromkeys((*NAMES, node_name, LOCAL, service_address, *also)))
