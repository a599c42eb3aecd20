"""Extended resources that classes of devices provide (spec/devices.md, DRA-23 to DRA-25), against
plain statements of the same, and in clusters with faults."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from runs import choices, run, settle
from sched_worlds import a_node
from test_dra import (
    EVERY_FAULT,
    a_class,
    a_device,
    a_slice,
    made,
    message_of,
    nothing_wrong,
    one_holder,
    world,
)
from workload_helpers import create, get, patch, remove, stored, view_of

from refk8s.core.api import codec
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.resource_v1 import ResourceClaim
from refk8s.core.api.resources import (
    DEVICE_CLASSES,
    NODES,
    PODS,
    RESOURCE_CLAIMS,
)
from refk8s.core.explain.pod import explain_pod
from refk8s.core.kubelet.admission import why_rejected
from refk8s.core.pods.devices import EXTENDED_ANNOTATION, FINALIZER, claim_keys
from refk8s.core.pods.resources import pod_requests
from refk8s.core.scheduler.cycle import Scheduler
from refk8s.core.scheduler.device_pools import results_of
from refk8s.core.scheduler.extended_devices import (
    classes_by_resource,
    requests_of,
    with_backed,
)
from refk8s.core.scheduler.filters import node_resources
from refk8s.core.scheduler.profile import DEFAULT_PROFILE
from refk8s.core.scheduler.snapshot import IDLE, facts_of, info_of
from refk8s.core.value import evolve

GPU, OWN = "example.com/gpu", "deviceclass.resource.kubernetes.io/gpu"


def container(name, **amounts):
    named = {{"gpu": GPU, "own": OWN}.get(key, key): str(much) for key, much in amounts.items()}
    return {"name": name, "image": "i", "resources": {"requests": named, "limits": named}}


def a_pod(*containers, name="p", init=(), **spec):
    """Containers with their requests; init containers with True if they are sidecars."""
    initial = [one | ({"restartPolicy": "Always"} if stays else {}) for one, stays in init]
    listed = list(containers) or [container("c", gpu=1)]
    tree = {"containers": listed, "initContainers": initial, **spec}
    return made(Pod, name, spec=tree)


def provides(name="gpu", resource: str | None = GPU, created="2026-01-01T00:00:00Z"):
    found = a_class(name)
    metadata = replace(found.metadata, creation_timestamp=created)
    return replace(found, metadata=metadata, spec=replace(found.spec, extended_resource_name=resource))  # fmt: skip


def with_resource(name, much=1, resource=GPU):
    """A node with a device plugin."""
    found = a_node(name)
    allocatable = {**(found.status.allocatable or {}), resource: str(much)}
    return replace(found, status=replace(found.status, allocatable=allocatable))


# --- which class ----------------------------------------------------------------------------------

classes = st.dictionaries(
    st.sampled_from("abc"),
    st.tuples(
        st.sampled_from([None, "x.io/one", "x.io/two", "deviceclass.resource.kubernetes.io/a"]),
        st.integers(0, 2),
    ),
)


@given(classes)
def test_dra_23_the_youngest_class_provides_a_resource(drawn):
    objects = {
        name: provides(name, resource, f"2026-01-01T00:00:0{age}Z")
        for name, (resource, age) in drawn.items()
    }
    expected = {}
    for resource in {resource for resource, _ in drawn.values() if resource}:
        ages = [(-age, name) for name, (other, age) in drawn.items() if other == resource]
        expected[resource] = min(ages)[1]
    expected |= {f"deviceclass.resource.kubernetes.io/{name}": name for name in drawn}
    assert dict(classes_by_resource(objects)) == expected


# --- the requests ---------------------------------------------------------------------------------

amounts = st.integers(0, 4)


@given(
    st.lists(st.tuples(amounts, st.booleans()), max_size=3),
    st.lists(amounts, min_size=1, max_size=3),
)
def test_dra_24_each_container_has_the_devices_that_it_requests_and_no_more_are_requested(
    initial, regular
):
    """The most that is used at any time, if a container keeps its devices."""
    pod = a_pod(
        *[container(f"c{n}", cpu=1, gpu=much) for n, much in enumerate(regular)],
        init=[(container(f"i{n}", cpu=1, gpu=much), stays) for n, (much, stays) in enumerate(initial)],
    )  # fmt: skip
    requests, mapped = requests_of(pod, (GPU,), {GPU: "gpu"})
    counts = {one.name: one.exactly.count for one in requests}
    assert list(counts) == sorted(counts) and all(counts.values())
    all_amounts = [*[much for much, _ in initial], *regular]
    stays = [*[each for _, each in initial], *[True for _ in regular]]
    names = [*[f"i{n}" for n in range(len(initial))], *[f"c{n}" for n in range(len(regular))]]
    lacks = [0]
    for number, (name, much, lasts) in enumerate(zip(names, all_amounts, stays, strict=True)):
        used = [one.request for one in mapped if one.container == name]
        assert len(set(used)) == len(used)
        if lasts:
            assert used == ([f"container-{number}-request-1"] if much else [])
            assert sum(counts[each] for each in used) == much
            continue
        later = sum(a for a, s in zip(all_amounts[number:], stays[number:], strict=True) if s)
        lacks.append(max(0, much - later))
        assert sum(counts[each] for each in used) >= much
        for each in used:  # of no sidecar that runs already
            at = int(each.split("-")[1])
            assert not stays[at] or at > number
    assert sum(counts.values()) == sum(a for a, s in zip(all_amounts, stays, strict=True) if s) + max(lacks)  # fmt: skip
    assert all(one.resource == GPU for one in mapped)
    assert {one.exactly.device_class_name for one in requests} <= {"gpu"}


def test_dra_24_requests_are_named_after_container_and_resource():
    pod = a_pod(container("a", cpu=1, gpu=2, own=1), container("b", own=3))
    requests, mapped = requests_of(pod, (GPU, OWN), {GPU: "x", OWN: "gpu"})
    assert [(one.name, one.exactly.device_class_name, one.exactly.count) for one in requests] == [
        ("container-0-request-1", "gpu", 1),
        ("container-0-request-2", "x", 2),
        ("container-1-request-0", "gpu", 3),
    ]
    assert [tuple(one) for one in mapped] == [
        ("a", OWN, "container-0-request-1"),
        ("b", OWN, "container-1-request-0"),
        ("a", GPU, "container-0-request-2"),
    ]


# --- on which nodes -------------------------------------------------------------------------------


@given(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.booleans(), st.booleans())
def test_dra_23_a_node_counts_its_own_resource_and_else_needs_devices(wanted, own, devices, is_provided, is_enabled):  # fmt: skip
    view_objects = [provides()] if is_provided else []
    node = with_resource("a", own) if own else a_node("a")
    slices = [a_slice("a", *[a_device(f"d{n}") for n in range(devices)])]
    pod = a_pod(container("c", gpu=wanted))
    profile = DEFAULT_PROFILE
    if not is_enabled:
        profile = evolve(profile, filters=profile.filters - {"DynamicResources"})
    scheduler = Scheduler([profile])
    view = view_of(scheduler, pod, node, *slices, *view_objects)
    info = scheduler._as_now(view, info_of(pod))
    is_backed = is_provided and is_enabled and wanted > 0
    assert info.needs.backed == ((GPU,) if is_backed else ())
    facts = facts_of(node)
    refusal = node_resources.check(info.needs, facts, IDLE)
    if is_backed and not own:
        assert refusal is None
    else:
        assert (refusal is None) == (wanted <= own)
    account = explain_pod(view, "default/p", {profile.scheduler_name: profile})
    fits = wanted <= own if own or not is_backed else wanted <= devices
    assert account.best == ("a" if fits else "")


def test_dra_23_a_pod_without_extended_resources_is_left_alone():
    view = view_of(Scheduler(), provides())
    info = info_of(a_pod(container("c", cpu=1)))
    assert with_backed(view, info, DEFAULT_PROFILE) is info


def test_kubelet_81_the_devices_of_a_class_are_no_resource_of_the_node():
    for resource in ("gpu", "own"):
        pod = a_pod(container("c", **{resource: 1}), nodeName="n")
        assert why_rejected(pod, pod_requests(pod.spec), {}, {"pods": 1, "cpu": 1}, {}, ()) is None


# --- in a cluster ---------------------------------------------------------------------------------


def extended(cluster):
    return [
        one
        for one in stored(cluster, RESOURCE_CLAIMS)
        if (one.metadata.annotations or {}).get(EXTENDED_ANNOTATION) == "true"
    ]


def named(before, after):
    """DRA-25: a pod that gets a node without the resource has its claim allocated, reserved, named."""
    bound = {pod.metadata.uid for pod in stored(before, PODS) if pod.spec.node_name}
    for pod in stored(after, PODS):
        if pod.spec.node_name != "b" or pod.metadata.uid in bound:
            continue
        status = pod.status.extended_resource_claim_status
        claim = get(after, RESOURCE_CLAIMS, status.resource_claim_name) if status else None
        if claim is None or claim.status.allocation is None:
            yield f"{pod.metadata.name} is bound without devices"
        elif pod.metadata.uid not in [one.uid for one in claim.status.reserved_for or ()]:
            yield f"the claim of {pod.metadata.name} is not reserved for it"


def all_three(before, after):
    yield from nothing_wrong(before, after)
    yield from one_holder(before, after)
    yield from named(before, after)


@settings(max_examples=12)
@given(choices, st.integers(1, 3), st.integers(0, 1), st.integers(0, 2))
def test_dra_23_dra_25_pods_get_the_resource_or_a_device_whatever_fails(drawn, pods, own, devices):
    """Node a has a device plugin, node b devices of a class. When pods have ended, others run."""
    slices = a_slice("b", *[a_device(f"d{n}") for n in range(devices)])
    first = with_resource("a", own) if own else a_node("a")
    wanting = [a_pod(name=f"p{n}") for n in range(pods)]
    cluster = world(provides(), first, a_node("b"), slices, *wanting)
    cluster = settle(run(cluster, drawn, all_three, EVERY_FAULT), all_three, seconds_max=400)
    bound = [pod for pod in stored(cluster, PODS) if pod.spec.node_name]
    assert len(bound) == min(pods, own + devices)
    on_devices = [pod for pod in bound if pod.spec.node_name == "b"]
    assert len(extended(cluster)) == len(on_devices)
    for pod in on_devices:
        status = pod.status.extended_resource_claim_status
        claim = get(cluster, RESOURCE_CLAIMS, status.resource_claim_name)
        assert claim.metadata.name.startswith(f"{pod.metadata.name}-extended-resources-")
        assert claim.metadata.owner_references[0].uid == pod.metadata.uid
        assert FINALIZER in claim.metadata.finalizers
        assert claim_keys(pod) == [f"default/{claim.metadata.name}"]
        (told,) = status.request_mappings
        assert (told.container_name, told.resource_name, told.request_name) == ("c", GPU, "container-0-request-0")  # fmt: skip
        assert [one.request for one in results_of(claim.status.allocation)] == ["container-0-request-0"]  # fmt: skip
    for pod in bound:
        cluster = patch(cluster, PODS, pod.metadata.name, {"status": {"phase": "Succeeded"}}, "status")  # fmt: skip
    cluster = settle(cluster, all_three, seconds_max=400)
    later = [pod for pod in stored(cluster, PODS) if pod.spec.node_name]
    assert len(later) == min(pods, 2 * (own + devices))
    running = [pod for pod in later if pod.status.phase != "Succeeded" and pod.spec.node_name == "b"]  # fmt: skip
    assert len(extended(cluster)) == len(running)


def test_dra_23_a_pod_waits_for_a_class_that_provides_its_resource():
    slices = a_slice("b", a_device("d"))
    cluster = settle(world(a_node("b"), slices, a_pod()), all_three, seconds_max=60)
    assert f"Insufficient {GPU}" in message_of(cluster, "p")
    cluster = settle(create(cluster, _fresh(provides())), all_three, seconds_max=60)
    assert get(cluster, PODS, "p").spec.node_name == "b"
    cluster = settle(create(cluster, a_new_pod("q")), all_three, seconds_max=60)
    assert "1 cannot allocate all claims" in message_of(cluster, "q")
    cluster = remove(cluster, DEVICE_CLASSES, "gpu")
    cluster = settle(cluster, all_three, seconds_max=600)
    assert f"Insufficient {GPU}" in message_of(cluster, "q")


def test_dra_23_each_class_provides_a_resource_of_its_own_name():
    slices = a_slice("b", a_device("d"))
    pod = a_pod(container("c", own=1))
    cluster = settle(world(provides(resource=None), a_node("b"), slices, pod), all_three, seconds_max=60)  # fmt: skip
    assert get(cluster, PODS, "p").spec.node_name == "b"


def a_new_pod(name):
    return _fresh(a_pod(name=name))


def _fresh(obj):
    return replace(obj, metadata=replace(obj.metadata, uid=None, creation_timestamp=None))


@pytest.mark.parametrize("is_allocated", [False, True])
def test_dra_25_the_claim_of_an_earlier_attempt_is_deleted_first(is_allocated):
    """An earlier scheduler has created it for devices that are gone since."""
    cluster = settle(world(provides(), a_slice("b", a_device("d")), a_pod()), all_three, seconds_max=5)  # fmt: skip
    pod = get(cluster, PODS, "p")
    old = _old_claim(pod)
    cluster = create(cluster, old)
    if is_allocated:
        allocation = {"devices": {"results": [{"request": "x", "driver": "gpu.example.com", "pool": "b", "device": "d"}]}}  # fmt: skip
        cluster = patch(cluster, RESOURCE_CLAIMS, "old", {"metadata": {"finalizers": [FINALIZER]}})
        reserved = [{"resource": "pods", "name": "p", "uid": pod.metadata.uid}]
        status = {"allocation": allocation, "reservedFor": reserved}
        cluster = patch(cluster, RESOURCE_CLAIMS, "old", {"status": status}, "status")
    cluster = create(cluster, a_node("b"))
    cluster = patch(cluster, NODES, "b", {"spec": {"taints": None}})
    cluster = settle(cluster, all_three, seconds_max=120)
    assert get(cluster, PODS, "p").spec.node_name == "b"
    (claim,) = extended(cluster)
    assert claim.metadata.name != "old"


def _old_claim(pod) -> Any:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": pod.metadata.uid, "controller": True}  # fmt: skip
    metadata = {"name": "old", "annotations": {EXTENDED_ANNOTATION: "true"}, "ownerReferences": [owner]}  # fmt: skip
    request = {"name": "x", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}}  # fmt: skip
    return codec.from_tree(ResourceClaim, {"metadata": metadata, "spec": {"devices": {"requests": [request]}}})  # fmt: skip
