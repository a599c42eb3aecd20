"""A client that knows several API servers. Rules CLIENT-15 to CLIENT-17 (spec/client.md)."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from ipaddress import ip_address
from itertools import pairwise

import pytest
from client_world import a_steady_server, access, asked, credentials
from hypothesis import example, given
from hypothesis import strategies as st

from refk8s.components.client import pool
from refk8s.components.client.http_api import HttpApi
from refk8s.components.client.learning import ServerLearner
from refk8s.components.clock import Clock
from refk8s.components.http import Front
from refk8s.components.listening import listen
from refk8s.core.api import status
from refk8s.core.api.core_v1 import ConfigMap
from refk8s.core.api.discovery_v1 import (
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Options, Request, Response
from refk8s.core.api.resources import CONFIG_MAPS, ENDPOINT_SLICES
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.health import named_checks
from refk8s.core.client import readiness
from refk8s.core.client.kubeconfig import BadKubeconfig, read_access, servers_extension
from refk8s.core.client.readiness import (
    CHECK_SECONDS,
    FAILURES_MAX,
    SUSPECT_SECONDS,
    Readiness,
    after_answer,
    after_check,
    is_due,
    is_to_be_left,
)
from refk8s.core.client.servers import (
    SERVERS_MAX,
    after_command,
    known_servers,
    may_learn,
    order,
    servers_of,
)

URLS = st.integers(1, 40).map(lambda n: f"https://192.0.2.{n}:6443")


# --- which servers


@given(st.lists(URLS, min_size=1, max_size=8, unique=True), st.data())
def test_client_15_every_server_is_tried_once_and_the_current_one_first(servers, data):
    # Shows CLIENT-15.d CLIENT-15.e.
    servers = tuple(servers)
    current = data.draw(st.sampled_from([*servers, "https://gone:1"]))
    tried = order(servers, current)
    assert sorted(tried) == sorted(servers)
    assert tried[0] == (current if current in servers else servers[0])
    place = {server: number for number, server in enumerate(servers)}
    steps = [(place[b] - place[a]) % len(servers) for a, b in pairwise(tried)]
    assert set(steps) <= {1}, "in their order, from any of them"


@given(st.lists(URLS, min_size=1, max_size=20), st.lists(URLS, max_size=20))
def test_client_16_learnt_servers_come_after_the_named_ones(named, learnt):
    # Shows CLIENT-15.c CLIENT-16.a.
    known = known_servers(named, learnt)
    assert len(known) == len(set(known)) == min(len({*named, *learnt}), SERVERS_MAX)
    assert known[0] == named[0]
    first = list(dict.fromkeys(named))[:SERVERS_MAX]
    assert list(known[: len(first)]) == first


@given(st.lists(URLS, max_size=4, unique=True), st.lists(URLS, min_size=1, max_size=4, unique=True))
@example(["https://a:1"], ["https://b:1", "https://a:1"])
@example(["https://a:1"], ["https://b:1"])
def test_trust_12_the_urls_of_a_later_command_come_first(given_, stored):
    # Shows TRUST-12.d.
    given_, stored = tuple(given_), tuple(stored)
    found = after_command(given_, stored)
    if not given_:
        assert found == stored
    else:
        assert found[: len(given_)] == given_
        rest = [each for each in stored if each not in given_]
        assert list(found[len(given_) :]) == (rest if len(rest) < len(stored) else [])


ADDRESSES = st.sampled_from(
    ["192.0.2.1", "192.0.2.2", "2001:db8::1", "127.0.0.1", "::1", "0.0.0.0", "fe80::1", "169.254.1.1",
     "x", "", "192.0.2.1/@evil", "evil.example"]
)  # fmt: skip
SLICES = st.builds(
    lambda addresses, ready, ports: EndpointSlice(
        address_type="IPv4",
        endpoints=tuple(
            Endpoint(addresses=(each,), conditions=EndpointConditions(ready=ready))
            for each in addresses
        ),
        ports=tuple(EndpointPort(name=name, port=port) for name, port in ports),
    ),
    st.lists(ADDRESSES, max_size=4),
    st.sampled_from([True, None, False]),
    st.lists(st.tuples(st.sampled_from(["https", "x"]), st.sampled_from([6443, None])), max_size=2),
)


@given(st.lists(SLICES, max_size=3))
def test_client_16_only_addresses_of_machines_become_servers(slices):
    # Shows CLIENT-16.b.
    found = servers_of(slices)
    expected = set()
    for one in slices:
        for endpoint in one.endpoints:
            for port in one.ports:
                if endpoint.conditions.ready is not False and port.name == "https" and port.port:
                    expected |= {(address, port.port) for address in endpoint.addresses}
    usable = {"192.0.2.1", "192.0.2.2", "2001:db8::1"}
    assert set(found) == {
        f"https://[{address}]:{port}"
        if ip_address(address).version == 6
        else f"https://{address}:{port}"
        for address, port in expected
        if address in usable
    }
    assert list(found) == sorted(found)


@pytest.mark.parametrize(
    ("server", "insecure", "may"),
    [
        ("https://192.0.2.1:6443", False, True),
        ("https://api.example:6443", False, True),
        ("https://192.0.2.1:6443", True, False),
        ("http://192.0.2.1:8080", False, False),
        ("https://192.0.2.1/k8s/clusters/c-1", False, False),
        ("https://127.0.0.1:6443", False, False),
        ("https://[::1]:6443", False, False),
        ("https://localhost:6443", False, False),
    ],
)
def test_client_16_what_others_reach_does_not_replace_a_loopback_address(server, insecure, may):
    # Shows CLIENT-16.e.
    assert may_learn(server, insecure) is may


def tree_of(server, extensions):
    return {
        "clusters": [{"name": "c", "cluster": {"server": server, "extensions": extensions}}],
        "contexts": [{"name": "c", "context": {"cluster": "c"}}],
        "current-context": "c",
    }


@given(st.lists(URLS, max_size=SERVERS_MAX - 1))
@example([])
def test_client_15_a_kubeconfig_has_further_servers_in_an_extension(more):
    # Shows CLIENT-15.b.
    found = read_access(tree_of("https://192.0.2.99:6443", servers_extension(tuple(more))))
    assert (found.server, found.more_servers) == ("https://192.0.2.99:6443", tuple(more))


@pytest.mark.parametrize(
    ("server", "more"),
    [
        ("https://192.0.2.1:6443", ["http://192.0.2.2"]),
        ("https://192.0.2.1:6443", ["https://192.0.2.2/path"]),
        ("https://192.0.2.1:6443/path", ["https://192.0.2.2"]),
        ("https://192.0.2.1:6443", ["https://a:b@192.0.2.2"]),
        ("https://192.0.2.1:6443", ["https://192.0.2.2:99999"]),
        ("https://192.0.2.1:6443", [""]),
        ("https://192.0.2.1:6443", [7]),
        ("https://192.0.2.1:6443", "https://192.0.2.2"),
        ("https://192.0.2.1:6443", ["https://192.0.2.2"] * SERVERS_MAX),
    ],
)
def test_client_15_further_servers_that_cannot_be_used_are_refused(server, more):
    extension = [{"name": "refk8s.io/api-servers", "extension": {"servers": more}}]
    with pytest.raises(BadKubeconfig):
        read_access(tree_of(server, extension))


# --- over connections


class Door:
    """One of several servers: it may have lost its way to the store."""

    def __init__(self, api):
        self._api, self.problem, self.asked = api, "", 0

    def __getattr__(self, name):
        return getattr(self._api, name)

    async def probe(self):
        self.asked += 1
        if self.problem == "it hangs":
            await asyncio.sleep(3600)

    def checks(self):
        return named_checks(self.problem, False, {})

    def enqueue(self, *arguments, **options):
        answer = next(each for each in arguments if callable(each))
        if self.problem:
            answer(Response(503, status.unavailable(self.problem)))
        else:
            self._api.enqueue(*arguments, **options)


class Servers:
    """API servers on one store, each of which may be killed, and a client of them."""

    def __init__(self, api, count):
        self.api = api
        self.doors = [Door(api) for _ in range(count)]
        self.fronts, self.urls, self.client = [], [], None

    async def start(self):
        for door in self.doors:
            front, socket = Front(door), listen("127.0.0.1", 0)
            await front.serve(socket, credentials())
            self.fronts.append(front)
            self.urls.append(f"https://127.0.0.1:{socket.getsockname()[1]}")
        port = int(self.urls[0].rpartition(":")[2])
        self.client = HttpApi(access(port, more_servers=tuple(self.urls[1:])), "t/v1", Clock())

    async def kill(self, number):
        await self.fronts[number].close()


@asynccontextmanager
async def servers(count=2):
    api = await a_steady_server()
    made = Servers(api, count)
    await made.start()
    try:
        yield made
    finally:
        made.client.close()
        api.stop()
        for front in made.fronts:
            await front.close()


def create(name):
    body = ConfigMap(metadata=ObjectMeta(name=name))
    return Request("create", CONFIG_MAPS, "default", name, body=body, user=ADMIN)


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def test_client_15_requests_and_watches_go_on_at_another_server(caplog):
    # Shows CLIENT-15.e CLIENT-15.f CLIENT-15.g CLIENT-15.h.
    async def test():
        async with servers(3) as world:
            client = world.client
            assert (await client.call(create("a"))).ok and client.server == world.urls[0]
            events, ended = [], []
            revision = world.api.store.revision

            def watch():
                options = Options(resource_version=str(revision))
                request = Request("watch", CONFIG_MAPS, "default", options=options, user=ADMIN)
                return client.watch(request, events.extend, ended.append)

            watch()
            assert (await client.call(create("b"))).ok
            await until(lambda: events)
            revision = events[-1].revision
            for number in (0, 1):
                await world.kill(number)
                await until(lambda number=number: len(ended) == number + 1)
                watch()  # as the informer does
                answers = await asyncio.gather(
                    *[client.call(create(f"{number}-{n}")) for n in range(5)]
                )
                assert all(answer is not None and answer.ok for answer in answers)
                assert client.server == world.urls[number + 1]
                await until(lambda number=number: len(events) == 1 + 5 * (number + 1))
                revision = events[-1].revision
            assert ended == [0, 0]
            names = [event.object.metadata.name for event in events]
            assert len(names) == len(set(names)) == 11, "each event once"
            await world.kill(2)
            assert await client.call(create("c")) is None, "unknown: no server is left"

    with caplog.at_level(logging.WARNING):
        asyncio.run(test())
    lines = [line for line in caplog.messages if "is used instead" in line]
    assert len(lines) == 2, "one line for each change"


def test_client_15_a_server_that_does_not_answer_the_handshake_is_left(monkeypatch):
    # Shows CLIENT-15.e.
    monkeypatch.setattr(pool, "CONNECT_SECONDS_OF_SEVERAL", 0.2)

    async def test():
        silent = await asyncio.start_server(
            lambda reader, writer: asyncio.sleep(60), "127.0.0.1", 0
        )
        url = f"https://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        async with servers(1) as world:
            port = int(url.rpartition(":")[2])
            client = HttpApi(access(port, more_servers=(world.urls[0],)), "t/v1", Clock())
            try:
                assert (await client.call(create("a"))).ok
                assert client.server == world.urls[0]
            finally:
                client.close()
                silent.close()

    asyncio.run(test())


def test_client_16_the_endpoints_of_the_service_are_learnt_and_stored(monkeypatch):
    # Shows CLIENT-16.a CLIENT-16.c CLIENT-16.d.
    monkeypatch.setattr("refk8s.components.client.http_api.may_learn", lambda *_: True)

    async def test():
        async with servers(1) as world:
            client, kept = world.client, []
            learner = ServerLearner(client, (), kept.append)
            await learner.round()
            assert client.pool.servers == (world.urls[0],) and kept == [], "there are none"
            for number, address in enumerate(["192.0.2.7", "192.0.2.8"]):
                one = EndpointSlice(
                    metadata=ObjectMeta(
                        name=f"k{number}", labels={"kubernetes.io/service-name": "kubernetes"}
                    ),
                    address_type="IPv4",
                    endpoints=(Endpoint(addresses=(address,)),),
                    ports=(EndpointPort(name="https", port=6443),),
                )
                request = Request(
                    "create", ENDPOINT_SLICES, "default", one.metadata.name, body=one, user=ADMIN
                )
                assert (await asked(world.api, request)).ok
                await learner.round()
                await learner.round()
            both = ("https://192.0.2.7:6443", "https://192.0.2.8:6443")
            assert kept == [both[:1], both] and client.pool.servers == (world.urls[0], *both)
            request = Request("delete", ENDPOINT_SLICES, "default", "k0", user=ADMIN)
            assert (await asked(world.api, request)).ok
            await learner.round()
            assert client.pool.servers == (world.urls[0], both[1]), "in place of those before"
            await world.kill(0)
            client.learn(())
            assert await learner.round() < 60 and kept[-1] == both[1:]

    asyncio.run(test())


# --- servers that are not ready


@given(st.lists(st.booleans(), max_size=120), st.sets(st.integers(0, 119)))
@example([True] + [False] * 60, {1})
@example([False] * 60, set())
def test_client_17_a_server_is_left_after_three_failures_in_a_row(ready, failed_requests):
    """One boolean for each second: whether the server is ready then. In some of them a request
    fails."""
    # Shows CLIENT-17.a CLIENT-17.b CLIENT-17.d CLIENT-17.e CLIENT-17.h.
    state, checks, began = Readiness(-CHECK_SECONDS), [], -CHECK_SECONDS
    for now, is_ready in enumerate(ready):
        if now in failed_requests:
            state = after_answer(state, 503)
        assert after_answer(state, 200) == after_answer(state, 404) == state
        if not is_due(state, now):
            assert now - began < CHECK_SECONDS, "at least every ten seconds"
            continue
        suspected = any(began < second <= now for second in failed_requests)
        soon = suspected or (checks[-1:] == [False] and checks[-FAILURES_MAX:] != [False] * 3)
        assert now - began >= (SUSPECT_SECONDS if soon else CHECK_SECONDS)
        state, began = after_check(state, now, is_ready), now
        checks.append(is_ready)
        assert is_to_be_left(state) == (checks[-3:] == [False] * 3)
    if len(ready) >= 14 and not any(ready[-14:]):
        assert is_to_be_left(state), "not ready for ten seconds and three checks"


@asynccontextmanager
async def doors(count, monkeypatch):
    """Servers whose stores may be out of reach, and a client whose seconds are short."""
    monkeypatch.setattr(readiness, "CHECK_SECONDS", 0.3)
    monkeypatch.setattr(readiness, "SUSPECT_SECONDS", 0.05)
    monkeypatch.setattr("refk8s.components.client.readiness.ANSWER_SECONDS", 0.5)
    async with servers(count) as world:
        ticking = asyncio.ensure_future(tick(world.client))
        try:
            yield world
        finally:
            ticking.cancel()


async def tick(client):
    while True:
        await asyncio.sleep(0.02)
        client.readiness.each_second(asyncio.get_running_loop().time())


def test_client_17_a_server_that_is_not_ready_is_left_for_the_first_one_that_is(
    monkeypatch, caplog
):
    # Shows CLIENT-17.e CLIENT-17.f CLIENT-17.g.
    async def test():
        async with doors(3, monkeypatch) as world:
            client, ended, events = world.client, [], []
            assert (await client.call(create("a"))).ok and client.server == world.urls[0]
            request = Request("watch", CONFIG_MAPS, "default", user=ADMIN)
            client.watch(request, events.extend, ended.append)
            await until(lambda: events)
            world.doors[0].problem = world.doors[1].problem = "no quorum"
            assert (await client.call(create("b"))).code == 503
            await until(lambda: client.server == world.urls[2])
            await until(lambda: ended == [0])
            assert (await client.call(create("c"))).ok
            assert world.doors[1].asked >= 1
            world.doors[0].problem = world.doors[1].problem = ""
            await asyncio.sleep(0.5)
            assert client.server == world.urls[2], "a server that is ready stays in use"

    with caplog.at_level(logging.WARNING):
        asyncio.run(test())
    [line] = [line for line in caplog.messages if "is used instead" in line]
    assert "is not ready" in line


def test_client_17_without_a_server_that_is_ready_the_present_one_stays(monkeypatch):
    # Shows CLIENT-17.h.
    async def test():
        async with doors(2, monkeypatch) as world:
            client = world.client
            assert (await client.call(create("a"))).ok
            for door in world.doors:
                door.problem = "no quorum"
            await until(lambda: world.doors[1].asked >= 2)
            assert client.server == world.urls[0]
            assert (await client.call(create("b"))).code == 503
            began, asked_before = asyncio.get_running_loop().time(), world.doors[1].asked
            await asyncio.sleep(1)
            rounds = (asyncio.get_running_loop().time() - began) / readiness.CHECK_SECONDS
            assert world.doors[1].asked - asked_before <= rounds + 1
            world.doors[1].problem = ""
            await until(lambda: client.server == world.urls[1])
            assert (await client.call(create("c"))).ok

    asyncio.run(test())


def test_client_17_a_server_that_does_not_answer_is_left_with_its_requests(monkeypatch):
    # Shows CLIENT-17.c CLIENT-17.g.
    async def test():
        async with doors(2, monkeypatch) as world:
            client = world.client
            assert (await client.call(create("a"))).ok
            monkeypatch.setattr(
                Door, "enqueue", lambda *_: None if world.doors[0].problem else pytest.fail()
            )
            world.doors[0].problem = "it hangs"
            assert await client.call(create("b")) is None, "unknown long before its 60 seconds"
            assert client.server == world.urls[1]

    asyncio.run(test())


def test_client_17_a_server_that_is_ready_stays_in_use_although_it_refuses_requests(monkeypatch):
    # Shows CLIENT-17.b.
    async def test():
        async with doors(2, monkeypatch) as world:
            client = world.client
            monkeypatch.setattr(Door, "checks", lambda _: named_checks("", False, {}))
            for door in world.doors:
                door.problem = "one API group is not available"
            for n in range(5):
                assert (await client.call(create(f"a{n}"))).code == 503
                await asyncio.sleep(0.1)
            assert client.server == world.urls[0] and world.doors[0].asked >= 5
            assert world.doors[1].asked == 0

    asyncio.run(test())


def test_client_17_one_server_is_not_checked(monkeypatch):
    # Shows CLIENT-17.a.
    async def test():
        async with doors(1, monkeypatch) as world:
            world.doors[0].problem = "no quorum"
            assert (await world.client.call(create("a"))).code == 503
            await asyncio.sleep(0.5)
            assert world.doors[0].asked == 0

    asyncio.run(test())


def test_client_17_a_server_that_refuses_the_question_counts_as_ready(monkeypatch):
    # Shows CLIENT-17.i.
    monkeypatch.setattr("refk8s.components.client.readiness.PATH", "/not-served")

    async def test():
        async with doors(2, monkeypatch) as world:
            world.doors[0].problem = "no quorum"
            for n in range(5):
                assert (await world.client.call(create(f"a{n}"))).code == 503
                await asyncio.sleep(0.1)
            assert world.client.server == world.urls[0]

    asyncio.run(test())
