"""StatefulSet (spec/workloads/stateful_set.md): pods with an identity, in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from workload_helpers import (
    LABELS,
    NOW,
    ago,
    change,
    choices,
    create,
    get,
    live,
    make_ready,
    new_cluster,
    patch,
    plan_for,
    pod,
    pods_of,
    reference_to,
    sent,
    settle,
    settle_with_nodes,
    started,
    stateful_set,
    stored,
    template,
    view_of,
    with_status,
)

from refk8s.core.api.apps_v1 import (
    ControllerRevision,
    StatefulSetOrdinals,
    StatefulSetPersistentVolumeClaimRetentionPolicy,
)
from refk8s.core.api.core_v1 import PersistentVolumeClaim, PodCondition
from refk8s.core.api.meta_v1 import ObjectMeta, StatusDetails
from refk8s.core.api.request import Response
from refk8s.core.api.resources import (
    CONTROLLER_REVISIONS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    STATEFUL_SETS,
)
from refk8s.core.api.status import failure
from refk8s.core.cluster.step import start_all
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers.controller_revisions import template_data
from refk8s.core.controllers.stateful_set import StatefulSetReconciler
from refk8s.core.controllers.stateful_set_claims import sets_of_claim
from refk8s.core.controllers.stateful_set_pods import ORDINAL_MAX, ordinal_of
from refk8s.core.controllers.stateful_set_steps import BURST_MAX
from refk8s.core.loop.plan import Local
from refk8s.core.properties.predicates.owners import own_1_acts_only_on_its_own
from refk8s.core.properties.predicates.stateful_set import (
    sts_1_settled,
    sts_2_one_pod_for_each_ordinal,
    sts_4_one_at_a_time,
    sts_6_updates_within_bounds,
)

STS = StatefulSetReconciler()
OURS = stateful_set("web")
HASH = "controller-revision-hash"


def revision_of(owner, number=1, name="web-new"):
    """The stored revision of the owner's template."""
    return ControllerRevision(
        metadata=ObjectMeta(
            name=name, namespace="default", uid=f"uid-{name}", labels=LABELS, owner_references=(reference_to(owner),),
        ),
        data=template_data(owner.spec.template), revision=number,
    )  # fmt: skip


OLD = revision_of(change(OURS, template=template("0")), 1, "web-old")
NEW = revision_of(OURS, 2)


def a_pod(ordinal, ready=True, revision="web-new", owner=OURS, **parts):
    name = f"{owner.metadata.name}-{ordinal}"
    labels = {**LABELS, HASH: revision, "statefulset.kubernetes.io/pod-name": name}
    return pod(name, owner, ready=ready, labels=labels, **parts)


def a_claim(name, owner=None, **parts):
    owners = (reference_to(owner),) if owner is not None else None
    metadata = ObjectMeta(
        name=name, namespace="default", uid=f"uid-{name}", owner_references=owners
    )
    return change(PersistentVolumeClaim(metadata=metadata), **parts)


def retention(owner, deleted="Retain", scaled="Retain"):
    policy = StatefulSetPersistentVolumeClaimRetentionPolicy(
        when_deleted=deleted, when_scaled=scaled
    )
    return change(owner, persistent_volume_claim_retention_policy=policy)


def names(requests):
    return [request.name or request.body.metadata.name for request in requests]


def made(plan):
    return names(sent(plan, "create", PODS))


def deleted(plan):
    return names(sent(plan, "delete", PODS))


@st.composite
def owners(draw):
    owner = stateful_set(
        "web",
        replicas=draw(st.integers(0, 4)),
        partition=draw(st.sampled_from([0, 0, 1, 2, 9])),
        max_unavailable=draw(st.sampled_from([None, None, 1, 2, "50%"])),
        claims=draw(st.sampled_from([(), ("data",)])),
        pod_management_policy=draw(st.sampled_from(["OrderedReady", "OrderedReady", "Parallel"])),
        min_ready_seconds=draw(st.sampled_from([None, 10, 60])),
    )
    if draw(st.integers(0, 3)) == 0:
        owner = change(owner, ordinals=StatefulSetOrdinals(start=draw(st.integers(1, 2))))
    if draw(st.integers(0, 4)) == 0:
        strategy = change(owner).spec.update_strategy

        owner = change(
            owner, update_strategy=replace(strategy, type="OnDelete", rolling_update=None)
        )
    owner = retention(
        owner,
        draw(st.sampled_from(["Retain", "Delete"])),
        draw(st.sampled_from(["Retain", "Delete"])),
    )
    return with_status(owner, current_revision=draw(st.sampled_from([None, "web-old", "web-new"])))


