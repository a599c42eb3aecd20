"""Endpoint slices (spec/workloads/endpoints.md), in closed loops with faults and as a layout
alone."""

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from service_world import (
    MAX,
    OF_ENDPOINTS,
    OF_PODS,
    act,
    attempt,
    crowded,
    deeds,
    delete,
    expected_endpoints,
    hinted,
    kept,
    live,
    make_node,
    make_pod,
    make_service,
    merge,
    report,
    settle,
    slices_of,
    told_endpoints,
    world,
    write_by_hand,
)
from workload_helpers import get, nothing_wrong, stored

from refk8s.core.api.core_v1 import (
    Node,
    ObjectReference,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    Service,
    ServiceSpec,
)
from refk8s.core.api.discovery_v1 import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from refk8s.core.api.families import IPV4
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import ENDPOINT_SLICES, ENDPOINTS, PODS, SERVICES
from refk8s.core.api.user import ADMIN
from refk8s.core.controllers.endpoint_slice import EndpointSliceController, compute_endpoint
from refk8s.core.controllers.endpoint_slice_mirroring import EndpointSliceMirroringController
from refk8s.core.controllers.endpoints import EndpointsController
from refk8s.core.controllers.garbage_collector import GarbageCollector
from refk8s.core.controllers.slices import lay_out_families
from refk8s.core.value import evolve

HEADLESS = "service.kubernetes.io/headless"


@given(deeds)
def test_slice_1_slice_2_slice_3_slice_6_slices_together_equal_the_selected_pods_whatever_happened(
    drawn,
):
    cluster = settle(live(crowded(5), drawn))
    for service in kept(cluster):
        slices = slices_of(cluster, service.metadata.name, OF_PODS)
        assert told_endpoints(slices) == expected_endpoints(cluster, service)
        assert all(slice.endpoints for slice in slices) or len(slices) == 1, (
            "SLICE-4: an empty slice beside others"
        )
        assert slices, "SLICE-4: a service has at least one slice"
        for slice in slices:  # SLICE-7
            labels = dict(slice.metadata.labels)
            assert (labels.pop(HEADLESS, None) is not None) == (service.spec.cluster_ip == "None")
            del (
                labels["kubernetes.io/service-name"],
                labels["endpointslice.kubernetes.io/managed-by"],
            )
            assert labels == (service.metadata.labels or {})


@given(deeds)
def test_slice_5_slice_7_endpoints_by_hand_are_mirrored_and_only_they(drawn):
    cluster = settle(
        live(make_service(crowded(2), "s1", "by hand", "web", (80,), False, None), drawn)
    )
    services = {service.metadata.name: service for service in stored(cluster, SERVICES)}
    for name in ("s0", "s1", "s2"):
        service, endpoints, found = (
            services.get(name),
            get(cluster, ENDPOINTS, name),
            slices_of(cluster, name, OF_ENDPOINTS),
        )
        expected: Counter = Counter()
        mine = service is not None and not service.spec.selector and endpoints is not None
        labels = (endpoints.metadata.labels or {}) if mine else {}
        annotations = (endpoints.metadata.annotations or {}) if mine else {}
        is_election = "control-plane.alpha.kubernetes.io/leader" in annotations
        skipped = labels.get("endpointslice.kubernetes.io/skip-mirror") == "true" or is_election
        if mine and not skipped:
            for subset in endpoints.subsets or ():
                ports = frozenset((port.name or "", port.port) for port in subset.ports or ())
                for ready, addresses in (
                    (True, subset.addresses),
                    (False, subset.not_ready_addresses),
                ):
                    for a in addresses or ():
                        uid = a.target_ref.uid if a.target_ref is not None else None
                        expected[
                            (
                                a.ip,
                                uid,
                                ports,
                                (ready, None, None),
                                (a.node_name, None, (None, None)),
                                a.hostname,
                            )
                        ] += 1
        assert told_endpoints(found) == expected
        for slice in found:
            assert slice.endpoints and len(slice.endpoints) <= MAX
            assert {**slice.metadata.labels} == {
                **labels, "kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": OF_ENDPOINTS
            }  # fmt: skip
            assert (slice.metadata.annotations or {}) == annotations
            assert slice.metadata.owner_references[0].kind == "Endpoints"


SMALL = ["ready", "unready", "finish", "die", "vanish", "relabel"]


