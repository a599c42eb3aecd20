"""Whole plans of Deployments and the parts of their status, compared with what they should be
(DEP-1 to DEP-20, spec/workloads/deployment.md)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from workload_helpers import (
    LABELS,
    NOW,
    ago,
    change,
    deployment,
    pod,
    reference_to,
    replica_set,
    template,
    view_of,
    with_status,
)

from refk8s.core.api.apps_v1 import (
    DeploymentCondition,
    DeploymentStatus,
    DeploymentStrategy,
    ReplicaSet,
    ReplicaSetCondition,
    ReplicaSetSpec,
)
from refk8s.core.api.meta_v1 import (
    DeleteOptions,
    LabelSelector,
    ObjectMeta,
    Preconditions,
    StatusCause,
    StatusDetails,
)
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import DEPLOYMENTS, REPLICA_SETS
from refk8s.core.api.status import failure
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers import deployment as module
from refk8s.core.controllers import deployment_acts as acts
from refk8s.core.controllers import deployment_status as statuses
from refk8s.core.controllers import revision as revisions
from refk8s.core.controllers.deployment import DeploymentReconciler
from refk8s.core.controllers.deployment_observed import Decision, Observed, member, observe
from refk8s.core.controllers.owners import controller_reference
from refk8s.core.controllers.rollout import Bounds, Member
from refk8s.core.loop.plan import NOTHING, Local, Note, Plan

DEP = DeploymentReconciler()
WEB = deployment("web", replicas=4, surge=1, unavailable=1)
DESIRED, MOST = revisions.DESIRED_REPLICAS, revisions.MAX_REPLICAS
SIZED = {DESIRED: "4", MOST: "5"}
RECREATE = DeploymentStrategy(type="Recreate")


def rs(name: str, size: int, version: str = "1", revision: str = "1", of: Any = WEB, **parts: Any) -> Any:  # fmt: skip
    """A ReplicaSet of the Deployment, of which all pods are available unless it is said."""
    labels = {**LABELS, revisions.TEMPLATE_HASH: name}
    base = template(version)
    fields: dict[str, Any] = {
        "annotations": {**SIZED, revisions.REVISION: revision},
        "template": replace(base, metadata=replace(base.metadata, labels=labels)),
        "observed_generation": 1,
        "available_replicas": size or None,
        "terminating_replicas": 0,
        "owner_references": (controller_reference(of),),
    }
    status = parts.pop("pods", size)
    made = change(replica_set(name, replicas=size), **{**fields, **parts})
    return with_status(made, replicas=status)


def plan(owner: Any, *objects: Any, local: Any = None) -> Plan:
    view = view_of(DEP, owner, *objects)
    return DEP.reconcile(view, "default/web", NOW, Local() if local is None else local)


def plain(requests: Any) -> list[Request]:
    assert all(one.because for one in requests)
    return [replace(one, because="") for one in requests]


def requests_of(found: Plan) -> list[list[Request]]:
    return [plain(wave) for wave in found.waves]


def saying(type: str, status: str, reason: str, message: str, at: Any = None, since: Any = None) -> Any:  # fmt: skip
    at = timestamp(NOW) if at is None else at
    return DeploymentCondition(
        type=type,
        status=status,
        reason=reason,
        message=message,
        last_update_time=at,
        last_transition_time=at if since is None else since,
    )


ENOUGH = saying("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")  # fmt: skip
TOO_FEW = saying("Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")  # fmt: skip


def progressing(status: str, reason: str, message: str = "m", at: Any = None, since: Any = None) -> Any:  # fmt: skip
    return saying("Progressing", status, reason, message, at, since)


def update(one: Any, before: int, size: int, of: Any = WEB, most: int = 5) -> Request:
    annotations = {
        **one.metadata.annotations,
        DESIRED: str(of.spec.replicas),
        MOST: str(most),
    }
    direction = "up" if size > before else "down"
    text = f"Scaled {direction} replica set {one.metadata.name} from {before} to {size}"
    note = Note(of, "ScalingReplicaSet", text) if size != before else None
    body = change(one, annotations=annotations, replicas=size)
    return Request("update", REPLICA_SETS, "default", one.metadata.name, body=body, note=note)


def reported(owner: Any, status: Any, revision: Any = None) -> Request:
    body = replace(owner, status=status)
    if revision is not None:
        annotations = {**(owner.metadata.annotations or {}), revisions.REVISION: revision}
        body = change(body, annotations=annotations)
    return Request("update", DEPLOYMENTS, "default", "web", "status", body=body)


# --- plans


def test_dep_2_the_first_replica_set_is_created():
    found = plan(change(WEB, annotations={"a": "b"}))
    owner = change(WEB, annotations={"a": "b"})
    hash = revisions.template_hash(owner.spec.template, None)
    labels = {**LABELS, revisions.TEMPLATE_HASH: hash}
    new = ReplicaSet(
        metadata=ObjectMeta(
            name=f"web-{hash}",
            namespace="default",
            labels=labels,
            owner_references=(controller_reference(owner),),
            annotations={"a": "b", revisions.REVISION: "1", **SIZED},
        ),
        spec=ReplicaSetSpec(
            replicas=4,
            selector=LabelSelector(match_labels=labels),
            template=replace(owner.spec.template, metadata=ObjectMeta(labels=labels)),
        ),
    )
    note = Note(owner, "ScalingReplicaSet", f"Scaled up replica set web-{hash} from 0 to 4")
    created = saying(
        "Progressing", "True", "NewReplicaSetCreated", f'Created new replica set "web-{hash}"'
    )
    status = DeploymentStatus(
        observed_generation=1,
        unavailable_replicas=4,
        terminating_replicas=0,
        conditions=(created, TOO_FEW),
    )
    assert requests_of(found) == [
        [Request("create", REPLICA_SETS, "default", body=new, note=note)],
        [reported(owner, status, "1")],
    ]
    assert found.wake_at == NOW + 601 * SECOND and found.notes == ()
    assert found.waves[0][0].because == "no ReplicaSet has this template"
    assert found.waves[1][0].because == "0 of 4 pods are new, 0 available"
    [[request], _] = requests_of(plan(change(WEB, replicas=0)))
    assert request.note is None and request.body.spec.replicas == 0


def test_dep_7_the_new_one_grows_first():
    old, new = rs("old", 3), rs("new", 0, "2", "2")
    owner = change(WEB, template=template("2"))
    found = plan(owner, old, new)
    updated = progressing("True", "FoundNewReplicaSet", 'Found new replica set "new"')
    status = DeploymentStatus(
        observed_generation=1,
        replicas=3,
        available_replicas=3,
        terminating_replicas=0,
        conditions=(
            ENOUGH,
            progressing("True", "ReplicaSetUpdated", 'ReplicaSet "new" is progressing.'),
        ),
    )
    assert updated.type == "Progressing"
    assert requests_of(found) == [
        [],
        [update(new, 0, 2, owner)],
        [],
        [reported(owner, status, "2")],
    ]
    assert found.waves[1][0].because == "from 0 to 2: there may be 5 pods in all"
    assert found.wake_at == NOW + 601 * SECOND


def test_dep_8_the_old_ones_shrink_then():
    old, new = rs("old", 3), rs("new", 2, "2", "2")
    owner = change(WEB, template=template("2"), annotations={revisions.REVISION: "2"})
    found = plan(owner, old, new)
    assert requests_of(found)[:3] == [[update(old, 3, 1, owner)], [], []]
    assert found.waves[0][0].because == "from 3 to 1: 3 available pods are enough"
    [report] = plain(found.waves[3])
    assert report.body.metadata == owner.metadata
    assert report.body.status.updated_replicas == 2 and report.body.status.available_replicas == 5


def done(**parts: Any) -> Any:
    complete = progressing(
        "True", "NewReplicaSetAvailable", 'ReplicaSet "new" has successfully progressed.'
    )
    status = DeploymentStatus(
        observed_generation=1,
        replicas=4,
        updated_replicas=4,
        available_replicas=4,
        terminating_replicas=0,
        conditions=(ENOUGH, complete),
    )
    owner = change(WEB, template=template("2"), annotations={revisions.REVISION: "3"}, **parts)
    return replace(owner, status=status)


def test_dep_17_the_history_is_cut_when_all_is_done():
    owner = done(revision_history_limit=1)
    new = rs("new", 4, "2", "3")
    ages = [
        rs("a", 0, "x", "2", creation_timestamp=ago(10)),
        rs("b", 0, "y", "1", creation_timestamp=ago(5)),
    ]
    options = DeleteOptions(preconditions=Preconditions(uid="uid-b"))
    deletion = Request("delete", REPLICA_SETS, "default", "b", body=options)
    found = plan(owner, new, *ages)
    assert requests_of(found) == [[], [], [deletion], []]
    assert found.waves[2][0].because == "the history is longer than 1" and found.wake_at is None
    quiet: Any = Plan(((), (), (), ()))
    for limit in (2, 3, None):
        assert plan(change(owner, revision_history_limit=limit), new, *ages) == quiet
    for odd in ({"pods": 1}, {"generation": 2}, {"replicas": 1}, {"deletion_timestamp": ago(1)}):
        kept = rs("b", 0, "y", "1", **odd)
        seen = observe(owner, [new, ages[0], kept])
        assert acts.cleanings(seen) == ()
    none = change(rs("b", 0, "y", "1"), generation=None, observed_generation=None)
    assert len(acts.cleanings(observe(owner, [new, ages[0], none]))) == 1
    unseen = change(rs("b", 0, "y", "1"), observed_generation=None)
    assert acts.cleanings(observe(owner, [new, ages[0], unseen])) == ()
    assert len(acts.cleanings(observe(change(owner, revision_history_limit=0), [new, *ages]))) == 2
    busy = replace(owner, status=replace(owner.status, updated_replicas=3))
    assert requests_of(plan(busy, new, *ages))[2] == []


def test_dep_18_one_that_is_being_deleted_only_counts():
    owner = change(WEB, deletion_timestamp=ago(1), template=template("3"))
    found = plan(owner, rs("old", 3, pods=2))
    status = DeploymentStatus(
        observed_generation=1,
        replicas=2,
        available_replicas=3,
        terminating_replicas=0,
        conditions=(ENOUGH,),
    )
    assert requests_of(found) == [[], [], [], [reported(owner, status)]]
    assert (found.wake_at, found.notes) == (None, ())
    same = plan(change(WEB, deletion_timestamp=ago(1)), rs("new", 4, revision="9"))
    [report] = plain(same.waves[3])
    assert report.body.metadata.annotations is None and same.waves[:3] == ((), (), ())
    assert DEP.reconcile(view_of(DEP), "default/web", NOW, Local()) == NOTHING


def test_dep_11_a_paused_one_is_only_scaled():
    owner = change(WEB, paused=True, template=template("2"), revision_history_limit=0)
    gone = rs("gone", 0, "x", "0")
    found = plan(owner, rs("old", 3, annotations=None), gone)
    paused = saying("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
    assert [[one.verb for one in wave] for wave in found.waves] == [
        [],
        ["update"],
        ["delete"],
        ["update"],
    ]
    assert found.waves[1][0].because == "from 3 to 4: the Deployment was scaled while paused"
    assert found.waves[3][0].body.status.conditions == (paused, ENOUGH)
    assert found.wake_at is None


def test_dep_9_a_new_size_is_spread():
    owner = change(WEB, replicas=8, template=template("2"))
    old, new = rs("old", 3), rs("new", 2, "2", "2")
    found = plan(owner, old, new)
    assert found.waves[0] == () and {one.because.partition(": ")[2] for one in found.waves[1]} == {
        "the Deployment was scaled to 8"
    }
    assert [(one.name, one.body.spec.replicas) for one in found.waves[1]] == [
        ("old", 5),
        ("new", 4),
    ]
    assert found.wake_at is None, "no progress is computed"
    assert found.waves[2] == ()


def seen(owner: Any, *owned: Any) -> Observed:
    return observe(owner, owned)


def test_dep_9_the_sizes_of_a_scaling():
    none: dict[str, int] = {}
    new, old = rs("new", 4, "1", "2"), rs("old", 1, "0", "1", creation_timestamp=ago(200))
    assert module.scale(seen(WEB)) == none
    assert module.scale(seen(WEB, new)) == none
    assert module.scale(seen(WEB, change(new, replicas=3))) == {"new": 4}
    other = {**SIZED, DESIRED: "5"}
    assert module.scale(seen(WEB, change(new, annotations=other))) == {"new": 4}
    assert module.scale(seen(WEB, rs("old", 0, "0"), rs("older", 0, "00"))) == {"older": 4}
    assert module.scale(seen(WEB, change(new, replicas=0), rs("old", 0, "0"))) == {"new": 4}
    assert module.scale(seen(WEB, change(new, replicas=0), rs("old", 2, "0"))) == {"old": 4}
    assert module.scale(seen(WEB, new, old, rs("x", 0, "z"))) == {"old": 0}
    unsure = change(new, available_replicas=3)
    assert module.scale(seen(change(WEB, strategy=RECREATE), unsure, old)) == none
    assert module.scale(seen(WEB, unsure, old)) == {"new": 4, "old": 1}
    bare = [change(one, annotations=None) for one in (unsure, old)]
    assert module.scale(seen(WEB, *bare)) == {"new": 4, "old": 1}
    counted = with_status(change(WEB, replicas=9), replicas=5)
    assert module.scale(seen(counted, *bare)) == {"new": 8, "old": 2}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True), ({"replicas": 3}, False), ({"replicas": 5}, False), ({"available_replicas": 3}, False), ({"available_replicas": 5}, False), ({"available_replicas": None}, False),
        ({"annotations": None}, False), ({"annotations": {DESIRED: "3"}}, False), ({"annotations": {DESIRED: "4"}}, True),
    ],
)  # fmt: skip
def test_dep_9_what_is_saturated(fields, expected):
    assert module.is_saturated(seen(WEB, rs("new", 4, **fields))) is expected
    assert not module.is_saturated(seen(WEB, rs("old", 4, "0", **fields)))
    nothing = change(WEB, replicas=0)
    bare = rs("new", 0, annotations={DESIRED: "0"})
    assert module.is_saturated(seen(nothing, bare))


def test_dep_9_who_was_scaled():
    for noted, size, expected in [
        (SIZED, 1, False),
        ({DESIRED: "3"}, 1, True),
        ({DESIRED: "3"}, 0, False),
        ({DESIRED: "x"}, 1, False),
        (None, 1, False),
    ]:
        one = rs("a", size, annotations=noted)
        assert module.is_scaled(seen(WEB, rs("b", 2, "0"), one)) is expected


def decided(owner: Any, *owned: Any, pods: Any = ()) -> Decision:
    return module.decide(seen(owner, *owned), view_of(DEP, owner, *owned, *pods))


def test_dep_7_dep_8_the_decisions_of_a_rolling_update():
    assert decided(WEB) == Decision(create=4)
    assert decided(WEB, rs("old", 3, "0"), rs("more", 0, "00")) == Decision(create=2)
    assert decided(WEB, rs("old", 5, "0")) == Decision(create=0)
    small = Decision({"new": 2}, "there may be 5 pods in all")
    assert decided(WEB, rs("old", 3, "0"), rs("new", 1)) == small
    assert decided(WEB, rs("new", 6)) == Decision({"new": 4}, "there may be 5 pods in all")
    shrinking = Decision({"old": 1}, "3 available pods are enough")
    assert decided(WEB, rs("old", 3, "0"), rs("new", 2)) == shrinking
    assert decided(WEB, rs("new", 4)) == Decision()
    assert decided(done(), rs("new", 4, "2")) == Decision(clean=True)
    assert decided(WEB, rs("old", 3, "0"), rs("new", 2, available_replicas=None)) == Decision()
    going = change(WEB, deletion_timestamp=ago(1))
    assert decided(going, rs("new", 1)) == Decision(is_rollout=False)
    words = "the Deployment was scaled while paused"
    assert decided(change(WEB, paused=True), rs("new", 1)) == Decision(
        {"new": 4}, words, None, False, True
    )
    sized = rs("new", 3, annotations={DESIRED: "3"})
    assert decided(WEB, sized) == Decision(
        {"new": 4}, "the Deployment was scaled to 4", None, False
    )


def test_dep_10_the_decisions_of_recreate():
    owner = change(WEB, strategy=RECREATE)
    old, new = rs("old", 3, "0"), rs("new", 1, annotations={DESIRED: "1"})
    words = "Recreate deletes old pods before it creates new ones"
    assert decided(owner, old, rs("b", 0, "00")) == Decision({"old": 0}, words)
    assert decided(owner, old, new) == Decision({"old": 0}, words), "nothing is spread"
    scaled = Decision({"new": 4}, "the Deployment was scaled to 4", None, False)
    assert decided(owner, new) == scaled
    empty = rs("old", 0, "0")
    assert decided(owner, empty) == Decision(create=4)
    last = Decision({"new": 4}, "the last old pod is gone")
    assert decided(owner, empty, rs("new", 1)) == last
    assert decided(owner, empty, rs("new", 4)) == Decision()
    ready = change(done(), strategy=RECREATE)
    assert decided(ready, empty, rs("new", 4, "2")) == Decision(clean=True)
    unseen: list[dict[str, Any]] = [
        {"pods": 1},
        {"generation": 2},
        {"observed_generation": None},
        {"terminating_replicas": 1},
    ]
    for fields in unseen:
        assert decided(owner, rs("old", 0, "0", **fields)) == Decision()
    undated = rs(
        "old", 0, "0", generation=None, observed_generation=None, terminating_replicas=None
    )
    assert decided(owner, undated) == Decision(create=4)
    assert decided(owner, empty, pods=[pod("p", empty)]) == Decision()
    finished = [pod("p", empty, phase="Failed"), pod("q", rs("new", 1))]
    assert decided(owner, empty, pods=finished) == Decision(create=4)
    assert decided(owner, empty, pods=[*finished, pod("r", empty)]) == Decision()


def refused(code: int = 403, message: Any = "no", causes: Any = None) -> Response:
    details = StatusDetails(causes=causes) if causes is not None else None
    return Response(code, failure(code, "Forbidden", message, details))


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (None, None), (refused(409), None), (refused(), "no"), (refused(410), "no"), (refused(causes=()), "no"), (refused(causes=(StatusCause(reason="Other"),)), "no"),
        (refused(causes=(StatusCause(reason="Other"), StatusCause(reason="NamespaceTerminating"))), None),
        (refused(500, ""), "the API server answered 500"), (Response(502, "x"), "the API server answered 502"),
    ],
)  # fmt: skip
def test_dep_20_what_is_told_of_a_refusal(response, words):
    assert module.creation_failure(response) == words
    hash = revisions.template_hash(WEB.spec.template, None)
    found = plan(WEB, local=Local(failures=1, failure=response))
    text = f'Failed to create new replica set "web-{hash}": {words}'
    note = Note(WEB, "ReplicaSetCreateError", text, "Warning")
    if words is None:
        assert found.notes == () and [one.verb for one in found.requests] == ["create", "update"]
        return
    failed = progressing("False", "ReplicaSetCreateError", text)
    status = replace(WEB.status, conditions=(failed,))
    assert requests_of(found) == [[reported(WEB, status)]]
    assert (found.notes, found.wake_at) == ((note,), None)
    known = replace(WEB, status=replace(status, conditions=(replace(failed, message="old"),)))
    again = plan(known, local=Local(failures=2, failure=response))
    assert [one.verb for one in again.requests] == ["create", "update"]
    assert [one.message for one in again.notes] == [text]


def test_dep_20_no_replica_set_is_created_that_would_not_be_owned():
    base = template()
    stray = change(WEB, template=replace(base, metadata=ObjectMeta(labels={"app": "db"})))
    found = plan(stray)
    [[request]] = requests_of(found)
    [condition] = request.body.status.conditions
    assert condition.reason == "ReplicaSetCreateError"
    assert condition.message.endswith("the selector does not select the labels of the template")
    told = replace(stray, status=request.body.status)
    assert plan(told).waves == () and len(plan(told).notes) == 1
    unwatched = change(stray, progress_deadline_seconds=None)
    assert plan(unwatched).waves == () and len(plan(unwatched).notes) == 1


def named(count: Any, version: str = "1") -> str:
    return f"web-{revisions.template_hash(template(version), count)}"


def test_dep_2_a_name_that_is_taken():
    taken = replica_set(named(None), labels=None)
    found = plan(WEB, taken)
    assert requests_of(found) == [[reported(WEB, replace(WEB.status, collision_count=1))]]
    second = with_status(WEB, collision_count=2)
    found = plan(second, replica_set(named(2), labels=None))
    assert requests_of(found) == [[reported(second, replace(second.status, collision_count=3))]]
    assert plan(second, taken).waves[0][0].body.metadata.name == named(2)


def test_dep_2_collisions_end():
    full = with_status(WEB, collision_count=5)
    names = [named(count) for count in (5, 4, 3, 2, 1)]
    ours = [rs(name, 1, "7") for name in names]
    observed = seen(full, *ours)

    def count(*objects: Any, of: Any = observed) -> int:
        return module.collisions(of, view_of(DEP, full, *objects))

    assert count(*ours) == 5 and count(*ours[:3]) == 3 and count() == 0
    assert count(replica_set(names[0]), *ours[1:]) == 4
    assert count(rs(names[0], 1, of=change(WEB, uid="x")), *ours[1:]) == 4
    assert count(rs(named(None), 1), *ours[:4]) == 4, "the sixth is not asked"
    few = seen(with_status(WEB, collision_count=None))
    assert count(rs(named(None), 1), of=few) == 1
    found = plan(full, *ours)
    words = f'Failed to create new replica set "{names[0]}": 5 ReplicaSets were created from this template, and each has another template now'
    assert [note.message for note in found.notes] == [words]
    assert found.waves[0][0].body.status.conditions[0].message == words
    assert found.waves[0][0].body.status.collision_count == 5
    four = plan(full, *ours[:4])
    assert four.notes == () and four.waves[0][0].body.status.collision_count == 6


def test_dep_1_a_selector_of_everything_changes_nothing():
    text = "This deployment is selecting all pods. A non-empty selector is required."
    for selector in (None, LabelSelector(), LabelSelector(match_labels={}, match_expressions=())):
        owner = change(WEB, selector=selector)
        found = plan(owner, rs("a", 3))
        note = Note(owner, "SelectingAll", text, "Warning")
        status = replace(owner.status, observed_generation=1)
        assert requests_of(found) == [[reported(owner, status)]]
        assert found.notes == (note,)
        known = with_status(owner, observed_generation=1)
        assert module.refuse_everything(known).waves == ((),)
        newer = with_status(owner, observed_generation=2)
        assert module.refuse_everything(newer).waves == ((),)
        assert module.refuse_everything(change(owner, generation=None)).waves == ((),)


def test_own_4_replica_sets_are_claimed_first():
    orphan = change(rs("new", 1), owner_references=None)
    found = plan(WEB, rs("old", 3, "0"), orphan)
    assert [
        [(one.verb, one.resource.plural, one.name) for one in wave] for wave in found.waves
    ] == [
        [("update", "deployments", "web")],
        [("patch", "replicasets", "new")],
    ]


# --- the last pod


def test_dep_10_a_last_pod_concerns_its_deployment():
    recreate = change(WEB, strategy=RECREATE)
    one = rs("a", 1)
    mine, finished = pod("p", one), pod("p", one, phase="Succeeded")

    def keys(old: Any, new: Any, *objects: Any) -> Any:
        return module.keys_of_last_pod(view_of(DEP, *objects), old, new)

    for old, new, expected in [
        (mine, None, True),
        (mine, finished, True),
        (finished, None, True),
        (None, mine, False),
        (None, finished, False),
        (mine, mine, False),
        (finished, finished, False),
    ]:
        assert keys(old, new, recreate, one) == (("default/web",) if expected else ())
        assert keys(old, new, WEB, one) == ()
    assert keys(mine, None, recreate) == keys(mine, None, one) == ()
    assert keys(pod("p"), None, recreate, one) == ()
    wrong = change(mine, owner_references=(replace(reference_to(one), kind="Job"),))
    assert keys(wrong, None, recreate, one) == ()
    assert keys(mine, None, recreate, change(one, owner_references=None)) == ()
    stranger = change(one, owner_references=(replace(reference_to(recreate), kind="Odd"),))
    assert keys(mine, None, recreate, stranger) == ()


# --- acts


def test_dep_4_dep_5_what_the_new_one_takes_over():
    owner = change(WEB, annotations={"a": "1", revisions.LAST_APPLIED: "x"}, min_ready_seconds=7)
    old, new = rs("old", 1, "0", "4"), rs("new", 1, annotations={"b": "2", revisions.REVISION: "2"})
    observed = seen(owner, old, new)
    assert observed.revision == 5
    found = acts.synchronized(observed, new)
    expected = {"a": "1", "b": "2", revisions.REVISION: "5", revisions.REVISION_HISTORY: "2"}
    assert found == change(new, annotations=expected, min_ready_seconds=7)
    [[request], growing] = [plain(wave) for wave in acts.resizings(observed, found, Decision())]
    assert request == Request("update", REPLICA_SETS, "default", "new", body=found)
    assert acts.resizings(observed, found, Decision())[0][0].because == "its Deployment changed"
    assert growing == [] and acts.resizings(observed, None, Decision()) == ((), ())
    decision = Decision({"old": 0, "new": 3}, "why")
    first, growing = acts.resizings(observed, found, decision)
    assert [one.because for one in (*first, *growing)] == ["from 1 to 0: why", "from 1 to 3: why"]
    assert plain(growing) == [update(found, 1, 3, owner)] and plain(first) == [
        update(old, 1, 0, owner)
    ]
    same = change(new, annotations={DESIRED: "3"})
    [only], none = acts.resizings(seen(owner, same), None, Decision({"new": 1}, "why"))
    assert (only.because, only.note, none) == ("its Deployment changed", None, ())
    assert only.body.metadata.annotations == {DESIRED: "4", MOST: "5"}
    bare = change(new, annotations=None)
    assert acts.resized(bare, 2, Bounds(3, 4, 5)).metadata.annotations == {DESIRED: "3", MOST: "7"}


def test_dep_16_a_status_that_is_right_is_not_written():
    owner = change(WEB, annotations={"a": "b"})
    assert acts.report(owner, owner.status) == ()
    assert acts.report(owner, owner.status, change(rs("n", 1), annotations=None)) == ()
    known = change(owner, annotations={revisions.REVISION: "1"})
    assert acts.report(known, known.status, rs("n", 1)) == ()
    [request] = acts.report(owner, owner.status, rs("n", 1))
    assert plain([request]) == [reported(owner, owner.status, "1")]
    assert request.because == "0 of 4 pods are new, 0 available"
    status = replace(owner.status, updated_replicas=2, available_replicas=3)
    assert acts.report(owner, status)[0].because == "2 of 4 pods are new, 3 available"
    assert plain(acts.report(owner, status)) == [reported(owner, status)]


def test_dep_3_the_new_one_and_the_old_ones():
    young = rs("c", 1, creation_timestamp=ago(1))
    new, twin = rs("b", 2, creation_timestamp=ago(9)), rs("a", 0, creation_timestamp=ago(8))
    old = rs("d", 0, "0", "6", creation_timestamp=ago(99))
    found = seen(WEB, young, old, twin, new)
    assert found.new is new and found.old == [old, twin, young] and found.revision == 7
    assert found.all == [old, twin, young, new] and found.active == [young, new]
    assert found.latest is new and not found.is_terminating
    assert found.bounds == Bounds(4, 1, 1)
    without = seen(change(WEB, template=template("9")), young, old)
    assert without.new is None and without.all == [old, young] and without.latest is young
    assert seen(WEB).latest is None and seen(WEB).revision == 1
    assert member(young) == Member("c", 1, 1, ago(1), 5)
    bare = change(replica_set("x"), replicas=None, creation_timestamp=None)
    assert member(bare) == Member("x", 0, 0, "", None)


# --- revisions


def test_dep_2_labels_with_and_without_the_hash():
    hashed = {revisions.TEMPLATE_HASH: "h"}
    assert revisions.with_hash(None, "h") == hashed
    assert revisions.with_hash({"a": "b"}, "h") == {"a": "b", **hashed}
    base = template()

    def labelled(labels: Any) -> Any:
        return replace(base, metadata=replace(base.metadata, labels=labels))

    for before, after in [
        ({"a": "b", **hashed}, {"a": "b"}),
        (hashed, None),
        ({}, {}),
        (None, None),
        ({"a": "b"}, {"a": "b"}),
    ]:
        assert revisions.without_hash(labelled(before)) == labelled(after)
    assert revisions.replica_set_name("w" * 300, "abc") == "w" * 249 + "-abc"
    assert revisions.replica_set_name("w" * 249, "abc") == "w" * 249 + "-abc"
    selector = LabelSelector(match_labels={"c": "d"})
    labels, found = revisions.new_labels(change(WEB, selector=selector), "h")
    assert labels == {**LABELS, **hashed} and found == LabelSelector(
        match_labels={"c": "d", **hashed}
    )
    assert revisions.new_labels(change(WEB, selector=None), "h")[1] == LabelSelector(
        match_labels=hashed
    )


def test_dep_4_the_order_of_revisions():
    def one(name: str, at: Any, revision: Any) -> Any:
        annotations = None if revision is None else {revisions.REVISION: revision}
        return rs(name, 1, creation_timestamp=at, annotations=annotations)

    sets = [
        one("d", ago(1), "3"),
        one("c", ago(5), "x"),
        one("b", ago(5), "9"),
        one("a", None, "3"),
        one("e", ago(7), None),
    ]
    assert "".join([each.metadata.name for each in revisions.by_age(sets)]) == "aebcd"
    assert "".join([each.metadata.name for each in revisions.by_revision(sets)]) == "ecadb"
    assert [revisions.revision_of(each) for each in sets] == [3, 0, 9, 3, 0]
    assert revisions.next_revision(sets) == 10 and revisions.next_revision([]) == 1
    top = one("t", None, str(2**63 - 1))
    assert revisions.next_revision([top]) == 2**63 - 1
    assert (
        revisions.whole_number({"a": "7"}, "a") == 7 and revisions.whole_number(None, "a") is None
    )
    assert revisions.whole_number({"a": "7"}, "b") is None


@pytest.mark.parametrize(
    ("existing", "revision", "expected"),
    [
        (None, 1, {"R": "1"}), ({}, 3, {"R": "3"}), ({"R": "2"}, 3, {"R": "3", "H": "2"}), ({"R": "3"}, 3, {"R": "3"}), ({"R": "4"}, 3, {"R": "4"}),
        ({"R": "x"}, 3, {"R": "x"}), ({"R": "", "H": "1"}, 3, {"R": "3", "H": "1,"}), ({"R": "2", "H": "1"}, 3, {"R": "3", "H": "1,2"}), ({"o": "p"}, 1, {"o": "p", "R": "1"}),
    ],
)  # fmt: skip
def test_dep_4_dep_5_annotations(existing, revision, expected):
    names = {"R": revisions.REVISION, "H": revisions.REVISION_HISTORY}

    def full(found: Any) -> Any:
        return (
            None if found is None else {names.get(key, key): value for key, value in found.items()}
        )

    before = full(existing)
    assert revisions.compute_annotations(WEB, before, revision) == full(expected)
    assert before == full(existing), "a copy is changed"
    more = {"o": "new", **dict.fromkeys(revisions.NOT_COPIED, "7")}
    owner = change(WEB, annotations=more)
    assert revisions.compute_annotations(owner, before, revision) == {**full(expected), "o": "new"}


def test_dep_4_the_length_of_a_history():
    assert revisions.compute_history("", "5") == "5"
    assert revisions.compute_history("1,2", "3") == "1,2,3"
    longest = ",".join(["1", "2" * 995, "3" * 1000])
    assert len(longest) == 1998
    assert revisions.compute_history(longest, "4") == longest + ",4"
    assert revisions.compute_history(longest, "44") == longest[2:] + ",44"
    assert revisions.compute_history("1", "4" * 2000) == "4" * 2000
    assert revisions.compute_history("1", "4" * 2001) is None
    assert revisions.compute_history("", "4" * 2001) == "4" * 2001


def test_dep_2_hashes_depend_on_the_count():
    found = {revisions.template_hash(template(), count) for count in (None, 0, 1, 2)}
    assert len(found) == 4 and all(8 <= len(hash) <= 10 for hash in found)
    other = replace(template(), metadata=ObjectMeta(labels={"a": "1", "b": "2"}))
    turned = replace(template(), metadata=ObjectMeta(labels={"b": "2", "a": "1"}))
    assert revisions.template_hash(other, None) == revisions.template_hash(turned, None)


# --- status


def test_dep_12_dep_13_the_counts():
    first = with_status(
        rs("a", 2), replicas=3, ready_replicas=2, available_replicas=1, terminating_replicas=4
    )
    second = with_status(
        rs("b", 1), replicas=1, ready_replicas=None, available_replicas=None, terminating_replicas=1
    )
    owner = with_status(change(WEB, generation=7), collision_count=3)
    other = (DeploymentCondition(type="Other", status="True"),)

    def counts(bounds: Any, new: Any, *sets: Any) -> Any:
        return statuses.compute_counts(owner, bounds, new, sets, other, NOW)

    assert counts(Bounds(4, 0, 3), second, first, second) == DeploymentStatus(
        observed_generation=7,
        replicas=4,
        updated_replicas=1,
        ready_replicas=2,
        available_replicas=1,
        unavailable_replicas=2,
        terminating_replicas=5,
        collision_count=3,
        conditions=(*other, ENOUGH),
    )
    few = counts(Bounds(4, 0, 2), None, first, second)
    assert few.conditions == (*other, TOO_FEW) and few.updated_replicas is None
    assert counts(Bounds(0, 0, 0), None) == DeploymentStatus(
        observed_generation=7,
        terminating_replicas=0,
        collision_count=3,
        conditions=(*other, ENOUGH),
    )
    more = with_status(first, available_replicas=9)
    assert counts(Bounds(1, 0, 0), more, more).unavailable_replicas is None
    bare = change(rs("c", 0), replicas=None)
    assert counts(Bounds(1, 0, 0), None, bare).replicas is None
    unseen = with_status(second, terminating_replicas=None, observed_generation=None)
    assert statuses._terminating([first, unseen, second]) == 5
    unknown = with_status(second, terminating_replicas=None, observed_generation=1)
    assert statuses._terminating([first, unknown]) is None


@pytest.mark.parametrize("status", ["True", "False"])
@pytest.mark.parametrize("reason", ["R", "S"])
def test_dep_14_when_a_condition_changes(status, reason):
    other = DeploymentCondition(type="Other", status="True")
    before = saying("T", "True", "R", "old", ago(5), ago(9))
    found = statuses.set_condition((before, other), "T", status, reason, "new", NOW)
    if (status, reason) == ("True", "R"):
        assert found == (before, other)
    else:
        since = ago(9) if status == "True" else timestamp(NOW)
        assert found == (other, saying("T", status, reason, "new", timestamp(NOW), since))
    alone = statuses.set_condition((other,), "T", status, reason, "new", NOW)
    assert alone == (other, saying("T", status, reason, "new"))


PAUSED = progressing("Unknown", "DeploymentPaused", "Deployment is paused")
RESUMED = progressing("Unknown", "DeploymentResumed", "Deployment is resumed")


@pytest.mark.parametrize("paused", [None, False, True])
@pytest.mark.parametrize("deadline", [None, 2**31 - 1, 600])
@pytest.mark.parametrize("reason", [None, "DeploymentPaused", "DeploymentResumed", "ProgressDeadlineExceeded", "ReplicaSetUpdated"])  # fmt: skip
def test_dep_11_pauses(paused, deadline, reason):
    before = () if reason is None else (progressing("True", reason, at=ago(5)),)
    owner = replace(WEB, status=DeploymentStatus(conditions=before or None))
    owner = change(owner, paused=paused, progress_deadline_seconds=deadline)
    found = statuses.compute_pause(owner, NOW)
    if deadline != 600 or reason == "ProgressDeadlineExceeded":
        expected: Any = before
    elif paused and reason != "DeploymentPaused":
        expected = (PAUSED,)
    elif not paused and reason == "DeploymentPaused":
        expected = (RESUMED,)
    else:
        expected = before
    assert found == expected
    new = rs("n", 1)
    for created in (False, True):
        begun = statuses.compute_beginning(owner, before, new, NOW, created)
        words = f'{"Created" if created else "Found"} new replica set "n"'
        condition = progressing(
            "True",
            "NewReplicaSetCreated" if created else "FoundNewReplicaSet",
            words,
            since=timestamp(NOW) if not before else ago(5),
        )
        said = deadline == 600 and (created or not before)
        assert begun == ((condition,) if said else before)
        assert statuses.compute_beginning(owner, before, None, NOW, created) == before
    refusal = statuses.compute_refusal(owner, before, "w", NOW)
    assert refusal == (
        (progressing("False", "ReplicaSetCreateError", "w"),) if deadline == 600 else before
    )


WHOLE = DeploymentStatus(observed_generation=1, replicas=4, updated_replicas=4, ready_replicas=4, available_replicas=4)  # fmt: skip


def test_dep_14_what_is_complete():
    assert statuses.is_complete(WEB, WHOLE)
    for name in ("replicas", "updated_replicas", "available_replicas"):
        for wrong in (None, 3, 5):
            assert not statuses.is_complete(WEB, replace(WHOLE, **{name: wrong}))
    for seen_at, expected in ((None, False), (0, False), (2, True)):
        assert statuses.is_complete(WEB, replace(WHOLE, observed_generation=seen_at)) is expected
    assert statuses.is_complete(
        change(WEB, generation=None), replace(WHOLE, observed_generation=None)
    )
    one = replace(WHOLE, replicas=1, updated_replicas=1, available_replicas=1)
    assert statuses.is_complete(change(WEB, replicas=None), one)
    empty = DeploymentStatus(observed_generation=1)
    assert statuses.is_complete(change(WEB, replicas=0), empty)


def counted(*numbers: Any) -> Any:
    """All, updated, ready, available."""
    names = ("replicas", "updated_replicas", "ready_replicas", "available_replicas")
    return DeploymentStatus(**dict(zip(names, numbers, strict=True)))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((4, 2, 2, 2), (4, 2, 2, 2), False), ((4, 2, 2, 2), (5, 3, 2, 2), True), ((4, 2, 2, 2), (3, 2, 2, 2), True), ((4, 2, 2, 2), (3, 1, 2, 2), False), ((4, 2, 2, 2), (2, 1, 2, 2), True),
        ((4, 2, 2, 2), (4, 2, 3, 2), True), ((4, 2, 2, 2), (4, 2, 2, 3), True), ((4, 2, 2, 2), (4, 2, 1, 1), False), ((4, 2, 2, 2), (5, 2, 2, 2), False),
        ((None, None, None, None), (None, None, None, None), False), ((None, None, None, None), (1, 1, None, None), True), ((None, None, None, None), (1, None, 1, None), True),
        ((None, None, None, None), (1, None, None, 1), True), ((1, None, None, None), (None, None, None, None), True), ((None, None, None, None), (1, None, None, None), False), ((1, 1, 1, 1), (1, 1, None, None), False),
        ((1, 1, None, None), (1, None, None, None), False), ((2, 1, 0, 0), (1, None, None, None), False),
    ],
)  # fmt: skip
def test_dep_14_what_is_progress(before, after, expected):
    assert statuses.is_progress(counted(*before), counted(*after)) is expected


@pytest.mark.parametrize(
    ("reason", "at", "seconds", "expected", "late"),
    [
        ("ReplicaSetUpdated", 5, 600, 595, False), ("ReplicaSetUpdated", 600, 600, 0, False), ("ReplicaSetUpdated", 601, 600, -1, True), ("ReplicaSetUpdated", 601, None, None, False), ("ReplicaSetUpdated", 601, 2**31 - 1, None, False),
        ("NewReplicaSetAvailable", 601, 600, None, False), ("ProgressDeadlineExceeded", 5, 600, None, True), ("ReplicaSetUpdated", None, 600, None, False),
    ],
)  # fmt: skip
def test_dep_15_deadlines(reason, at, seconds, expected, late):
    owner = change(WEB, progress_deadline_seconds=seconds)
    current = replace(progressing("True", reason), last_update_time=None if at is None else ago(at))
    end = None if expected is None else NOW + expected * SECOND
    assert statuses.deadline(owner, current) == end and statuses.deadline(owner, None) is None
    assert statuses.is_timed_out(owner, current, NOW) is late
    status = DeploymentStatus(conditions=(current,))
    assert statuses.compute_wake(owner, status) == (None if end is None else end + SECOND)
    assert statuses.compute_wake(change(owner, paused=True), status) is None
    assert statuses.compute_wake(owner, replace(WHOLE, conditions=(current,))) is None
    assert statuses.compute_wake(owner, DeploymentStatus()) is None


def test_dep_14_dep_15_what_is_said_of_progress():
    new = rs("n", 1)
    other = DeploymentCondition(type="Other", status="True")

    def said(owner: Any, status: Any, current: Any, of: Any = new) -> Any:
        given = replace(status, conditions=(current, other) if current is not None else (other,))
        found = statuses.compute_progress(owner, given, of, [new], NOW)
        assert replace(found, conditions=None) == replace(status, conditions=None)
        return found.conditions

    started = progressing("True", "NewReplicaSetCreated", "m", ago(700), ago(900))
    part = counted(4, 2, 2, 2)
    before = replace(WEB, status=counted(4, 1, 2, 2))
    same = replace(WEB, status=part)
    moved = progressing(
        "True", "ReplicaSetUpdated", 'ReplicaSet "n" is progressing.', None, ago(900)
    )
    assert said(before, part, started) == (other, moved)
    again = progressing("True", "ReplicaSetUpdated", "m", ago(5), ago(900))
    assert said(before, part, again) == (other, moved), "written anew"
    assert said(before, part, None) == (other, replace(moved, last_transition_time=timestamp(NOW)))
    late = progressing(
        "False", "ProgressDeadlineExceeded", 'ReplicaSet "n" has timed out progressing.'
    )
    assert said(same, part, started) == (other, late)
    early = progressing("True", "NewReplicaSetCreated", "m", ago(500), ago(900))
    assert said(same, part, early) == (early, other) and said(same, part, None) == (other,)
    finished = progressing(
        "True",
        "NewReplicaSetAvailable",
        'ReplicaSet "n" has successfully progressed.',
        None,
        ago(900),
    )
    assert said(same, WHOLE, started) == (other, finished)
    kept = progressing("True", "NewReplicaSetAvailable", "m", ago(5), ago(9))
    assert said(before, counted(4, 4, 3, 3), kept) == (kept, other)
    assert said(before, counted(4, 3, 3, 3), kept) == (
        other,
        replace(moved, last_transition_time=ago(9)),
    )
    unwatched = change(before, progress_deadline_seconds=None)
    assert said(unwatched, part, started) == (other,)
    [_, named] = said(before, part, started, None)
    assert named.message == 'Deployment "web" is progressing.'
    nothing = statuses.compute_progress(
        unwatched, replace(part, conditions=(started,)), new, [], NOW
    )
    assert nothing.conditions is None


def test_dep_14_failures_of_replica_sets():
    def failing(name: str, status: str = "True", reason: str = "FailedCreate") -> Any:
        condition = ReplicaSetCondition(
            type="ReplicaFailure",
            status=status,
            reason=reason,
            message=f"of {name}",
            last_transition_time=ago(3),
        )
        other = ReplicaSetCondition(type="Other", status="True")
        return with_status(rs(name, 1), conditions=(other, condition))

    def failure_of(name: str, since: Any = None, **fields: Any) -> Any:
        found = saying("ReplicaFailure", "True", "FailedCreate", f"of {name}", ago(3), since)
        return replace(found, **fields)

    other = DeploymentCondition(type="Other", status="True")
    find = statuses._with_failure
    assert find((other,), failing("n"), [failing("o")]) == (other, failure_of("n"))
    assert find((other,), rs("n", 1), [rs("p", 1), failing("o"), failing("q")]) == (
        other,
        failure_of("o"),
    )
    assert find((other,), None, [failing("o")]) == (other, failure_of("o"))
    known = failure_of("x", ago(99))
    assert find((known, other), None, [failing("o")]) == (known, other)
    assert (
        find((known, other), None, [rs("o", 1)]) == find((known, other), rs("n", 1), []) == (other,)
    )
    changed = failure_of("o", ago(99), reason="FailedDelete")
    assert find((known, other), None, [failing("o", reason="FailedDelete")]) == (other, changed)
    turned = failure_of("o", status="False")
    assert find((known, other), None, [failing("o", "False")]) == (other, turned)
    status = statuses.compute_progress(WEB, DeploymentStatus(), None, [failing("o")], NOW)
    assert status.conditions == (failure_of("o"),)
