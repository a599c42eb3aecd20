"""Whole plans about Endpoints and slices, and the division of endpoints, compared with what they
should be (EP-1 to EP-7, SLICE-1 to SLICE-9, spec/workloads/endpoints.md)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from random_cases import cases
from workload_helpers import NOW, ago, change, pod, view_of

from refk8s.core.api.core_v1 import (
    Container,
    ContainerPort,
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    Node,
    ObjectReference,
    PodCondition,
    PodIP,
    Service,
    ServicePort,
    ServiceSpec,
)
from refk8s.core.api.discovery_v1 import (
    Endpoint,
    EndpointConditions,
    EndpointHints,
    EndpointSlice,
    ForNode,
    ForZone,
)
from refk8s.core.api.discovery_v1 import EndpointPort as SlicePort
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, OwnerReference, Preconditions
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import ENDPOINT_SLICES, ENDPOINTS, NODES, SERVICES
from refk8s.core.context import SECOND
from refk8s.core.controllers import endpoint_slice as of_pods
from refk8s.core.controllers import endpoint_slice_mirroring as mirrored
from refk8s.core.controllers import endpoints as plain
from refk8s.core.controllers import endpoints_of, slices
from refk8s.core.controllers.endpoint_slice import EndpointSliceController
from refk8s.core.controllers.endpoint_slice_mirroring import EndpointSliceMirroringController
from refk8s.core.controllers.endpoints import EndpointsController
from refk8s.core.loop.plan import NOTHING, Local, Plan

ZONE = "topology.kubernetes.io/zone"
READY = (PodCondition(type="Ready", status="True"),)
NAME, MANAGER = "kubernetes.io/service-name", "endpointslice.kubernetes.io/managed-by"
OF_PODS, OF_MIRRORS = "endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"


def service(
    *ports: ServicePort, labels: Any = None, annotations: Any = None, **spec: Any
) -> Service:
    given = {"selector": {"app": "web"}, "ports": ports or None, "cluster_ip": "10.96.0.1", **spec}
    metadata = ObjectMeta(
        name="s", namespace="default", uid="us", labels=labels, annotations=annotations
    )
    return Service(metadata=metadata, spec=ServiceSpec(**given))


def node(name: str, zone: Any = None) -> Node:
    return Node(metadata=ObjectMeta(name=name, labels={ZONE: zone} if zone else None))


def backend(name: str, ip: str, on: Any = "n", ready: bool = True, **parts: Any) -> Any:
    given = {"pod_ip": ip, "pod_ips": (PodIP(ip=ip),), "conditions": READY if ready else None}
    return pod(name, **{**given, "node_name": on, **parts})


def interest(reconciler: Any, resource: Any) -> Any:
    return next(one.keys for one in reconciler.interests if one.resource is resource)


def requests_of(plan: Plan) -> list[Request]:
    """The requests without their reasons, which are not empty."""
    assert len(plan.waves) <= 1
    found = [one for wave in plan.waves for one in wave]
    assert all(one.because for one in found)
    return [replace(one, because="") for one in found]


# --- endpoints of slices


HTTP, DNS = ServicePort(name="http", port=80, target_port=8080), ServicePort(port=53, protocol="UDP", target_port="dns", app_protocol="x")  # fmt: skip


def test_slice_1_the_endpoints_of_a_service():
    named = (
        Container(
            name="c", ports=(ContainerPort(name="dns", container_port=5353, protocol="UDP"),)
        ),
    )
    pods = [
        backend("a", "10.0.0.1"),
        backend("b", "10.0.0.2", on="gone"),
        backend("c", "10.0.0.3", on=None),
        backend("d", "10.0.0.4", on="m", containers=named, ready=False),
        backend("e", "10.0.0.5"),
        backend("f", "fd00::1"),
        backend("g", "10.0.0.7", phase="Failed"),
    ]
    nodes = (node("n", "z"), node("m"))
    controller = EndpointSliceController()
    view = view_of(controller, *pods, *nodes)
    given = service(HTTP, DNS, ip_families=("IPv4", "IPv6"))
    http = SlicePort(name="http", port=8080, protocol="TCP")
    dns = SlicePort(name="", port=5353, protocol="UDP", app_protocol="x")
    a, _, c, d, e, f, _ = pods

    def shown(one: Any, on: Any) -> Endpoint:
        return of_pods.compute_endpoint(given, one, one.status.pod_ip, on)

    n, m = nodes
    four = {(http,): [shown(a, n), shown(e, n)], (http, dns): [shown(d, m)]}
    assert of_pods.compute_endpoints(view, given, "IPv4") == four
    assert of_pods.compute_endpoints(view, given, "IPv6") == {(http,): [shown(f, n)]}
    publishing = change(given, publish_not_ready_addresses=True)
    published = of_pods.compute_endpoints(view, publishing, "IPv4")
    assert [one.addresses for one in published[http,]] == [
        ("10.0.0.1",),
        ("10.0.0.2",),
        ("10.0.0.3",),
        ("10.0.0.5",),
    ]
    assert published[http,][2].node_name is None and c is not None
    bare = of_pods.compute_endpoints(view, service(), "IPv4")
    assert list(bare) == [()] and len(bare[()]) == 3


REFERENCE = ObjectReference(kind="Pod", namespace="default", name="a", uid="uid-a")


@pytest.mark.parametrize(
    "distribution", [None, "Odd", "PreferClose", "PreferSameZone", "PreferSameNode"]
)
@pytest.mark.parametrize("zone", [None, "z"])
@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize("going", [None, ago(1)])
@pytest.mark.parametrize("publish", [None, True])
def test_slice_3_slice_8_one_endpoint(distribution, zone, ready, going, publish):
    one = backend(
        "a", "10.0.0.1", ready=ready, deletion_timestamp=going, hostname="h", subdomain="s"
    )
    given = service(traffic_distribution=distribution, publish_not_ready_addresses=publish)
    found = of_pods.compute_endpoint(given, one, "10.0.0.1", node("n", zone))
    is_ready = bool(publish) or (ready and going is None)
    hints = None
    if is_ready and distribution in ("PreferClose", "PreferSameZone", "PreferSameNode"):
        zones = (ForZone(name=zone),) if zone else None
        nodes = (ForNode(name="n"),) if distribution == "PreferSameNode" else None
        hints = EndpointHints(for_zones=zones, for_nodes=nodes) if zones or nodes else None
    assert found == Endpoint(
        addresses=("10.0.0.1",),
        hostname="h",
        node_name="n",
        target_ref=REFERENCE,
        zone=zone,
        hints=hints,
        conditions=EndpointConditions(ready=is_ready, serving=ready, terminating=going is not None),
    )
    lost = of_pods.compute_endpoint(given, backend("a", "10.0.0.1", on=None), "10.0.0.1", None)
    assert (lost.zone, lost.node_name) == (None, None)
    assert of_pods.compute_hints(given, None, "") is None


def owner(kind: str, uid: str) -> OwnerReference:
    return OwnerReference(
        api_version="v1", kind=kind, name="s", uid=uid, controller=True, block_owner_deletion=True
    )


def a_slice(name: Any, *endpoints: Endpoint, ports: Any = (), family: str = "IPv4", labels: Any = None, manager: str = OF_PODS, **metadata: Any) -> EndpointSlice:  # fmt: skip
    found = {**(labels or {}), NAME: "s", MANAGER: manager}
    given = {
        "name": name,
        "namespace": "default",
        "uid": f"uid-{name}",
        "labels": found,
        **metadata,
    }
    return EndpointSlice(
        metadata=ObjectMeta(**given),
        address_type=family,
        endpoints=endpoints or None,
        ports=ports or None,
    )


def test_slice_7_a_new_slice():
    controller = EndpointSliceController()
    given = service(HTTP, labels={"own": "x", HEADLESS: "stale"})
    one = backend("a", "10.0.0.1")
    view = view_of(controller, given, one, node("n", "z"))
    [request] = requests_of(controller.reconcile(view, "default/s", NOW, Local()))
    metadata = ObjectMeta(
        generate_name="s-",
        namespace="default",
        labels={"own": "x", NAME: "s", MANAGER: OF_PODS},
        owner_references=(owner("Service", "us"),),
    )
    endpoint = of_pods.compute_endpoint(given, one, "10.0.0.1", node("n", "z"))
    body = EndpointSlice(
        metadata=metadata,
        address_type="IPv4",
        endpoints=(endpoint,),
        ports=(SlicePort(name="http", port=8080, protocol="TCP"),),
    )
    assert request == Request("create", ENDPOINT_SLICES, "default", "", body=body)
    stored = replace(body, metadata=replace(metadata, name="s-x"))
    view = view_of(controller, given, one, node("n", "z"), stored)
    assert controller.reconcile(view, "default/s", NOW, Local()) == NOTHING
    headless = change(given, cluster_ip="None", ip_families=("IPv4",))
    view = view_of(controller, headless, one, node("n", "z"), stored)
    [request] = requests_of(controller.reconcile(view, "default/s", NOW, Local()))
    assert (request.verb, request.name) == ("update", "s-x")
    assert request.body.metadata.labels == {"own": "x", NAME: "s", MANAGER: OF_PODS, HEADLESS: ""}


def test_slice_1_services_that_have_no_slices_of_ours():
    controller = EndpointSliceController()
    one = backend("a", "10.0.0.1")
    for given in (
        service(selector=None),
        service(type="ExternalName"),
        change(service(), deletion_timestamp=ago(1)),
    ):
        view = view_of(controller, given, one, node("n"))
        assert controller.reconcile(view, "default/s", NOW, Local()) == NOTHING
    assert controller.reconcile(view_of(controller, one), "default/s", NOW, Local()) == NOTHING


def test_slice_9_a_slice_for_each_family_and_at_most_so_many():
    controller = EndpointSliceController(endpoints_max=2)
    assert EndpointSliceController().endpoints_max == slices.ENDPOINTS_MAX == 100
    given = service(HTTP, ip_families=("IPv4", "IPv6"))
    pods = [backend(f"p{n}", f"10.0.0.{n}") for n in range(3)]
    view = view_of(controller, given, *pods, node("n"))
    made = requests_of(controller.reconcile(view, "default/s", NOW, Local()))
    assert [(one.body.address_type, len(one.body.endpoints or ())) for one in made] == [
        ("IPv4", 2),
        ("IPv4", 1),
        ("IPv6", 0),
    ]
    foreign = a_slice("x", manager="other")
    six = a_slice("y", family="IPv6")
    view = view_of(
        controller, change(given, ip_families=("IPv4",)), pods[0], node("n"), foreign, six
    )
    made = requests_of(controller.reconcile(view, "default/s", NOW, Local()))
    assert [(one.verb, one.name) for one in made] == [("create", ""), ("delete", "y")]
    options = DeleteOptions(preconditions=Preconditions(uid="uid-y"))
    assert made[1] == Request("delete", ENDPOINT_SLICES, "default", "y", body=options)


def test_slice_6_what_makes_a_service_due():
    controller = EndpointSliceController()
    of_nodes = interest(controller, NODES)
    view = view_of(
        controller, service(), backend("a", "10.0.0.1"), backend("b", "10.0.0.2", on="m")
    )
    for old, new in (
        (None, node("n")),
        (node("n"), None),
        (node("n"), node("n", "z")),
        (node("n", "y"), node("n", "z")),
    ):
        assert list(of_nodes(view, old, new)) == ["default/s"]
    for old, new in ((node("n", "z"), node("n", "z")), (None, node("x")), (node("x"), None)):
        assert list(of_nodes(view, old, new)) == []
    of_slices = interest(controller, ENDPOINT_SLICES)
    one, other = a_slice("x"), a_slice("x", labels={"a": "b"})
    lost = EndpointSlice(metadata=ObjectMeta(name="x", namespace="default"), address_type="IPv4")
    assert (
        of_slices(view, None, one)
        == of_slices(view, one, None)
        == of_slices(view, one, other)
        == ["default/s"]
    )
    assert of_slices(view, one, lost) == ["default/s"] and of_slices(view, lost, lost) == []
    moved = replace(one, metadata=replace(one.metadata, labels={NAME: "t"}))
    assert of_slices(view, one, moved) == ["default/s", "default/t"]


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        (None, False), ({}, False), ({"topology-mode": "Auto"}, True), ({"topology-mode": "auto"}, True),
        ({"topology-mode": "Off"}, False), ({"topology-aware-hints": "Auto"}, True),
        ({"topology-aware-hints": "Off", "topology-mode": "Auto"}, False),
        ({"topology-aware-hints": "auto", "topology-mode": "Off"}, True),
    ],
)  # fmt: skip
def test_slice_10_which_services_have_topology_aware_hints(annotations, expected):
    given = (
        None
        if annotations is None
        else {f"service.kubernetes.io/{key}": value for key, value in annotations.items()}
    )
    assert of_pods.is_topology_aware(service(annotations=given)) is expected


# --- the division


def endpoint(number: int, ready: bool = True) -> Endpoint:
    reference = ObjectReference(kind="Pod", name=f"p{number}", uid=f"u{number}")
    return Endpoint(
        addresses=(f"10.0.0.{number}",),
        conditions=EndpointConditions(ready=ready),
        target_ref=reference,
    )


P, Q = (SlicePort(name="p", port=1),), (SlicePort(name="q", port=2),)


def laid_out(given: Any, wanted: Any, placeholder: bool = True, most: int = 3) -> Any:
    found = slices.lay_out(given, wanted, placeholder, most)
    assert found.family == "IPv4"

    def numbers(endpoints: Any) -> list[int]:
        return [int(one.addresses[0].rpartition(".")[2]) for one in endpoints]

    return (
        [
            (one.metadata.name, ports[0].name if ports else "", numbers(all_))
            for one, ports, all_ in found.kept
        ],
        [(ports[0].name if ports else "", numbers(all_)) for ports, all_ in found.created],
        [one.metadata.name for one in found.deleted],
    )


def some(*numbers: int) -> list[Endpoint]:
    return [endpoint(number) for number in numbers]


def of(name: str, *numbers: int, ports: Any = P) -> EndpointSlice:
    return a_slice(name, *some(*numbers), ports=ports)


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        ([], {}, ([], [("", [])], [])),
        ([], {P: some(1, 2, 3, 4)}, ([], [("p", [1, 2, 3]), ("p", [4])], [])),
        ([of("a", 1, 2)], {P: some(2, 1)}, ([("a", "p", [1, 2])], [], [])),
        ([of("a", 1, 2)], {P: some(1, 2, 3)}, ([("a", "p", [1, 2, 3])], [], [])),
        ([of("a", 1, 2)], {P: some(1, 3)}, ([("a", "p", [1, 3])], [], [])),
        ([of("a", 1, 2), of("b", 3)], {P: some(1, 2, 3, 4)}, ([("a", "p", [1, 2, 4]), ("b", "p", [3])], [], [])),
        ([of("a", 1), of("b", 2, 3)], {P: some(1, 2, 3, 4, 5)}, ([("a", "p", [1, 4, 5]), ("b", "p", [2, 3])], [], [])),
        ([of("a", 1, 2), of("b", 3)], {P: some(1, 3, 4, 5)}, ([("a", "p", [1, 4, 5]), ("b", "p", [3])], [], [])),
        ([of("a", 1, 2)], {P: some(1, 2, 3, 4)}, ([("a", "p", [1, 2])], [("p", [3, 4])], [])),
        ([of("a", 1, 2)], {P: some(2, 3, 4, 5)}, ([("a", "p", [2, 3, 4])], [("p", [5])], [])),
        ([of("a", 1), of("b", 2)], {P: some(1)}, ([("a", "p", [1])], [], ["b"])),
        ([of("a", 1)], {Q: some(1)}, ([("a", "q", [1])], [], [])),
        ([of("a", 1), of("b", 2)], {Q: some(1)}, ([("a", "q", [1])], [], ["b"])),
        ([of("a", 1)], {P: some(1), Q: some(2)}, ([("a", "p", [1])], [("q", [2])], [])),
        ([of("a", 1), of("b", 2, ports=())], {}, ([("a", "", [])], [], ["b"])),
        ([of("a", 1), of("b", ports=())], {}, ([("b", "", [])], [], ["a"])),
        ([of("a", ports=())], {}, ([("a", "", [])], [], [])),
        ([of("a", 1, 2, 3, 4)], {P: some(1, 2, 3, 4)}, ([("a", "p", [1, 2, 3])], [("p", [4])], [])),
        ([of("a", 1, 2), of("b", 2, 3)], {P: some(1, 2, 3)}, ([("a", "p", [1, 2]), ("b", "p", [3])], [], [])),
    ],
)  # fmt: skip
def test_slice_4_how_endpoints_are_divided(given, wanted, expected):
    assert laid_out(given, wanted) == expected


def test_slice_4_without_a_placeholder_nothing_is_left():
    assert laid_out([], {}, placeholder=False) == ([], [], [])
    assert laid_out([of("a", 1), of("b", ports=())], {}, placeholder=False) == ([], [], ["a", "b"])


@pytest.mark.parametrize("drawn", cases(60))
def test_slice_4_no_endpoint_is_lost_and_no_slice_is_too_large(drawn):
    held = [drawn.sample(range(8), drawn.randint(0, 3)) for _ in range(drawn.randint(0, 3))]
    wanted = drawn.sample(range(8), drawn.randint(0, 8))
    given = [of(f"s{n}", *numbers) for n, numbers in enumerate(held)]
    kept, created, deleted = laid_out(given, {P: some(*wanted)} if wanted else {})
    numbers = [one for _, _, all_ in kept for one in all_] + [
        one for _, all_ in created for one in all_
    ]
    assert sorted(numbers) == sorted(wanted)
    assert all(len(all_) <= 3 for *_, all_ in (*kept, *created))
    assert len(kept) + len(deleted) == len(given) and (kept or created)


def test_slice_4_the_endpoint_as_it_is_now_stays_in_its_slice():
    unready = endpoint(1, ready=False)
    found = slices.lay_out([of("a", 1)], {P: [unready]}, True)
    assert found.kept[0][2] == (unready,)
    assert slices.identity(endpoint(1)) == ("10.0.0.1", "u1")
    assert slices.identity(Endpoint()) == ("", "")
    other = replace(endpoint(1), target_ref=None)
    assert slices.identity(other) == ("10.0.0.1", "")
    nameless = replace(endpoint(1), target_ref=ObjectReference(kind="Pod"))
    assert slices.identity(nameless) == ("10.0.0.1", "")


def test_slice_9_families_are_divided_apart():
    four, six, old = of("a", 1), a_slice("b", family="IPv6"), a_slice("c", family="FQDN")
    found = slices.lay_out_families([four, six, old], {"IPv4": {P: some(1)}, "IPv6": {}}, True, 2)
    shown = [(one.family, len(one.kept), len(one.created), len(one.deleted)) for one in found]
    assert shown == [("IPv4", 1, 0, 0), ("IPv6", 1, 0, 0), ("FQDN", 0, 0, 1)]
    many = slices.lay_out_families([], {"IPv4": {P: some(1, 2, 3)}}, False, 2)
    assert [len(one.created) for one in many] == [2]
    assert slices.lay_out_families([], {"IPv4": {}}, False) == (slices.Layout("IPv4", (), (), ()),)


def test_slice_4_only_what_differs_is_written():
    template = ObjectMeta(
        namespace="default", labels={NAME: "s", MANAGER: OF_PODS}, generate_name="s-"
    )
    one = of("a", 1)

    def written(
        slice_: EndpointSlice, endpoints: Any, ports: Any = P, metadata: Any = template
    ) -> Any:
        layout = slices.Layout("IPv4", ((slice_, ports, tuple(endpoints)),), (), ())
        return [replace(each, because="") for each in slices.writes([layout], metadata, "s")]

    assert written(one, some(1)) == []
    bare = replace(one, metadata=replace(one.metadata, labels=None))
    assert written(bare, some(1), metadata=replace(template, labels=None)) == []
    body = replace(one, endpoints=tuple(some(1, 2)))
    assert written(one, some(1, 2)) == [
        Request("update", ENDPOINT_SLICES, "default", "a", body=body)
    ]
    assert written(one, (), ())[0].body == replace(one, endpoints=None, ports=None)
    for metadata in (
        replace(template, labels={"a": "b"}),
        replace(template, annotations={"a": "b"}),
    ):
        [request] = written(one, some(1), metadata=metadata)
        found = replace(one.metadata, labels=metadata.labels, annotations=metadata.annotations)
        assert request.body == replace(one, metadata=found)
    layout = slices.Layout("IPv6", (), ((P, tuple(some(1))), ((), ())), (one,))
    found = [replace(each, because="") for each in slices.writes([layout], template, "s")]
    options = DeleteOptions(preconditions=Preconditions(uid="uid-a"))

    def made(endpoints: Any, ports: Any) -> Request:
        new = EndpointSlice(
            metadata=template, address_type="IPv6", endpoints=endpoints, ports=ports
        )
        return Request("create", ENDPOINT_SLICES, "default", "", body=new)

    deletion = Request("delete", ENDPOINT_SLICES, "default", "a", body=options)
    assert found == [deletion, made(tuple(some(1)), P), made(None, None)]


def test_slice_4_only_what_changes_is_written():
    same, other = a_slice("a", endpoint(1)), a_slice("b", endpoint(2))
    kept = ((same, (), (endpoint(1),)), (other, (), (endpoint(3),)), (same, (), (endpoint(1),)))
    layout = slices.Layout("IPv4", kept, (), ())
    template = same.metadata
    [request] = slices.writes([layout], template, "s")
    assert (request.verb, request.name, request.body.endpoints) == ("update", "b", (endpoint(3),))


# --- mirrors


def by_hand(*subsets: EndpointSubset, labels: Any = None, annotations: Any = None) -> Endpoints:
    metadata = ObjectMeta(
        name="s", namespace="default", uid="ue", labels=labels, annotations=annotations
    )
    return Endpoints(metadata=metadata, subsets=subsets or None)


def addresses(*ips: str) -> Any:
    return tuple([EndpointAddress(ip=ip) for ip in ips]) or None


def reconciled(controller: Any, *objects: Any) -> list[Request]:
    return requests_of(
        controller.reconcile(view_of(controller, *objects), "default/s", NOW, Local())
    )


def test_slice_5_a_mirror():
    controller = EndpointSliceMirroringController(endpoints_max=2)
    assert EndpointSliceMirroringController().endpoints_max == 100
    subset = EndpointSubset(
        addresses=addresses("10.0.0.1", "fd00::1"),
        not_ready_addresses=addresses("10.0.0.2"),
        ports=(EndpointPort(name="p", port=1, protocol="TCP"),),
    )
    given = by_hand(
        subset, labels={"own": "x"}, annotations={"a": "b", mirrored.NOT_COPIED[1]: "c"}
    )
    bare = service(selector=None)
    first, second = reconciled(controller, given, bare)
    metadata = ObjectMeta(
        generate_name="s-",
        namespace="default",
        labels={"own": "x", NAME: "s", MANAGER: OF_MIRRORS},
        annotations={"a": "b"},
        owner_references=(owner("Endpoints", "ue"),),
    )
    ports = (SlicePort(name="p", port=1, protocol="TCP"),)

    def shown(ip: str, ready: bool) -> Endpoint:
        return Endpoint(addresses=(ip,), conditions=EndpointConditions(ready=ready))

    four = EndpointSlice(
        metadata=metadata,
        address_type="IPv4",
        endpoints=(shown("10.0.0.1", True), shown("10.0.0.2", False)),
        ports=ports,
    )
    six = EndpointSlice(
        metadata=metadata, address_type="IPv6", endpoints=(shown("fd00::1", True),), ports=ports
    )
    assert first == Request("create", ENDPOINT_SLICES, "default", "", body=four)
    assert second == Request("create", ENDPOINT_SLICES, "default", "", body=six)
    kept = [
        replace(one, metadata=replace(metadata, name=name))
        for one, name in ((four, "a"), (six, "b"))
    ]
    assert reconciled(controller, given, bare, *kept) == []
    for gone in ((bare,), (), (given,), (given, service())):
        made = reconciled(controller, *gone, *kept)
        assert [(one.verb, one.name) for one in made] == [("delete", "a"), ("delete", "b")]
    assert reconciled(controller, bare) == []


def test_slice_5_slice_9_what_a_mirror_shows_of_an_address():
    controller = EndpointSliceMirroringController(endpoints_max=2)
    known = EndpointAddress(ip="10.0.0.1", hostname="h", node_name="n", target_ref=REFERENCE)
    unnamed = EndpointAddress(ip="10.0.0.2", hostname="")
    port = EndpointPort(name="p", port=1, protocol="UDP", app_protocol="x")
    subset = EndpointSubset(addresses=(known, unnamed, *addresses("10.0.0.3")), ports=(port,))
    first, second = reconciled(controller, by_hand(subset), service(selector=None))
    ready = EndpointConditions(ready=True)
    assert first.body.endpoints == (
        Endpoint(
            addresses=("10.0.0.1",),
            conditions=ready,
            hostname="h",
            node_name="n",
            target_ref=REFERENCE,
        ),
        Endpoint(addresses=("10.0.0.2",), conditions=ready),
    )
    assert first.body.ports == (SlicePort(name="p", port=1, protocol="UDP", app_protocol="x"),)
    assert [one.addresses for one in second.body.endpoints] == [("10.0.0.3",)]


@pytest.mark.parametrize(
    ("labels", "annotations", "of_service", "expected"),
    [
        (None, None, service(selector=None), True),
        ({mirrored.SKIP: "true"}, None, service(selector=None), False),
        ({mirrored.SKIP: "false"}, None, service(selector=None), True),
        (None, {endpoints_of.LEADER: ""}, service(selector=None), False),
        (None, None, service(), False),
        (None, None, None, False),
        (None, None, service(selector={}), True),
    ],
)
def test_slice_5_which_endpoints_are_mirrored(labels, annotations, of_service, expected):
    given = by_hand(labels=labels, annotations=annotations)
    assert mirrored.is_mirrored(given, of_service) is expected


def test_slice_5_a_thousand_addresses_of_a_subset_are_mirrored(monkeypatch):
    monkeypatch.setattr(mirrored, "ADDRESSES_MAX", 3)
    ready, others = addresses("10.0.0.1", "10.0.0.2"), addresses("10.0.0.3", "10.0.0.4", "10.0.0.5")
    given = by_hand(
        EndpointSubset(addresses=ready, not_ready_addresses=others),
        EndpointSubset(addresses=addresses("", "10.0.0.9")),
    )
    found = mirrored.compute_endpoints(given)
    assert [one.addresses[0] for one in found["IPv4"][()]] == [
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.3",
        "10.0.0.9",
    ]
    assert [one.conditions.ready for one in found["IPv4"][()]] == [True, True, False, True]


# --- the older Endpoints


CONTROLLER = EndpointsController()
OURS = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}


def test_ep_5_endpoints_of_a_service():
    pods = [
        backend("b", "10.0.0.2"),
        backend("a", "10.0.0.1", ready=False),
        backend("c", "10.0.0.1"),
    ]
    given = service(
        ServicePort(name="h", port=80, target_port=8080, app_protocol="x"), labels={"own": "x"}
    )

    def address(one: Any) -> EndpointAddress:
        reference = ObjectReference(
            kind="Pod", namespace="default", name=one.metadata.name, uid=one.metadata.uid
        )
        return EndpointAddress(ip=one.status.pod_ip, node_name="n", target_ref=reference)

    b, a, c = pods
    subset = EndpointSubset(
        addresses=(address(c), address(b)),
        not_ready_addresses=(address(a),),
        ports=(EndpointPort(name="h", port=8080, protocol="TCP", app_protocol="x"),),
    )
    metadata = ObjectMeta(name="s", namespace="default", labels={"own": "x", **OURS})
    wanted = Endpoints(metadata=metadata, subsets=(subset,))
    [request] = reconciled(CONTROLLER, given, *pods)
    assert request == Request("create", ENDPOINTS, "default", "s", body=wanted)
    assert reconciled(CONTROLLER, given, *pods, wanted) == []
    over = {plain.OVER_CAPACITY: "truncated", "a": "b"}
    stale = replace(wanted, metadata=replace(metadata, annotations=over, uid="ue"))
    [request] = reconciled(CONTROLLER, given, *pods, stale)
    body = replace(stale, metadata=replace(stale.metadata, annotations={"a": "b"}))
    assert request == Request("update", ENDPOINTS, "default", "s", body=body)
    assert reconciled(CONTROLLER, given, *pods, body) == []
    for wrong in (
        replace(wanted, subsets=None),
        replace(wanted, metadata=replace(metadata, labels=None)),
    ):
        [request] = reconciled(CONTROLLER, given, *pods, wrong)
        assert (request.verb, request.body) == ("update", wanted)
    empty = replace(wanted, subsets=None)
    assert reconciled(CONTROLLER, given, empty) == []
    [request] = reconciled(CONTROLLER, given)
    assert request.body == empty
    headless = change(given, cluster_ip="None", labels={HEADLESS: "stale"})
    [request] = reconciled(CONTROLLER, headless)
    assert request.body.metadata.labels == {**OURS, HEADLESS: ""}
    [request] = reconciled(CONTROLLER, change(given, labels={HEADLESS: "stale"}))
    assert request.body.metadata.labels == OURS


def test_ep_4_ep_5_one_address():
    one = backend("a", "10.0.0.1", hostname="h", subdomain="s")
    full = EndpointAddress(ip="10.0.0.1", hostname="h", node_name="n", target_ref=REFERENCE)
    assert plain.compute_address(service(), one, "10.0.0.1") == full
    lost = plain.compute_address(service(), backend("a", "10.0.0.1", on=""), "10.0.0.1")
    assert (lost.node_name, lost.hostname) == (None, None)
    [subset], _ = plain.compute_subsets(view_of(CONTROLLER, one), service())
    assert subset.addresses == (full,)
    with_uid = [replace(full, target_ref=replace(REFERENCE, uid=uid)) for uid in ("2", "1", None)]
    earlier = replace(full, ip="10.0.0.0")
    bare = replace(full, target_ref=None)
    found = plain._sorted([*with_uid, earlier, bare])
    assert found == (earlier, with_uid[2], bare, with_uid[1], with_uid[0])
    assert plain._sorted([bare, with_uid[1]]) == (bare, with_uid[1]) and plain._sorted([]) is None
    ports = [EndpointPort(port=1, protocol=each) for each in ("UDP", "TCP", None)]
    assert sorted(ports, key=plain._order) == [ports[2], ports[1], ports[0]]


def test_ep_7_endpoints_without_a_service():
    options = DeleteOptions(preconditions=Preconditions(uid="ue"))
    [request] = reconciled(CONTROLLER, by_hand())
    assert request == Request("delete", ENDPOINTS, "default", "s", body=options)
    assert reconciled(CONTROLLER) == []
    for given in (service(selector=None), service(type="ExternalName")):
        assert reconciled(CONTROLLER, given, by_hand()) == []


def test_ep_6_more_addresses_than_fit(monkeypatch):
    monkeypatch.setattr(plain, "ADDRESSES_MAX", 2)
    given = service(HTTP)
    pods = [
        backend("a", "10.0.0.1", ready=False),
        *[backend(f"b{n}", f"10.0.0.{n}") for n in (2, 3)],
    ]
    [request] = reconciled(CONTROLLER, given, *pods)
    assert request.body.metadata.annotations == {plain.OVER_CAPACITY: "truncated"}
    [subset] = request.body.subsets
    assert ([one.ip for one in subset.addresses], subset.not_ready_addresses) == (
        ["10.0.0.2", "10.0.0.3"],
        None,
    )
    [request] = reconciled(CONTROLLER, given, *pods[:2])
    assert request.body.metadata.annotations is None

    def kept(*counts: tuple[int, int]) -> Any:
        subsets = [
            EndpointSubset(
                addresses=addresses(*[f"10.{n}.0.{i}" for i in range(ready)]),
                not_ready_addresses=addresses(*[f"10.{n}.1.{i}" for i in range(others)]),
            )
            for n, (ready, others) in enumerate(counts)
        ]
        found, is_over = plain._truncated(subsets)
        shown = [
            (
                one.addresses and tuple(a.ip for a in one.addresses),
                one.not_ready_addresses and tuple(a.ip for a in one.not_ready_addresses),
            )
            for one in found
        ]
        return shown, is_over

    assert kept((1, 1)) == ([(("10.0.0.0",), ("10.0.1.0",))], False)
    assert kept((0, 1), (1, 1)) == ([(None, ("10.0.1.0",)), (("10.1.0.0",), None)], True)
    assert kept((1, 1), (1, 1)) == ([(("10.0.0.0",), None), (("10.1.0.0",), None)], True)
    assert kept((0, 3)) == ([(None, ("10.0.1.0", "10.0.1.1"))], True)
    assert kept((3, 0), (0, 1)) == ([(("10.0.0.0", "10.0.0.1"), None)], True)


def test_ep_3_ports_and_pods_stand_together():
    def of_pod(name: str, number: int) -> Any:
        ports = (ContainerPort(name="w", container_port=number),)
        return backend(
            name, f"10.0.0.{ord(name) - 96}", containers=(Container(name="c", ports=ports),)
        )

    given = service(
        ServicePort(name="z", port=1, target_port="w"),
        ServicePort(name="y", port=2),
        ServicePort(name="x", port=3),
        ServicePort(name="x", port=3, protocol="UDP"),
    )
    view = view_of(CONTROLLER, of_pod("a", 7), of_pod("b", 8))
    found, over = plain.compute_subsets(view, given)
    shown = [
        ([one.ip for one in each.addresses], [(p.name, p.port, p.protocol) for p in each.ports])
        for each in found
    ]
    assert not over and shown == [
        (["10.0.0.1", "10.0.0.2"], [("x", 3, "TCP"), ("x", 3, "UDP"), ("y", 2, "TCP")]),
        (["10.0.0.1"], [("z", 7, "TCP")]),
        (["10.0.0.2"], [("z", 8, "TCP")]),
    ]
    bare, _ = plain.compute_subsets(view, service())
    assert [(len(one.addresses), one.ports) for one in bare] == [(2, None)]
    nowhere = service(ServicePort(name="z", port=1, target_port="odd"))
    assert plain.compute_subsets(view, nowhere) == ((), False)


@pytest.mark.parametrize("publish", [None, True])
def test_ep_5_pods_that_terminate(publish):
    going = backend("a", "10.0.0.1", deletion_timestamp=ago(1))
    unready = backend("b", "10.0.0.2", ready=False)
    lost = pod("c")
    given = service(publish_not_ready_addresses=publish)
    [subset], _ = plain.compute_subsets(view_of(CONTROLLER, going, unready, lost), given)
    ready = [one.ip for one in subset.addresses or ()]
    others = [one.ip for one in subset.not_ready_addresses or ()]
    assert (ready, others) == ((["10.0.0.1", "10.0.0.2"], []) if publish else ([], ["10.0.0.2"]))
    six = change(given, ip_families=("IPv6", "IPv4"))
    assert plain.compute_subsets(view_of(CONTROLLER, unready), six) == ((), False)


def test_ep_7_leftovers_are_looked_up():
    def searched(*objects: Any, memory: Any = None) -> Plan:
        view = view_of(CONTROLLER, *objects)
        return CONTROLLER.reconcile(view, plain.LEFTOVERS, NOW, Local(memory))

    lock = replace(
        by_hand(annotations={endpoints_of.LEADER: ""}),
        metadata=ObjectMeta(name="l", namespace="default", annotations={endpoints_of.LEADER: ""}),
    )
    other = replace(by_hand(), metadata=ObjectMeta(name="a", namespace="other"))
    plan = searched(by_hand(), lock, other)
    assert [replace(one, because="") for one in plan.queries] == [
        Request("get", SERVICES, "default", "s"),
        Request("get", SERVICES, "other", "a"),
    ]
    assert all(one.because for one in plan.queries)
    assert (plan.memory, plan.wake_at, plan.waves) == (
        frozenset(["default/s", "other/a"]),
        NOW + SECOND,
        (),
    )
    known = searched(by_hand(), other, memory=frozenset(["default/s", "gone/x"]))
    assert [one.name for one in known.queries] == ["s"]
    done = searched(by_hand(), service())
    assert (done.queries, done.memory, done.wake_at) == ((), frozenset(), None)
    assert CONTROLLER.start_memory(NOW) is None and CONTROLLER.initial_keys == ("",)
    memory = frozenset(["default/s", "other/a"])
    request = Request("get", SERVICES, "default", "s")
    for code, left, keys in ((None, 2, ()), (500, 2, ()), (200, 1, ()), (404, 1, ("default/s",))):
        response = None if code is None else Response(code, None)
        after, due = CONTROLLER.answered(memory, "", request, response, NOW)
        assert (len(after), tuple(due)) == (left, keys) and "other/a" in after


def test_ep_7_what_makes_endpoints_due():
    keys = interest(CONTROLLER, ENDPOINTS)
    ours = by_hand(labels=OURS)
    none, there = view_of(CONTROLLER), view_of(CONTROLLER, service())
    for view, old, new, is_due in (
        (none, None, ours, True), (none, ours, None, False), (none, None, by_hand(), False),
        (there, None, by_hand(), True), (there, by_hand(), None, True), (there, ours, ours, True),
        (none, None, by_hand(labels={"endpoints.kubernetes.io/managed-by": "other"}), False),
    ):  # fmt: skip
        assert keys(view, old, new) == (("default/s",) if is_due else ())


# --- which pods and ports


def test_ep_1_which_services_have_endpoints_of_ours():
    assert endpoints_of.has_selector(service()) and not endpoints_of.has_selector(
        service(selector={})
    )
    assert not endpoints_of.has_selector(service(type="ExternalName"))
    assert endpoints_of.is_headless(service(cluster_ip="None")) and not endpoints_of.is_headless(
        service()
    )
    assert endpoints_of.families_of(service(ip_families=("IPv6",))) == ("IPv6",)
    assert endpoints_of.families_of(service(cluster_ip="fd00::1")) == ("IPv6",)
    assert (
        endpoints_of.families_of(service())
        == endpoints_of.families_of(service(cluster_ip=None))
        == ("IPv4",)
    )


def test_ep_1_the_selected_pods():
    given = service(selector={"app": "web", "x": "y"})
    labels = {"app": "web", "x": "y"}
    pods = [
        pod("b", labels=labels),
        pod("a", labels={**labels, "more": "z"}),
        pod("c"),
        pod("d", labels={"x": "y"}),
        pod("e", labels=labels, namespace="other"),
        pod("f", labels=None),
    ]
    view = view_of(CONTROLLER, *pods)
    assert [one.metadata.name for one in endpoints_of.selected_pods(view, given)] == ["a", "b"]


@pytest.mark.parametrize(
    ("part", "is_due"),
    [
        ({}, False), ({"annotations": {"a": "b"}}, False), ({"start_time": ago(3)}, False),
        ({"phase": "Running"}, False), ({"uid": "x"}, True), ({"deletion_timestamp": ago(1)}, True),
        ({"pod_ip": "10.0.0.5"}, True), ({"pod_ips": (PodIP(ip="10.0.0.5"),)}, True), ({"phase": "Failed"}, True),
        ({"hostname": "h"}, True), ({"conditions": READY}, True), ({"labels": {"app": "web", "x": "y"}}, True),
    ],
)  # fmt: skip
def test_ep_5_which_changes_of_a_pod_count(part, is_due):
    view = view_of(CONTROLLER, service())
    found = endpoints_of.services_of_pod(view, pod("p"), change(pod("p"), **part))
    assert found == (["default/s"] if is_due else [])


def test_ep_5_the_services_of_a_pod_before_and_after():
    def one(name: str, selector: Any, **more: Any) -> Service:
        return change(service(selector=selector, **more), name=name)

    services = [
        one("web", {"app": "web"}),
        one("db", {"app": "db"}),
        one("none", None),
        one("name", {"app": "web"}, type="ExternalName"),
    ]
    view = view_of(CONTROLLER, *services)
    web, db = pod("p"), pod("p", labels={"app": "db"})
    assert endpoints_of.services_of_pod(view, None, web) == ["default/web"]
    assert endpoints_of.services_of_pod(view, web, None) == ["default/web"]
    assert endpoints_of.services_of_pod(view, db, web) == ["default/db", "default/web"]
    assert endpoints_of.services_of_pod(view, None, pod("p", labels=None)) == []
    assert endpoints_of.services_of_pod(view, None, pod("p", namespace="other")) == []
    assert endpoints_of._has_same_labels(web, web) and not endpoints_of._has_same_labels(web, db)
    assert not endpoints_of._has_same_labels(web, None) and not endpoints_of._has_same_labels(
        None, web
    )
    assert not endpoints_of._has_same_labels(web, pod("p", namespace="other"))


@pytest.mark.parametrize(
    ("target", "protocol", "expected"),
    [
        (None, None, 80), (0, None, 80), ("", None, 80), (8080, None, 8080), ("w", None, 1), ("w", "TCP", 1),
        ("w", "UDP", 2), ("u", "UDP", 3), ("u", None, None), ("x", None, None),
    ],
)  # fmt: skip
def test_ep_3_the_number_of_a_target_port(target, protocol, expected):
    ports = (
        ContainerPort(name="w", container_port=1),
        ContainerPort(name="w", container_port=2, protocol="UDP"),
        ContainerPort(name="u", container_port=3, protocol="UDP"),
    )
    one = pod("p", containers=(Container(name="c", ports=ports),))
    port = ServicePort(port=80, target_port=target, protocol=protocol)
    assert endpoints_of.target_port(one, port) == expected


def test_ep_2_ep_4_the_address_and_the_hostname_of_a_pod():
    both = pod("p", pod_ips=(PodIP(ip="10.0.0.1"), PodIP(ip="fd00::1")), pod_ip="10.0.0.1")
    assert endpoints_of.address_of(both, "IPv4") == "10.0.0.1"
    assert endpoints_of.address_of(both, "IPv6") == "fd00::1"
    assert endpoints_of.address_of(change(both, phase="Failed"), "IPv4") is None
    assert endpoints_of.address_of(pod("p"), "IPv4") is None
    for host, subdomain, expected in (
        ("h", "s", "h"),
        ("h", "t", None),
        ("h", None, None),
        (None, "s", None),
        ("", "s", None),
    ):
        one = pod("p", hostname=host, subdomain=subdomain)
        assert endpoints_of.hostname_of(one, service()) == expected
