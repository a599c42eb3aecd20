"""Forwards the TCP connections and UDP flows of a port, each to a target that is chosen at its
start. Rules NET-16, NET-20.

A listener calls `choose(front, client, here)`, which returns the targets in the order of attempts;
`here` is the address of this machine to which the client connected. Without a target the client is
refused.
"""

import asyncio
import contextlib
import socket
import struct
from asyncio import DatagramTransport, Protocol, Server, Transport
from collections.abc import Callable
from typing import Any, TypeAlias

from refk8s.core.network.balance import targets_for
from refk8s.core.network.fronts import Front
from refk8s.core.ports import Rule, Target

Choose: TypeAlias = Callable[[Front, str, str], tuple[Target, ...]]

CONNECT_SECONDS_MAX = 3.0
UDP_IDLE_SECONDS = 60.0
UDP_CLIENTS_MAX = 4096  # of one front
UDP_TURN_MAX = 64  # datagrams that are read before other events are handled
IP_PKTINFO = 8  # <linux/in.h>; Python names it only from 3.14 on
_PKTINFO = struct.Struct("=i4s4s")  # interface, local address, address in the header
_PKTINFO6 = struct.Struct("=16si")  # address in the header, interface

UdpClient: TypeAlias = tuple[Any, bytes]
"""The address of a client as its socket has it (IPv6: with flow and scope), and the address of this
machine to which it sent."""


# --- TCP ------------------------------------------------------------------------------------------


class TcpListener:
    """The TCP listener of one front. Established connections stay open after `close`: an endpoint
    that terminates closes them itself."""

    def __init__(self, choose: Choose, front: Front) -> None:
        self._choose = choose
        self._front = front
        self._server: Server | None = None

    async def open(self, address: str, port: int) -> None:
        self._server = await asyncio.get_running_loop().create_server(self._accept, address, port)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def _accept(self) -> "Side":
        return Side(self._connect)

    async def _connect(self, client: "Side") -> None:
        assert client.transport is not None
        peer, here = (
            client.transport.get_extra_info("peername"),
            client.transport.get_extra_info("sockname"),
        )
        loop = asyncio.get_running_loop()
        for target in self._choose(self._front, peer[0], here[0]) if peer else ():
            try:
                async with asyncio.timeout(CONNECT_SECONDS_MAX):
                    _, other = await loop.create_connection(Side, target.address, target.port)
            except (OSError, TimeoutError):
                continue
            client.join(other)
            return
        client.transport.abort()


