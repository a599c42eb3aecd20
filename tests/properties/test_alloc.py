"""Allocation of addresses and ports of services: ALLOC-1 to ALLOC-10, ADM-1 (spec/admission.md)."""

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import Namespace, Service, ServicePort, ServiceSpec
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Options, Patch, Request, Response
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.admission.allocate_missing import allocate_missing
from refk8s.core.apiserver.admission.ledger import NODE_PORT_PREFIX
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.outcome import Commit
from refk8s.core.context import SECOND, Context, SeededChance
from refk8s.core.properties.predicates.services import (
    alloc_1_one_holder,
    alloc_9_nothing_held_without_its_service,
)
from refk8s.core.store import EMPTY, Compare, Conflict, Delete, Txn, commit

TIGHT = AdmissionConfig((IPv4Network("10.0.0.0/28"),), 30000, 30005)
TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
MERGE = "application/merge-patch+json"


class Servers:
    """Several API servers on one store: each looks at the state when it is asked, and commits some
    time later."""

    def __init__(self, config: AdmissionConfig = TIGHT, seed: bytes = b"seed") -> None:
        self.config = Config(admission=config)
        self.context = Context(1_700_000_000 * SECOND, SeededChance(seed))
        self.history = EMPTY
        self.waiting: list[tuple[Request, Commit]] = []
        self.conflicts = 0
        assert self.ask(
            Request(
                "create",
                resources.NAMESPACES,
                body=Namespace(metadata=ObjectMeta(name="n")),
                user=ADMIN,
            )
        ).ok

    def look(self, request: Request) -> Response | None:
        """One server handles the request; what it wants to commit waits."""
        outcome = handle(Exchange(request, self.history, self.context, self.config))
        if isinstance(outcome, Commit):
            self.waiting.append((request, outcome))
            return None
        assert isinstance(outcome, Response)
        return outcome

    def land(self, which: int) -> Response:
        """One of what waits is committed, or handled again because the store has moved on
        (API-9)."""
        request, wanted = self.waiting.pop(which % len(self.waiting))
        self.history, done = commit(self.history, wanted.txn, stamp)
        if not isinstance(done, Conflict):
            if wanted.rest is not None:
                return self.ask(wanted.rest)
            return wanted.respond(done)
        self.conflicts += 1
        return self.look(request) or self.land(len(self.waiting) - 1)

    def ask(self, request: Request) -> Response:
        return self.look(request) or self.land(len(self.waiting) - 1)

    def create(self, name: str, **spec: Any) -> Response:
        spec.setdefault("ports", (ServicePort(port=80),))
        return self.ask(
            Request("create", resources.SERVICES, "n", body=service(name, **spec), user=ADMIN)
        )

    def patch(self, name: str, spec: Any) -> Response:
        return self.ask(
            Request(
                "patch",
                resources.SERVICES,
                "n",
                name,
                body=Patch(MERGE, {"spec": spec}),
                user=ADMIN,
            )
        )

    def delete(self, name: str) -> Response:
        return self.ask(Request("delete", resources.SERVICES, "n", name, user=ADMIN))

    def all(self, prefix: str) -> list[Any]:
        return [record.value for record in self.history.list(prefix).records]

    def wrong(self) -> list[str]:
        addresses = {held.metadata.name: held for held in self.all(resources.IP_ADDRESSES.prefix)}
        ports = {int(held.metadata.name): held for held in self.all(NODE_PORT_PREFIX)}
        services = self.all(resources.SERVICES.prefix)
        return [
            *alloc_1_one_holder(services, addresses, ports),
            *alloc_9_nothing_held_without_its_service(services, addresses, ports),
        ]

    def held(self) -> tuple[int, int]:
        return len(self.all(resources.IP_ADDRESSES.prefix)), len(self.all(NODE_PORT_PREFIX))


def service(name: str, **spec: Any) -> Service:
    return Service(metadata=ObjectMeta(name=name), spec=ServiceSpec(**spec))


names = st.sampled_from(["a", "b", "c", "d"])
node_ports = st.sampled_from([None, None, 30000, 30001, 40000])
one_port = st.tuples(st.sampled_from([80, 81]), st.sampled_from(["TCP", "UDP"]), node_ports)
ports_of = st.lists(one_port, min_size=1, max_size=3, unique_by=lambda port: port[:2])
addresses = st.sampled_from(
    [None, None, None, "None", "10.0.0.1", "10.0.0.2", "10.0.0.15", "192.0.2.1"]
)


