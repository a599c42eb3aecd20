"""Volumes, claims and ranges of addresses stay while they are used: PROT-1 to PROT-5, PROT-6
(spec/workloads/protection.md)."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from runs import choices, run
from workload_helpers import (
    NOW,
    ask,
    create,
    get,
    new_cluster,
    patch,
    remove,
    settle,
    stored,
    view_of,
)

from refk8s.core.api import codec
from refk8s.core.api.core_v1 import PersistentVolume, PersistentVolumeClaim, Pod, PodList
from refk8s.core.api.finalizers import (
    ATTRIBUTES_CLASS_PROTECTION,
    CLAIM_PROTECTION,
    SERVICE_CIDR_PROTECTION,
    VOLUME_PROTECTION,
)
from refk8s.core.api.meta_v1 import ListMeta
from refk8s.core.api.networking_v1 import IPAddress, ServiceCIDR
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import (
    IP_ADDRESSES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    SERVICE_CIDRS,
    VOLUME_ATTRIBUTES_CLASSES,
)
from refk8s.core.api.storage_v1 import VolumeAttributesClass
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster
from refk8s.core.cluster.step import start_all
from refk8s.core.controllers.protection import (
    AttributesClassProtection,
    ClaimProtection,
    VolumeProtection,
)
from refk8s.core.controllers.service_cidr import ServiceCIDRController, contains
from refk8s.core.loop.plan import Local
from refk8s.core.pods.volumes import claims_of

FAULTS = ["lose", "give up", "cut", "compact", "crash", "twice"]
NAMES = ("a", "b")


def decoded(kind, **tree):
    return codec.decode_tolerant(kind, tree)[0]


def a_claim(name):
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return decoded(PersistentVolumeClaim, metadata={"name": name}, spec=spec)


def a_volume(name):
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": "/x"},
    }
    return decoded(PersistentVolume, metadata={"name": name}, spec=spec)


def a_pod(name, claim, node="", **status):
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": claim}}
    spec = {
        "containers": [{"name": "c", "image": "i"}], "volumes": [volume], "serviceAccountName": "",
        "terminationGracePeriodSeconds": 0, **({"nodeName": node} if node else {}),
    }  # fmt: skip
    return decoded(Pod, metadata={"name": name}, spec=spec, status=status)


def users_of(cluster: Cluster, claim: str) -> set[str]:
    """The uids of pods on nodes that name the claim."""
    return {
        pod.metadata.uid
        for pod in stored(cluster, PODS)
        if pod.spec.node_name and f"default/{claim}" in claims_of(pod)
    }


class Watched:
    """PROT-1 as a law of steps: a claim does not go while a pod is there that used it when its
    deletion was asked for."""

    def __init__(self) -> None:
        self.held: dict[str, set[str]] = {}

    def __call__(self, before: Cluster, after: Cluster) -> list[str]:
        wrong = []
        for name in NAMES:
            claim = get(after, PERSISTENT_VOLUME_CLAIMS, name)
            if claim is None:
                held = self.held.pop(name, set()) & users_of(after, name)
                wrong += [f"PROT-1: claim {name} has gone from under {held}"] if held else []
            elif claim.metadata.deletion_timestamp is not None:
                self.held.setdefault(name, users_of(after, name))
            else:
                self.held.pop(name, None)
        return wrong


MOVES = ("pod", "bare pod", "finish", "remove pod", "delete", "create", "unprotect")
moves = st.lists(st.tuples(st.sampled_from(MOVES), st.sampled_from(NAMES), choices), max_size=8)


@given(moves)
def test_prot_1_prot_2_prot_3_a_claim_goes_when_no_pod_uses_it_and_not_before(moves):
    law = Watched()
    cluster = start_all(create(new_cluster(ClaimProtection()), *[a_claim(name) for name in NAMES]))
    for number, (move, name, drawn) in enumerate(moves):
        claim, pods = get(cluster, PERSISTENT_VOLUME_CLAIMS, name), users_of(cluster, name)
        pod = next((pod for pod in stored(cluster, PODS) if pod.metadata.uid in pods), None)
        dying = claim is not None and claim.metadata.deletion_timestamp is not None
        if move in ("pod", "bare pod") and not dying:
            cluster = create(cluster, a_pod(f"p{number}", name, "n" if move == "pod" else ""))
        elif move == "finish" and pod is not None:
            cluster = patch(
                cluster, PODS, pod.metadata.name, {"status": {"phase": "Succeeded"}}, "status"
            )
        elif move == "remove pod" and pod is not None:
            cluster = remove(cluster, PODS, pod.metadata.name, grace_period_seconds=0)
        elif move == "delete" and claim is not None:
            cluster = remove(cluster, PERSISTENT_VOLUME_CLAIMS, name)
        elif move == "create" and claim is None:
            cluster = create(cluster, a_claim(name))
        elif move == "unprotect" and claim is not None and not dying:
            cluster = patch(
                cluster, PERSISTENT_VOLUME_CLAIMS, name, {"metadata": {"finalizers": None}}
            )
        assert law(cluster, cluster) == []
        cluster = run(cluster, drawn, law, FAULTS)
    cluster = settle(cluster, law, seconds_max=60)
    for name in NAMES:
        claim = get(cluster, PERSISTENT_VOLUME_CLAIMS, name)
        if claim is not None:
            assert CLAIM_PROTECTION in claim.metadata.finalizers  # PROT-3
            assert claim.metadata.deletion_timestamp is None or users_of(cluster, name)  # PROT-2


kinds_of_pod = st.tuples(
    st.booleans(), st.sampled_from(["Pending", "Running", "Succeeded", "Failed"])
)


@given(st.lists(kinds_of_pod, max_size=2), choices, st.lists(kinds_of_pod, max_size=2), choices)
@example([(True, "Succeeded")], [], [], [])
def test_prot_1_a_claim_stays_for_every_pod_on_a_node_in_any_phase_though_the_view_is_behind(
    first, before, second, after
):
    law = Watched()
    cluster = start_all(create(new_cluster(ClaimProtection()), a_claim("a")))
    for name, batch, drawn in (("p", first, before), ("q", second, ())):
        for number, (has_node, phase) in enumerate(batch):
            cluster = create(
                cluster, a_pod(f"{name}{number}", "a", "n" if has_node else "", phase=phase)
            )
        cluster = run(cluster, drawn, law, FAULTS)
    cluster = remove(cluster, PERSISTENT_VOLUME_CLAIMS, "a")
    assert law(cluster, cluster) == []
    cluster = settle(run(cluster, after, law, FAULTS), law, seconds_max=60)
    assert (get(cluster, PERSISTENT_VOLUME_CLAIMS, "a") is not None) == any(
        has_node for has_node, _ in (*first, *second)
    )


def test_prot_1_a_pod_that_the_view_does_not_show_yet_holds_the_claim():
    controller = ClaimProtection()
    claim = decoded(PersistentVolumeClaim, metadata={
        "name": "a", "namespace": "default", "uid": "u", "resourceVersion": "5", "finalizers": [CLAIM_PROTECTION],
        "deletionTimestamp": "2026-01-01T00:00:00Z",
    })  # fmt: skip
    view = view_of(controller, claim)
    plan = controller.reconcile(view, "default/a", NOW, Local(controller.start_memory(NOW)))
    assert not plan.waves and [request.verb for request in plan.queries] == ["list"]
    for pods, lets_go in (
        ((a_pod("p", "a", "n"),), False),
        ((a_pod("p", "b", "n"), a_pod("q", "a")), True),
    ):
        pods = tuple(
            [replace(pod, metadata=replace(pod.metadata, namespace="default")) for pod in pods]
        )
        answer = Response(200, PodList(metadata=ListMeta(resource_version="9"), items=pods))
        memory, _ = controller.answered(plan.memory, "default/a", plan.queries[0], answer, NOW)
        assert bool(controller.reconcile(view, "default/a", NOW, Local(memory)).waves) == lets_go
    for answer in (None, Response(500, None)):
        memory, _ = controller.answered(plan.memory, "default/a", plan.queries[0], answer, NOW)
        assert not controller.reconcile(view, "default/a", NOW, Local(memory)).waves


def test_prot_1_an_ephemeral_volume_uses_the_claim_of_its_pod_and_its_own_name():
    pod = decoded(Pod, metadata={"name": "p", "namespace": "n"}, spec={
        "containers": [], "volumes": [{"name": "v", "ephemeral": {}}, {"name": "w", "emptyDir": {}}],
    })  # fmt: skip
    assert claims_of(pod) == ("n/p-v",)


@given(st.sampled_from(["Pending", "Available", "Bound", "Released", "Failed"]), choices, choices)
def test_prot_2_a_volume_goes_unless_it_is_bound(phase, first, second):
    cluster = run(
        start_all(create(new_cluster(VolumeProtection()), a_volume("a"))),
        first,
        lambda *_: (),
        FAULTS,
    )
    status = Patch("application/merge-patch+json", {"status": {"phase": phase}})
    cluster = ask(
        cluster, Request("patch", PERSISTENT_VOLUMES, "", "a", "status", body=status, user=ADMIN)
    )
    cluster = ask(cluster, Request("delete", PERSISTENT_VOLUMES, "", "a", user=ADMIN))
    cluster = settle(run(cluster, second, lambda *_: (), FAULTS), seconds_max=60)
    volume = get(cluster, PERSISTENT_VOLUMES, "a")
    assert (volume is None) == (phase != "Bound")
    if volume is not None:
        assert volume.metadata.finalizers == (VOLUME_PROTECTION,)


# --- VolumeAttributesClasses


def a_class(name):
    fields = {"driverName": "d.example.com", "parameters": {"iops": "1"}}
    return decoded(VolumeAttributesClass, metadata={"name": name}, **fields)


def names_of(cluster, name):
    """The claims and volumes that name the class, by a plain reading of their JSON."""
    found = []
    for kind in (PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES):
        for one in stored(cluster, kind):
            tree = codec.to_tree(one)
            status = tree.get("status") or {}
            target = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
            if name in (
                tree["spec"].get("volumeAttributesClassName"),
                status.get("currentVolumeAttributesClassName"),
                target,
            ):
                found.append(one)
    return found


USES = ("spec", "current", "target", "volume")


def a_user(kind, name, number):
    """A claim or volume that names the class in one of four places."""
    if kind == "volume":
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "csi": {"driver": "d.example.com", "volumeHandle": "h"},
            "volumeAttributesClassName": name,
        }
        return decoded(PersistentVolume, metadata={"name": f"v{number}"}, spec=spec)
    claim = a_claim(f"c{number}")
    if kind == "spec":
        return replace(claim, spec=replace(claim.spec, volume_attributes_class_name=name))
    return claim


def with_status(cluster, kind, name, number):
    status = {
        "current": {"currentVolumeAttributesClassName": name},
        "target": {
            "modifyVolumeStatus": {
                "targetVolumeAttributesClassName": name,
                "status": "Pending",
            }
        },
    }.get(kind)
    if status is None:
        return cluster
    return patch(cluster, PERSISTENT_VOLUME_CLAIMS, f"c{number}", {"status": status}, "status")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["use", "use", "free", "delete", "create", "unprotect"]),
            st.sampled_from(NAMES),
            st.sampled_from(USES),
            choices,
        ),
        max_size=6,
    )
)
@example([("use", "a", "current", ()), ("delete", "a", "spec", ()), ("free", "a", "spec", ())])
@example([("use", "a", "target", ()), ("delete", "a", "spec", ())])
def test_prot_6_a_class_goes_when_nothing_names_it_and_not_before(moves):
    begun = create(new_cluster(AttributesClassProtection()), *[a_class(name) for name in NAMES])
    cluster = start_all(begun)
    for number, (move, name, kind, drawn) in enumerate(moves):
        found = get(cluster, VOLUME_ATTRIBUTES_CLASSES, name)
        dying = found is not None and found.metadata.deletion_timestamp is not None
        users = names_of(cluster, name)
        if move == "use" and not dying:
            cluster = create(cluster, a_user(kind, name, number))
            cluster = with_status(cluster, kind, name, number)
        elif move == "free" and users:
            resource = PERSISTENT_VOLUMES if users[0].kind == "PersistentVolume" else PERSISTENT_VOLUME_CLAIMS  # fmt: skip
            metadata = {"metadata": {"finalizers": None}}
            cluster = patch(cluster, resource, users[0].metadata.name, metadata)
            cluster = remove(cluster, resource, users[0].metadata.name)
        elif move == "delete" and found is not None:
            cluster = remove(cluster, VOLUME_ATTRIBUTES_CLASSES, name)
        elif move == "create" and found is None:
            cluster = create(cluster, a_class(name))
        elif move == "unprotect" and found is not None and not dying:
            metadata = {"metadata": {"finalizers": None}}
            cluster = patch(cluster, VOLUME_ATTRIBUTES_CLASSES, name, metadata)
        there = {one for one in NAMES if get(cluster, VOLUME_ATTRIBUTES_CLASSES, one) is not None}
        used = {one for one in there if names_of(cluster, one)}
        cluster = run(cluster, drawn, lambda *_: (), FAULTS)
        for one in used:
            if move != "unprotect":
                assert get(cluster, VOLUME_ATTRIBUTES_CLASSES, one) is not None
    cluster = settle(cluster, seconds_max=60)
    for name in NAMES:
        found = get(cluster, VOLUME_ATTRIBUTES_CLASSES, name)
        if found is not None:
            assert found.metadata.finalizers == (ATTRIBUTES_CLASS_PROTECTION,)
            assert found.metadata.deletion_timestamp is None or names_of(cluster, name)


@pytest.mark.parametrize("late", [PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES])
def test_prot_6_a_user_that_the_view_does_not_show_yet_holds_the_class(late):
    controller = AttributesClassProtection()
    found = decoded(VolumeAttributesClass, driverName="d", metadata={
        "name": "a", "uid": "u", "resourceVersion": "5", "finalizers": [ATTRIBUTES_CLASS_PROTECTION],
        "deletionTimestamp": "2026-01-01T00:00:00Z",
    })  # fmt: skip
    view = view_of(controller, found)
    begun = controller.reconcile(view, "a", NOW, Local(controller.start_memory(NOW)))
    assert not begun.waves and {one.resource for one in begun.queries} == {
        PERSISTENT_VOLUME_CLAIMS,
        PERSISTENT_VOLUMES,
    }
    for name, lets_go in (("a", False), ("b", True), (None, False)):
        memory = begun.memory
        for question in begun.queries:
            kind = "volume" if question.resource is PERSISTENT_VOLUMES else "spec"
            items = (a_user(kind, name, 1),) if question.resource is late and name else ()
            answer = Response(200, PodList(metadata=ListMeta(), items=items))
            if name is None and question.resource is late:
                answer = Response(500, None)
            memory, _ = controller.answered(memory, "a", question, answer, NOW)
        assert bool(controller.reconcile(view, "a", NOW, Local(memory)).waves) == lets_go


def a_range(name, *cidrs):
    return decoded(ServiceCIDR, metadata={"name": name}, spec={"cidrs": list(cidrs)})


def an_address(text):
    parent = {"group": "", "resource": "services", "namespace": "default", "name": "s"}
    return decoded(IPAddress, metadata={"name": text}, spec={"parentRef": parent})


@given(
    st.lists(st.sampled_from(["10.0.0.5", "10.0.1.5", "10.9.0.5"]), unique=True),
    st.booleans(),
    choices,
)
def test_prot_4_prot_5_a_range_waits_for_its_own_addresses_alone(addresses, has_other, drawn):
    ranges = [a_range("a", "10.0.0.0/16")] + ([a_range("b", "10.0.1.0/24")] if has_other else [])
    cluster = create(
        new_cluster(ServiceCIDRController()), *ranges, *[an_address(text) for text in addresses]
    )
    cluster = settle(start_all(cluster), seconds_max=60)
    ready = [c for c in get(cluster, SERVICE_CIDRS, "a").status.conditions if c.type == "Ready"]
    assert [c.status for c in ready] == ["True"]
    assert get(cluster, SERVICE_CIDRS, "a").metadata.finalizers == (SERVICE_CIDR_PROTECTION,)
    cluster = run(
        ask(cluster, Request("delete", SERVICE_CIDRS, "", "a", user=ADMIN)),
        drawn,
        lambda *_: (),
        FAULTS,
    )
    cluster = settle(cluster, seconds_max=60)
    holding = {"10.0.0.5"} if has_other else {"10.0.0.5", "10.0.1.5"}
    left = get(cluster, SERVICE_CIDRS, "a")
    assert (left is not None) == bool(holding & set(addresses))
    if left is not None:
        assert [(c.status, c.reason) for c in left.status.conditions if c.type == "Ready"] == [
            ("False", "Terminating")
        ]
        for text in sorted(holding & set(addresses)):
            cluster = ask(cluster, Request("delete", IP_ADDRESSES, "", text, user=ADMIN))
        assert get(settle(cluster, seconds_max=60), SERVICE_CIDRS, "a") is None


@given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=2))
def test_prot_4_what_is_no_address_is_in_no_range(text, cidrs):
    assert contains(cidrs, text) in (True, False)
    assert not contains(("10.0.0.0/8",), "::1") and contains(("10.0.0.0/8",), "10.1.2.3")