@st.composite
def pods(draw):
    found = []
    for ordinal in draw(st.sets(st.integers(0, 6), max_size=6)):
        state = draw(st.sampled_from(["ready"] * 4 + ["pending", "unready", "Failed", "Succeeded"]))
        one = a_pod(ordinal, state == "ready", draw(st.sampled_from(["web-new", "web-old"])))
        if state == "unready":
            one = change(
                one, phase="Running", conditions=(PodCondition(type="Ready", status="False"),)
            )
        elif state in ("Failed", "Succeeded"):
            one = change(one, phase=state)
        if draw(st.integers(0, 6)) == 0:
            one = change(one, deletion_timestamp=ago(1))
        found.append(one)
    return found


@given(owners(), pods())
def test_sts_2_sts_4_sts_6_whatever_the_pods_are_a_plan_stays_within_bounds(owner, found):
    plan = plan_for(STS, owner, OLD, NEW, *found)

    view = view_of(STS, owner, OLD, NEW, *found)
    assert not list(sts_2_one_pod_for_each_ordinal(view, owner, plan))
    assert not list(sts_4_one_at_a_time(view, owner, plan, NOW))
    assert not list(sts_6_updates_within_bounds(view, owner, plan, NOW))
    assert not list(own_1_acts_only_on_its_own(view, owner, PODS, plan))
    assert len(plan.requests) <= 3 * BURST_MAX


# --- runs -----------------------------------------------------------------------------------------


def scale(replicas):
    return lambda cluster: patch(cluster, STATEFUL_SETS, "web", {"spec": {"replicas": replicas}})


def upgrade(version):
    document = {"spec": {"template": {"metadata": {"labels": {**LABELS, "v": version}}}}}
    return lambda cluster: patch(cluster, STATEFUL_SETS, "web", document)


def as_parallel(owner, is_parallel):
    return change(owner, pod_management_policy="Parallel") if is_parallel else owner


@given(st.booleans(), choices, st.booleans())
def test_sts_1_after_any_run_there_is_one_ready_pod_for_each_ordinal(is_parallel, drawn, claims):
    owner = as_parallel(stateful_set("web", claims=("data",) if claims else ()), is_parallel)
    cluster = start_all(create(new_cluster(STS), owner))
    users = [scale(0), scale(2), scale(4), upgrade("2"), upgrade("3")]
    kinds = ("ready", "unready", "finish", "die", "vanish")
    cluster = live(cluster, drawn, lambda a, b: (), kinds, ("crash", "lose", "twice"), users)
    cluster = settle_with_nodes(cluster, 120)
    (one,) = stored(cluster, STATEFUL_SETS)
    assert not list(sts_1_settled(one, stored(cluster, PODS), cluster.now))
    assert len(pods_of(cluster, one)) == one.spec.replicas
    assert one.status.current_revision == one.status.update_revision
    assert one.status.updated_replicas == (one.spec.replicas or None)


# --- identity -------------------------------------------------------------------------------------


@given(st.integers(0, ORDINAL_MAX), st.sampled_from(["web", "a-1", "x"]))
def test_sts_2_a_pod_is_named_after_its_ordinal(ordinal, name):
    assert ordinal_of(name, f"{name}-{ordinal}") == ordinal
    assert ordinal_of(name, f"{name}-0{ordinal}") is None
    assert ordinal_of(name, f"{name}x-{ordinal}") is None
    assert ordinal_of(name, f"{name}-{ordinal}x") is None


@pytest.mark.parametrize(
    "name",
    ["web", "web-", "web--1", "web-x", "web-00", "web-²", "web-2147483648", "web-" + "9" * 99],
)
def test_sts_2_other_names_are_no_ordinals(name):
    assert ordinal_of("web", name) is None
    orphan = pod(name)
    assert not sent(plan_for(STS, OURS, NEW, orphan), "patch", PODS)
    (release,) = sent(plan_for(STS, OURS, NEW, pod(name, OURS)), "patch", PODS)
    assert release.name == name