@st.composite
def wishes(draw: st.DrawFn) -> Request:
    """What somebody asks about one of few services."""
    name = draw(names)
    kind = draw(st.sampled_from(["create", "create", "patch", "replace", "delete"]))
    if kind == "delete":
        return Request("delete", resources.SERVICES, "n", name, user=ADMIN)
    of_type = draw(st.sampled_from(TYPES))
    if kind == "patch":
        change: dict[str, Any] = {"type": of_type}
        if of_type == "ExternalName":
            change["externalName"] = "a.b"
        if draw(st.booleans()):
            change["externalTrafficPolicy"] = draw(st.sampled_from(["Local", "Cluster", None]))
        return Request(
            "patch", resources.SERVICES, "n", name, body=Patch(MERGE, {"spec": change}), user=ADMIN
        )
    ports = tuple([
        ServicePort(name=f"{protocol.lower()}{port}", port=port, protocol=protocol, node_port=node_port if of_type != "ClusterIP" else None)
        for port, protocol, node_port in draw(ports_of)
    ])  # fmt: skip
    address = draw(addresses) if of_type != "ExternalName" else None
    policy = (
        draw(st.sampled_from([None, "Local"])) if of_type in ("NodePort", "LoadBalancer") else None
    )
    body = service(
        name, type=of_type, ports=ports, cluster_ip=address, external_name="a.b" if of_type == "ExternalName" else None,
        external_traffic_policy=policy,
    )  # fmt: skip
    if kind == "create":
        return Request("create", resources.SERVICES, "n", body=body, user=ADMIN)
    return Request("update", resources.SERVICES, "n", name, body=body, user=ADMIN)


@settings(max_examples=150)
@given(st.lists(st.one_of(wishes(), st.integers(0, 7)), max_size=30))
def test_alloc_1_no_two_services_hold_one_thing_however_the_commits_interleave(steps):
    """A number lets one of the waiting commits land; with it every order of looking and landing can
    come."""
    # Shows ALLOC-1.a ALLOC-1.b ALLOC-4.c.
    servers = Servers()
    for step in steps:
        if isinstance(step, Request):
            response = servers.look(step)
        elif servers.waiting:
            response = servers.land(step)
        else:
            continue
        assert response is None or response.code in (200, 201, 404, 409, 422, 500), response
        assert response is None or response.code != 500 or "range is full" in response.body.message
        assert servers.wrong() == []
    while servers.waiting:
        servers.land(0)
        assert servers.wrong() == []


HOLD = "example.com/hold"


@st.composite
def ways_to_go(draw: st.DrawFn) -> Request:
    """A Service is held by a finalizer, let go, or deleted: alone, in a collection, in the
    foreground, or by the change that removes its last finalizer, which may change its type too.
    Some of it only as a dry run."""
    kinds = ["hold", "let go", "let go", "delete", "foreground", "collection", "status"]
    kind, name, is_dry = draw(st.sampled_from(kinds)), draw(names), draw(st.integers(0, 3)) == 0
    options = DeleteOptions(dry_run=("All",) if is_dry else None)
    match kind:
        case "delete":
            return Request("delete", resources.SERVICES, "n", name, body=options, user=ADMIN)
        case "foreground":
            return Request(
                "delete",
                resources.SERVICES,
                "n",
                name,
                body=replace(options, propagation_policy="Foreground"),
                user=ADMIN,
            )
        case "collection":
            chosen = Options(label_selector=draw(st.sampled_from(["", "held=yes"])))
            return Request(
                "deletecollection",
                resources.SERVICES,
                "n",
                body=options,
                options=chosen,
                user=ADMIN,
            )
        case _:
            finalizers = [HOLD] if kind == "hold" else None
            tree: dict[str, Any] = {
                "metadata": {"finalizers": finalizers, "labels": {"held": "yes"}}
            }
            if kind == "let go" and draw(st.booleans()):
                of_type = draw(st.sampled_from(TYPES))
                tree["spec"] = {
                    "type": of_type,
                    "externalName": "a.b" if of_type == "ExternalName" else None,
                }
            subresource = "status" if kind == "status" else ""
            body = Patch(MERGE, tree)
            return Request(
                "patch",
                resources.SERVICES,
                "n",
                name,
                subresource,
                body=body,
                options=Options(dry_run=is_dry),
                user=ADMIN,
            )


