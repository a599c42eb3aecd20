"""Claims and volumes (spec/workloads/volume_binding.md)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from runs import choices, run
from workload_helpers import (
    NOW,
    change,
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
from refk8s.core.api.core_v1 import (
    ObjectReference,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    VolumeNodeAffinity,
)
from refk8s.core.api.default_class import default_class
from refk8s.core.api.meta_v1 import LabelSelector, ObjectMeta
from refk8s.core.api.request import Response
from refk8s.core.api.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from refk8s.core.api.storage_v1 import StorageClass
from refk8s.core.cluster.step import start_all
from refk8s.core.controllers.claim_binding import PROVISIONER, ClaimBinder
from refk8s.core.controllers.ephemeral_volume import EphemeralVolume
from refk8s.core.controllers.protection import ClaimProtection, VolumeProtection
from refk8s.core.controllers.volume_phase import VolumePhase
from refk8s.core.loop.plan import Local
from refk8s.core.loop.view import controller_of
from refk8s.core.pods.volumes import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    DEFAULT_CLASS_ANNOTATIONS,
    SELECTED_NODE,
    best_volume,
    reaches,
    why_not_bound,
)
from refk8s.core.properties.predicates.volume_binding import (
    vol_1_a_reservation_is_not_taken_over,
    vol_2_bound_volumes_fit,
    vol_7_phases,
)

BINDER, PHASES, EPHEMERAL = ClaimBinder(), VolumePhase(), EphemeralVolume()
RWO, ROX = "ReadWriteOnce", "ReadOnlyMany"


def a_claim(name="c", size="1Gi", storage_class="", modes=(RWO,), volume=None, **parts):
    tree = {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {
            "accessModes": list(modes), "resources": {"requests": {"storage": size}}, "volumeName": volume,
            "storageClassName": storage_class,
        },
        "status": {"phase": "Pending"},
    }  # fmt: skip
    made = codec.decode_tolerant(PersistentVolumeClaim, tree)[0]
    return change(made, **parts)


def a_volume(
    name="v", size="1Gi", storage_class="", modes=(RWO,), claim=None, phase="Available", **parts
):
    tree = {
        "metadata": {"name": name, "uid": f"uid-{name}"},
        "spec": {
            "accessModes": list(modes), "capacity": {"storage": size}, "storageClassName": storage_class,
            "hostPath": {"path": "/x"},
        },
        "status": {"phase": phase},
    }  # fmt: skip
    made = codec.decode_tolerant(PersistentVolume, tree)[0]
    if claim is not None:
        made = change(made, claim_ref=reference(claim))
    return change(made, **parts)


def reference(claim, uid=True):
    return ObjectReference(
        kind="PersistentVolumeClaim", namespace="default", name=claim.metadata.name, uid=claim.metadata.uid if uid else None
    )  # fmt: skip


def a_class(
    name="fast",
    provisioner="csi.example.com",
    mode="Immediate",
    default=False,
    at="2026-01-01T00:00:00Z",
):
    marks = {"storageclass.kubernetes.io/is-default-class": "true"} if default else None
    return StorageClass(
        metadata=ObjectMeta(name=name, uid=f"uid-{name}", annotations=marks, creation_timestamp=at),
        provisioner=provisioner, reclaim_policy="Delete", volume_binding_mode=mode,
    )  # fmt: skip


def planned(claim, *others):
    key = f"default/{claim.metadata.name}"
    return BINDER.reconcile(view_of(BINDER, claim, *others), key, NOW, Local())


def written(plan):
    """The one object that the plan writes, or None."""
    requests = plan.requests
    assert len(requests) < 2
    return requests[0].body if requests else None


def reasons(plan):
    return [note.reason for note in plan.notes]


# --- choosing -------------------------------------------------------------------------------------

sizes = st.sampled_from(["1Gi", "2Gi", "3Gi", "5Gi"])
classes = st.sampled_from(["", "fast"])
modes = st.sampled_from([(RWO,), (ROX,), (RWO, ROX)])


@given(
    sizes,
    classes,
    modes,
    st.lists(
        st.tuples(sizes, classes, modes, st.sampled_from(["Available", "Bound", "Released", None])),
        max_size=6,
    ),
)
def test_vol_2_vol_3_the_smallest_volume_that_fits(size, storage_class, wanted, drawn):
    claim = a_claim("c", size, storage_class, wanted)
    volumes = [a_volume(f"v{n}", s, c, m, phase=p) for n, (s, c, m, p) in enumerate(drawn)]
    fitting = sorted(
        (int(s[0]), f"v{n}")
        for n, (s, c, m, p) in enumerate(drawn)
        if p == "Available"
        and int(s[0]) >= int(size[0])
        and c == storage_class
        and set(wanted) <= set(m)
    )
    found = best_volume(claim, volumes)
    assert (found.metadata.name if found else None) == (fitting[0][1] if fitting else None)


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (a_volume(size="512Mi"), "requested PV is too small"),
        (a_volume(storage_class="slow"), "storageClassName does not match"),
        (a_volume(modes=(ROX,)), "incompatible accessMode"),
        (a_volume(volume_mode="Block"), "incompatible volumeMode"),
        (a_volume(deletion_timestamp="2026-01-01T00:00:00Z"), 'the volume is marked for deletion "v"'),
        (a_volume(), ""),
    ],
)  # fmt: skip
def test_vol_2_a_named_volume_must_fit(volume, words):
    claim = a_claim(volume="v")
    assert why_not_bound(volume, claim) == words
    plan = planned(claim, volume)
    if words:
        assert written(plan) is None and reasons(plan) == ["VolumeMismatch"]
        assert plan.notes[0].message == f'Cannot bind to requested volume "v": {words}'
    else:
        assert written(plan).spec.claim_ref.uid == "uid-c"


def test_vol_2_the_selector_counts():
    tree = {"matchLabels": {"disk": "ssd"}}
    claim = change(a_claim(), selector=LabelSelector(match_labels=tree["matchLabels"]))
    plain, marked = a_volume("a"), a_volume("b", "9Gi", labels={"disk": "ssd"})
    assert best_volume(claim, [plain, marked]) is marked
    assert best_volume(claim, [plain]) is None


def test_vol_3_a_reserved_volume_comes_first():
    claim = a_claim()
    small, big = a_volume("a"), a_volume("b", "9Gi", claim_ref=reference(a_claim(), uid=False))
    assert best_volume(claim, [small, big]) is big
    other = a_volume("b", "9Gi", claim_ref=reference(a_claim("other"), uid=False))
    assert best_volume(claim, [other]) is None
    earlier = change(a_volume("b"), claim_ref=replace(reference(claim), uid="uid-earlier"))
    assert best_volume(claim, [earlier]) is None


def test_a_volume_reaches_the_nodes_of_its_affinity():
    tree = {
        "required": {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "rack", "operator": "In", "values": ["r1"]}]}
            ]
        }
    }
    volume = change(a_volume(), node_affinity=codec.from_tree(VolumeNodeAffinity, tree))
    assert reaches(volume, "n", {"rack": "r1"}) and not reaches(volume, "n", {"rack": "r2"})
    assert reaches(a_volume(), "n", {})


# --- binding --------------------------------------------------------------------------------------


def test_vol_1_the_volume_is_written_first_and_then_the_claim():
    claim, volume = a_claim(), a_volume("v", "2Gi")
    reserved = written(planned(claim, volume))
    assert reserved.spec.claim_ref.uid == "uid-c"
    assert reserved.metadata.annotations == {BOUND_BY_CONTROLLER: "yes"}
    named = written(planned(claim, reserved))
    assert named.spec.volume_name == "v"
    assert named.metadata.annotations == {BIND_COMPLETED: "yes", BOUND_BY_CONTROLLER: "yes"}
    bound = written(planned(named, reserved))
    assert bound.status.phase == "Bound" and bound.status.capacity == {"storage": "2Gi"}
    assert bound.status.access_modes == (RWO,)
    assert written(planned(bound, reserved)) is None


def test_vol_1_what_users_chose_bears_no_mark_of_the_controller():
    claim = a_claim(volume="v")
    by_user = a_volume(claim_ref=reference(claim, uid=False))
    reserved = written(planned(claim, by_user))
    assert reserved.metadata.annotations is None and reserved.spec.claim_ref.uid == "uid-c"
    named = written(planned(claim, reserved))
    assert named.metadata.annotations == {BIND_COMPLETED: "yes"}
    taken = a_volume(claim=a_claim("other"))
    assert written(planned(claim, taken)) is None and written(planned(claim)) is None
    dying = change(a_claim(), deletion_timestamp="2026-01-01T00:00:00Z")
    assert written(planned(dying, a_volume())) is None


def test_vol_4_a_claim_says_for_what_it_waits():
    assert reasons(planned(a_claim())) == ["FailedBinding"]
    lazy = a_class(mode="WaitForFirstConsumer")
    waiting = a_claim(storage_class="fast")
    fits = a_volume(storage_class="fast")
    plan = planned(waiting, lazy, fits)
    assert reasons(plan) == ["WaitForFirstConsumer"] and written(plan) is None
    chosen = change(waiting, annotations={SELECTED_NODE: "n1"})
    assert written(planned(chosen, lazy, fits)).metadata.name == "v"
    reserved = change(fits, claim_ref=reference(waiting))
    assert written(planned(waiting, lazy, reserved)).spec.volume_name == "v"
    assert reasons(planned(waiting)) == ["ProvisioningFailed"]
    assert reasons(planned(waiting, a_class(provisioner="kubernetes.io/no-provisioner"))) == [
        "ProvisioningFailed"
    ]
    plan = planned(waiting, a_class())
    assert reasons(plan) == ["ExternalProvisioning"]
    asked = written(plan)
    assert asked.metadata.annotations[PROVISIONER] == "csi.example.com"
    assert written(planned(asked, a_class())) is None


def test_vol_5_a_claim_without_a_class_gets_the_default_one():
    without = a_claim(storage_class=None)
    assert written(planned(without, a_class(default=True))).spec.storage_class_name == "fast"
    assert reasons(planned(without, a_class())) == ["FailedBinding"]
    assert written(planned(a_claim(), a_class(default=True))) is None
    marks = DEFAULT_CLASS_ANNOTATIONS
    older, newer = a_class("z", default=True), a_class("b", default=True, at="2026-02-01T00:00:00Z")
    assert default_class([older, newer, a_class("a", default=True)], marks) == "b"
    assert default_class([older, a_class("a", default=True)], marks) == "a"


def bound(claim=None, **parts):
    claim = claim or a_claim(volume="v", annotations={BIND_COMPLETED: "yes"})
    status = replace(claim.status, phase="Bound", access_modes=(RWO,), capacity={"storage": "1Gi"})
    return change(replace(claim, status=status), **parts)


def test_vol_6_a_claim_loses_its_volume():
    claim = bound()
    for others in ((), (a_volume(claim=a_claim("other")),)):
        plan = planned(claim, *others)
        status = written(plan).status
        assert (status.phase, status.access_modes, status.capacity) == ("Lost", None, None)
        assert reasons(plan) == ["ClaimMisbound" if others else "ClaimLost"]
        assert not planned(written(plan), *others).notes
    assert written(planned(bound(change(claim, volume_name=None)))).status.phase == "Lost"
    again = written(planned(claim, a_volume()))
    assert again.spec.claim_ref.uid == "uid-c"
    lost = replace(claim, status=replace(claim.status, phase="Lost"))
    assert written(planned(lost, a_volume(claim=claim))).status.phase == "Bound"


# --- phases ---------------------------------------------------------------------------------------


def phase_of(volume, *others, memory=None):
    local = Local(memory=memory if memory is not None else Map())
    return PHASES.reconcile(view_of(PHASES, volume, *others), "v", NOW, local)


def test_vol_7_the_phase_follows_from_the_claim():
    assert written(phase_of(a_volume(phase=None))).status.phase == "Available"
    assert written(phase_of(a_volume())) is None
    half = a_volume(phase=None, claim_ref=reference(a_claim(), uid=False))
    assert written(phase_of(half)).status.phase == "Available"
    reserved = a_volume(claim=a_claim())
    assert written(phase_of(reserved, bound())).status.phase == "Bound"
    assert not phase_of(reserved, a_claim()).requests


def test_vol_7_a_claim_counts_as_gone_when_the_api_server_says_so():
    volume = a_volume(claim=a_claim(), phase="Bound")
    plan = phase_of(volume)
    assert not plan.requests and [q.verb for q in plan.queries] == ["get"]
    memory = plan.memory

    def told(code, body=None):
        after, keys = PHASES.answered(memory, "v", plan.queries[0], Response(code, body), NOW)
        return after, list(keys)

    assert told(200, a_claim()) == (memory, [])
    assert told(503) == (memory, [])
    assert PHASES.answered(memory, "v", plan.queries[0], None, NOW)[0] is memory
    gone, keys = told(404)
    assert keys == ["v"] and written(phase_of(volume, memory=gone)).status.phase == "Released"
    gone, keys = told(200, change(a_claim(), uid="uid-later"))
    assert keys == ["v"]
    other = change(volume, claim_ref=replace(volume.spec.claim_ref, uid="uid-x"))
    assert not phase_of(other, memory=gone).requests
    assert not phase_of(change(volume, phase="Released")).queries
    view = view_of(PHASES)
    assert PHASES.reconcile(view, "v", NOW, Local(memory=gone)).memory == Map()


def test_vol_8_a_volume_of_a_claim_with_another_volume_becomes_free():
    elsewhere = bound(a_claim(volume="w"))
    ours = a_volume(claim=a_claim(), annotations={BOUND_BY_CONTROLLER: "yes"})
    freed = written(phase_of(ours, elsewhere))
    assert freed.spec.claim_ref is None and freed.metadata.annotations is None
    users = written(phase_of(a_volume(claim=a_claim()), elsewhere))
    assert users.spec.claim_ref.name == "c" and users.spec.claim_ref.uid is None


# --- provisioning ---------------------------------------------------------------------------------

LOCAL = a_class("local", provisioner="refk8s.io/local-path", mode="WaitForFirstConsumer")


def test_vol_10_a_volume_is_a_directory_of_the_selected_node():
    waiting = a_claim(storage_class="local", size="2Gi")
    assert reasons(planned(waiting, LOCAL)) == ["WaitForFirstConsumer"]
    chosen = change(waiting, annotations={SELECTED_NODE: "n1"})
    made = written(planned(chosen, LOCAL))
    assert made.metadata.name == "pvc-uid-c" and made.spec.claim_ref.uid == "uid-c"
    assert made.spec.host_path.path == "/var/lib/refk8s/volumes/pvc-uid-c"
    assert made.spec.host_path.type == "DirectoryOrCreate"
    assert made.spec.capacity == {"storage": "2Gi"}
    assert made.spec.persistent_volume_reclaim_policy == "Delete"
    assert reaches(made, "x", {"kubernetes.io/hostname": "n1"})
    assert not reaches(made, "x", {"kubernetes.io/hostname": "n2"})
    named = written(planned(chosen, LOCAL, made))
    assert named.spec.volume_name == "pvc-uid-c"
    taken = change(made, claim_ref=reference(a_claim("other")))
    assert written(planned(chosen, LOCAL, taken)) is None
    elsewhere = replace(LOCAL, parameters={"path": "/srv/"})
    assert written(planned(chosen, elsewhere)).spec.host_path.path == "/srv/pvc-uid-c"
    at_once = replace(LOCAL, volume_binding_mode="Immediate")
    plan = planned(waiting, at_once)
    assert reasons(plan) == ["ProvisioningFailed"] and written(plan) is None


def test_vol_10_a_released_volume_is_deleted():
    chosen = a_claim(storage_class="local", annotations={SELECTED_NODE: "n1"})
    made = change(written(planned(chosen, LOCAL)), name="v", phase="Released")
    (request,) = phase_of(made).requests
    assert (request.verb, request.name) == ("delete", "v")
    for kept in (
        change(made, persistent_volume_reclaim_policy="Retain"),
        change(made, annotations=None),
        change(made, deletion_timestamp="2026-01-01T00:00:00Z"),
    ):
        assert not phase_of(kept).requests


def test_vol_11_a_claim_grows_with_its_volume():
    chosen = a_claim(storage_class="local", annotations={SELECTED_NODE: "n1"})
    volume = change(written(planned(chosen, LOCAL)), name="v", phase="Bound")
    claim = bound(
        a_claim(size="3Gi", storage_class="local", volume="v", annotations={BIND_COMPLETED: "yes"})
    )
    larger = written(planned(claim, volume))
    assert larger.spec.capacity == {"storage": "3Gi"}
    done = written(planned(claim, larger))
    assert done.status.capacity == {"storage": "3Gi"} and written(planned(done, larger)) is None
    plan = planned(claim, change(volume, annotations=None))
    assert written(plan) is None and reasons(plan) == ["ExternalExpanding"]


# --- ephemeral volumes ----------------------------------------------------------------------------


def a_pod(name="p"):
    template = {
        "metadata": {"labels": {"l": "x"}},
        "spec": {"accessModes": [RWO], "resources": {"requests": {"storage": "1Gi"}}},
    }
    tree = {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {"containers": [{"name": "c", "image": "x"}], "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}]},
    }  # fmt: skip
    return codec.decode_tolerant(Pod, tree)[0]


def ephemeral(pod, *others):
    return EPHEMERAL.reconcile(view_of(EPHEMERAL, pod, *others), "default/p", NOW, Local())


def test_vol_9_a_pod_gets_the_claims_of_its_ephemeral_volumes():
    made = written(ephemeral(a_pod()))
    assert made.metadata.name == "p-v" and made.metadata.labels == {"l": "x"}
    assert controller_of(made).uid == "uid-p" and made.spec.access_modes == (RWO,)
    assert not ephemeral(a_pod(), made).requests and not ephemeral(a_pod(), made).notes
    plan = ephemeral(a_pod(), a_claim("p-v"))
    assert not plan.requests and plan.failed
    assert plan.notes[0].message.endswith(
        "PVC default/p-v was not created for pod default/p (pod is not owner)"
    )
    assert not ephemeral(change(a_pod(), deletion_timestamp="2026-01-01T00:00:00Z")).requests
    (interest,) = [one for one in EPHEMERAL.interests if one.resource is PERSISTENT_VOLUME_CLAIMS]
    assert list(interest.keys(None, made, None)) == ["default/p"]
    assert list(interest.keys(None, None, made)) == []


# --- runs -----------------------------------------------------------------------------------------


def nothing_taken(before, after):
    known = {each.metadata.name: each for each in stored(before, PERSISTENT_VOLUMES)}
    for volume in stored(after, PERSISTENT_VOLUMES):
        if volume.metadata.name in known:
            yield from vol_1_a_reservation_is_not_taken_over(known[volume.metadata.name], volume)


@given(
    choices,
    st.lists(st.tuples(sizes, classes), min_size=1, max_size=4),
    st.lists(st.tuples(sizes, classes), min_size=1, max_size=4),
    st.booleans(),
)
def test_vol_1_vol_2_vol_7_after_any_run_claims_and_volumes_agree(drawn, claims, volumes, removes):
    cluster = new_cluster(BINDER, PHASES, ClaimProtection(), VolumeProtection())
    for n, (size, storage_class) in enumerate(volumes):
        made = change(a_volume(f"v{n}", size, storage_class), uid=None)
        cluster = create(cluster, replace(made, status=type(made.status)()))
    for n, (size, storage_class) in enumerate(claims):
        made = change(a_claim(f"c{n}", size, storage_class), uid=None)
        cluster = create(cluster, replace(made, status=type(made.status)()))
    cluster = start_all(cluster)
    faults = ["lose", "give up", "cut", "crash", "twice"]
    cluster = run(cluster, drawn, nothing_taken, faults)
    if removes:
        cluster = remove(cluster, PERSISTENT_VOLUME_CLAIMS, "c0")
        cluster = run(cluster, drawn, nothing_taken, faults)
    cluster = settle(cluster, nothing_taken, seconds_max=120)
    bound, volumes = stored(cluster, PERSISTENT_VOLUME_CLAIMS), stored(cluster, PERSISTENT_VOLUMES)
    assert not list(vol_2_bound_volumes_fit(bound, volumes))
    assert not list(vol_7_phases(bound, volumes))
    for claim in bound:  # no claim waits while a volume would do
        if claim.status.phase == "Pending":
            assert best_volume(claim, volumes) is None


def test_vol_5_the_default_class_comes_later():
    cluster = new_cluster(BINDER, PHASES)
    early = change(a_claim("c", storage_class=None), uid=None)
    cluster = settle(start_all(create(cluster, early)))
    assert get(cluster, PERSISTENT_VOLUME_CLAIMS, "c").spec.storage_class_name is None
    cluster = settle(
        create(cluster, change(a_class(default=True), uid=None, creation_timestamp=None))
    )
    assert get(cluster, PERSISTENT_VOLUME_CLAIMS, "c").spec.storage_class_name == "fast"
    assert stored(cluster, STORAGE_CLASSES)


def test_vol_7_a_released_volume_is_free_when_its_claim_ref_is_removed():
    cluster = start_all(new_cluster(BINDER, PHASES, ClaimProtection(), VolumeProtection()))
    cluster = create(cluster, change(a_volume(), uid=None), change(a_claim(), uid=None))
    cluster = settle(cluster)
    assert get(cluster, PERSISTENT_VOLUME_CLAIMS, "c").status.phase == "Bound"
    cluster = settle(remove(cluster, PERSISTENT_VOLUME_CLAIMS, "c"))
    assert get(cluster, PERSISTENT_VOLUMES, "v").status.phase == "Released"
    cluster = settle(create(cluster, change(a_claim("d"), uid=None)))
    assert get(cluster, PERSISTENT_VOLUME_CLAIMS, "d").status.phase == "Pending"
    cluster = settle(patch(cluster, PERSISTENT_VOLUMES, "v", {"spec": {"claimRef": None}}))
    assert get(cluster, PERSISTENT_VOLUME_CLAIMS, "d").status.phase == "Bound"
