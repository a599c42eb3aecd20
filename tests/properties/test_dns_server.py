"""The name server: messages, limits, other resolvers and what is kept of their answers. Rules
DNS-7, DNS-11 ... DNS-19 (spec/dns.md)."""

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_dns import DB, HEADLESS, PODS, WEB, external, known, service, slice_of

from refk8s.adapters.linux import resolv_conf
from refk8s.adapters.linux.name_server import clients as clients_module
from refk8s.adapters.linux.name_server import forward as forward_module
from refk8s.adapters.linux.name_server import metrics as metrics_module
from refk8s.adapters.linux.name_server import server as server_module
from refk8s.adapters.linux.name_server.cache import BYTES_MAX, ENTRIES_MAX, SECONDS_MAX, Cache
from refk8s.adapters.linux.name_server.clients import (
    ANSWERS_FOR_NODE_MAX,
    ANSWERS_PER_POD_MAX,
    CONNECTIONS_MAX,
    CONNECTIONS_PER_POD_MAX,
    Clients,
)
from refk8s.adapters.linux.name_server.forward import Forwarder, answer_in
from refk8s.adapters.linux.name_server.late import LateNameServer
from refk8s.adapters.linux.name_server.metrics import Metrics
from refk8s.adapters.linux.name_server.server import NameServer
from refk8s.adapters.linux.name_server.wire import (
    EDNS_SIZE,
    Query,
    Sections,
    read_query,
    sections_of,
    write_answer,
)
from refk8s.core.api import codec
from refk8s.core.api.core_v1 import Node, ServicePort
from refk8s.core.api.dns_slice import slice_name
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.network.dns import Answer, RecordSet, answer, labels_of
from refk8s.core.network.dns_slice import correct_slice

PODS_HERE = IPv4Network("10.244.0.0/24")


def query(name: str = WEB, type: str = "A", **more: Any) -> dns.message.Message:
    return dns.message.make_query(name, type, id=0x1234, **more)


def header(data: bytes) -> tuple[int, int, int]:
    """(id, code, whether it is an answer) of a message."""
    id, flags = struct.unpack_from("!HH", data)
    return id, flags & 0xF, flags >> 15


# --- messages -------------------------------------------------------------------------------------

QUESTION = query().to_wire()
mangled = st.builds(
    lambda data, cuts: bytes(cuts.get(place, byte) for place, byte in enumerate(data)),
    st.sampled_from([QUESTION, query(use_edns=0).to_wire(), query(type="SRV").to_wire()]),
    st.dictionaries(st.integers(0, 60), st.integers(0, 255), max_size=4),
)


@given(mangled | st.binary(max_size=80) | st.binary(max_size=40).map(lambda end: QUESTION + end))
def test_dns_12_any_bytes_are_a_question_or_get_at_most_one_short_answer(data):
    found = read_query(data)
    if isinstance(found, Query):
        reply = write_answer(found, sections_of(answer(known(), found.labels, found.type_name, labels_of("cluster.local")) or Answer()))  # fmt: skip
        assert header(reply)[0] == header(data)[0] and header(reply)[2] == 1
    elif found is not None:
        assert header(found)[0] == header(data)[0] and len(found) <= max(len(data), 40)
        assert header(found)[1] != dns.rcode.NOERROR or found[-11:-9] == b"\0\0"
        assert header(found)[2] == 1
        assert read_query(found) is None  # and so no other server answers it


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", None),
        (b"\1\2\1\0\0\1\0\0\0\0\0", None),
        (dns.message.make_response(query()).to_wire(), None),
        (QUESTION[:2] + b"\x11" + QUESTION[3:], "NOTIMP"),
        (QUESTION[:5] + b"\2" + QUESTION[6:], "FORMERR"),
        (QUESTION[:5] + b"\0" + QUESTION[6:], "FORMERR"),
        (QUESTION[:7] + b"\1" + QUESTION[8:], "FORMERR"),
        (QUESTION[:-1], "FORMERR"),
        (QUESTION + b"\0", "FORMERR"),
        (b"\1\2\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", "FORMERR"),  # a name that points to itself
        (query(type="AXFR").to_wire(), "REFUSED"),
        (query(rdclass="CH", type="TXT").to_wire(), "REFUSED"),
    ],
)  # fmt: skip
def test_dns_12_what_is_no_question_gets_its_code(data, code):
    found = read_query(data)
    assert (None if found is None else dns.rcode.to_text(dns.rcode.Rcode(header(found)[1]))) == code