def test_sts_2_a_name_of_another_owner_blocks_and_is_reported():
    for other in (pod("web-0", labels={"x": "y"}), pod("web-0", stateful_set("other"))):
        plan = plan_for(STS, OURS, NEW, other)
        assert not made(plan) and plan.failed
        (note,) = plan.notes
        assert (note.type, note.reason) == ("Warning", "FailedCreate")
        assert note.message == (
            'create Pod web-0 in StatefulSet web failed error: pods "web-0" already exists'
        )


def test_sts_2_an_orphan_of_the_set_is_adopted():
    (adoption,) = sent(plan_for(STS, OURS, NEW, pod("web-1")), "patch", PODS)
    assert adoption.name == "web-1"


def test_sts_3_a_pod_has_its_identity():
    owner = stateful_set("web", claims=("data", "logs"), ordinals=StatefulSetOrdinals(start=7))
    (creation,) = sent(plan_for(STS, owner, revision_of(owner)), "create", PODS)
    one = creation.body
    assert one.metadata.name == "web-7" and one.metadata.generate_name == "web-"
    assert one.metadata.labels == {
        **LABELS,
        "statefulset.kubernetes.io/pod-name": "web-7",
        "apps.kubernetes.io/pod-index": "7",
        HASH: "web-new",
    }
    assert (one.spec.hostname, one.spec.subdomain) == ("web-7", "web")
    claims = {v.name: v.persistent_volume_claim.claim_name for v in one.spec.volumes}
    assert claims == {"data": "data-web-7", "logs": "logs-web-7"}


def test_sts_3_an_adopted_pod_gets_its_labels_when_it_is_healthy():
    bare = [pod(f"web-{n}", OURS, ready=ready) for n, ready in ((0, True), (1, False))]
    (update,) = sent(plan_for(STS, OURS, NEW, *bare), "update", PODS)
    assert update.name == "web-0"
    assert update.body.metadata.labels["apps.kubernetes.io/pod-index"] == "0"
    assert update.body.metadata.labels["statefulset.kubernetes.io/pod-name"] == "web-0"
    parallel = as_parallel(OURS, True)
    updates = sent(plan_for(STS, parallel, NEW, *bare), "update", PODS)
    assert names(updates) == ["web-0", "web-1"]
    claimed = stateful_set("web", claims=("data",))
    (update,) = sent(plan_for(STS, claimed, NEW, a_pod(0, owner=claimed)), "update", PODS)
    assert update.body.spec.volumes[0].persistent_volume_claim.claim_name == "data-web-0"


# --- order ----------------------------------------------------------------------------------------


def test_sts_4_the_next_pod_waits_for_the_one_before():
    assert made(plan_for(STS, OURS, NEW)) == ["web-0"]
    assert made(plan_for(STS, OURS, NEW, a_pod(0, ready=False))) == []
    assert made(plan_for(STS, OURS, NEW, a_pod(0))) == ["web-1"]
    assert made(plan_for(STS, OURS, NEW, a_pod(1))) == ["web-0"]
    assert made(plan_for(STS, OURS, NEW, a_pod(0, deletion_timestamp=ago(1)), a_pod(1))) == []
    slow = change(OURS, min_ready_seconds=60)
    plan = plan_for(STS, slow, NEW, a_pod(0))
    assert made(plan) == [] and plan.wake_at == NOW + 30 * SECOND


def test_sts_4_scaling_down_goes_from_the_top():
    one = stateful_set("web", replicas=1)
    everyone = [a_pod(n, owner=one) for n in range(4)]
    assert deleted(plan_for(STS, one, NEW, *everyone)) == ["web-3"]
    everyone[3] = change(everyone[3], deletion_timestamp=ago(1))
    assert deleted(plan_for(STS, one, NEW, *everyone)) == []
    everyone[3] = a_pod(3, ready=False, owner=one)
    assert deleted(plan_for(STS, one, NEW, *everyone)) == ["web-3"]
    everyone[1] = a_pod(1, ready=False, owner=one)
    assert deleted(plan_for(STS, one, NEW, *everyone)) == []
    assert deleted(plan_for(STS, one, NEW, a_pod(0, ready=False), a_pod(1))) == []
    started_at_two = change(OURS, ordinals=StatefulSetOrdinals(start=2), replicas=1)
    assert deleted(plan_for(STS, started_at_two, NEW, a_pod(0), a_pod(2), a_pod(9))) == ["web-9"]