@given(
    deeds,
    st.lists(
        st.tuples(st.sampled_from([*SMALL, "pod"]), st.integers(0, 99)), min_size=1, max_size=6
    ),
)
def test_slice_4_one_change_of_one_pod_changes_one_slice_at_most(drawn, changes):
    cluster = settle(live(crowded(8), drawn))
    for kind, which in changes:
        before = {s.metadata.uid: s for s in stored(cluster, ENDPOINT_SLICES)}
        if kind == "pod":
            cluster = make_pod(cluster, 10 + which, "web", 8080, False, False, "n0", "", ready=True)
        else:
            cluster = act(cluster, (kind, which, None))
        cluster = settle(cluster)
        after = {s.metadata.uid: s for s in stored(cluster, ENDPOINT_SLICES)}
        touched = Counter(
            (before.get(uid) or after[uid]).metadata.labels["kubernetes.io/service-name"]
            for uid in sorted({*before, *after})
            if before.get(uid) != after.get(uid)
        )
        assert not touched or max(touched.values()) == 1, (
            f"{kind} of one pod touched {dict(touched)}"
        )


def test_slice_4_sometimes_a_change_is_needed_and_the_empty_slice_is_filled():
    cluster = settle(make_service(world(), "s0", "plain", "web", (80,), False, None))
    [empty] = slices_of(cluster, "s0", OF_PODS)
    assert not empty.endpoints and not empty.ports
    cluster = settle(make_pod(cluster, 0, "web", None, False, False, "n0", "", ready=True))
    [filled] = slices_of(cluster, "s0", OF_PODS)
    assert filled.metadata.uid == empty.metadata.uid and len(filled.endpoints) == 1 and filled.ports
    cluster = settle(delete(cluster, PODS, "p0", grace_period_seconds=0))
    [again] = slices_of(cluster, "s0", OF_PODS)
    assert again.metadata.uid == empty.metadata.uid and not again.endpoints and not again.ports


def test_slice_2_a_hundred_in_a_slice_and_the_hundred_and_first_opens_another():
    cluster = make_service(
        world(EndpointSliceController()), "s0", "plain", "web", (80,), False, None
    )
    for number in range(100):
        cluster = make_pod(cluster, number, "web", None, False, False, "n0", "", ready=True)
    cluster = settle(cluster, nothing_wrong)
    assert [len(s.endpoints) for s in slices_of(cluster, "s0", OF_PODS)] == [100]
    cluster = settle(
        make_pod(cluster, 100, "web", None, False, False, "n0", "", ready=True), nothing_wrong
    )
    assert sorted(len(s.endpoints) for s in slices_of(cluster, "s0", OF_PODS)) == [1, 100]


@pytest.mark.parametrize("publish", [False, True])
def test_slice_3_a_pod_in_its_grace_period_still_serves_and_is_not_ready(publish):
    cluster = make_service(world(), "s0", "plain", "web", (80,), publish, None)
    cluster = settle(
        delete(make_pod(cluster, 0, "web", None, False, False, "n0", "", ready=True), PODS, "p0")
    )
    [slice] = slices_of(cluster, "s0", OF_PODS)
    [endpoint] = slice.endpoints
    assert endpoint.conditions == EndpointConditions(ready=publish, serving=True, terminating=True)
    [unready] = slices_of(settle(report(cluster, 0, False)), "s0", OF_PODS)[0].endpoints
    assert unready.conditions == EndpointConditions(ready=publish, serving=False, terminating=True)


@pytest.mark.parametrize("publish", [False, True])
def test_slice_6_an_endpoint_goes_with_its_node_and_follows_its_zone(publish):
    cluster = make_service(world(), "s0", "plain", "web", (80,), publish, None)
    cluster = settle(make_pod(cluster, 0, "web", None, False, False, "n0", "", ready=True))
    zone = lambda c: [e.zone for s in slices_of(c, "s0", OF_PODS) for e in s.endpoints or ()]  # noqa: E731
    assert zone(cluster) == ["a"]
    assert zone(settle(act(cluster, ("zone", 2, None)))) == ["b"]
    gone = settle(act(cluster, ("node goes", 0, None)))
    assert zone(gone) == ([None] if publish else [])
    assert zone(settle(make_node(gone, "n0", "c"))) == ["c"]


