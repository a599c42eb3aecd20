"""Volumes and the scheduler: SCHED-40 to SCHED-43 (spec/scheduler.md)."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from runs import choices, run, settle
from sched_worlds import a_node, a_pod
from test_vol import RWO, a_claim, a_class, a_volume, bound, reference
from test_vol import a_pod as ephemeral_pod
from workload_helpers import NOW, change, create, get, nothing_wrong, patch, stored, view_of

from refk8s.core.api import codec
from refk8s.core.api.core_v1 import (
    Namespace,
    PersistentVolumeClaimVolumeSource,
    TopologySelectorLabelRequirement,
    TopologySelectorTerm,
    Volume,
    VolumeNodeAffinity,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import (
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
)
from refk8s.core.cluster.state import begin
from refk8s.core.cluster.step import start_all
from refk8s.core.context import SECOND
from refk8s.core.controllers.claim_binding import ClaimBinder
from refk8s.core.controllers.volume_phase import VolumePhase
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import Local
from refk8s.core.pods.volumes import BOUND_BY_CONTROLLER, SELECTED_NODE
from refk8s.core.scheduler.arguments import DEFAULT_ARGUMENTS
from refk8s.core.scheduler.cycle import Scheduler, scheduler
from refk8s.core.scheduler.snapshot import facts_of, info_of
from refk8s.core.scheduler.volumes import (
    NO_VOLUME,
    NOT_REACHED,
    OTHER_ZONE,
    UNBOUND,
    USED_BY_A_POD,
    bindings,
    volumes_of,
)

SCHEDULER = Scheduler()
LAZY = a_class("fast", provisioner="kubernetes.io/no-provisioner", mode="WaitForFirstConsumer")


def using(*claims, name="p", **parts):
    volumes = tuple(
        Volume(
            name=each, persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name=each)
        )
        for each in claims
    )
    made = a_pod(name)
    metadata = replace(made.metadata, namespace="default", uid=f"uid-{name}")
    return change(replace(made, metadata=metadata), volumes=volumes, **parts)


def on(volume, *nodes):
    """The volume is only reachable from these nodes."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": list(nodes)}]}
    tree = {"required": {"nodeSelectorTerms": [term]}}
    return change(volume, node_affinity=codec.from_tree(VolumeNodeAffinity, tree))


def seen(pod, *objects):
    return volumes_of(view_of(SCHEDULER, pod, *objects), info_of(pod))


def refusal(pod, node, *objects):
    volumes = seen(pod, *objects)
    assert not volumes.blocked
    load = view_of(SCHEDULER, pod, *objects).fold("truth").load(node.metadata.name)
    return volumes.refusal(facts_of(node), load)


GONE = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ((), 'persistentvolumeclaim "c" not found'),
        ((a_claim(),), UNBOUND),
        ((a_claim(storage_class="fast"), a_class("fast")), UNBOUND),
        ((a_claim(volume="v"), a_volume()), UNBOUND),
        ((bound(deletion_timestamp=GONE), a_volume()), 'persistentvolumeclaim "c" is being deleted'),
        ((bound(),), 'persistentvolumeclaim "c" bound to non-existent persistentvolume "v"'),
        ((bound(phase="Lost"), a_volume()), 'persistentvolumeclaim "c" bound to non-existent persistentvolume "v"'),
        ((bound(), a_volume()), ""),
        ((a_claim(storage_class="fast"), LAZY), ""),
    ],
)  # fmt: skip
def test_sched_40_a_pod_waits_for_its_claims(objects, words):
    assert seen(using("c"), *objects).blocked == words


def test_sched_40_a_claim_of_an_ephemeral_volume_is_the_pods():
    pod = ephemeral_pod()
    assert seen(pod).blocked.startswith("waiting for ephemeral volume controller to create the")
    assert seen(pod, a_claim("p-v")).blocked.endswith("(pod is not owner)")


def test_sched_41_a_node_must_reach_the_volumes():
    a, b = a_node("a"), a_node("b")
    pod = using("c")
    there = on(a_volume(claim=a_claim()), "a")
    assert refusal(pod, a, bound(), there) is None
    assert refusal(pod, b, bound(), there) is NOT_REACHED
    zoned = change(a_volume(), labels={"topology.kubernetes.io/zone": "z1__z2"})
    in_zone = [change(a, labels={"topology.kubernetes.io/zone": zone}) for zone in ("z2", "z3")]
    assert [refusal(pod, node, bound(), zoned) for node in in_zone] == [None, OTHER_ZONE]
    assert refusal(pod, a, bound(), zoned) is None  # the node has no zone


