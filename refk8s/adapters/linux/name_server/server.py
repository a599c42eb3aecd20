"""The name server of this node: sockets for UDP and TCP. Rules DNS-11 to DNS-15 (spec/dns.md).

It listens at the node's address in the pods' network, at a port of its own. The node's rules for
the Service kube-dns lead there (DNS-19), so another name server of the machine is not in the way.
"""

import asyncio
import contextlib
import errno
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, cast

import dns.flags
import dns.name
import dns.rcode
import dns.rdatatype
from attrs import define, evolve, field

from refk8s.adapters.linux.name_server.clients import Clients, release
from refk8s.adapters.linux.name_server.forward import Forwarder
from refk8s.adapters.linux.name_server.metrics import (
    HEAD_SIZE_MAX,
    Answered,
    Metrics,
    answer_http,
    type_label,
)
from refk8s.adapters.linux.name_server.wire import (
    HEADER,
    SERVFAIL,
    TOO_MANY,
    Query,
    Sections,
    read_query,
    refusal,
    sections_of,
    write_answer,
)
from refk8s.core.network.dns import Answer, answer, labels_of, zone_of
from refk8s.core.ports import Records

log = logging.getLogger("refk8s")

PORT = 10_053
METRICS_PORT = 9153
KNOWN_MAX = 4096
"""Queries whose answers are kept as bytes, for queries that differ in their id only."""
ORDERS_MAX = 8
"""Kept answers to one query with the records in different orders (DNS-13)."""
QUERY_SIZE_MAX = 4096  # bytes over TCP
IDLE_SECONDS = 10.0  # of a connection
WRITE_SECONDS = 10.0


PodsBridge = Callable[[], Awaitable[tuple[str, IPv4Network]]]
"""Returns (the node's address in the pods' network, the pods' network). Raises OSError."""


@define
class Known:
    """The answers to one query without their id: `orders` of them, once so many were computed."""

    orders: int
    answered: Answered
    replies: list[bytes] = field(factory=list)