def test_slice_7_slices_of_others_are_left_alone_and_ours_go_with_their_service():
    others = EndpointSlice(
        metadata=ObjectMeta(name="mine", labels={"kubernetes.io/service-name": "s0", "endpointslice.kubernetes.io/managed-by": "me"}),
        address_type="IPv4", endpoints=(Endpoint(addresses=("10.1.1.1",)),),
    )  # fmt: skip
    reconcilers = (
        EndpointsController(),
        EndpointSliceController(MAX),
        EndpointSliceMirroringController(MAX),
        GarbageCollector(),
    )
    cluster = attempt(
        world(*reconcilers), Request("create", ENDPOINT_SLICES, "default", body=others, user=ADMIN)
    )
    cluster = make_service(cluster, "s0", "plain", "web", (80,), False, None)
    cluster = make_service(cluster, "s1", "by hand", "web", (80,), False, None)
    cluster = settle(
        write_by_hand(
            make_pod(cluster, 0, "web", None, False, False, "n0", "", ready=True), "s1", 1
        )
    )
    assert slices_of(cluster, "s0", OF_PODS) and slices_of(cluster, "s1", OF_ENDPOINTS)
    first = get(cluster, SERVICES, "s0")
    cluster = delete(delete(cluster, SERVICES, "s0"), SERVICES, "s1")
    cluster = settle(make_service(cluster, "s0", "plain", "web", (80,), False, None))
    [ours] = slices_of(cluster, "s0", OF_PODS)
    assert (
        ours.metadata.owner_references[0].uid
        == get(cluster, SERVICES, "s0").metadata.uid
        != first.metadata.uid
    )
    cluster = settle(delete(cluster, SERVICES, "s0"))
    assert [slice.metadata.name for slice in stored(cluster, ENDPOINT_SLICES)] == ["mine"]


@pytest.mark.parametrize(
    ("variant", "mirrored"), [(1, True), (7, False), (8, True), (9, False), (10, True)]
)
def test_slice_5_a_label_or_an_election_keeps_endpoints_from_being_mirrored(variant, mirrored):
    cluster = make_service(world(), "s1", "by hand", "web", (80,), False, None)
    cluster = settle(write_by_hand(cluster, "s1", variant))
    assert bool(slices_of(cluster, "s1", OF_ENDPOINTS)) == mirrored
    assert not slices_of(settle(write_by_hand(cluster, "s1", 7)), "s1", OF_ENDPOINTS)
    assert not slices_of(settle(delete(cluster, ENDPOINTS, "s1")), "s1", OF_ENDPOINTS)


def test_slice_5_taking_the_selector_away_leaves_the_slices_of_pods_and_giving_it_back_takes_the_mirror():
    cluster = settle(crowded(2))
    slices = slices_of(cluster, "s0", OF_PODS)
    cluster = settle(merge(cluster, SERVICES, "s0", {"spec": {"selector": None}}))
    assert slices_of(cluster, "s0", OF_PODS) == slices  # EP-1
    assert len(slices_of(cluster, "s0", OF_ENDPOINTS)) == 1
    cluster = settle(merge(cluster, SERVICES, "s0", {"spec": {"selector": {"app": "web"}}}))
    assert (
        slices_of(cluster, "s0", OF_ENDPOINTS) == [] and slices_of(cluster, "s0", OF_PODS) == slices
    )


def test_slice_5_a_mirror_that_somebody_else_deletes_or_changes_is_put_right():
    cluster = make_service(world(), "s1", "by hand", "web", (80,), False, None)
    cluster = settle(write_by_hand(cluster, "s1", 1))
    before = told_endpoints(slices_of(cluster, "s1", OF_ENDPOINTS))
    assert before
    for one in slices_of(cluster, "s1", OF_ENDPOINTS):
        cluster = settle(delete(cluster, ENDPOINT_SLICES, one.metadata.name))
        assert told_endpoints(slices_of(cluster, "s1", OF_ENDPOINTS)) == before
    for one in slices_of(cluster, "s1", OF_ENDPOINTS):
        cluster = settle(merge(cluster, ENDPOINT_SLICES, one.metadata.name, {"endpoints": []}))
        assert told_endpoints(slices_of(cluster, "s1", OF_ENDPOINTS)) == before


def _endpoint(number: int, ready: bool = True) -> Endpoint:
    return Endpoint(
        addresses=(f"10.0.0.{number}",),
        conditions=EndpointConditions(ready=ready),
        target_ref=ObjectReference(kind="Pod", uid=f"u{number}"),
    )


PORTS = [
    (),
    (EndpointPort(name="http", port=80, protocol="TCP"),),
    (EndpointPort(name="http", port=81, protocol="TCP"),),
]
layouts = st.lists(
    st.tuples(
        st.sampled_from(PORTS),
        st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=5),
        st.sampled_from(["IPv4"] * 5 + ["IPv6"]),
    ),
    max_size=6,
)
wishes = st.dictionaries(
    st.integers(1, 20), st.tuples(st.sampled_from(PORTS), st.booleans()), max_size=20
)