@settings(max_examples=300)
@given(st.lists(st.one_of(wishes(), ways_to_go(), st.integers(0, 7)), max_size=30))
def test_alloc_9_nothing_is_held_without_its_service_however_it_goes(steps):
    # Shows ALLOC-9.a ALLOC-9.b.
    servers = Servers()
    for step in steps:
        if isinstance(step, Request):
            servers.look(step)
        elif servers.waiting:
            servers.land(step)
        assert servers.wrong() == []
    while servers.waiting:
        servers.land(0)
    for name in ("a", "b", "c", "d"):
        servers.ask(
            Request(
                "patch",
                resources.SERVICES,
                "n",
                name,
                body=Patch(MERGE, {"metadata": {"finalizers": None}}),
                user=ADMIN,
            )
        )
    servers.ask(Request("deletecollection", resources.SERVICES, "n", user=ADMIN))
    assert servers.held() == (0, 0) and servers.wrong() == []


@given(st.lists(wishes(), max_size=12), st.data())
def test_alloc_10_what_a_service_holds_without_a_record_is_recorded(steps, data):
    # Shows ALLOC-10.b, ALLOC-10.d.
    servers = Servers()
    for step in steps:
        servers.ask(step)
    before = servers.held()
    records = [
        record.key
        for prefix in (resources.IP_ADDRESSES.prefix, NODE_PORT_PREFIX)
        for record in servers.history.list(prefix).records
    ]
    lost = [key for key in records if data.draw(st.booleans())]
    servers.history, _ = commit(servers.history, Txn((), tuple(Delete(key) for key in lost)), stamp)
    for record in servers.history.list(resources.SERVICES.prefix).records:
        txn = allocate_missing(record, servers.history, servers.context, servers.config.admission)
        if txn is not None:
            servers.history, done = commit(servers.history, txn, stamp)
            assert not isinstance(done, Conflict)
            assert txn.compares[0] == Compare(record.key, record.mod_revision)
        again = (record, servers.history, servers.context, servers.config.admission)
        assert allocate_missing(*again) is None
    assert servers.held() == before and servers.wrong() == []


@pytest.mark.parametrize("of_type", TYPES)
@pytest.mark.parametrize("subresource", ["", "status"])
def test_alloc_9_the_change_that_lets_a_service_go_frees_what_it_held_whatever_else_it_changes(
    of_type, subresource
):
    # Shows ALLOC-9.b.
    servers = Servers()
    assert servers.create(
        "a", type="LoadBalancer", external_traffic_policy="Local"
    ).ok and servers.held() == (1, 2)
    held = Patch(MERGE, {"metadata": {"finalizers": [HOLD]}})
    assert (
        servers.ask(Request("patch", resources.SERVICES, "n", "a", body=held, user=ADMIN)).ok
        and servers.delete("a").ok
    )
    assert servers.held() == (1, 2)
    spec = {
        "type": of_type,
        "externalTrafficPolicy": None,
        **({"externalName": "a.b"} if of_type == "ExternalName" else {}),
    }
    gone = Patch(MERGE, {"metadata": {"finalizers": None}, "spec": spec})
    assert servers.ask(
        Request("patch", resources.SERVICES, "n", "a", subresource, body=gone, user=ADMIN)
    ).ok
    assert servers.held() == (0, 0) and servers.all(resources.SERVICES.prefix) == []


def test_adm_1_two_servers_that_choose_one_address_do_not_both_get_it():
    """Sometimes: the race that the rule is about is really met, and the loser gets another
    address."""
    servers = Servers()
    for name in ("a", "b"):
        servers.look(
            Request(
                "create",
                resources.SERVICES,
                "n",
                body=service(name, cluster_ip="10.0.0.9", ports=(ServicePort(port=80),)),
                user=ADMIN,
            )
        )
    assert len(servers.waiting) == 2
    assert servers.land(0).code == 201
    assert servers.land(0).code == 422 and servers.conflicts == 1
    assert servers.wrong() == []


@given(st.integers(2, 12))
def test_alloc_1_everybody_who_wants_an_address_gets_one_while_there_are_any(count):
    servers = Servers()
    for number in range(count):  # all choose on the same empty store
        servers.look(
            Request(
                "create",
                resources.SERVICES,
                "n",
                body=service(f"s{number}", ports=(ServicePort(port=80),)),
                user=ADMIN,
            )
        )
    while servers.waiting:
        assert servers.land(0).code == 201
    assert servers.held() == (count, 0) and servers.wrong() == []


