"""Names outside of the cluster, asked of the node's own resolvers. Rules DNS-16 to DNS-18
(spec/dns.md).

A query is sent from a port of its own with an id of its own, so another host cannot guess what an
answer must contain. Source: RFC 5452, "Measures for Making DNS More Resilient against Forged
Answers"; RFC 7766, "DNS Transport over TCP"; CoreDNS documentation, "forward".
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from refk8s.adapters.linux import resolv_conf
from refk8s.adapters.linux.name_server.cache import Cache, Question
from refk8s.adapters.linux.name_server.metrics import Metrics
from refk8s.adapters.linux.name_server.wire import (
    EDNS_SIZE,
    SERVFAIL,
    TCP_SIZE,
    TOO_MANY,
    Sections,
)

log = logging.getLogger("refk8s")

PORT = 53
SERVERS_MAX = 3  # of resolv.conf, as in the resolver of the C library
ROUNDS = 2
TRY_SECONDS = 1.5
DEADLINE_SECONDS = 4.5  # before a client tries again by itself, which is after 5 s
IN_FLIGHT_MAX = 1000
WRONG_ANSWERS_MAX = 16
"""How many packets that answer another question are ignored before a try is given up."""
LOOK_SECONDS = 5.0


class Forwarder:
    """Asks the resolvers of a resolv.conf."""

    def __init__(
        self, path: Path, is_own: Callable[[str], bool], metrics: Metrics, port: int = PORT
    ) -> None:
        """`is_own`: whether an address leads back to this server."""
        self._path = path
        self._is_own = is_own
        self._metrics = metrics
        self._port = port
        self._cache = Cache()
        self._asked: dict[Question, asyncio.Future[Sections]] = {}
        self._servers: tuple[str, ...] = ()
        self._looked_at = float("-inf")

    async def ask(
        self, name: dns.name.Name, type: dns.rdatatype.RdataType, dnssec: bool = False
    ) -> Sections:
        """What is known elsewhere about a name; SERVFAIL if no resolver answers in time."""
        question = (name.to_text().lower(), int(type), dnssec)
        now = time.monotonic()
        if (kept := self._cache.get(question, now)) is not None:
            self._metrics.cache_hits += 1
            return kept
        self._metrics.cache_misses += 1
        asked = self._asked.get(question)
        if asked is None:
            if len(self._asked) >= IN_FLIGHT_MAX:
                return TOO_MANY
            asked = self._asked[question] = asyncio.ensure_future(
                self._ask(name, type, dnssec, question)
            )
            asked.add_done_callback(lambda _: self._asked.pop(question, None))
        return await asyncio.shield(asked)

    @property
    def kept(self) -> int:
        """The number of answers in the cache."""
        return len(self._cache)

    def close(self) -> None:
        """Give up what is in flight."""
        for asked in self._asked.values():
            asked.cancel()

    async def _ask(
        self, name: dns.name.Name, type: dns.rdatatype.RdataType, dnssec: bool, question: Question
    ) -> Sections:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE_SECONDS):
                for server in self.servers() * ROUNDS:
                    try:
                        async with asyncio.timeout(TRY_SECONDS):
                            answer, size = await self._try(server, name, type, dnssec)
                    except (OSError, TimeoutError, EOFError, dns.exception.DNSException) as error:
                        log.debug("%s does not answer: %r", server, error)
                        continue
                    if answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                        found = Sections(
                            answer.rcode(), tuple(answer.answer), tuple(answer.authority)
                        )
                        self._cache.keep(question, found, size, time.monotonic())
                        return found
        return SERVFAIL

    async def _try(
        self, server: str, name: dns.name.Name, type: dns.rdatatype.RdataType, dnssec: bool
    ) -> tuple[dns.message.Message, int]:
        """(the answer of this server, its bytes)."""
        for edns in (0, -1):
            query = dns.message.make_query(name, type, use_edns=edns, payload=EDNS_SIZE, want_dnssec=dnssec and edns == 0)  # fmt: skip
            query.id = secrets.randbits(16)
            data = query.to_wire()
            answer, size = await _ask_udp(server, self._port, query, data)
            if answer.flags & dns.flags.TC:
                answer, size = await _ask_tcp(server, self._port, query, data)
            if answer.rcode() not in (dns.rcode.FORMERR, dns.rcode.NOTIMP):
                break  # else the server may not know EDNS (RFC 6891, 7)
        return answer, size

    def servers(self) -> tuple[str, ...]:
        """The addresses of resolv.conf that do not lead back here (DNS-18). Read again after it has
        changed."""
        now = time.monotonic()
        if now >= self._looked_at + LOOK_SECONDS:
            self._looked_at = now
            found = resolv_conf.read(self._path).servers
            self._servers = tuple(
                [each for each in found if _is_address(each) and not self._is_own(each)]
            )[:SERVERS_MAX]
        return self._servers


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


class _Datagrams(asyncio.DatagramProtocol):
    """The answer to one query."""

    def __init__(self, query: dns.message.Message, done: asyncio.Future[tuple[dns.message.Message, int]]) -> None:  # fmt: skip
        self._query = query
        self._done = done
        self._wrong = 0

    def datagram_received(self, data: bytes, address: object) -> None:
        if self._done.done():
            return
        answer = answer_in(data, self._query)
        if answer is not None:
            self._done.set_result((answer, len(data)))
            return
        self._wrong += 1
        if self._wrong >= WRONG_ANSWERS_MAX:
            self._done.set_exception(OSError("answers to other questions"))

    def error_received(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)


def answer_in(data: bytes, query: dns.message.Message) -> dns.message.Message | None:
    """The message, if it is the answer to this query (DNS-16)."""
    try:
        message = dns.message.from_wire(data)
    except Exception:  # bytes of another host, which can be anything
        return None
    return message if query.is_response(message) and message.question else None


async def _ask_udp(
    server: str, port: int, query: dns.message.Message, data: bytes
) -> tuple[dns.message.Message, int]:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[dns.message.Message, int]] = loop.create_future()
    # connected: the kernel accepts only packets of that server, and chooses a random port
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Datagrams(query, done), remote_addr=(server, port)
    )
    try:
        transport.sendto(data)
        return await done
    finally:
        transport.close()


async def _ask_tcp(
    server: str, port: int, query: dns.message.Message, data: bytes
) -> tuple[dns.message.Message, int]:
    reader, writer = await asyncio.open_connection(server, port, limit=TCP_SIZE)
    try:
        writer.write(len(data).to_bytes(2, "big") + data)
        size = int.from_bytes(await reader.readexactly(2), "big")
        answer = answer_in(await reader.readexactly(size), query)
    finally:
        writer.close()
    if answer is None:
        raise OSError("an answer to another question")
    return answer, size