class NameServer:
    """Answers from the records that it was given last, and forwards other names."""

    def __init__(
        self, domain: str, resolv_conf: Path, cluster_address: str, pods_bridge: PodsBridge
    ) -> None:
        """`cluster_address`: at which clients reach the name servers of this cluster."""
        self.address = ""
        self.cluster_address = cluster_address
        self.port = 0
        self.metrics_port = 0
        self._metrics = Metrics()
        self._domain = labels_of(domain)
        self._forwarder = Forwarder(
            resolv_conf,
            lambda address: address in (self.cluster_address, self.address),
            self._metrics,
        )
        self._pods_bridge = pods_bridge
        self._records: Records | None = None
        self._known: dict[bytes, Known] = {}
        self._clients = Clients(IPv4Network("127.0.0.0/8"))
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._http: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # --- records ----------------------------------------------------------------------------------

    def program(self, records: Records, done: Callable[[str], None]) -> None:
        """Answer from these records from now on."""
        self._records = records
        self._known.clear()
        done("")

    # --- sockets ----------------------------------------------------------------------------------

    async def listen(self) -> tuple[str, Mapping[str, int]]:
        """Listen at the node's address in the pods' network; that address, and the ports.

        If the usual port is in use there, another one is taken. Raises OSError.
        """
        address, pods = await self._pods_bridge()
        if address != self.address or self._udp is None:
            await self._listen(address, pods)
        return address, {"dns": self.port, "dns-tcp": self.port, "metrics": self.metrics_port}

    async def _listen(self, address: str, pods: IPv4Network) -> None:
        self._close_sockets()
        self._clients = Clients(pods)
        self.address = address
        for port, opening in ((PORT, self._open), (METRICS_PORT, self._open_metrics)):
            try:
                await opening(address, port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                await opening(address, 0)

    async def _open_metrics(self, address: str, port: int) -> None:
        self._http = await asyncio.start_server(
            self._serve_metrics, address, port, limit=HEAD_SIZE_MAX
        )
        self.metrics_port = self._http.sockets[0].getsockname()[1]

    async def _open(self, address: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(
            self._serve_connection, address, port, limit=QUERY_SIZE_MAX, reuse_address=True
        )
        try:
            self.port = self._tcp.sockets[0].getsockname()[1]
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self), local_addr=(address, self.port), family=socket.AF_INET
            )
        except OSError:
            self._close_sockets()
            raise
        self._udp = transport

    def _close_sockets(self) -> None:
        if self._tcp is not None:
            self._tcp.close()
        if self._udp is not None:
            self._udp.close()
        if self._http is not None:
            self._http.close()
        self._tcp = self._udp = self._http = None

    def close(self) -> None:
        """Stop listening, and give up what is not answered yet."""
        self._close_sockets()
        self._forwarder.close()
        for task in self._tasks:
            task.cancel()

    # --- UDP --------------------------------------------------------------------------------------

    def handle_datagram(self, data: bytes, client: str, send: Callable[[bytes], None]) -> None:
        """Answer a query over UDP, at once or when other resolvers have answered."""
        if not self._clients.is_served(client):
            return
        known = self._known.get(data[2:])
        if known is not None and len(known.replies) == known.orders:
            self._metrics.answered[known.answered] += 1
            send(data[:2] + random.choice(known.replies))
            return
        if not self._clients.may_compute(client, time.monotonic()):
            if len(data) >= HEADER.size and not data[2] & 0x80:
                send(refusal(data, dns.rcode.REFUSED))
            return
        found = read_query(data)
        if not isinstance(found, Query):
            if found is not None:
                send(found)
            return
        sections = self._from_records(found)
        if isinstance(sections, Sections):
            reply = self._reply(found, sections, "udp")
            self._remember(data, found, sections, reply)
            send(reply)
        elif not self._clients.may_ask(client):
            send(self._reply(found, TOO_MANY, "udp"))
        else:
            self._clients.waiting[client] += 1
            task = asyncio.create_task(self._forward_datagram(found, sections, client, send))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward_datagram(
        self, query: Query, begun: Answer | None, client: str, send: Callable[[bytes], None]
    ) -> None:
        try:
            send(self._reply(query, await self._forward(query, begun), "udp"))
        finally:
            release(self._clients.waiting, client)

    def _reply(self, query: Query, sections: Sections, protocol: str) -> bytes:
        """The bytes of an answer, which is counted."""
        self._metrics.answered[self._labels(query, sections, protocol)] += 1
        return write_answer(query, sections)

    def _labels(self, query: Query, sections: Sections, protocol: str) -> Answered:
        zone = ".".join(zone_of(query.labels, self._domain)) + "."
        code = dns.rcode.to_text(sections.code)
        return zone, protocol, type_label(query.type_name), code

    def _remember(self, data: bytes, query: Query, sections: Sections, reply: bytes) -> None:
        """Keep the bytes of an answer from the records."""
        if not sections.authoritative:
            return
        if (known := self._known.get(data[2:])) is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            is_single = all(len(each) == 1 for each in sections.answers)
            known = self._known[data[2:]] = Known(
                1 if is_single else ORDERS_MAX, self._labels(query, sections, "udp")
            )
        known.replies.append(reply[2:])

    # --- answers ----------------------------------------------------------------------------------

    def _from_records(self, query: Query) -> Sections | Answer | None:
        """The sections of the answer; or an answer that other resolvers complete; or None if they
        answer the whole question. SERVFAIL before the first records (DNS-11)."""
        if self._records is None:
            return SERVFAIL if zone_of(query.labels, self._domain) else None
        found = answer(self._records, query.labels, query.type_name, self._domain)
        return found if found is None or found.elsewhere else sections_of(found)

    async def _forward(self, query: Query, begun: Answer | None) -> Sections:
        """What other resolvers answer, after the CNAMEs of the cluster (DNS-7)."""
        name = dns.name.from_text(begun.elsewhere) if begun is not None else query.name
        dnssec = bool(query.message.ednsflags & dns.flags.DO)
        try:
            found = await self._forwarder.ask(name, query.type, dnssec)
            if begun is None:
                return found
            return evolve(found, answers=(*sections_of(begun).answers, *found.answers))
        except Exception:
            log.exception("the name server failed with an internal error")
            return SERVFAIL

    # --- TCP --------------------------------------------------------------------------------------

    async def _serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        client = str(writer.get_extra_info("peername", ("",))[0])
        if not self._clients.may_connect(client):
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._clients.connected[client] += 1
        try:
            with contextlib.suppress(OSError, EOFError, TimeoutError, asyncio.CancelledError):
                while await self._serve_query(reader, writer, client):
                    pass
        finally:
            release(self._clients.connected, client)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve_query(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: str
    ) -> bool:
        """Answer one query; whether the connection is kept (DNS-15)."""
        async with asyncio.timeout(IDLE_SECONDS):
            size = int.from_bytes(await reader.readexactly(2), "big")
            if not HEADER.size <= size <= QUERY_SIZE_MAX:
                return False
            data = await reader.readexactly(size)
        query = read_query(data, tcp=True)
        if query is None or not self._clients.may_compute(client, time.monotonic()):
            return False
        if isinstance(query, Query):
            sections = self._from_records(query)
            if not isinstance(sections, Sections):
                sections = await self._forward(query, sections)
            reply = self._reply(query, sections, "tcp")
        else:
            reply = query
        writer.write(len(reply).to_bytes(2, "big") + reply)
        async with asyncio.timeout(WRITE_SECONDS):
            await writer.drain()
        return True

    # --- metrics ----------------------------------------------------------------------------------

    async def _serve_metrics(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        client = str(writer.get_extra_info("peername", ("",))[0])
        if not self._clients.may_connect(client):
            writer.transport.abort()
            return
        self._clients.connected[client] += 1
        try:
            await answer_http(reader, writer, self._metrics.text(self._forwarder.kept))
        finally:
            release(self._clients.connected, client)


class _Datagrams(asyncio.DatagramProtocol):
    """The server's UDP socket."""

    def __init__(self, server: NameServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str | Any, int]) -> None:
        try:
            self._server.handle_datagram(data, address[0], lambda reply: self._send(reply, address))
        except Exception:  # no packet ends the server
            log.exception("the name server failed with an internal error")

    def _send(self, data: bytes, address: tuple[str | Any, int]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, address)
