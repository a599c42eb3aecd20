"""Endpoints (spec/workloads/endpoints.md), in closed loops with faults."""

from hypothesis import given
from hypothesis import strategies as st
from runs import choices, run
from service_world import (
    OF_PODS,
    chosen,
    crowded,
    deeds,
    delete,
    hostname,
    is_ready,
    kept,
    live,
    make_pod,
    make_service,
    merge,
    never_too_many,
    numbers,
    report,
    services,
    settle,
    slices_of,
    world,
    write_by_hand,
)
from workload_helpers import NO_MEMORY, NOW, get, stored, view_of

from refk8s.core.actions import Crash
from refk8s.core.api.core_v1 import Endpoints, Pod
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Response
from refk8s.core.api.resources import ENDPOINTS, PODS, SERVICES
from refk8s.core.cluster.step import step
from refk8s.core.context import SECOND
from refk8s.core.controllers.endpoint_slice import EndpointSliceController
from refk8s.core.controllers.endpoints import EndpointsController
from refk8s.core.loop.plan import NOTHING, Local


def expected(cluster, service):
    """(port name and number, address, hostname, uid, whether ready) for every port of every pod."""
    publish = bool(service.spec.publish_not_ready_addresses)
    found = set()
    for pod in chosen(cluster, service):
        if pod.metadata.deletion_timestamp is None or publish:
            for port in numbers(service, pod) if service.spec.ports else [None]:
                found.add(
                    (
                        port,
                        pod.status.pod_ip,
                        hostname(service, pod),
                        pod.metadata.uid,
                        publish or is_ready(pod),
                    )
                )
    return found


def told(endpoints):
    found = []
    for subset in endpoints.subsets or ():
        for port in [(p.name, p.port) for p in subset.ports or ()] or [None]:
            for ready, addresses in ((True, subset.addresses), (False, subset.not_ready_addresses)):
                found += [
                    (port, a.ip, a.hostname, a.target_ref.uid, ready) for a in addresses or ()
                ]
    return found


@given(deeds)
def test_ep_2_ep_3_ep_4_ep_5_ep_6_endpoints_equal_the_ready_selected_pods_whatever_happened(drawn):
    """EP-2, EP-3, EP-4, EP-5, EP-6."""
    cluster = settle(live(crowded(3), drawn))
    for service in kept(cluster):
        endpoints = get(cluster, ENDPOINTS, service.metadata.name)
        found = told(endpoints)
        assert sorted(map(str, found)) == sorted(map(str, expected(cluster, service)))
        pairs = [
            (subset.addresses or (), subset.not_ready_addresses or ())
            for subset in endpoints.subsets or ()
        ]
        behind = [
            frozenset(a.target_ref.uid for a in (*ready, *unready)) for ready, unready in pairs
        ]
        assert len(set(behind)) == len(behind), "EP-6: two subsets with the same pods"
        for addresses in (addresses for pair in pairs for addresses in pair):
            assert list(addresses) == sorted(addresses, key=lambda a: (a.ip, a.target_ref.uid))
        labels = dict(endpoints.metadata.labels)
        assert labels.pop("endpoints.kubernetes.io/managed-by") == "endpoint-controller"
        assert (labels.pop("service.kubernetes.io/headless", None) is not None) == (
            service.spec.cluster_ip == "None"
        )
        assert labels == (service.metadata.labels or {})


@given(deeds)
def test_ep_7_endpoints_that_the_cluster_made_never_outlive_their_service(drawn):
    cluster = settle(live(crowded(2), drawn))
    names = {service.metadata.name for service in stored(cluster, SERVICES)}
    for endpoints in stored(cluster, ENDPOINTS):
        by_us = (endpoints.metadata.labels or {}).get(
            "endpoints.kubernetes.io/managed-by"
        ) == "endpoint-controller"
        assert not by_us or endpoints.metadata.name in names


def test_ep_7_endpoints_by_hand_go_with_their_service_and_stay_without_one():
    cluster = write_by_hand(
        make_service(settle(world()), "s1", "by hand", "web", (80,), False, None), "s1", 1
    )
    cluster = settle(write_by_hand(cluster, "s2", 1))
    before = stored(cluster, ENDPOINTS)
    assert [e.metadata.name for e in before] == ["s1", "s2"]
    cluster = settle(write_by_hand(delete(cluster, ENDPOINTS, "s2"), "s2", 1))
    assert get(cluster, ENDPOINTS, "s2") is not None, (
        "made again at once by hand, it is still nobody's to delete"
    )
    cluster = settle(delete(cluster, SERVICES, "s1"))
    assert [e.metadata.name for e in stored(cluster, ENDPOINTS)] == ["s2"]


