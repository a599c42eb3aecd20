"""Several API servers with lagging reads, lost answers, deaths and restarts keep the service
default/kubernetes. Rule HOST-20 (spec/host.md).

Each server runs the code of its process (components/kubernetes_service.py). Its requests are
decided on its own reads, and nothing happens by itself: the script executes and answers each
request, shows a server what the store has, lets time pass, and ends servers in the middle of a
round. Their clocks differ.
"""

from types import SimpleNamespace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from refk8s.components.apiserver import UNKNOWN
from refk8s.components.kubernetes_service import KubernetesService
from refk8s.core.api import status
from refk8s.core.api.request import Response
from refk8s.core.api.resources import ENDPOINT_SLICES, ENDPOINTS, LEASES, NAMESPACES
from refk8s.core.api.user import API_SERVER
from refk8s.core.apiserver.admission.bootstrap import bootstrap_objects
from refk8s.core.apiserver.config import DEFAULT_CONFIG
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.live_servers import RENEW_SECONDS, server_of
from refk8s.core.apiserver.outcome import Commit
from refk8s.core.client.servers import servers_of
from refk8s.core.context import SECOND, Context, SeededChance
from refk8s.core.store import EMPTY, Conflict, commit

START = 1_700_000_000 * SECOND
UNAVAILABLE = Response(503, status.unavailable("no quorum"))
ROUNDS_OF_REST = 8


class Asked:
    """A request of a server that has no answer yet."""

    def __init__(self, request: Any) -> None:
        self.request = request

    def __await__(self) -> Any:
        return (yield self.request)


class Server:
    """One API server: its reads, its clock, and its round, if it is in one."""

    def __init__(self, world: "World", number: int, skew_seconds: int) -> None:
        self.world, self.skew = world, skew_seconds * SECOND
        self.address = f"192.0.2.{number + 1}"
        self.here = world.truth
        self.is_alive = False
        self.round: Any = None
        self.request: Any = None

    def now(self) -> int:
        return self.world.now + self.skew

    def start(self) -> None:
        if self.is_alive:
            return
        self.is_alive = True
        store = SimpleNamespace(
            is_current=False,
            get=lambda key: self.here.get(key),
            list=lambda prefix: self.here.list(prefix),
        )
        clock = SimpleNamespace(now=self.now)
        api: Any = SimpleNamespace(store=store, clock=clock, config=DEFAULT_CONFIG)
        front: Any = None

        async def call(request: Any) -> Response:
            response: Response = await Asked(request)
            return response

        self.service = KubernetesService(
            api, front, None, call, API_SERVER, self.address, 6443, self.address
        )

    def kill(self) -> None:
        if self.round is not None:
            self.round.close()
        self.is_alive, self.round, self.request = False, None, None

    def begin(self) -> None:
        if self.is_alive and self.round is None:
            self.round = self.service.reconcile()
            self._go_on(None)

    def _go_on(self, response: Response | None) -> None:
        try:
            self.request = self.round.send(response)
        except StopIteration:
            self.round = self.request = None

    def show(self) -> None:
        self.here = self.world.truth

    def answer(self, fault: str = "") -> None:
        """Answer its request. `fault`: "lost", after it was executed, or "failed", before."""
        if self.request is not None:
            response = UNAVAILABLE if fault == "failed" else self._execute()
            self._go_on(UNKNOWN if fault == "lost" else response)

    def _execute(self) -> Response:
        context = Context(self.now(), SeededChance(self.here.revision.to_bytes(8, "big")))
        is_current = False
        while True:
            outcome = handle(Exchange(self.request, self.here, context))
            if isinstance(outcome, Commit):
                self.world.truth, done = commit(self.world.truth, outcome.txn, stamp)
                if not isinstance(done, Conflict):
                    self.show()  # an answer follows what the reads show (STORE-24)
                    return outcome.respond(done)
            elif is_current:
                assert isinstance(outcome, Response)
                return outcome
            self.show()
            is_current = True


