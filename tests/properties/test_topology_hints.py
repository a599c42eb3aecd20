"""Topology aware hints (spec/workloads/endpoints.md, SLICE-10): endpoints for each zone in
proportion to its CPUs."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from workload_helpers import NOW, view_of

from refk8s.core.api.core_v1 import (
    Node,
    NodeCondition,
    NodeStatus,
    Pod,
    PodCondition,
    PodIP,
    PodSpec,
    PodStatus,
    Service,
    ServicePort,
    ServiceSpec,
)
from refk8s.core.api.discovery_v1 import EndpointSlice
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.controllers.endpoint_slice import CONTROLLER, EndpointSliceController
from refk8s.core.controllers.slices import MANAGED_BY, SERVICE_NAME
from refk8s.core.controllers.topology_hints import node_facts
from refk8s.core.loop.plan import Local

ZONE, MODE = "topology.kubernetes.io/zone", "service.kubernetes.io/topology-mode"
CONTROLLER_OF_SLICES = EndpointSliceController(endpoints_max=4)


def a_node(zone, cpu="1", ready="True", **labels):
    name = f"n-{zone}"
    labels = {key.replace("__", "/"): value for key, value in labels.items()}
    metadata = ObjectMeta(name=name, labels={**({ZONE: zone} if zone else {}), **labels})
    status = NodeStatus(
        conditions=(NodeCondition(type="Ready", status=ready),),
        allocatable={"cpu": cpu} if cpu else None,
    )
    return Node(metadata=metadata, status=status)


def a_pod(number, node, ready=True):
    address = f"10.0.{number // 250}.{number % 250 + 1}"
    metadata = ObjectMeta(
        name=f"p{number:03}", namespace="default", uid=f"u{number}", labels={"a": "b"}
    )
    status = PodStatus(
        phase="Running", pod_ip=address, pod_ips=(PodIP(ip=address),),
        conditions=(PodCondition(type="Ready", status="True" if ready else "False"),),
    )  # fmt: skip
    return Pod(metadata=metadata, spec=PodSpec(containers=(), node_name=node), status=status)


def a_service(mode="Auto", annotation=MODE, **spec):
    annotations = {annotation: mode} if mode else None
    metadata = ObjectMeta(name="s", namespace="default", uid="us", annotations=annotations)
    ports = (ServicePort(port=80, protocol="TCP"),)
    return Service(metadata=metadata, spec=ServiceSpec(selector={"a": "b"}, ports=ports, **spec))


def reconciled(service, nodes, pods, slices=()):
    """The plan, and the slices after it."""
    view = view_of(CONTROLLER_OF_SLICES, service, *nodes, *pods, *slices)
    plan = CONTROLLER_OF_SLICES.reconcile(view, "default/s", NOW, Local())
    found = {each.metadata.name: each for each in slices}
    for number, request in enumerate(plan.requests):
        if request.verb == "delete":
            del found[request.name]
            continue
        name = request.name or f"new{len(slices) + number}"
        found[name] = replace(request.body, metadata=replace(request.body.metadata, name=name))
    return plan, list(found.values())


def hints_of(slices):
    """By address of each ready endpoint: its own zone, and the one for which it is."""
    return {
        each.addresses[0]: (each.zone, each.hints.for_zones[0].name if each.hints else None)
        for slice in slices
        for each in slice.endpoints or ()
        if each.conditions.ready
    }


def counts_of(slices):
    found = {}
    for _, zone in hints_of(slices).values():
        found[zone] = found.get(zone, 0) + 1
    return found


def spread(counts, nodes):
    """As many pods on the node of each zone."""
    by_zone = {node.metadata.labels[ZONE]: node.metadata.name for node in nodes}
    zones = [zone for zone, count in counts.items() for _ in range(count)]
    return [a_pod(number, by_zone[zone]) for number, zone in enumerate(zones)]


worlds = st.lists(st.tuples(st.integers(1, 8), st.integers(0, 7)), min_size=1, max_size=4)


@given(worlds)
def test_slice_10_zones_get_endpoints_in_proportion_or_no_endpoint_has_a_hint(drawn):
    nodes = [a_node(f"z{n}", str(cpus)) for n, (cpus, _) in enumerate(drawn)]
    counts = {f"z{n}": count for n, (_, count) in enumerate(drawn)}
    plan, slices = reconciled(a_service(), nodes, spread(counts, nodes))
    found, total = counts_of(slices), sum(counts.values())
    cpus = {f"z{n}": each for n, (each, _) in enumerate(drawn)}
    share = {zone: each / sum(cpus.values()) * total for zone, each in cpus.items()}
    least = {zone: math.ceil(much * (1 / 1.2)) for zone, much in share.items()}
    if len(cpus) < 2 or len(cpus) > total or sum(least.values()) > total:
        assert set(found) <= {None}
        assert plan.notes[0].reason == "TopologyAwareHintsDisabled"
        return
    assert sum(found.values()) == total and set(found) <= set(cpus)
    assert plan.notes[0].reason == "TopologyAwareHintsEnabled"
    target = {zone: max(share[zone], least[zone]) for zone in cpus}
    off = {zone: found.get(zone, 0) - target[zone] for zone in cpus}
    assert not (max(off.values()) >= 1 and min(off.values()) <= -0.5)
    assert not (max(off.values()) >= 0.5 and min(off.values()) <= -1)
    for zone, much in counts.items():  # no more is moved than needed
        if much > target[zone]:
            assert target[zone] - 0.5 <= found.get(zone, 0) <= much
        else:
            assert much <= found.get(zone, 0) <= target[zone] + 0.5
    again, after = reconciled(a_service(), nodes, spread(counts, nodes), slices)
    assert not again.requests and not again.notes and after == slices, "SLICE-4: no more writes"


def bounds(cpus, total):
    """At least and at most so many endpoints for each zone; None if that is impossible."""
    share = {zone: each / sum(cpus.values()) * total for zone, each in cpus.items()}
    least = {zone: math.ceil(much * (1 / 1.2)) for zone, much in share.items()}
    spare = total - sum(least.values())
    return None if spare < 0 else {zone: (each, each + spare) for zone, each in least.items()}


some_cpus = st.lists(st.integers(1, 3), min_size=2, max_size=3)


@settings(max_examples=200)
@given(some_cpus, st.data())
def test_slice_4_slice_10_slices_keep_their_hints_as_long_as_each_zone_can_get_its_minimum(
    cpus, data
):
    """SLICE-4: pods come and go and nodes change; hints alone change few slices."""
    zones = [f"z{n}" for n in range(len(cpus))]
    at = data.draw(st.lists(st.sampled_from(zones), min_size=9, max_size=16))
    later = [data.draw(st.integers(1, 3)) for _ in cpus]
    gone, come = data.draw(st.integers(0, 3)), data.draw(st.sampled_from(zones))
    slices, pods = [], []
    for each, first, more in ((cpus, 0, ()), (later, gone, (come,))):
        nodes = [a_node(zone, str(much)) for zone, much in zip(zones, each, strict=True)]
        names = {node.metadata.labels[ZONE]: node.metadata.name for node in nodes}
        pods = [a_pod(n, names[zone]) for n, zone in enumerate((*at, *more)) if n >= first]
        before = slices
        _, slices = reconciled(a_service(), nodes, pods, before)
        allowed = bounds(dict(zip(zones, each, strict=True)), len(pods))
        if allowed is None:
            assert set(counts_of(slices)) == {None}
            continue
        assert sum(counts_of(slices).values()) == len(pods) and None not in counts_of(slices)
        kept = [one for one in before if one in slices]
        assert all(count <= allowed[zone][1] for zone, count in counts_of(kept).items())
        same = [one for one in before if one.endpoints and _is_as_it_was(one, pods)]
        if all(count <= allowed[zone][1] for zone, count in counts_of(same).items()):
            assert sum(one not in slices for one in same) <= 1, "one has room for the new pod"
        again, _ = reconciled(a_service(), nodes, pods, slices)
        assert not again.requests


def _is_as_it_was(slice, pods):
    """Whether the endpoints of the slice are the same as before, on the same nodes and with
    hints."""
    there = {pod.metadata.uid: pod.spec.node_name for pod in pods}
    return all(
        there.get(one.target_ref.uid) == one.node_name and one.hints for one in slice.endpoints
    )


def test_slice_10_the_example_of_the_page():
    nodes = [a_node("a"), a_node("b")]
    _, slices = reconciled(a_service(), nodes, spread({"a": 7, "b": 3}, nodes))
    assert counts_of(slices) == {"a": 5, "b": 5}
    assert all(own == target for own, target in hints_of(slices).values() if own == "b")
    assert all(len(slice.endpoints) <= 4 for slice in slices)


def test_slice_10_less_than_half_an_endpoint_is_not_missing():
    nodes = [a_node(zone) for zone in "abcde"]
    even = {"a": 6} | dict.fromkeys("bcde", 4)
    _, slices = reconciled(a_service(), nodes, spread(even, nodes))
    assert counts_of(slices) == even


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (a_node(""), "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"),
        (a_node("b", ""), "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"),
        (a_node("b", "x"), "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"),
        (a_node("b", "9"), "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (2 endpoints, 2 zones)"),
        (a_node("b", ready="False"), "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"),
        (a_node("b", **{"node-role.kubernetes.io__control-plane": ""}), "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"),
    ],
)  # fmt: skip
def test_slice_10_hints_need_zones_and_cpus(node, why):
    nodes = [a_node("a", "1"), node]
    plan, slices = reconciled(a_service(), nodes, [a_pod(n, "n-a") for n in range(2)])
    assert set(counts_of(slices)) == {None}
    assert [one.message for one in plan.notes] == [f"{why}, addressType: IPv4"]
    assert plan.notes[0].type == "Warning"


def test_slice_10_too_few_endpoints_or_one_without_a_zone():
    nodes = [a_node("a"), a_node("b")]
    plan, _ = reconciled(a_service(), nodes, [a_pod(0, "n-a")])
    assert plan.notes[0].message == "Insufficient number of endpoints (1 endpoints, 2 zones), addressType: IPv4"  # fmt: skip
    lost = a_node("", ready="False")
    pods = [
        a_pod(0, "n-a"),
        a_pod(1, "n-b"),
        a_pod(2, lost.metadata.name),
        a_pod(3, "n-a"),
    ]
    plan, slices = reconciled(a_service(), [*nodes, lost], pods)
    assert plan.notes[0].message == "One or more endpoints do not have a zone specified, addressType: IPv4"  # fmt: skip
    assert set(counts_of(slices)) == {None}
    _, slices = reconciled(a_service(), nodes, [*pods[:2], a_pod(2, "n-a", ready=False)])
    assert counts_of(slices) == {"a": 1, "b": 1}


def test_slice_8_slice_10_the_annotation_counts_before_the_field():
    """SLICE-8: without it, or with another value, trafficDistribution counts."""
    nodes = [a_node("a"), a_node("b")]
    pods = spread({"a": 3, "b": 1}, nodes)
    near = {"traffic_distribution": "PreferSameZone"}
    old = "service.kubernetes.io/topology-aware-hints"
    for service, expected in (
        (a_service(**near), {"a": 2, "b": 2}),
        (a_service("auto", old), {"a": 2, "b": 2}),
        (a_service("Disabled", **near), {"a": 3, "b": 1}),
        (a_service(None, **near), {"a": 3, "b": 1}),
        (a_service(None), {None: 4}),
    ):
        _, slices = reconciled(service, nodes, pods)
        assert counts_of(slices) == expected
    _, slices = reconciled(a_service(), nodes, pods)
    _, plain = reconciled(a_service(None), nodes, pods, slices)
    assert counts_of(plain) == {None: 4}, "hints go with the annotation"
    _, again = reconciled(a_service(), nodes, pods, plain)
    assert counts_of(again) == {"a": 2, "b": 2}, "and come with it"


def test_slice_10_nodes_wake_the_services_that_ask_for_hints():
    wakes = next(
        one.keys for one in EndpointSliceController.interests if one.resource.kind == "Node"
    )
    view = view_of(CONTROLLER_OF_SLICES, a_service())
    node = a_node("a")
    for old, new, expected in (
        (None, node, ["default/s"]),
        (node, None, ["default/s"]),
        (node, a_node("a", "2"), ["default/s"]),
        (node, a_node("a", ready="False"), ["default/s"]),
        (node, replace(node, metadata=replace(node.metadata, annotations={"x": "y"})), []),
        (a_node("a", ready="False"), None, []),
    ):
        assert list(wakes(view, old, new)) == expected
    assert not list(wakes(view_of(CONTROLLER_OF_SLICES, a_service(None)), None, node))
    assert node_facts(node) == ("a", 1000)


def test_slice_10_slices_of_others_count_for_nothing():
    nodes = [a_node("a"), a_node("b")]
    labels = {SERVICE_NAME: "s", MANAGED_BY: "somebody"}
    other = EndpointSlice(metadata=ObjectMeta(name="o", namespace="default", labels=labels), address_type="IPv4")  # fmt: skip
    plan, _ = reconciled(a_service(), nodes, spread({"a": 1, "b": 1}, nodes), [other])
    assert [one.verb for one in plan.requests] == ["create"]
    assert plan.requests[0].body.metadata.labels[MANAGED_BY] == CONTROLLER