def test_sts_5_parallel_waits_for_nothing_and_has_a_bound():
    owner = as_parallel(stateful_set("web", claims=("data",)), True)
    plan = plan_for(STS, owner, NEW, a_pod(1, ready=False, owner=owner), a_pod(5), a_pod(4))
    assert made(plan) == ["web-0", "web-2"] and deleted(plan) == ["web-5", "web-4"]
    order = [(r.resource.kind, r.verb) for r in plan.requests if r.verb == "create"]
    assert order.index(("PersistentVolumeClaim", "create")) < order.index(("Pod", "create"))
    many = as_parallel(stateful_set("web", replicas=2**31 - 1), True)
    plan = plan_for(STS, many, NEW)
    assert len(made(plan)) == BURST_MAX
    sizes = [len(wave) for wave in plan.waves if wave]
    assert sizes[:4] == [1, 2, 4, 8]
    down = as_parallel(stateful_set("web", replicas=0), True)
    gone = [a_pod(n, owner=down) for n in range(BURST_MAX + 3)]
    assert len(deleted(plan_for(STS, down, NEW, *gone))) == BURST_MAX


# --- updates --------------------------------------------------------------------------------------


def old(ordinal, **parts):
    return a_pod(ordinal, revision="web-old", **parts)


def test_sts_6_a_rolling_update_goes_from_the_top():
    updating = with_status(OURS, current_revision="web-old")
    history = (OLD, NEW)
    assert deleted(plan_for(STS, updating, *history, old(0), old(1), old(2))) == ["web-2"]
    assert deleted(plan_for(STS, updating, *history, old(0), old(1), a_pod(2))) == ["web-1"]
    waiting = [old(0), old(1), a_pod(2, ready=False)]
    assert deleted(plan_for(STS, as_parallel(updating, True), *history, *waiting)) == []
    below = change(updating, update_strategy=stateful_set(partition=2).spec.update_strategy)
    assert deleted(plan_for(STS, below, *history, old(0), old(1), a_pod(2))) == []
    on_delete = change(
        updating, update_strategy=type(updating.spec.update_strategy)(type="OnDelete")
    )
    assert deleted(plan_for(STS, on_delete, *history, old(0), old(1), old(2))) == []


@pytest.mark.parametrize(("most", "gone"), [(1, 1), (2, 2), ("70%", 2), ("10%", 1), ("x", 1)])
def test_sts_6_max_unavailable_pods_at_once(most, gone):
    updating = with_status(stateful_set("web", max_unavailable=most), current_revision="web-old")
    found = deleted(plan_for(STS, updating, OLD, NEW, old(0), old(1), old(2)))
    assert found == ["web-2", "web-1", "web-0"][:gone]
    parallel = as_parallel(updating, True)
    fewer = deleted(plan_for(STS, parallel, OLD, NEW, old(0), old(1), a_pod(2, ready=False)))
    assert fewer == ["web-1"][: gone - 1]


def test_sts_7_below_the_partition_pods_come_back_as_they_were():
    updating = with_status(stateful_set("web", partition=2), current_revision="web-old")
    (creation,) = sent(plan_for(STS, updating, OLD, NEW), "create", PODS)
    assert creation.body.metadata.labels[HASH] == "web-old"
    assert creation.body.spec.containers[0].image == "app:0"
    (creation,) = sent(plan_for(STS, updating, OLD, NEW, old(0), old(1)), "create", PODS)
    assert creation.body.metadata.labels[HASH] == "web-new"
    # a revision that another program wrote, without a template
    strange = change(OLD)

    strange = replace(OLD, data={"spec": []})
    (creation,) = sent(plan_for(STS, updating, strange, NEW), "create", PODS)
    assert creation.body.metadata.labels[HASH] == "web-new"


def test_sts_7_the_update_is_complete_when_all_pods_are_ready():
    updating = with_status(OURS, current_revision="web-old")
    plan = plan_for(STS, updating, OLD, NEW, *[a_pod(n) for n in range(3)])
    (write,) = sent(plan, "update", STATEFUL_SETS, "status")
    status = write.body.status
    assert (status.current_revision, status.update_revision) == ("web-new", "web-new")
    assert (status.current_replicas, status.updated_replicas) == (3, 3)
    plan = plan_for(STS, updating, OLD, NEW, a_pod(0), a_pod(1), a_pod(2, ready=False))
    (write,) = sent(plan, "update", STATEFUL_SETS, "status")
    assert write.body.status.current_revision == "web-old"


# --- claims ---------------------------------------------------------------------------------------

CLAIMED = stateful_set("web", claims=("data",))