def test_alloc_1_the_same_service_again_exists_already_and_another_is_refused():
    servers = Servers()
    asked = {
        "type": "NodePort",
        "cluster_ip": "10.0.0.9",
        "ports": (ServicePort(port=80, node_port=30001),),
    }
    assert [servers.create("a", **asked).code for _ in range(2)] == [201, 409]
    assert servers.create("b", **asked).code == 422
    assert servers.wrong() == []


def test_alloc_2_one_family_and_an_error_for_what_is_not_there():
    # Shows ALLOC-2.a ALLOC-2.b ALLOC-2.c.
    servers = Servers()
    plain = servers.create("a").body.spec
    assert (plain.ip_families, plain.ip_family_policy) == (("IPv4",), "SingleStack")
    both = servers.create("b", cluster_ip="None", ports=None).body.spec
    assert (both.ip_families, both.ip_family_policy, both.cluster_ips) == (
        ("IPv4", "IPv6"),
        "RequireDualStack",
        ("None",),
    )
    assert servers.create("c", ip_family_policy="PreferDualStack").body.spec.ip_families == (
        "IPv4",
    )
    for asked in (
        {"ip_families": ("IPv6",)},
        {"ip_family_policy": "RequireDualStack"},
        {"cluster_ip": "fd00::1"},
    ):
        assert servers.create("d", **asked).code == 422
    assert servers.wrong() == []


def test_alloc_2_two_families_need_a_policy_for_two():
    # Shows ALLOC-2.d.
    servers = Servers()
    for policy, field in (
        (None, "spec.ipFamilyPolicy"),
        ("SingleStack", "spec.ipFamilyPolicy"),
        ("PreferDualStack", "spec.ipFamilies[1]"),
    ):
        asked = {"ip_family_policy": policy, "ip_families": ("IPv4", "IPv6")}
        response = servers.create("a", **asked)
        assert response.code == 422
        assert [cause.field for cause in response.body.details.causes] == [field]
    two = servers.create("b", cluster_ips=("10.0.0.1", "fd00::1"), cluster_ip="10.0.0.1")
    fields = ["spec.ipFamilyPolicy", "spec.clusterIPs[1]"]
    assert [cause.field for cause in two.body.details.causes] == fields


@given(addresses)
def test_alloc_3_cluster_ip_is_the_first_of_cluster_ips(address):
    # Shows ALLOC-3.a ALLOC-3.b ALLOC-3.c ALLOC-5.c.
    servers = Servers()
    response = servers.create("a", cluster_ip=address)
    in_range = address in (None, "None", "10.0.0.1", "10.0.0.2")
    assert response.ok == in_range
    if in_range:
        spec = response.body.spec
        assert spec.cluster_ips == (spec.cluster_ip,) and (
            address is None or spec.cluster_ip == address
        )
    assert servers.held() == (int(in_range and address != "None"), 0)


@given(ports_of, st.sampled_from(["NodePort", "LoadBalancer"]))
def test_alloc_4_every_port_has_a_node_port_and_only_protocols_share_one(drawn, of_type):
    # Shows ALLOC-4.a ALLOC-4.b.
    ports = tuple(
        [
            ServicePort(name=f"{protocol.lower()}{port}", port=port, protocol=protocol)
            for port, protocol, _ in drawn
        ]
    )
    servers = Servers()
    made = servers.create("a", type=of_type, ports=ports).body.spec.ports
    assert all(30000 <= port.node_port <= 30005 for port in made)
    pairs = [(port.node_port, port.protocol) for port in made]
    assert len(set(pairs)) == len(pairs)
    assert len({port.node_port for port in made}) == len({port.port for port in made})
    assert servers.wrong() == []


TWO_PORTS = [
    ((80, "TCP", None), (80, "TCP", None), "Duplicate"),
    ((80, "TCP", 30001), (81, "TCP", 30001), "Invalid"),
    ((80, "TCP", 30001), (81, "UDP", 30001), "Invalid"),
    ((80, "TCP", 30001), (80, "UDP", 30001), ""),
    ((80, "TCP", 30001), (80, "UDP", 30002), ""),
    ((80, "TCP", None), (80, "UDP", 30002), ""),
]