NEW, OLD = "topology.kubernetes.io", "failure-domain.beta.kubernetes.io"
zone_keys = [f"{NEW}/zone", f"{NEW}/region", f"{OLD}/zone", f"{OLD}/region"]


@example({f"{NEW}/region": "a"}, {f"{NEW}/zone": "a"})
@example({f"{NEW}/zone": "a"}, {f"{OLD}/zone": "a"})
@example({f"{NEW}/zone": "b"}, {f"{NEW}/zone": "a__"})
@given(
    st.dictionaries(st.sampled_from(zone_keys), st.sampled_from("ab"), max_size=3),
    st.dictionaries(st.sampled_from(zone_keys), st.sampled_from(["a", "b", "a__b", "a__", "a __b"]), max_size=3),
)  # fmt: skip
def test_sched_41_a_node_with_zone_labels_is_in_every_zone_of_the_volume(
    node_labels, volume_labels
):
    """As VolumeZone of upstream decides."""
    excluded = False
    for key, text in volume_labels.items():
        zones = {zone.strip() for zone in text.split("__")}
        here = node_labels.get(key) or node_labels.get(key.replace(OLD, NEW))
        if node_labels and "" not in zones and here not in zones:
            excluded = True
    zoned = change(a_volume(claim=a_claim()), labels=volume_labels or None)
    node = change(a_node("a"), labels=node_labels)
    assert refusal(using("c"), node, bound(), zoned) is (OTHER_ZONE if excluded else None)


def test_sched_41_each_unbound_claim_needs_a_volume_of_its_own():
    a, b = a_node("a"), a_node("b")
    pod = using("c", "d")
    claims = [a_claim("c", "2Gi", "fast"), a_claim("d", "1Gi", "fast")]
    one, two = (on(a_volume(name, "2Gi", "fast"), "a") for name in ("v1", "v2"))
    assert refusal(pod, a, LAZY, *claims, one) is NO_VOLUME
    assert refusal(pod, a, LAZY, *claims, one, two) is None
    assert refusal(pod, b, LAZY, *claims, one, two) is NO_VOLUME
    small = on(a_volume("v0", "1Gi", "fast"), "a")
    volumes = seen(pod, LAZY, *claims, one, small)
    found = {c.metadata.name: v.metadata.name for c, v in volumes.choose(facts_of(a))}
    assert found == {"d": "v0", "c": "v1"}
    made = a_class("fast", provisioner="x.example.com", mode="WaitForFirstConsumer")
    assert refusal(pod, b, made, *claims) is None
    rack = TopologySelectorTerm(
        match_label_expressions=(TopologySelectorLabelRequirement(key="rack", values=("r1",)),)
    )
    local = replace(made, allowed_topologies=(rack,))
    assert refusal(pod, b, local, *claims) is NO_VOLUME
    assert refusal(pod, change(b, labels={"rack": "r1"}), local, *claims) is None


def test_sched_41_a_claim_for_one_pod_is_not_shared():
    claim = bound(access_modes=("ReadWriteOncePod",))
    volume = a_volume(modes=("ReadWriteOncePod",))
    other = using("c", name="q", node_name="a")
    assert refusal(using("c"), a_node("a"), claim, volume, other) is USED_BY_A_POD
    assert refusal(using("c"), a_node("a"), claim, volume, change(other, phase="Failed")) is None
    assert refusal(using("c"), a_node("a"), bound(), volume, other) is None


def test_sched_42_the_volume_is_reserved_or_the_node_is_named():
    claim = a_claim(storage_class="fast")
    volume = a_volume(storage_class="fast")
    (request,) = bindings([(claim, volume)], "a")
    assert request.body.spec.claim_ref.uid == "uid-c"
    assert request.body.metadata.annotations == {BOUND_BY_CONTROLLER: "yes"}
    assert bindings([(claim, request.body)], "a") == ()
    users = change(volume, claim_ref=reference(claim, uid=False))
    (request,) = bindings([(claim, users)], "a")
    assert request.body.metadata.annotations is None
    (request,) = bindings([(claim, None)], "a")
    assert request.body.metadata.annotations == {SELECTED_NODE: "a"}
    assert bindings([(request.body, None)], "a") == ()


# --- runs -----------------------------------------------------------------------------------------


def fresh(obj):
    made = replace(obj, metadata=replace(obj.metadata, uid=None, creation_timestamp=None))
    return replace(made, status=type(made.status)()) if hasattr(made, "status") else made