class World:
    """The servers and their store."""

    def __init__(self, skews: list[int]) -> None:
        self.truth, self.now = EMPTY, START
        first = Server(self, 0, 0)
        objects = bootstrap_objects("127.0.0.1", 6443)
        for obj in sorted(objects, key=lambda obj: obj.kind != NAMESPACES.kind):
            first.request = self._creation(obj)
            response = first._execute()
            assert response.code == 201, response.body
        self.servers = [Server(self, number, skew) for number, skew in enumerate(skews)]
        for server in self.servers:
            server.show()

    @staticmethod
    def _creation(obj: Any) -> Any:
        from refk8s.core.api import resources
        from refk8s.core.api.request import Request

        resource = resources.by_kind(obj.api_version, obj.kind)
        where = (resource, obj.metadata.namespace or "", obj.metadata.name)
        return Request("create", *where, body=obj, user=API_SERVER)

    def listed(self) -> tuple[set[str], set[str]]:
        """The servers in the Endpoints, and those in the EndpointSlices."""
        record = self.truth.get(ENDPOINTS.key("default", "kubernetes"))
        subsets = () if record is None else record.value.subsets or ()
        ips = {address.ip for subset in subsets for address in subset.addresses or ()}
        slices = self.truth.list(f"{ENDPOINT_SLICES.prefix}default/kubernetes").records
        urls = servers_of(record.value for record in slices)
        return ips, {url.removeprefix("https://").partition(":")[0] for url in urls}

    def step(self, what: str, number: int) -> None:
        server = self.servers[number % len(self.servers)]
        if what == "wait":
            self.now += (number + 1) * SECOND
        elif what in ("lost", "failed"):
            server.answer(what)
        else:
            getattr(server, what)()

    def rest(self) -> None:
        """No faults any more: each server that lives has a round every five seconds."""
        for _ in range(ROUNDS_OF_REST):
            for server in self.servers:
                server.show()
                server.begin()
                while server.request is not None:
                    server.answer()
            self.now += int(RENEW_SECONDS * SECOND)


STEPS = st.tuples(
    st.sampled_from(
        ["start", "begin", "begin", "answer", "answer", "answer", "show", "wait", "kill", "lost", "failed"]
    ),
    st.integers(0, 5),
)  # fmt: skip
SKEWS = st.lists(st.integers(-3600, 3600), min_size=1, max_size=4)


@given(SKEWS, st.lists(STEPS, max_size=80), st.sets(st.integers(0, 3)))
@example([0, 0], [("start", 0), ("begin", 0), ("answer", 0), ("answer", 0), ("answer", 0)], {1})
@example([0, 0], [("start", 0), ("start", 1), ("begin", 0), ("kill", 0)], {1})
@settings(max_examples=40, deadline=None)
def test_host_20_the_endpoints_become_exactly_the_servers_that_live(skews, steps, alive):
    # Shows HOST-20.b HOST-20.c HOST-20.d HOST-20.e.
    world = World(skews)
    known = {server.address for server in world.servers}
    had_any = False
    for what, number in steps:
        world.step(what, number)
        ips, _ = world.listed()
        ips -= {"127.0.0.1"}
        assert ips <= known
        assert ips or not had_any, "once servers are listed, at least one is"
        had_any = had_any or bool(ips)
    for number, server in enumerate(world.servers):
        if number in alive:
            server.start()
        else:
            server.kill()
    living = {server.address for server in world.servers if server.is_alive}
    before = world.listed()
    world.rest()
    if living:
        assert world.listed() == (living, living)
        leases = world.truth.list(f"{LEASES.prefix}kube-system/apiserver-").records
        assert {server_of(lease.value).address for lease in leases} == living
    else:
        assert world.listed() == before, "nobody is left who could write"


@given(SKEWS, st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30))
@settings(max_examples=30, deadline=None)
def test_host_20_no_server_that_renews_its_lease_is_left_out(skews, rounds):
    """Whatever the order of the rounds, as long as each server has one within ten seconds."""
    # Shows HOST-20.d.
    world = World(skews)
    for server in world.servers:
        server.start()
    world.rest()
    everybody = {server.address for server in world.servers}
    for number, lags in rounds:
        first = world.servers[number % len(skews)]
        for server in (first, *(each for each in world.servers if each is not first)):
            if not lags:
                server.show()
            server.begin()
            while server.request is not None:
                server.answer()
            assert world.listed() == (everybody, everybody)
            world.now += 2 * SECOND