@pytest.mark.parametrize(("one", "other", "reason"), TWO_PORTS)
def test_alloc_4_a_new_service_with_one_node_port_twice_is_refused_unless_the_port_is_the_same(
    one, other, reason
):
    # Shows ALLOC-4.b.
    servers = Servers()
    ports = tuple([
        ServicePort(name=name, port=port, protocol=protocol, node_port=node_port)
        for name, (port, protocol, node_port) in (("a", one), ("b", other))
    ])  # fmt: skip
    answer = servers.create("a", type="NodePort", ports=ports)
    assert answer.code == (422 if reason else 201)
    if reason:
        causes = {
            cause.reason
            for cause in answer.body.details.causes
            if "nodePort" in (cause.field or "")
        }
        assert causes == {f"FieldValue{reason}"}
    assert servers.wrong() == [] and servers.held()[1] == (
        0 if reason else len({port.node_port for port in answer.body.spec.ports})
    )


def test_alloc_4_a_local_load_balancer_has_a_port_for_health_checks_and_gives_it_back():
    # Shows ALLOC-4.d.
    servers = Servers()
    spec = servers.create("a", type="LoadBalancer", external_traffic_policy="Local").body.spec
    assert 30000 <= spec.health_check_node_port <= 30005 and servers.held() == (1, 2)
    assert (
        servers.patch("a", {"externalTrafficPolicy": "Cluster"}).body.spec.health_check_node_port
        is None
    )
    assert servers.held() == (1, 1) and servers.wrong() == []


@pytest.mark.parametrize("port", [80, 29999, 30000, 40000])
@pytest.mark.parametrize("is_dry_run", [False, True])
def test_alloc_4_a_port_is_of_the_range_unless_it_is_a_dry_run(port, is_dry_run):
    is_right = is_dry_run or port == 30000
    health = {"external_traffic_policy": "Local", "health_check_node_port": port}
    for body in (
        service("a", type="NodePort", ports=(ServicePort(port=80, node_port=port),)),
        service("a", type="LoadBalancer", ports=(ServicePort(port=80),), **health),
    ):
        servers, options = Servers(), Options(dry_run=is_dry_run)
        asked = Request("create", resources.SERVICES, "n", body=body, user=ADMIN, options=options)
        assert servers.ask(asked).code == (201 if is_right else 422)
        assert (servers.held() == (0, 0)) == (is_dry_run or not is_right)


def test_alloc_4_a_load_balancer_that_wants_no_node_ports_gets_none():
    # Shows ALLOC-4.a.
    servers = Servers()
    assert (
        servers.create("a", type="LoadBalancer", allocate_load_balancer_node_ports=False)
        .body.spec.ports[0]
        .node_port
        is None
    )
    assert servers.held() == (1, 0)


@pytest.mark.parametrize("last", range(1, 15))
def test_alloc_5_what_is_asked_for_is_given_anywhere_in_the_range_if_it_is_free(last):
    # Shows ALLOC-5.b ALLOC-5.c.
    servers = Servers(AdmissionConfig((IPv4Network("10.0.0.0/28"),)))
    asked = {"type": "NodePort", "cluster_ip": f"10.0.0.{last}"}
    port = 30000 + last % 6
    made = servers.create("a", **asked, ports=(ServicePort(port=80, node_port=port),))
    assert made.code == 201 and (made.body.spec.cluster_ip, made.body.spec.ports[0].node_port) == (
        f"10.0.0.{last}",
        port,
    )
    assert servers.create("b", **asked).code == 422
    assert (
        servers.create("c", type="NodePort", ports=(ServicePort(port=80, node_port=port),)).code
        == 422
    )
    assert servers.wrong() == [] and servers.held() == (1, 1)


@pytest.mark.parametrize("given_now", [None, "None", "", "10.0.0.9"])
def test_alloc_3_an_external_name_has_no_address_whatever_it_asks_for(given_now):
    # Shows ALLOC-3.c.
    servers = Servers()
    made = servers.create(
        "a", type="ExternalName", external_name="a.b", cluster_ip=given_now, ports=None
    )
    assert made.code == (422 if given_now in ("None", "10.0.0.9") else 201)
    assert made.code == 422 or (not made.body.spec.cluster_ip and not made.body.spec.cluster_ips)
    headless = servers.create("b", cluster_ip="None")
    assert headless.code == 201 and headless.body.spec.cluster_ips == ("None",)
    assert servers.held() == (0, 0)