class Side(Protocol):
    """One of the two connections of a client. The data of one is written to the other, which slows
    it down if it is slower."""

    def __init__(self, connect: Callable[["Side"], Any] | None = None) -> None:
        self._connect = connect
        self._task: asyncio.Task[None] | None = None
        # data received before the other side is connected; uvloop reads in spite of pause_reading
        self._early: list[bytes] = []
        self._ended = False
        self._lost = False
        self.transport: Transport | None = None
        self.other: Side | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.pause_reading()
        if self._connect is not None:
            self._task = asyncio.get_running_loop().create_task(self._connect(self))

    def join(self, other: "Side") -> None:
        """Forward from now on, in both directions."""
        self.other, other.other = other, self
        for side in (self, other):
            side._catch_up()
        if self._ended and other._ended:
            for side in (self, other):
                assert side.transport is not None
                side.transport.close()

    def _catch_up(self) -> None:
        assert (
            self.transport is not None
            and self.other is not None
            and self.other.transport is not None
        )
        for data in self._early:
            self.other.transport.write(data)
        self._early.clear()
        if self._lost:
            self.other.transport.close()
            return
        if self._ended:
            self._forward_end()
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Stay half open as long as the other side sends."""
        self._ended = True
        if self.other is None:
            return True
        self._forward_end()
        return not self.other._ended

    def _forward_end(self) -> None:
        assert self.other is not None
        transport = self.other.transport
        if transport is not None and transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


# --- UDP ------------------------------------------------------------------------------------------


class UdpListener:
    """The UDP listener of one front. Each client has its own socket to its target, until it is idle
    or the target is removed.

    A node port listens at every address, so the response needs the source address to which the
    client sent (ip(7), IP_PKTINFO; ipv6(7), IPV6_PKTINFO).
    """

    def __init__(self, choose: Choose, front: Front) -> None:
        self._choose = choose
        self._front = front
        self._loop = asyncio.get_running_loop()
        self._is_6 = ":" in front[0]
        self._socket = socket.socket(
            socket.AF_INET6 if self._is_6 else socket.AF_INET, socket.SOCK_DGRAM
        )
        self._clients: dict[UdpClient, UdpFlow] = {}

    async def open(self, address: str, port: int) -> None:
        self._socket.setblocking(False)
        if self._is_6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        try:
            self._socket.bind((address, port))
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._read)

    def close(self) -> None:
        for flow in list(self._clients.values()):
            flow.close()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def rule_changed(self, rule: Rule) -> None:
        """End the flows to targets that were removed (NET-16)."""
        kept = {*targets_for(rule, True), *targets_for(rule, False)}
        for flow in list(self._clients.values()):
            if flow.target not in kept:
                flow.close()

    def _read(self) -> None:
        for _ in range(UDP_TURN_MAX):
            try:
                data, ancillary, _, peer = self._socket.recvmsg(
                    1 << 16, socket.CMSG_SPACE(_PKTINFO6.size)
                )
            except BlockingIOError:
                return
            except OSError:
                continue  # an earlier response reached no socket
            here = next((_local_address(kind, info) for _, kind, info in ancillary), b"")
            self._datagram_received(data, (peer, here))

    def _datagram_received(self, data: bytes, client: UdpClient) -> None:
        flow = self._clients.get(client)
        if flow is None:
            peer, here = client
            family = self._socket.family
            words = socket.inet_ntop(family, here) if here else ""
            targets = self._choose(self._front, peer[0], words)
            if not targets or len(self._clients) >= UDP_CLIENTS_MAX:
                return
            flow = self._clients[client] = UdpFlow(self, client, targets[0])
        flow.send(data)

    def answer(self, data: bytes, client: UdpClient) -> None:
        """Send a response; it is dropped if it cannot be sent at once."""
        peer, here = client
        origin: tuple[int, int, bytes]
        if self._is_6:
            info = _PKTINFO6.pack(here or bytes(16), 0)
            origin = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)
        else:
            info = _PKTINFO.pack(0, here or bytes(4), bytes(4))
            origin = (socket.IPPROTO_IP, IP_PKTINFO, info)
        with contextlib.suppress(OSError):
            self._socket.sendmsg([data], [origin], 0, peer)

    def remove(self, client: UdpClient) -> None:
        self._clients.pop(client, None)


def _local_address(kind: int, info: bytes) -> bytes:
    """The address of this machine to which a datagram was sent."""
    if kind == IP_PKTINFO:
        return bytes(_PKTINFO.unpack(info)[1])
    return bytes(_PKTINFO6.unpack(info)[0]) if kind == socket.IPV6_PKTINFO else b""


class UdpFlow(asyncio.DatagramProtocol):
    """The flow of one client to its target."""

    def __init__(self, listener: UdpListener, client: UdpClient, target: Target) -> None:
        self.target = target
        self._listener = listener
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._transport: DatagramTransport | None = None
        self._waiting: list[bytes] = []
        self._closed = False
        self._last = self._loop.time()
        self._timer = self._loop.call_later(UDP_IDLE_SECONDS, self._end_if_idle)
        self._task = self._loop.create_task(self._open())

    async def _open(self) -> None:
        try:
            transport, _ = await self._loop.create_datagram_endpoint(
                lambda: self, remote_addr=(self.target.address, self.target.port)
            )
        except OSError:
            self.close()
            return
        if self._closed:
            transport.close()
            return
        self._transport = transport
        for data in self._waiting:
            transport.sendto(data)
        self._waiting.clear()

    def send(self, data: bytes) -> None:
        self._last = self._loop.time()
        if self._transport is not None:
            self._transport.sendto(data)
        elif len(self._waiting) < 16:
            self._waiting.append(data)

    def datagram_received(self, data: bytes, address: Any) -> None:
        self._last = self._loop.time()
        self._listener.answer(data, self._client)

    def error_received(self, error: Exception) -> None:
        self.close()  # nothing listens there: the next datagram chooses another target

    def _end_if_idle(self) -> None:
        rest = self._last + UDP_IDLE_SECONDS - self._loop.time()
        if rest <= 0:
            self.close()
        else:
            self._timer = self._loop.call_later(rest, self._end_if_idle)

    def close(self) -> None:
        """End the flow of this client."""
        self._closed = True
        self._timer.cancel()
        self._listener.remove(self._client)
        if self._transport is not None:
            self._transport.close()