def test_sts_8_claims_come_before_their_pod():
    plan = plan_for(STS, CLAIMED, NEW)
    claims, created = [wave for wave in plan.waves if wave]
    assert names(claims) == ["data-web-0"] and names(created) == ["web-0"]
    assert claims[0].body.metadata.labels == LABELS
    plan = plan_for(STS, CLAIMED, NEW, a_claim("data-web-0"))
    assert not sent(plan, "create", PERSISTENT_VOLUME_CLAIMS) and made(plan) == ["web-0"]
    pending = a_pod(0, ready=False, owner=CLAIMED)
    again = sent(plan_for(STS, CLAIMED, NEW, pending), "create", PERSISTENT_VOLUME_CLAIMS)
    assert names(again) == ["data-web-0"]


@pytest.mark.parametrize("when_deleted", ["Retain", "Delete"])
@pytest.mark.parametrize("when_scaled", ["Retain", "Delete"])
def test_sts_9_the_owner_of_a_claim_follows_the_policy(when_deleted, when_scaled):
    owner = retention(stateful_set("web", replicas=1, claims=("data",)), when_deleted, when_scaled)
    members = [a_pod(n, owner=owner) for n in (0, 1)]
    for before in (None, owner, members[1]):
        found = [a_claim("data-web-0"), a_claim("data-web-1", before)]
        plan = plan_for(STS, owner, NEW, *members, *found)
        after = {each.metadata.name: each for each in found} | {
            r.name: r.body for r in sent(plan, "update", PERSISTENT_VOLUME_CLAIMS)
        }
        kinds = {
            name: [one.kind for one in each.metadata.owner_references or ()]
            for name, each in after.items()
        }
        kept = ["StatefulSet"] if when_deleted == "Delete" else []
        scaled_away = ["Pod"] if when_scaled == "Delete" else kept
        assert kinds == {"data-web-0": kept, "data-web-1": scaled_away}
    (claim,) = sent(plan_for(STS, owner, NEW), "create", PERSISTENT_VOLUME_CLAIMS)
    assert bool(claim.body.metadata.owner_references) == (when_deleted == "Delete")


def test_sts_9_claims_of_others_are_left_alone():
    owner = retention(stateful_set("web", replicas=1, claims=("data",)), "Delete", "Delete")
    other = stateful_set("other")
    earlier = change(owner, uid="uid-earlier")
    for before in (other, earlier):
        plan = plan_for(STS, owner, NEW, a_pod(0, owner=owner), a_claim("data-web-0", before))
        assert not sent(plan, "update", PERSISTENT_VOLUME_CLAIMS)
    stale = change(
        a_claim("data-web-0"), owner_references=(reference_to(earlier, controller=False),)
    )
    plan = plan_for(STS, owner, NEW, a_pod(0, owner=owner), stale)
    assert not sent(plan, "update", PERSISTENT_VOLUME_CLAIMS)


def test_sts_10_no_pod_with_a_claim_that_is_about_to_go():
    for claim in (
        a_claim("data-web-0", pod("web-0")),
        a_claim("data-web-0", deletion_timestamp=ago(1)),
    ):
        assert not plan_for(STS, CLAIMED, NEW, claim).requests[:-1]


def test_sts_10_a_claim_makes_its_set_due():

    view = view_of(STS, CLAIMED, stateful_set("a-web", claims=("data",)))
    gone = a_claim("data-web-0")
    assert list(sets_of_claim(view, gone, None)) == ["default/web"]
    assert list(sets_of_claim(view, gone, gone)) == []
    assert list(sets_of_claim(view, gone, change(gone, deletion_timestamp=ago(1))))
    assert list(sets_of_claim(view, a_claim("data-a-web-0"), None)) == ["default/a-web"]
    for name in ("logs-web-0", "data-web", "web-0", "data-web-x"):
        assert list(sets_of_claim(view, a_claim(name), None)) == []


# --- status, events, ends -------------------------------------------------------------------------


def test_sts_11_the_status_counts_and_is_written_once():
    updating = with_status(OURS, current_revision="web-old")
    found = [old(0), old(1, ready=False), a_pod(2)]
    plan = plan_for(STS, updating, OLD, NEW, *found)
    (write,) = sent(plan, "update", STATEFUL_SETS, "status")
    status = write.body.status
    assert (status.replicas, status.ready_replicas, status.available_replicas) == (3, 2, 2)
    assert (status.current_replicas, status.updated_replicas) == (2, 1)
    assert (status.collision_count, status.observed_generation) == (0, 1)
    assert not plan_for(STS, with_status(updating, **{
        name: getattr(status, name) for name in status.__struct_fields__
    }), OLD, NEW, *found).last  # fmt: skip