def test_dns_12_another_version_of_edns_is_answered_with_ours():
    reply = dns.message.from_wire(read_query(query(use_edns=1).to_wire()))
    assert (reply.rcode(), reply.edns) == (dns.rcode.BADVERS, 0)


many = [f"10.244.{n // 250}.{1 + n % 250}" for n in range(600)]
sets = st.lists(
    st.builds(
        lambda name, count: RecordSet(f"{name}.example.", "A", tuple(many[:count])),
        st.sampled_from(["a", "b", "c"]),
        st.integers(1, 300),
    ),
    max_size=3,
    unique_by=lambda of: of.name,
)


@given(sets, sets, st.sampled_from([None, 0, 100, 512, 700, 1232, 4096, 65_535]), st.booleans())
def test_dns_13_an_answer_is_not_larger_than_the_client_accepts(answers, additional, payload, tcp):
    asked = query() if payload is None else query(use_edns=0, payload=payload)
    found = read_query(asked.to_wire(), tcp)
    limit = 65_535 if tcp else 512 if payload is None else min(max(payload, 512), EDNS_SIZE)
    reply = write_answer(found, sections_of(Answer(answers=tuple(answers), additional=tuple(additional))))  # fmt: skip
    assert len(reply) <= limit
    read = dns.message.from_wire(reply)
    count = sum(len(each) for each in read.answer)
    complete = count == len({(each.name, text) for each in answers for text in each.data})
    assert complete != bool(read.flags & dns.flags.TC)
    assert read.question == asked.question and read.id == asked.id
    assert (read.edns == 0) == (payload is not None)


def test_dns_13_the_order_of_records_varies():
    found = read_query(query(DB).to_wire())
    of = sections_of(answer(known(HEADLESS, slices=[PODS]), labels_of(DB), "A", labels_of("cluster.local")))  # fmt: skip
    assert len({write_answer(found, of) for _ in range(100)}) == 2


# --- the server -----------------------------------------------------------------------------------


def serve(work: Callable[[NameServer], Awaitable[None]], records: Any = None, conf: str = "", tmp: Path = Path("/nowhere")) -> None:  # fmt: skip
    """Do some work with a server at 127.0.0.1."""

    async def run() -> None:
        async def where() -> tuple[str, IPv4Network]:
            return "127.0.0.1", PODS_HERE

        path = tmp / "resolv.conf"
        if conf:
            path.write_text(conf)
        server = NameServer("cluster.local", path, "10.96.0.10", where)
        if records is not None:
            server.program(records, lambda error: None)
        await server.listen()
        try:
            await work(server)
        finally:
            server.close()

    asyncio.run(run())


async def ask_udp(server: NameServer, asked: dns.message.Message) -> dns.message.Message:
    replies: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    server.handle_datagram(asked.to_wire(), "10.244.0.9", replies.set_result)
    return dns.message.from_wire(await asyncio.wait_for(replies, 10))


async def ask_tcp(server: NameServer, *asked: dns.message.Message) -> list[dns.message.Message]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for each in asked:
        writer.write(each.to_wire(prepend_length=True))
    found = []
    for _ in asked:
        size = int.from_bytes(await reader.readexactly(2), "big")
        found.append(dns.message.from_wire(await reader.readexactly(size)))
    writer.close()
    return found


def texts(message: dns.message.Message) -> list[str]:
    return sorted(str(data) for each in message.answer for data in each)


def test_dns_11_before_the_first_records_names_of_the_cluster_are_servfail():
    async def work(server):
        assert (await ask_udp(server, query())).rcode() == dns.rcode.SERVFAIL
        assert (await ask_tcp(server, query("7.3.96.10.in-addr.arpa", "PTR")))[0].rcode() == dns.rcode.SERVFAIL  # fmt: skip
        server.program(known(service()), lambda error: None)
        assert texts(await ask_udp(server, query())) == ["10.96.3.7"]

    serve(work)


def test_dns_11_answers_are_of_the_records_given_last_over_udp_and_tcp():
    async def work(server):
        for last in (7, 8, 9):
            server.program(known(service(ips=(f"10.96.3.{last}",))), lambda error: None)
            for _ in range(3):
                assert texts(await ask_udp(server, query())) == [f"10.96.3.{last}"]
            for reply in await ask_tcp(server, query(), query(DB)):
                assert texts(reply) == ([f"10.96.3.{last}"] if reply.rcode() == 0 else [])

    serve(work)


