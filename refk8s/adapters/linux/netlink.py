"""Lists the ports of a bridge and sets their hairpin mode, with rtnetlink.

If a pod connects to its own service and is chosen as the endpoint, the bridge must send the packet
back through the port at which it arrived. A port does so only in hairpin mode, which an engine with
a user-space proxy does not set. Source: rtnetlink(7); the Linux header if_link.h
(IFLA_BRPORT_MODE).
"""

import os
import socket
import struct
from collections.abc import Iterator

_NEWLINK, _GETLINK, _SETLINK = 16, 18, 19
_REQUEST, _ACK, _DUMP = 1, 4, 0x300
_ERROR, _DONE = 2, 3
_MASTER, _PROTINFO = 10, 12
_NESTED = 0x8000
_BRPORT_MODE = 4
_AF_BRIDGE = 7


def set_hairpin(bridge: str) -> int:
    """Set hairpin mode on every port of the bridge; returns how many ports did not have it.

    Raises OSError if this is not allowed, or if there is no such bridge.
    """
    index = socket.if_nametoindex(bridge)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.bind((0, 0))
        netlink.settimeout(5)
        ports = [
            port for port, master, hairpin in _ports(netlink) if master == index and not hairpin
        ]
        for port in ports:
            mode = _attribute(_PROTINFO | _NESTED, _attribute(_BRPORT_MODE, b"\1"))
            _send(netlink, _SETLINK, _REQUEST | _ACK, _link(port) + mode)
            for _ in _answers(netlink):
                pass
    return len(ports)


def _ports(netlink: socket.socket) -> Iterator[tuple[int, int, bool]]:
    """(index, bridge, hairpin mode) of every bridge port."""
    _send(netlink, _GETLINK, _REQUEST | _DUMP, _link(0))
    found = []
    for kind, body in _answers(netlink):
        if kind == _NEWLINK:
            index = struct.unpack_from("<i", body, 4)[0]
            attributes = dict(_attributes(body[16:]))
            master = int.from_bytes(attributes.get(_MASTER, b""), "little")
            port = dict(_attributes(attributes.get(_PROTINFO, b"")))
            found.append((index, master, port.get(_BRPORT_MODE, b"\1") == b"\1"))
    yield from found


def _link(index: int) -> bytes:
    return struct.pack("<BBHiII", _AF_BRIDGE, 0, 0, index, 0, 0)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("<HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("<HH", data, at)
        if length < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3


def _send(netlink: socket.socket, kind: int, flags: int, body: bytes) -> None:
    netlink.send(struct.pack("<IHHII", 16 + len(body), kind, flags, 1, 0) + body)


def _answers(netlink: socket.socket) -> Iterator[tuple[int, bytes]]:
    """(type, body) of every message up to the last of the response."""
    while True:
        data = netlink.recv(1 << 18)
        at = 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("<IH", data, at)
            body = data[at + 16 : at + length]
            if kind == _ERROR:
                code = -struct.unpack_from("<i", body)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                return
            if kind == _DONE:
                return
            yield kind, body
            at += (length + 3) & ~3
