"""What a StatefulSet counts, writes and waits for, beside a plain reading of its rules: STS-1 to
STS-14, REV-5 (spec/workloads/stateful_set.md)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_sts import (
    CLAIMED,
    NEW,
    OLD,
    OURS,
    STS,
    a_claim,
    a_pod,
    as_parallel,
    deleted,
    made,
    names,
    old,
    retention,
    revision_of,
)
from workload_helpers import (
    LABELS,
    NOW,
    ago,
    change,
    plan_for,
    pod,
    reference_to,
    sent,
    stateful_set,
    template,
    view_of,
    with_status,
    without_reasons,
)

from refk8s.core.api.apps_v1 import StatefulSetStatus
from refk8s.core.api.core_v1 import (
    EmptyDirVolumeSource,
    PersistentVolumeClaim,
    PersistentVolumeClaimVolumeSource,
    PodCondition,
    Volume,
)
from refk8s.core.api.meta_v1 import (
    DeleteOptions,
    ObjectMeta,
    Preconditions,
    StatusDetails,
)
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import (
    CONTROLLER_REVISIONS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    STATEFUL_SETS,
)
from refk8s.core.api.status import failure
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers.stateful_set_claims import sets_of_claim
from refk8s.core.controllers.stateful_set_pods import ORDINAL_MAX, new_pod, ordinal_of
from refk8s.core.loop.plan import Local, Note

UPDATING = with_status(OURS, current_revision="web-old")


# --- the status -----------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Pending", "Running", "Running", "Failed"]),
            st.none() | st.sampled_from([0, 5, 30, 31]),  # ready for so long; None: not ready
            st.sampled_from(["web-new", "web-new", "web-old", None]),
            st.integers(0, 3).map(lambda n: n == 0),  # is being deleted
        ),
        max_size=4,
    ),
    st.sampled_from([None, 30]),
    st.sampled_from(["RollingUpdate", "RollingUpdate", "OnDelete"]),
    st.integers(0, 4),
)
def test_sts_11_the_status_is_what_the_pods_say(drawn, seconds, kind, replicas):
    strategy = replace(OURS.spec.update_strategy, type=kind)
    parts = {"min_ready_seconds": seconds, "update_strategy": strategy, "replicas": replicas}
    owner = as_parallel(with_status(change(OURS, **parts), current_revision="web-old"), True)
    pods, instants, ready, available, now_old, now_new = [], [], 0, 0, 0, 0
    for number, (phase, age, revision, going) in enumerate(drawn):
        one = change(a_pod(number, False, revision), phase=phase)
        one = change(one, creation_timestamp=timestamp(NOW))
        if revision is None:
            one = change(one, labels=LABELS)
        if age is not None:
            condition = PodCondition(type="Ready", status="True", last_transition_time=ago(age))
            one = change(one, conditions=(condition,))
        if phase == "Running" and age is not None:
            left = (seconds or 0) - age
            ready += 1
            available += left <= 0
            instants += [NOW + left * SECOND] if left > 0 else []
        elif phase == "Failed" and not going:
            instants.append(NOW + SECOND)
        now_old += revision == "web-old" and not going
        now_new += revision == "web-new" and not going
        pods.append(change(one, deletion_timestamp=ago(1)) if going else one)
    complete = kind == "RollingUpdate" and now_new == len(pods) == ready == replicas
    plan = plan_for(STS, owner, OLD, NEW, *pods)
    status = StatefulSetStatus(
        replicas=len(pods),
        observed_generation=1,
        ready_replicas=ready or None,
        available_replicas=available,
        current_replicas=(now_new if complete else now_old) or None,
        updated_replicas=now_new or None,
        current_revision="web-new" if complete else "web-old",
        update_revision="web-new",
        collision_count=0,
    )
    (request,) = without_reasons(sent(plan, "update", STATEFUL_SETS, "status"))
    body = replace(owner, status=status)
    assert request == Request("update", STATEFUL_SETS, "default", "web", "status", body=body)
    assert plan.wake_at == min(instants, default=None)


def test_sts_11_the_next_instant_is_that_of_the_first_pod():
    def finished(number, at):
        return change(a_pod(number, phase="Failed"), creation_timestamp=timestamp(at))

    owner = change(OURS, min_ready_seconds=60, pod_management_policy="Parallel")
    ready = [
        change(
            a_pod(number),
            conditions=(
                PodCondition(type="Ready", status="True", last_transition_time=ago(seconds)),
            ),
        )
        for number, seconds in ((0, 10), (1, 20), (2, 15))
    ]
    assert plan_for(STS, owner, NEW, *ready).wake_at == NOW + 40 * SECOND
    assert plan_for(STS, owner, NEW, finished(0, NOW), *ready[1:]).wake_at == NOW + SECOND
    assert plan_for(STS, owner, NEW, finished(0, NOW - SECOND)).wake_at is None
    since = PodCondition(type="Ready", status="True", last_transition_time=None)
    assert plan_for(STS, owner, NEW, change(ready[0], conditions=(since,))).wake_at is None


# --- what waits for what --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "world",
    [
        [old(1), old(2)],  # one is missing
        [change(old(0), phase="Failed"), old(1), old(2)],
        [change(old(0), deletion_timestamp=ago(1)), old(1), old(2)],
        [old(0, ready=False), old(1), old(2)],
        [old(0), old(1), old(2), old(3)],  # one too many
        [old(0), old(1), old(2), change(old(3), deletion_timestamp=ago(1))],
        [pod("web-0", labels={"x": "y"}), old(1), old(2)],  # another owner has the name
    ],
)
def test_sts_6_with_ordered_ready_an_update_waits_for_everything_else(world):
    found = deleted(plan_for(STS, UPDATING, OLD, NEW, *world))
    assert not {"web-1", "web-2"} & set(found)
    assert deleted(plan_for(STS, UPDATING, OLD, NEW, old(0), old(1), old(2))) == ["web-2"]


def of_strategy(kind, rolling):
    strategy = replace(OURS.spec.update_strategy, type=kind, rolling_update=rolling)
    return change(UPDATING, update_strategy=strategy)


def test_sts_6_sts_7_without_bounds_all_pods_are_updated():
    rolling = OURS.spec.update_strategy.rolling_update
    for bounds in (None, replace(rolling, partition=None), rolling):
        owner = of_strategy("RollingUpdate", bounds)
        plan = plan_for(STS, owner, OLD, NEW, old(0), a_pod(1), a_pod(2))
        assert deleted(plan) == ["web-0"] and without_reasons(plan.requests)
        (creation,) = sent(plan_for(STS, owner, OLD, NEW), "create", PODS)
        assert creation.body.metadata.labels["controller-revision-hash"] == "web-new"
    on_delete = of_strategy("OnDelete", replace(rolling, partition=2))
    (creation,) = sent(plan_for(STS, on_delete, OLD, NEW), "create", PODS)
    assert creation.body.metadata.labels["controller-revision-hash"] == "web-new"


def test_every_deletion_has_its_reason():
    many = with_status(stateful_set("web", max_unavailable=2), current_revision="web-old")
    for owner, world in (
        (many, [old(0), old(1), old(2)]),
        (OURS, [a_pod(0), a_pod(1), a_pod(2), a_pod(3)]),
        (OURS, [a_pod(0, phase="Failed")]),
    ):
        plan = plan_for(STS, owner, OLD, NEW, *world)
        assert deleted(plan) and without_reasons(plan.requests)


def test_sts_6_with_parallel_an_update_waits_for_creations():
    assert deleted(plan_for(STS, as_parallel(UPDATING, True), OLD, NEW, old(1), old(2))) == []
    assert made(plan_for(STS, as_parallel(UPDATING, True), OLD, NEW, old(1), old(2))) == ["web-0"]


def test_sts_4_a_pod_is_healthy_from_the_moment_that_it_is_available():
    slow = change(OURS, min_ready_seconds=30)
    assert made(plan_for(STS, slow, NEW, a_pod(0))) == ["web-1"]
    assert made(plan_for(STS, slow, NEW, a_pod(0), now=NOW - 1)) == []
    pending = change(a_pod(0), phase="Pending")  # the condition is of an earlier run
    assert made(plan_for(STS, OURS, NEW, pending)) == []


def test_sts_1_without_replicas_one_pod_is_wanted():
    one = change(OURS, replicas=None)
    assert made(plan_for(STS, one, NEW)) == ["web-0"]
    assert made(plan_for(STS, one, NEW, a_pod(0))) == []
    assert deleted(plan_for(STS, one, NEW, a_pod(0), a_pod(1))) == ["web-1"]


def test_sts_2_the_last_ordinal():
    assert ordinal_of("web", f"web-{ORDINAL_MAX}") == ORDINAL_MAX
    assert ordinal_of("web", f"web-{ORDINAL_MAX + 1}") is None
    assert ordinal_of("web", f"web-{ORDINAL_MAX}0") is None


@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
def test_sts_2_only_a_name_that_another_owner_has_is_an_obstacle(policy):
    owner = change(OURS, pod_management_policy=policy)
    other = pod("web-1", labels={"x": "y"})
    plan = plan_for(STS, owner, NEW, a_pod(0), other)
    text = 'create Pod web-1 in StatefulSet web failed error: pods "web-1" already exists'
    assert plan.failed and plan.notes == (Note(owner, "FailedCreate", text, "Warning"),)
    plan = plan_for(STS, owner, NEW, a_pod(0))
    assert not plan.failed and plan.notes == ()


# --- requests in full -----------------------------------------------------------------------------


def of(kind, name, owner, verb="Create", text="create"):
    return Note(
        owner,
        f"Successful{verb}",
        f"{text} {kind} {name} in StatefulSet web "
        f"{'success' if kind.startswith('Claim') else 'successful'}",
    )


def creation(owner, ordinal):
    body = new_pod(owner, owner.spec.template, "web-new", ordinal)
    note = of("Pod", f"web-{ordinal}", owner)
    return Request("create", PODS, "default", body=body, note=note)


def claim_creation(owner, template, ordinal, **metadata):
    name = f"{template.metadata.name}-web-{ordinal}"
    made = ObjectMeta(name=name, namespace="default", labels=LABELS, **metadata)
    note = of(f"Claim {name} Pod", f"web-{ordinal}", owner)
    body = replace(template, metadata=made)
    return Request("create", PERSISTENT_VOLUME_CLAIMS, "default", body=body, note=note)


def removal(owner, ordinal):
    options = DeleteOptions(preconditions=Preconditions(uid=f"uid-web-{ordinal}"))
    note = of("Pod", f"web-{ordinal}", owner, "Delete", "delete")
    return Request("delete", PODS, "default", f"web-{ordinal}", body=options, note=note)


def besides_status(plan):
    return [each for each in without_reasons(plan.requests) if each.subresource != "status"]


TWO = stateful_set("web", claims=("my-data", "logs"))


def test_sts_8_a_plan_in_full_with_ordered_ready():
    """The annotations and finalizers of a claim template are those of its claims."""
    data, logs = TWO.spec.volume_claim_templates
    extra = {"annotations": {"note": "x"}, "finalizers": ("x/y",)}
    data = replace(data, metadata=ObjectMeta(name="my-data", **extra))
    owner = change(TWO, volume_claim_templates=(data, logs, logs))
    plan = plan_for(STS, owner, NEW)
    wanted = [claim_creation(owner, data, 0, **extra), claim_creation(owner, logs, 0)]
    assert besides_status(plan) == [*wanted, creation(owner, 0)]
    plan = plan_for(STS, owner, NEW, a_claim("my-data-web-0"))
    assert besides_status(plan) == [wanted[1], creation(owner, 0)]


def test_sts_5_a_plan_in_full_with_parallel():
    """Web-0 is missing, web-1 waits without its claims, web-2 has finished, web-3 and 4 are too
    many."""
    owner = as_parallel(TWO, True)
    data, logs = owner.spec.volume_claim_templates
    pods = [
        identified(owner, 1, phase="Pending", conditions=None),
        identified(owner, 2, phase="Failed"),
        identified(owner, 3),
        identified(owner, 4),
    ]
    plan = plan_for(STS, owner, NEW, *pods)
    assert besides_status(plan) == [
        removal(owner, 2),
        claim_creation(owner, data, 0),
        claim_creation(owner, logs, 0),
        creation(owner, 0),
        claim_creation(owner, data, 1),
        claim_creation(owner, logs, 1),
        removal(owner, 4),
        removal(owner, 3),
    ]


def identified(owner, ordinal, **parts):
    """A ready pod with its labels and volumes."""
    template = new_pod(owner, owner.spec.template, "web-new", ordinal)
    one = replace(a_pod(ordinal, owner=owner), spec=template.spec)
    return change(one, labels=template.metadata.labels, **parts)


def test_sts_3_a_correction_in_full():
    """Volumes of other names are kept. All healthy pods are corrected by one plan."""
    own = Volume(name="scratch", empty_dir=EmptyDirVolumeSource())
    wrong = Volume(
        name="data",
        persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name="another"),
    )
    bare = [
        change(
            pod(f"web-{n}", CLAIMED, ready=True), labels={**LABELS, "x": "y"}, volumes=(own, wrong)
        )
        for n in (0, 1)
    ]
    plan = plan_for(STS, CLAIMED, NEW, *bare)
    (claims,) = CLAIMED.spec.volume_claim_templates
    expected = []
    for n, one in enumerate(bare):
        right = Volume(
            name="data",
            persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name=f"data-web-{n}"),
        )
        labels = {
            **LABELS,
            "x": "y",
            "statefulset.kubernetes.io/pod-name": f"web-{n}",
            "apps.kubernetes.io/pod-index": str(n),
        }
        body = change(one, labels=labels, volumes=(right, own))
        note = of("Pod", f"web-{n}", CLAIMED, "Update", "update")
        expected += [
            claim_creation(CLAIMED, claims, n),
            Request("update", PODS, "default", f"web-{n}", body=body, note=note),
        ]
    assert besides_status(plan)[:4] == expected


def test_sts_3_volumes_of_the_template_are_kept():
    own = Volume(name="scratch", empty_dir=EmptyDirVolumeSource())
    same = Volume(name="data", empty_dir=EmptyDirVolumeSource())
    spec = replace(template().spec, volumes=(own, same))
    owner = change(CLAIMED, template=replace(template(), spec=spec))
    (request,) = sent(plan_for(STS, owner, revision_of(owner)), "create", PODS)
    assert [each.name for each in request.body.spec.volumes] == ["data", "scratch"]
    assert request.body.spec.volumes[1] == own


# --- claims ---------------------------------------------------------------------------------------


def owned(name, *owners):
    return a_claim(name, owner_references=tuple(reference_to(one) for one in owners))


def test_sts_9_a_change_of_the_owner_in_full():
    owner = retention(TWO, "Delete", "Retain")
    pods = [identified(owner, n) for n in range(3)]
    claims = [
        owned("my-data-web-0", owner),
        a_claim("logs-web-0"),
        a_claim("my-data-web-1"),
        owned("logs-web-1", owner),
    ]
    plan = plan_for(STS, owner, NEW, *pods, *claims)
    assert without_reasons(sent(plan, "update", PERSISTENT_VOLUME_CLAIMS)) == [
        Request(
            "update",
            PERSISTENT_VOLUME_CLAIMS,
            "default",
            name,
            body=a_claim(name, owner_references=(reference_to(owner),)),
        )
        for name in ("logs-web-0", "my-data-web-1")
    ]


def test_sts_9_the_claim_of_a_pending_pod_belongs_to_the_set_only():
    owner = retention(CLAIMED, "Retain", "Delete")
    pending = identified(owner, 0, phase="Pending")
    for policy in ("OrderedReady", "Parallel"):
        one = change(owner, pod_management_policy=policy)
        plan = plan_for(STS, one, NEW, pending, a_claim("data-web-0"))
        assert not sent(plan, "update", PERSISTENT_VOLUME_CLAIMS)


def test_sts_9_other_owners_are_kept_in_any_order():
    owner = retention(CLAIMED, "Delete", "Delete")
    other = reference_to(pod("helper"), controller=False)
    mine = reference_to(owner)
    member = identified(owner, 0)
    for before in ((mine, other), (other, mine)):
        claim = a_claim("data-web-0", owner_references=before)
        assert not sent(
            plan_for(STS, owner, NEW, member, claim), "update", PERSISTENT_VOLUME_CLAIMS
        )
    claim = a_claim("data-web-0", owner_references=(other,))
    (write,) = sent(plan_for(STS, owner, NEW, member, claim), "update", PERSISTENT_VOLUME_CLAIMS)
    assert write.body.metadata.owner_references == (other, mine)


def test_sts_9_the_claim_of_an_earlier_pod_is_left_alone():
    owner = retention(CLAIMED, "Delete", "Delete")
    earlier = change(pod("web-0"), uid="uid-earlier")
    for controls in (True, False):
        references = (reference_to(earlier, controls),)
        claim = a_claim("data-web-0", owner_references=references)
        plan = plan_for(STS, owner, NEW, identified(owner, 0), claim)
        assert not sent(plan, "update", PERSISTENT_VOLUME_CLAIMS)


def test_sts_10_only_an_earlier_pod_of_this_name_holds_a_claim():
    """A reference of another kind, or to another pod, holds nothing back."""
    for other in (replace(pod("web-0"), kind="Backup"), pod("helper")):
        claim = a_claim("data-web-0", owner_references=(reference_to(other, controller=False),))
        assert made(plan_for(STS, CLAIMED, NEW, claim)) == ["web-0"]


def test_sts_10_a_new_claim_makes_its_set_due_also_if_the_template_has_a_hyphen():
    view = view_of(STS, TWO)
    for name in ("my-data-web-0", "logs-web-3"):
        assert list(sets_of_claim(view, None, a_claim(name))) == ["default/web"]
    nameless = PersistentVolumeClaim(metadata=ObjectMeta(namespace="default"))
    assert list(sets_of_claim(view, None, nameless)) == []


# --- events ---------------------------------------------------------------------------------------


def notes_after(response, owner, *others):
    return list(plan_for(STS, owner, NEW, *others, local=Local(failure=response)).notes)


def refusal(kind, name, message="exceeded quota"):
    return Response(403, failure(403, "Forbidden", message, StatusDetails(name=name, kind=kind)))


def warning(owner, reason, text):
    return [Note(owner, reason, text, "Warning")]


def test_sts_13_refusals_in_full():
    text = "create Pod web-0 in StatefulSet web failed error: "
    assert notes_after(refusal("pods", "web-0", ""), OURS) == warning(
        OURS, "FailedCreate", text + "the API server answered 403"
    )
    for response in (Response(500, None), Response(500, failure(500, "InternalError", "x")), None):
        assert notes_after(response, OURS) == []
    # the claim of a pod that waits, with creations and deletions of others
    owner = as_parallel(CLAIMED, True)
    others = [identified(owner, 1, phase="Pending"), identified(owner, 2), identified(owner, 5)]
    for ordinal in (0, 1):
        text = (
            f"create Claim data-web-{ordinal} for Pod web-{ordinal} in StatefulSet web "
            "failed error: "
            "exceeded quota"
        )
        response = refusal("persistentvolumeclaims", f"data-web-{ordinal}")
        assert notes_after(response, owner, *others) == warning(owner, "FailedCreate", text)
    other = change(OURS, template=replace(template(), metadata=ObjectMeta(labels={"other": "x"})))
    (note,) = notes_after(None, other)
    assert (note.regarding, note.reason, note.type) == (other, "FailedCreate", "Warning")
    assert note.message.startswith("Error creating: ")


# --- revisions ------------------------------------------------------------------------------------


def test_rev_5_the_revisions_of_the_set_and_of_its_pods_are_kept():
    """Also if they are the lowest, and no more may be kept."""

    def stored(name, number, version):
        return revision_of(change(OURS, template=template(version)), number, name)

    lowest = [stored("web-a", 1, "a"), stored("web-b", 2, "b"), stored("web-c", 3, "c")]
    for kept, owner, pods in (
        ("web-a", with_status(OURS, current_revision="web-a"), []),
        ("web-a", OURS, [a_pod(0, revision="web-a")]),
        ("web-a", change(OURS, template=template("a")), []),
    ):
        owner = change(owner, revision_history_limit=0)
        plan = plan_for(STS, owner, *lowest, replace(NEW, revision=4), *pods)
        gone = names(sent(plan, "delete", CONTROLLER_REVISIONS))
        assert kept not in gone and "web-b" in gone and "web-c" in gone
    unlimited = change(OURS, revision_history_limit=None)
    assert not sent(plan_for(STS, unlimited, *lowest, NEW), "delete", CONTROLLER_REVISIONS)


def test_own_7_an_orphan_that_the_set_selects_makes_it_due():
    view = view_of(STS, OURS)
    keys = {interest.resource: interest.keys for interest in STS.interests}
    orphan = replace(NEW, metadata=replace(NEW.metadata, owner_references=None))
    assert list(keys[PODS](view, None, pod("web-1"))) == ["default/web"]
    assert list(keys[PODS](view, None, pod("web-1", labels={"x": "y"}))) == []
    assert list(keys[CONTROLLER_REVISIONS](view, None, orphan)) == ["default/web"]
    assert list(keys[PODS](view, None, a_pod(1))) == ["default/web"]