def test_dns_13_a_truncated_answer_is_complete_over_tcp():
    pods = slice_of("db", *[(address, True, None) for address in many[:100]])

    async def work(server):
        assert (await ask_udp(server, query(DB))).flags & dns.flags.TC
        assert texts((await ask_tcp(server, query(DB)))[0]) == sorted(many[:100])

    serve(work, known(HEADLESS, slices=[pods]))


@pytest.mark.parametrize(
    ("client", "served"),
    [("10.244.0.9", True), ("127.0.0.1", True), ("10.244.1.9", False), ("192.0.2.1", False), ("::1", False), ("x", False)],
)  # fmt: skip
def test_dns_14_only_the_node_and_its_pods_get_answers(client, served):
    async def work(server):
        replies: list[bytes] = []
        server.handle_datagram(QUESTION, client, replies.append)
        assert bool(replies) == served

    serve(work, known(service()))
    assert Clients(PODS_HERE).may_connect(client) == served


def test_dns_15_a_pod_has_few_connections_and_all_together_not_too_many():
    clients = Clients(PODS_HERE)
    pods = [f"10.244.0.{n}" for n in range(2, 40)]
    for pod in pods:
        while clients.may_connect(pod):
            clients.connected[pod] += 1
    assert max(clients.connected.values()) == CONNECTIONS_PER_POD_MAX
    assert clients.connected.total() == CONNECTIONS_MAX and not clients.may_connect("127.0.0.1")
    clients_module.release(clients.connected, pods[0])
    assert clients.may_connect(pods[0]) and clients.may_connect("127.0.0.1")
    for _ in range(CONNECTIONS_PER_POD_MAX - 1):
        clients_module.release(clients.connected, pods[0])
    assert pods[0] not in clients.connected


def test_dns_15_a_pod_gets_few_computed_answers_in_a_second():
    clients = Clients(PODS_HERE)
    for client, most in (("10.244.0.9", ANSWERS_PER_POD_MAX), ("127.0.0.1", ANSWERS_FOR_NODE_MAX)):
        allowed = [clients.may_compute(client, 1000.2) for _ in range(ANSWERS_FOR_NODE_MAX + 9)]
        assert allowed == [True] * most + [False] * (len(allowed) - most)
    assert clients.may_compute("10.244.0.8", 1000.9) and clients.may_compute("10.244.0.9", 1001.0)


def test_dns_15_kept_answers_do_not_count_and_others_are_refused(monkeypatch):
    monkeypatch.setattr(clients_module, "ANSWERS_PER_POD_MAX", 3)
    monkeypatch.setattr(server_module, "time", SimpleNamespace(monotonic=lambda: 1000.0))

    async def work(server):
        def codes(client: str, *names: str) -> list[int]:
            replies: list[bytes] = []
            for name in names:
                server.handle_datagram(query(name).to_wire(), client, replies.append)
            return [header(reply)[1] for reply in replies]

        assert codes("10.244.0.9", *[WEB] * 9) == [dns.rcode.NOERROR] * 9
        names = [f"n{number}.cluster.local" for number in range(3)]
        refused = [dns.rcode.NXDOMAIN, dns.rcode.NXDOMAIN, dns.rcode.REFUSED]
        assert codes("10.244.0.9", *names) == refused
        replies: list[bytes] = []
        server.handle_datagram(dns.message.make_response(query("x")).to_wire(), "10.244.0.9", replies.append)  # fmt: skip
        server.handle_datagram(b"short", "10.244.0.9", replies.append)
        assert replies == [] and codes("10.244.0.8", "x.cluster.local") == [dns.rcode.NXDOMAIN]

    serve(work, known(service()))


def test_dns_15_a_connection_that_ends_makes_room(monkeypatch):
    monkeypatch.setattr(clients_module, "CONNECTIONS_MAX", 3)

    async def work(server):
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        while server._clients.connected.total() < 3:
            await asyncio.sleep(0.01)
        with pytest.raises((OSError, EOFError)):
            await ask_tcp(server, query())
        for _, writer in held:
            writer.close()
        while server._clients.connected:
            await asyncio.sleep(0.01)
        assert texts((await ask_tcp(server, query()))[0]) == ["10.96.3.7"]

    serve(work, known(service()))