@given(choices, st.booleans())
def test_ep_7_no_endpoints_of_a_deleted_service_stay_whenever_the_controllers_crash(drawn, is_lock):
    """By hand, so that no label tells whose they are. Those that are an election's lock stay."""
    cluster = write_by_hand(
        make_service(settle(world()), "s1", "by hand", "web", (80,), False, None), "s1", 1
    )
    cluster = settle(write_by_hand(cluster, "lock", 1))
    if is_lock:
        cluster = merge(
            cluster,
            ENDPOINTS,
            "lock",
            {"metadata": {"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}}},
        )
    cluster = step(delete(cluster, SERVICES, "s1"), Crash("controllers"))
    cluster = settle(run(cluster, drawn, never_too_many, ["lose", "cut", "crash"]))
    assert [e.metadata.name for e in stored(cluster, ENDPOINTS)] == (["lock"] if is_lock else [])


def test_ep_7_what_an_old_view_shows_without_a_service_is_looked_up():
    controller = EndpointsController()
    by_hand = Endpoints(metadata=ObjectMeta(name="e", namespace="default", uid="uid-e"))
    view = view_of(controller, by_hand)
    plan = controller.reconcile(view, "", NOW, NO_MEMORY)
    [question] = plan.queries
    assert (question.verb, question.resource, question.namespace, question.name) == (
        "get",
        SERVICES,
        "default",
        "e",
    ) and plan.wake_at > NOW
    for response, keys in (
        (None, ()),
        (Response(500, None), ()),
        (Response(200, None), ()),
        (Response(404, None), ("default/e",)),
    ):
        memory, found = controller.answered(plan.memory, "", question, response, NOW)
        assert tuple(found) == keys
        again = controller.reconcile(view, "", NOW + SECOND, Local(memory))
        assert bool(again.queries) == (response is None or response.code == 500)


@given(
    services.filter(lambda service: service["kind"] in ("by hand", "external")), st.integers(0, 11)
)
def test_ep_1_nobody_writes_for_a_service_without_selector(drawn, variant):
    cluster = settle(write_by_hand(make_service(world(), "s0", **drawn), "s0", variant))
    before = get(cluster, ENDPOINTS, "s0")
    cluster = make_pod(cluster, 0, drawn["app"], 8080, True, False, "n0", "", ready=True)
    cluster = settle(
        merge(settle(cluster), SERVICES, "s0", {"metadata": {"labels": {"tier": "z"}}})
    )
    assert get(cluster, ENDPOINTS, "s0") == before
    assert not slices_of(cluster, "s0", OF_PODS)
    for reconciler in (EndpointsController(), EndpointSliceController()):
        view = view_of(reconciler, *stored(cluster, SERVICES), *(stored(cluster, PODS)))
        assert reconciler.reconcile(view, "default/s0", NOW, NO_MEMORY) == NOTHING


def test_ep_3_ep_6_ports_that_lead_to_the_same_pods_stand_together():
    cluster = make_service(world(), "s0", "plain", "web", ("http", "metrics"), False, None)
    cluster = make_pod(cluster, 0, "web", 8080, True, False, "n0", "", ready=True)
    cluster = make_pod(cluster, 1, "web", 9090, True, True, "n0", "", ready=True)
    cluster = make_pod(cluster, 2, "web", None, False, False, "n0", "", ready=True)
    cluster = settle(cluster)
    subsets = get(cluster, ENDPOINTS, "s0").subsets
    assert [
        ([a.ip for a in s.addresses], [(p.name, p.port) for p in s.ports]) for s in subsets
    ] == [
        (["10.9.0.1"], [("p0", 8080)]),
        (["10.9.0.2"], [("p0", 9090)]),
        (["10.9.0.1", "10.9.0.2"], [("p1", 9100)]),
    ]
    assert {e.addresses[0]: len(s.ports or ()) for s in slices_of(cluster, "s0", OF_PODS) for e in s.endpoints} == {
        "10.9.0.1": 2, "10.9.0.2": 2, "10.9.0.3": 0,
    }  # fmt: skip


def test_ep_5_only_a_service_that_publishes_all_tells_of_pods_that_terminate():
    for publish in (False, True):
        cluster = make_service(world(), "s0", "plain", "web", (80,), publish, None)
        cluster = make_pod(cluster, 0, "web", None, False, False, "n0", "", ready=True)
        cluster = settle(report(cluster, 0, False))
        subset = get(cluster, ENDPOINTS, "s0").subsets[0]
        assert bool(subset.addresses) == publish and bool(subset.not_ready_addresses) != publish
        cluster = settle(delete(report(cluster, 0, True), PODS, "p0"))
        assert bool(get(cluster, ENDPOINTS, "s0").subsets) == publish


@given(st.integers(990, 1003), st.integers(0, 12))
def test_ep_6_above_a_thousand_the_ready_ones_stay_and_the_annotation_says_truncated(
    ready, unready
):
    cluster = make_service(world(), "s0", "plain", "web", (80,), False, None)
    service = get(cluster, SERVICES, "s0")
    ready_pod = make_pod(cluster, 0, "web", None, False, False, "n0", "", ready=True)
    pattern = get(ready_pod, PODS, "p0")
    lame = get(report(ready_pod, 0, False), PODS, "p0")
    pods = [_copy(lame, n) for n in range(unready)] + [
        _copy(pattern, n) for n in range(unready, unready + ready)
    ]
    controller = EndpointsController()
    plan = controller.reconcile(view_of(controller, service, *pods), "default/s0", NOW, NO_MEMORY)
    body = plan.waves[0][0].body
    good = sum(len(s.addresses or ()) for s in body.subsets)
    bad = sum(len(s.not_ready_addresses or ()) for s in body.subsets)
    assert good == min(ready, 1000) and bad == min(unready, 1000 - good)
    is_over = (body.metadata.annotations or {}).get(
        "endpoints.kubernetes.io/over-capacity"
    ) == "truncated"
    assert is_over == (ready + unready > 1000)


def _copy(pod: Pod, number: int) -> Pod:
    from msgspec.structs import replace

    address = f"10.{number // 250}.0.{number % 250 + 1}"
    metadata = ObjectMeta(
        name=f"q{number}", namespace="default", uid=f"u{number}", labels=pod.metadata.labels
    )
    ips = tuple(replace(ip, ip=address) for ip in pod.status.pod_ips)
    return replace(pod, metadata=metadata, status=replace(pod.status, pod_ip=address, pod_ips=ips))