def test_sts_12_a_set_that_is_going_changes_no_pods():
    going = change(OURS, deletion_timestamp=ago(1), finalizers=("foregroundDeletion",))
    plan = plan_for(STS, going, NEW, a_pod(0), a_pod(7))
    assert not made(plan) and not deleted(plan)
    assert sent(plan, "update", STATEFUL_SETS, "status")
    assert not sent(plan_for(STS, going), "create")
    unselected = change(OURS, template=template())

    unselected = change(
        OURS, template=replace(template(), metadata=ObjectMeta(labels={"other": "x"}))
    )
    plan = plan_for(STS, unselected)
    assert not made(plan) and plan.notes[0].reason == "FailedCreate"


def test_sts_13_what_was_done_and_refused_is_recorded():
    plan = plan_for(STS, CLAIMED, NEW)
    said = [request.note.message for request in plan.requests if request.note is not None]
    assert said == [
        "create Claim data-web-0 Pod web-0 in StatefulSet web success",
        "create Pod web-0 in StatefulSet web successful",
    ]

    def refused(kind, name, owner=CLAIMED, *others):
        body = failure(403, "Forbidden", "exceeded quota", StatusDetails(name=name, kind=kind))
        local = Local(failure=Response(403, body))
        return [
            (n.reason, n.message) for n in plan_for(STS, owner, NEW, *others, local=local).notes
        ]

    assert refused("pods", "web-0") == [
        ("FailedCreate", "create Pod web-0 in StatefulSet web failed error: exceeded quota")
    ]
    assert refused("persistentvolumeclaims", "data-web-0") == [
        (
            "FailedCreate",
            "create Claim data-web-0 for Pod web-0 in StatefulSet web failed error: exceeded quota",
        )
    ]
    assert refused("pods", "web-1") == [] and refused("statefulsets", "web-0") == []
    one = stateful_set("web", replicas=0)
    assert refused("pods", "web-0", one, a_pod(0, owner=one)) == [
        ("FailedDelete", "delete Pod web-0 in StatefulSet web failed error: exceeded quota")
    ]


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
def test_sts_14_a_finished_pod_is_made_again(phase, policy):
    owner = stateful_set("web", replicas=2, pod_management_policy=policy)
    done = a_pod(0, owner=owner, phase=phase)
    plan = plan_for(STS, owner, NEW, done, a_pod(1, owner=owner))
    assert deleted(plan) == ["web-0"] and not made(plan)
    going = change(done, deletion_timestamp=ago(1))
    assert not deleted(plan_for(STS, owner, NEW, going, a_pod(1, owner=owner)))
    assert deleted(plan_for(STS, owner, NEW, a_pod(0, owner=owner), change(a_pod(1), phase=phase)))


@given(st.sampled_from(["OrderedReady", "Parallel"]), st.integers(-3, 3), st.integers(0, 999))
def test_sts_14_a_node_that_rejects_every_pod_gets_one_a_second(policy, age, milliseconds):
    """D-240. A pod whose creation is in the future is deleted at once: the clock was set back."""
    owner = stateful_set("web", replicas=1, pod_management_policy=policy)
    created = NOW - age * SECOND
    failed = change(a_pod(0, owner=owner, phase="Failed"), creation_timestamp=timestamp(created))
    plan = plan_for(STS, owner, NEW, failed, now=NOW + milliseconds * 1000)
    if age == 0:
        assert not deleted(plan) and plan.wake_at == created + SECOND
    else:
        assert deleted(plan) == ["web-0"]


def test_a_set_and_its_pods_in_a_cluster():
    cluster = started(stateful_set("web", replicas=2, claims=("data",)), reconcilers=[STS])
    assert [each.metadata.name for each in stored(cluster, PODS)] == ["web-0"]
    cluster = settle(make_ready(cluster, "web-0"))
    cluster = settle(make_ready(cluster, "web-1"))
    one = get(cluster, STATEFUL_SETS, "web")
    assert (one.status.replicas, one.status.ready_replicas) == (2, 2)
    assert len(stored(cluster, CONTROLLER_REVISIONS)) == 1
    assert len(stored(cluster, PERSISTENT_VOLUME_CLAIMS)) == 2