@given(st.binary(min_size=1, max_size=4))
def test_alloc_5_the_first_addresses_are_given_out_last_and_then_none(seed):
    # Shows API-14.h ALLOC-5.a.
    network = IPv4Network("10.0.0.0/27")  # 30 addresses, of which 16 are kept for those who choose
    servers = Servers(AdmissionConfig((network,)), seed)
    given_out = [
        IPv4Address(servers.create(f"s{number}").body.spec.cluster_ip) for number in range(30)
    ]
    assert all(address > network[16] for address in given_out[:14]) and all(
        address <= network[16] for address in given_out[14:]
    )
    assert sorted(given_out) == list(network.hosts())
    full = servers.create("late")
    assert full.code == 500 and "range is full" in full.body.message
    servers.delete("s7")
    assert servers.create("late").body.spec.cluster_ip == str(given_out[7])


@given(st.lists(st.tuples(names, st.sampled_from(TYPES)), max_size=8))
def test_alloc_6_when_all_services_are_gone_nothing_is_held(made):
    # Shows ALLOC-6.a.
    servers = Servers()
    for name, of_type in made:
        servers.create(
            name, type=of_type, external_name="a.b" if of_type == "ExternalName" else None
        )
    for name in "abcd":
        servers.delete(name)
    assert servers.held() == (0, 0)


def test_alloc_6_what_another_holds_is_not_given_back():
    servers = Servers()
    taken = servers.create("a").body.spec.cluster_ip
    key = resources.IP_ADDRESSES.key("", taken)
    record = servers.history.get(key)
    stranger = replace(
        record.value,
        spec=replace(
            record.value.spec, parent_ref=replace(record.value.spec.parent_ref, name="other")
        ),
    )
    asked = Request("update", resources.IP_ADDRESSES, "", taken, body=stranger, user=ADMIN)
    assert servers.ask(asked).code == 422  # VAL-26: an address does not change hands
    servers.delete("a")
    assert servers.history.get(key) is None


@pytest.mark.parametrize("of_type", TYPES)
def test_alloc_7_the_same_body_again_changes_nothing(of_type):
    # Shows ALLOC-7.a.
    servers = Servers()
    ports = (ServicePort(name="a", port=80), ServicePort(name="b", port=81))
    body = service(
        "a", type=of_type, ports=ports, external_name="a.b" if of_type == "ExternalName" else None
    )
    first = servers.ask(Request("create", resources.SERVICES, "n", body=body, user=ADMIN)).body
    again = servers.ask(Request("update", resources.SERVICES, "n", "a", body=body, user=ADMIN))
    assert again.code == 200 and again.body == first


@given(st.permutations(["a", "b", "c"]))
def test_alloc_7_a_port_keeps_its_node_port_by_its_name(order):
    # Shows ALLOC-7.a.
    servers = Servers()
    made = {name: ServicePort(name=name, port=80 + number) for number, name in enumerate("abc")}
    first = servers.create("a", type="NodePort", ports=tuple(made.values())).body.spec.ports
    body = service("a", type="NodePort", ports=tuple([made[name] for name in order]))
    again = servers.ask(
        Request("update", resources.SERVICES, "n", "a", body=body, user=ADMIN)
    ).body.spec.ports
    assert {port.name: port.node_port for port in again} == {
        port.name: port.node_port for port in first
    }


NEEDS = {"ClusterIP": (1, 0), "NodePort": (1, 1), "LoadBalancer": (1, 1), "ExternalName": (0, 0)}


@given(st.lists(st.sampled_from(TYPES), min_size=1, max_size=6))
def test_alloc_8_a_change_of_type_alone_is_enough_and_holds_just_what_the_type_needs(types):
    # Shows ALLOC-6.a ALLOC-8.a.
    servers = Servers()
    servers.create("a")
    for of_type in types:
        response = servers.patch(
            "a", {"type": of_type, "externalName": "a.b" if of_type == "ExternalName" else None}
        )
        assert response.code == 200, response
        spec = response.body.spec
        assert servers.held() == NEEDS[of_type] and servers.wrong() == []
        assert bool(spec.cluster_ip) == bool(NEEDS[of_type][0]) and bool(
            spec.ports[0].node_port
        ) == bool(NEEDS[of_type][1])
        assert bool(spec.external_traffic_policy) == (of_type in ("NodePort", "LoadBalancer"))