@given(layouts, wishes, st.booleans())
# an overfull slice
@example(
    [(PORTS[1], [(n, True) for n in range(1, 6)], "IPv4")],
    dict.fromkeys(range(1, 6), (PORTS[1], True)),
    True,
)
# none has room for all
@example(
    [(PORTS[1], [(n, True)], "IPv4") for n in (1, 2)],
    dict.fromkeys(range(1, 6), (PORTS[1], True)),
    True,
)
def test_slice_1_slice_2_slice_4_a_layout_holds_what_is_wanted_and_moves_nothing(
    layout, wish, placeholder
):
    slices = [
        EndpointSlice(
            metadata=ObjectMeta(name=f"s{n}"),
            address_type=kind,
            ports=ports or None,
            endpoints=tuple(_endpoint(*e) for e in held) or None,
        )
        for n, (ports, held, kind) in enumerate(layout)
    ]
    wanted: dict = {}
    for number, (ports, ready) in wish.items():
        wanted.setdefault(ports, []).append(_endpoint(number, ready))
    result, *others = lay_out_families(slices, {IPV4: wanted}, placeholder, MAX)
    assert all(not other.kept and not other.created for other in others)
    result = evolve(result, deleted=sum((each.deleted for each in others), result.deleted))
    final = [(ports, endpoints) for _, ports, endpoints in result.kept] + list(result.created)
    held = Counter(
        (ports, endpoint.addresses[0], endpoint.conditions.ready)
        for ports, endpoints in final
        for endpoint in endpoints
    )
    assert held == Counter((ports, f"10.0.0.{n}", ready) for n, (ports, ready) in wish.items())
    assert all(len(endpoints) <= MAX for _, endpoints in final)
    assert {s.metadata.name for s, _, _ in result.kept}.isdisjoint(
        s.metadata.name for s in result.deleted
    )
    assert len(result.kept) + len(result.deleted) == len(slices)
    assert all(s.address_type == "IPv4" for s, _, _ in result.kept)
    assert not result.created or not any(s.address_type == "IPv4" for s in result.deleted)
    assert all(endpoints for _, endpoints in final) or (
        placeholder and not wish and len(final) == 1
    )
    assert final or not placeholder
    for ports in PORTS:
        same_ports = [
            (s.endpoints, endpoints)
            for s, at, endpoints in result.kept
            if at == ports == tuple(s.ports or ()) and s.endpoints
        ]
        only_grown = [
            old
            for old, endpoints in same_ports
            if endpoints != old and endpoints[: len(old)] == old
        ]
        assert len(only_grown) <= 1, (
            "SLICE-4: slices were written only to take in new endpoints, "
            "where one or a new slice would have done"
        )
    stay = {
        (s.metadata.name, e.addresses[0])
        for s, ports, endpoints in result.kept
        for e in endpoints
        if tuple(s.ports or ()) == ports
    }
    for slice in slices:
        if slice.address_type == "IPv4" and len(slice.endpoints or ()) <= MAX:
            for endpoint in slice.endpoints or ():
                number = int(endpoint.addresses[0].rpartition(".")[2])
                twins = [s for s in slices if s.ports == slice.ports]
                elsewhere = sum(
                    endpoint.addresses[0] in {e.addresses[0] for e in s.endpoints or ()}
                    for s in twins
                )
                once = sum(e.addresses == endpoint.addresses for e in slice.endpoints or ()) == 1
                if (
                    number in wish
                    and wish[number][0] == tuple(slice.ports or ())
                    and elsewhere == 1
                    and once
                ):
                    assert (slice.metadata.name, endpoint.addresses[0]) in stay, (
                        "SLICE-4: an endpoint moved to another slice"
                    )


@given(
    st.sampled_from([None, "PreferClose", "PreferSameZone", "PreferSameNode"]),
    st.sampled_from(["", "z1"]),
    st.booleans(),
    st.booleans(),
)
def test_slice_8_a_ready_endpoint_has_hints_for_its_zone_and_node(distribution, zone, ready, going):
    spec = ServiceSpec(selector={"app": "web"}, traffic_distribution=distribution)
    service = Service(metadata=ObjectMeta(name="web", namespace="ns"), spec=spec)
    conditions = (PodCondition(type="Ready", status="True" if ready else "False"),)
    pod = Pod(
        metadata=ObjectMeta(
            name="p", namespace="ns", deletion_timestamp="2026-01-01T00:00:00Z" if going else None
        ),
        spec=PodSpec(node_name="n1"),
        status=PodStatus(conditions=conditions),
    )
    node = Node(metadata=ObjectMeta(name="n1", labels={"topology.kubernetes.io/zone": zone}))
    endpoint = compute_endpoint(service, pod, "10.0.0.1", node)
    assert hinted(endpoint) == (
        (zone or None) if distribution and ready and not going else None,
        "n1" if distribution == "PreferSameNode" and ready and not going else None,
    )