@pytest.mark.parametrize("sent", [b"\0\2xx", b"\xff\xff", b"\0", b"", b"\0\x0c" + 12 * b"\xff"])
def test_dns_15_a_connection_ends_with_what_is_no_query_or_in_time(sent, monkeypatch):
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.2)

    async def work(server):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        with contextlib.suppress(OSError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        assert texts((await ask_tcp(server, query()))[0]) == ["10.96.3.7"]

    serve(work, known(service()))


def test_dns_19_another_port_is_taken_if_the_usual_one_is_in_use():
    async def work(first):
        async def where():
            return "127.0.0.1", PODS_HERE

        second = NameServer("cluster.local", Path("/nowhere"), "10.96.0.10", where)
        second.program(known(service()), lambda error: None)
        address, ports = await second.listen()
        assert (address, set(ports)) == ("127.0.0.1", {"dns", "dns-tcp", "metrics"})
        assert len({first.port, first.metrics_port, *ports.values()}) == 4
        assert texts((await ask_tcp(second, query()))[0]) == ["10.96.3.7"]
        second.close()

    serve(work)


def test_dns_11_a_name_server_that_is_created_late_has_the_last_records():
    async def work(server):
        late, told = LateNameServer(lambda: server), []
        for last in (7, 8):
            late.program(known(service(ips=(f"10.96.3.{last}",))), told.append)
        assert (await late.listen())[0] == "127.0.0.1" and told == ["", ""]
        assert texts(await ask_udp(server, query())) == ["10.96.3.8"]
        late.program(known(service(ips=("10.96.3.9",))), told.append)
        assert texts(await ask_udp(server, query())) == ["10.96.3.9"] and told == ["", "", ""]
        late.close()
        with pytest.raises(OSError):
            await ask_tcp(server, query())

    serve(work)


# --- other resolvers ------------------------------------------------------------------------------


RESOLVER = "127.0.0.2"


class Resolver:
    """A resolver at 127.0.0.2. `reply` makes the messages that it sends for each query."""

    def __init__(self, reply: Callable[[dns.message.Message], list[bytes]]) -> None:
        self.asked: list[dns.message.Message] = []
        self.ports: set[int] = set()
        self._reply = reply

    async def __aenter__(self) -> "Resolver":
        outer = self

        class Datagrams(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, address):
                outer.ports.add(address[1])
                for reply in outer._answer(data):
                    self.transport.sendto(reply, address)

        async def connection(reader, writer):
            size = int.from_bytes(await reader.readexactly(2), "big")
            for reply in self._answer(await reader.readexactly(size)):
                reply = reply[:2] + bytes([reply[2] & ~2]) + reply[3:]
                writer.write(len(reply).to_bytes(2, "big") + reply)
            writer.close()

        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=(RESOLVER, 0))
        self.port = self._udp.get_extra_info("sockname")[1]
        self._tcp = await asyncio.start_server(connection, RESOLVER, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        self._tcp.close()

    def _answer(self, data: bytes) -> list[bytes]:
        self.asked.append(dns.message.from_wire(data))
        return self._reply(self.asked[-1])


def reply_to(asked: dns.message.Message, *addresses: str, ttl: int = 60, code: str = "NOERROR") -> dns.message.Message:  # fmt: skip
    reply = dns.message.make_response(asked)
    reply.set_rcode(dns.rcode.from_text(code))
    if addresses:
        reply.answer = [dns.rrset.from_text_list(asked.question[0].name, ttl, "IN", "A", addresses)]
    return reply


def forward(reply: Callable[[dns.message.Message], list[bytes]], work: Callable[[Forwarder, Resolver], Awaitable[None]], tmp: Path, conf: str = "nameserver 127.0.0.2\n", own: tuple[str, ...] = ()) -> None:  # fmt: skip
    async def run() -> None:
        path = tmp / "resolv.conf"
        path.write_text(conf)
        async with Resolver(reply) as resolver:
            forwarder = Forwarder(path, lambda address: address in own, Metrics(), resolver.port)
            await work(forwarder, resolver)
            forwarder.close()

    asyncio.run(run())


NAME = dns.name.from_text("www.example.com")
A = dns.rdatatype.A


def found_by(sections: Sections) -> list[str]:
    return sorted(str(data) for each in sections.answers for data in each)


def test_dns_16_the_resolvers_of_the_node_are_asked_and_their_answer_is_checked(tmp_path):
    """Packets with another id or question, of the wrong kind or malformed, do not count."""

    def reply(asked):
        other = reply_to(dns.message.make_query("other.example.com", "A"), "192.0.2.66")
        other.id = asked.id
        stranger = reply_to(asked, "192.0.2.66")
        stranger.id ^= 1
        return [b"\0", asked.to_wire(), other.to_wire(), stranger.to_wire(), reply_to(asked, "192.0.2.1").to_wire()]  # fmt: skip

    async def work(forwarder, resolver):
        assert found_by(await forwarder.ask(NAME, A)) == ["192.0.2.1"]

    forward(reply, work, tmp_path)


@given(mangled | st.binary(max_size=80))
def test_dns_16_bytes_that_do_not_answer_the_query_are_none(data):
    asked = query("www.example.com")
    found = answer_in(data, asked)
    assert found is None or (found.id, found.question) == (asked.id, asked.question)


def test_dns_16_ids_and_ports_are_random(tmp_path):
    async def work(forwarder, resolver):
        for number in range(30):
            await forwarder.ask(dns.name.from_text(f"n{number}.example.com"), A)
        assert len(resolver.ports) > 15 and len({each.id for each in resolver.asked}) > 25

    forward(lambda asked: [reply_to(asked, "192.0.2.1").to_wire()], work, tmp_path)


def test_dns_16_a_truncated_answer_is_asked_for_again_over_tcp(tmp_path):
    def reply(asked):
        found = reply_to(asked, "192.0.2.1")
        found.flags |= dns.flags.TC
        return [found.to_wire()]

    async def work(forwarder, resolver):
        assert found_by(await forwarder.ask(NAME, A)) == ["192.0.2.1"] and len(resolver.asked) == 2

    forward(reply, work, tmp_path)


def test_dns_16_a_resolver_without_edns_is_asked_without(tmp_path):
    def reply(asked):
        return [reply_to(asked, "192.0.2.1", code="NOERROR" if asked.edns < 0 else "FORMERR").to_wire()]  # fmt: skip

    async def work(forwarder, resolver):
        assert found_by(await forwarder.ask(NAME, A)) == ["192.0.2.1"]

    forward(reply, work, tmp_path)


@pytest.mark.parametrize("code", ["SERVFAIL", "REFUSED"])
def test_dns_16_the_next_server_is_asked_if_one_fails_and_then_it_is_servfail(tmp_path, code):
    fails = [True]

    def reply(asked):
        return [reply_to(asked, code=code).to_wire() if fails.pop(0) else reply_to(asked, "192.0.2.1").to_wire()]  # fmt: skip

    async def work(forwarder, resolver):
        fails[:] = [True, False]
        assert found_by(await forwarder.ask(NAME, A)) == ["192.0.2.1"]
        fails[:] = [True] * 2
        other = await forwarder.ask(dns.name.from_text("other.example.com"), A)
        assert other.code == dns.rcode.SERVFAIL and not fails

    forward(reply, work, tmp_path, "nameserver 127.0.0.2\nnameserver 127.0.0.3\n")


def test_dns_16_a_silent_resolver_costs_a_bounded_time(tmp_path, monkeypatch):
    monkeypatch.setattr(forward_module, "TRY_SECONDS", 0.05)
    monkeypatch.setattr(forward_module, "DEADLINE_SECONDS", 0.15)

    async def work(forwarder, resolver):
        found = await asyncio.wait_for(forwarder.ask(NAME, A), 5)
        assert found.code == dns.rcode.SERVFAIL
        assert (await forwarder.ask(NAME, A)).code == dns.rcode.SERVFAIL  # it is asked again

    forward(lambda asked: [], work, tmp_path)


def test_dns_16_resolv_conf_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(forward_module, "LOOK_SECONDS", 0.0)

    async def work(forwarder, resolver):
        assert (await forwarder.ask(NAME, A)).code == dns.rcode.SERVFAIL
        (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.2\n")
        assert found_by(await forwarder.ask(NAME, A)) == ["192.0.2.1"]

    forward(lambda asked: [reply_to(asked, "192.0.2.1").to_wire()], work, tmp_path, "# nothing\n")


def test_dns_18_equal_questions_are_forwarded_once(tmp_path):
    async def work(forwarder, resolver):
        found = await asyncio.gather(*[forwarder.ask(NAME, A) for _ in range(50)])
        assert len(resolver.asked) == 1 and {*map(tuple, map(found_by, found))} == {("192.0.2.1",)}

    forward(lambda asked: [reply_to(asked, "192.0.2.1").to_wire()], work, tmp_path)


def test_dns_18_more_questions_than_allowed_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(forward_module, "IN_FLIGHT_MAX", 5)
    monkeypatch.setattr(forward_module, "DEADLINE_SECONDS", 0.2)

    async def work(forwarder, resolver):
        names = [dns.name.from_text(f"n{number}.example.com") for number in range(9)]
        found = await asyncio.gather(*[forwarder.ask(name, A) for name in names])
        codes = [each.code for each in found]
        assert codes.count(dns.rcode.REFUSED) == 4 and codes.count(dns.rcode.SERVFAIL) == 5

    forward(lambda asked: [], work, tmp_path)


def test_dns_18_servers_that_lead_back_are_not_used(tmp_path):
    async def work(forwarder, resolver):
        assert forwarder.servers() == ("127.0.0.1", "192.0.2.8", "192.0.2.9")

    conf = (
        "nameserver 10.96.0.10\nnameserver 127.0.0.1\nnameserver x\nnameserver "
        "192.0.2.8\nnameserver 192.0.2.9\nnameserver 192.0.2.7\n"
    )
    forward(lambda asked: [], work, tmp_path, conf, own=("10.96.0.10",))


def test_dns_18_a_loop_of_resolvers_ends(tmp_path, monkeypatch):
    """The resolver forwards each question to this server again."""
    monkeypatch.setattr(forward_module, "TRY_SECONDS", 0.1)
    monkeypatch.setattr(forward_module, "DEADLINE_SECONDS", 0.3)

    async def work(server):
        async def where_it_came_from(asked):
            await ask_udp(server, asked)

        def reply(asked):
            tasks.append(asyncio.ensure_future(where_it_came_from(asked)))
            return []

        tasks: list[asyncio.Future[None]] = []
        async with Resolver(reply) as resolver:
            monkeypatch.setattr(server._forwarder, "_port", resolver.port)
            assert (await ask_udp(server, query("www.example.com"))).rcode() == dns.rcode.SERVFAIL
            await asyncio.gather(*tasks)
            assert len(resolver.asked) <= 4

    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.2\nnameserver 127.0.0.1\n")
    serve(work, known(service()), tmp=tmp_path)


def test_dns_7_a_cname_out_of_the_cluster_is_completed_by_the_resolvers(tmp_path, monkeypatch):
    async def work(server):
        async with Resolver(lambda asked: [reply_to(asked, "192.0.2.1").to_wire()]) as resolver:
            monkeypatch.setattr(server._forwarder, "_port", resolver.port)
            asked = query("out.default.svc.cluster.local")
            for found in (await ask_udp(server, asked), *(await ask_tcp(server, asked))):
                assert texts(found) == ["192.0.2.1", "example.com."]
                assert [each.rdtype for each in found.answer] == [dns.rdatatype.CNAME, A]

    serve(work, known(external("out", "example.com")), "nameserver 127.0.0.2\n", tmp_path)


def test_dns_15_a_client_has_few_waiting_queries(tmp_path, monkeypatch):
    monkeypatch.setattr(clients_module, "QUERIES_MAX", 3)
    monkeypatch.setattr(forward_module, "DEADLINE_SECONDS", 0.2)

    async def work(server):
        async with Resolver(lambda asked: []) as resolver:
            monkeypatch.setattr(server._forwarder, "_port", resolver.port)
            names = [f"n{number}.example.com" for number in range(5)]
            tasks = [asyncio.ensure_future(ask_udp(server, query(name))) for name in names]
            codes = [found.rcode() for found in await asyncio.gather(*tasks)]
            assert codes.count(dns.rcode.REFUSED) == 2
            assert not server._clients.waiting

    serve(work, known(service()), "nameserver 127.0.0.2\n", tmp_path)


# --- metrics --------------------------------------------------------------------------------------


async def get(server: NameServer, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.metrics_port)
    writer.write(request)
    found = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return found


def test_dns_20_what_is_answered_is_counted():
    async def work(server):
        for name, type in ((WEB, "A"), (WEB, "A"), (WEB, "AAAA"), (DB, "A"), (WEB, "TYPE4711")):
            await ask_udp(server, query(name, type))
        await ask_tcp(server, query())
        found = (await get(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).decode()
        head, _, body = found.partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 200 OK\r\n") and f"Content-Length: {len(body)}" in head
        for line in (
            'requests_total{zone="cluster.local.",proto="udp",type="A"} 3',
            'requests_total{zone="cluster.local.",proto="udp",type="AAAA"} 1',
            'requests_total{zone="cluster.local.",proto="udp",type="other"} 1',
            'requests_total{zone="cluster.local.",proto="tcp",type="A"} 1',
            'responses_total{zone="cluster.local.",rcode="NOERROR"} 5',
            'responses_total{zone="cluster.local.",rcode="NXDOMAIN"} 1',
        ):
            assert f"coredns_dns_{line}\n" in body
        assert (await get(server, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404 ")

    serve(work, known(service()))


@pytest.mark.parametrize("sent", [b"", b"x", b"x" * 10_000, b"\r\n\r\n", b"\0\r\n\r\n"])
def test_dns_20_any_request_ends_its_connection(sent, monkeypatch):
    monkeypatch.setattr(metrics_module, "SECONDS", 0.1)

    async def work(server):
        with contextlib.suppress(OSError):
            assert not (await get(server, sent)).startswith(b"HTTP/1.1 200")
        while server._clients.connected:
            await asyncio.sleep(0.01)

    serve(work)


# --- what is kept ---------------------------------------------------------------------------------

SOA = "ns.example. hostmaster.example. 1 2 3 4 {minimum}"
ttls = st.integers(0, 100)


def sections(*ttls: int, code: int = 0, soa: tuple[int, int] | None = None) -> Sections:
    """Records with these TTLs; `soa` is the TTL of the SOA record and its field for negative
    answers."""
    answers = tuple(
        dns.rrset.from_text(f"n{place}.example.", ttl, "IN", "A", "192.0.2.1")
        for place, ttl in enumerate(ttls)
    )
    authority = ()
    if soa is not None:
        authority = (
            dns.rrset.from_text("example.", soa[0], "IN", "SOA", SOA.format(minimum=soa[1])),
        )
    return Sections(dns.rcode.Rcode(code), answers, authority)


@given(
    st.lists(ttls, max_size=3), st.sampled_from([0, 2, 3, 5]), st.none() | st.tuples(ttls, ttls),
    st.floats(0, 60), st.integers(0, 2 * BYTES_MAX),
)  # fmt: skip
def test_dns_17_answers_are_kept_for_their_time_with_the_ttls_that_are_left(of, code, soa, after, size):  # fmt: skip
    cache, question = Cache(), ("n.example.", 1, False)
    cache.keep(question, sections(*of, code=code, soa=soa), size, 1000.0)
    found = cache.get(question, 1000.0 + after)
    limits = [*of, SECONDS_MAX]
    if code == 3 or not of:
        limits += [0] if soa is None else [*soa]
    is_kept = code in (0, 3) and size <= BYTES_MAX and after < min(limits)
    assert (found is not None) == is_kept
    if found is not None:
        assert [each.ttl for each in found.answers] == [ttl - int(after) for ttl in of]
        assert all(each.ttl > 0 for each in found.answers)


def test_dns_17_the_kept_answers_are_bounded_and_the_unused_go_first():
    cache = Cache()
    for number in range(ENTRIES_MAX + 10):
        cache.keep((f"n{number}.", 1, False), sections(30), 100, 0.0)
        assert cache.get(("n0.", 1, False), 0.0) is not None
    assert len(cache) == ENTRIES_MAX and cache.get(("n1.", 1, False), 0.0) is None


def test_dns_17_a_kept_answer_is_not_asked_for_again(tmp_path):
    async def work(forwarder, resolver):
        for name in ("www.example.com", "WWW.example.COM"):
            assert found_by(await forwarder.ask(dns.name.from_text(name), A)) == ["192.0.2.1"]
        await forwarder.ask(NAME, dns.rdatatype.AAAA)
        await forwarder.ask(NAME, A, dnssec=True)
        assert len(resolver.asked) == 3

    forward(lambda asked: [reply_to(asked, "192.0.2.1").to_wire()], work, tmp_path)


# --- resolv.conf and the slice --------------------------------------------------------------------


@given(st.text(max_size=200) | st.lists(st.sampled_from(["nameserver", "search", "options", "domain", "#", "192.0.2.1", "a.example.", "ndots:2", "\n", " "]), max_size=20).map(" ".join))  # fmt: skip
def test_dns_16_any_resolv_conf_can_be_read(text):
    found = resolv_conf.parse(text)
    assert len(set(found.servers)) == len(found.servers) and all(found.searches)


def test_dns_16_resolv_conf_is_read_as_the_resolver_does():
    text = (
        "# x\nnameserver 192.0.2.1 # first\nsearch a.example. "
        "b\nnameserver 192.0.2.2\noptions ndots:2\nsearch c. .\noptions timeout:1 rotate\n"
    )
    found = resolv_conf.parse(text)
    assert found.servers == ("192.0.2.1", "192.0.2.2")
    assert (found.searches, found.options) == (("c", "."), ("timeout:1", "rotate"))


KUBE_DNS = service("kube-dns", ips=("10.96.0.10",), ports=(("dns", 53), ("dns-tcp", 53), ("metrics", 9153)))  # fmt: skip
PORTS = {"dns": 10_053, "dns-tcp": 10_053}


def node(name: str = "n1", uid: str = "u1") -> Node:
    return Node(metadata=ObjectMeta(name=name, uid=uid))


def after(found, writes):
    """The slice after these writes; a controller does nothing to it."""
    for verb, obj in writes:
        found = None if verb == "delete" else obj
    return found


addresses = st.sampled_from(["10.244.1.1", "10.244.2.1"])
steps = st.lists(
    st.tuples(
        st.sampled_from([KUBE_DNS, KUBE_DNS, None, replace(KUBE_DNS, spec=replace(KUBE_DNS.spec, selector={"k8s-app": "kube-dns"}))]),
        st.sampled_from([None, node(), node(), node(uid="u2")]), addresses, st.sampled_from(["", "delete", "label", "empty"]),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


@given(steps)
def test_dns_19_whatever_happened_the_slice_leads_to_the_name_server_of_the_node(history):
    found = None
    for service_now, node_now, address, meddled in history:
        if meddled == "delete":
            found = None
        elif found is not None and meddled == "empty":
            found = replace(found, endpoints=())
        elif found is not None and meddled == "label":
            labels = {**found.metadata.labels, "kubernetes.io/service-name": "x"}
            found = replace(found, metadata=replace(found.metadata, labels=labels))
        for _ in range(2):
            found = after(found, correct_slice(service_now, found, node_now, address, PORTS))
        assert not correct_slice(service_now, found, node_now, address, PORTS)
        if service_now is not KUBE_DNS:
            assert found is None
        elif node_now is not None:
            (endpoint,) = found.endpoints
            assert (endpoint.addresses, endpoint.node_name) == ((address,), "n1")
            assert [(port.name, port.port) for port in found.ports] == list(PORTS.items())
            assert found.metadata.labels["kubernetes.io/service-name"] == "kube-dns"
            (owner,) = found.metadata.owner_references
            assert (owner.kind, owner.uid) == ("Node", node_now.metadata.uid)


def test_dns_19_the_slice_of_a_node_has_its_address_ports_and_owner():
    [(verb, made)] = correct_slice(KUBE_DNS, None, node(), "10.244.1.1", PORTS)
    assert verb == "create"
    assert codec.to_tree(made) == {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns-n1",
            "namespace": "kube-system",
            "labels": {
                "kubernetes.io/service-name": "kube-dns",
                "endpointslice.kubernetes.io/managed-by": "name-server.refk8s.io",
            },
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1"}],
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": ["10.244.1.1"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": "n1",
            }
        ],
        "ports": [{"name": "dns", "port": 10053}, {"name": "dns-tcp", "port": 10053}],
    }
    udp = replace(KUBE_DNS, spec=replace(KUBE_DNS.spec, ports=(ServicePort(name="dns", protocol="UDP", port=53),)))  # fmt: skip
    [(_, made)] = correct_slice(udp, None, node(), "10.244.1.1", PORTS)
    assert [(port.name, port.protocol) for port in made.ports] == [("dns", "UDP")]


def test_dns_19_long_node_names_have_slices_of_their_own():
    one, other = "n" * 253, "n" * 252 + "m"
    assert slice_name("n" * 244) == "kube-dns-" + "n" * 244
    assert len({slice_name(one), slice_name(other), slice_name("n" * 244)}) == 3
    assert len(slice_name(one)) == len("kube-dns-") + 32


def test_dns_19_a_slice_of_another_program_is_left_alone():
    other = slice_of("kube-dns", ("10.244.9.9", True, None))
    assert correct_slice(KUBE_DNS, other, node(), "10.244.1.1", PORTS) == []
    assert correct_slice(None, other, node(), "10.244.1.1", PORTS) == []


@given(st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", fullmatch=True))
def test_dns_19_the_name_of_a_slice_is_short_enough(name):
    assert len(slice_name(name)) <= 253 and slice_name(name).startswith("kube-dns-")