def world(*objects):
    loops = {
        "controllers": Loop("controllers", (ClaimBinder(), VolumePhase())),
        "kube-scheduler": scheduler(),
    }
    cluster = create(begin(loops, {}, b"seed", NOW), Namespace(metadata=ObjectMeta(name="default")))
    for obj in objects:
        cluster = create(cluster, obj if obj.kind == "Node" else fresh(obj))
        if obj.kind == "Node":
            cluster = patch(cluster, NODES, obj.metadata.name, {"spec": {"taints": None}})
    return start_all(cluster)


def place(cluster, name="p"):
    return get(cluster, PODS, name).spec.node_name


NODES_AB = (a_node("a"), a_node("b"))


@given(choices, st.integers(1, 3), st.lists(st.sampled_from("ab"), min_size=1, max_size=3))
def test_sched_41_sched_42_sched_43_pods_run_where_their_volumes_are(drawn, pods, places):
    """As many pods as there are volumes are bound, each on the node of its volume."""
    volumes = [on(a_volume(f"v{n}", "1Gi", "fast"), node) for n, node in enumerate(places)]
    names = [f"c{n}" for n in range(pods)]
    claims = [a_claim(name, "1Gi", "fast") for name in names]
    cluster = world(LAZY, *NODES_AB, *volumes, *claims, *[using(c, name=f"p{c}") for c in names])
    cluster = run(cluster, drawn, nothing_wrong, ["lose", "crash", "twice", "cut", "give up"])
    cluster = settle(cluster, nothing_wrong, seconds_max=400)
    there = {each.metadata.name: each for each in stored(cluster, PERSISTENT_VOLUMES)}
    found = [each for each in stored(cluster, PODS) if each.spec.node_name]
    assert len(found) == min(pods, len(places))
    used = []
    for pod in found:
        claim = get(cluster, PERSISTENT_VOLUME_CLAIMS, pod.metadata.name[1:])
        volume = there[claim.spec.volume_name]
        used.append(volume.metadata.name)
        (term,) = volume.spec.node_affinity.required.node_selector_terms
        assert pod.spec.node_name in term.match_fields[0].values
        assert claim.status.phase == "Bound"
    assert len(set(used)) == len(used)


def test_sched_40_the_pod_is_bound_when_the_claim_is():
    cluster = settle(world(*NODES_AB, using("c")), nothing_wrong, seconds_max=5)
    condition = get(cluster, PODS, "p").status.conditions[0]
    assert condition.message == (
        '0/2 nodes are available: persistentvolumeclaim "c" not found. not found'
    )
    cluster = settle(create(cluster, fresh(a_claim())), nothing_wrong, seconds_max=5)
    condition = get(cluster, PODS, "p").status.conditions[0]
    assert condition.message == f"0/2 nodes are available: {UNBOUND}. not found"
    cluster = settle(create(cluster, fresh(on(a_volume(), "b"))), nothing_wrong, seconds_max=20)
    assert place(cluster) == "b"


def test_sched_41_the_message_counts_the_nodes():
    volume = on(a_volume(), "c")
    cluster = settle(world(*NODES_AB, a_claim(), volume, using("c")), nothing_wrong, seconds_max=20)
    assert get(cluster, PERSISTENT_VOLUME_CLAIMS, "c").status.phase == "Bound"
    condition = get(cluster, PODS, "p").status.conditions[0]
    assert condition.message.startswith(
        "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity."
    )


def test_sched_43_a_volume_that_is_never_provisioned_frees_the_node():
    made = a_class("fast", provisioner="x.example.com", mode="WaitForFirstConsumer")
    cluster = world(made, a_node("a"), a_claim(storage_class="fast"), using("c"))
    cluster = settle(cluster, nothing_wrong, seconds_max=30)
    claim = get(cluster, PERSISTENT_VOLUME_CLAIMS, "c")
    assert claim.metadata.annotations[SELECTED_NODE] == "a" and not place(cluster)
    assert stored(cluster, STORAGE_CLASSES) and claim.spec.access_modes == (RWO,)
    loop = cluster.machines["kube-scheduler"]
    memory = cluster.components["kube-scheduler"].state.memories[loop.memory_names[SCHEDULER.name]]
    assert list(memory.decisions) == ["default/p"]
    late = memory.decisions["default/p"].since + DEFAULT_ARGUMENTS.bind_timeout
    view = view_of(SCHEDULER, get(cluster, PODS, "p"), made, a_node("a"), claim)
    plan = SCHEDULER.reconcile(view, "default/p", late - SECOND, Local(memory=memory))
    assert list(plan.memory.decisions)
    plan = SCHEDULER.reconcile(view, "default/p", late, Local(memory=memory))
    assert not len(plan.memory.decisions) and list(plan.memory.queue.active) == ["default/p"]
