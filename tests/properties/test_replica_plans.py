"""Whole plans of ReplicaSets, the order of deletions and claims, compared with what they should be
(RS-1 to RS-12, spec/workloads/replica_set.md; OWN-1 to OWN-8, spec/workloads/owners.md)."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from immutables import Map
from msgspec.structs import replace
from workload_helpers import (
    LABELS,
    NOW,
    ago,
    change,
    pod,
    reference_to,
    replica_set,
    template,
    view_of,
)

from refk8s.core.api.apps_v1 import ReplicaSetCondition, ReplicaSetStatus
from refk8s.core.api.core_v1 import (
    Container,
    ContainerStatus,
    PodCondition,
    PodTemplateSpec,
    ReplicationController,
    ReplicationControllerSpec,
)
from refk8s.core.api.meta_v1 import (
    DeleteOptions,
    LabelSelector,
    LabelSelectorRequirement,
    ObjectMeta,
    OwnerReference,
    Preconditions,
    StatusCause,
    StatusDetails,
)
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import PODS, REPLICA_SETS, REPLICATION_CONTROLLERS
from refk8s.core.api.status import failure
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers import deletion_order, owners, replicas
from refk8s.core.controllers import replica_set as of_set
from refk8s.core.controllers.deletion_order import active_key, rank_for_deletion
from refk8s.core.controllers.replica_set import ReplicaSetReconciler
from refk8s.core.controllers.replicas import Replicas
from refk8s.core.controllers.replication_controller import ReplicationControllerReconciler
from refk8s.core.loop.plan import NOTHING, Local, Note, Plan
from refk8s.core.pods.template import pod_from_template

RS = ReplicaSetReconciler()
OURS = replica_set("web", replicas=3)
STRATEGIC = "application/strategic-merge-patch+json"


def plan(owner: Any, *objects: Any, local: Any = None) -> Plan:
    view = view_of(RS, owner, *objects)
    return RS.reconcile(view, "default/web", NOW, Local() if local is None else local)


def requests_of(found: Plan) -> list[list[Request]]:
    assert all(one.because for wave in found.waves for one in wave)
    return [[replace(one, because="") for one in wave] for wave in found.waves]


def status_of(*counts: int, **fields: Any) -> ReplicaSetStatus:
    """Counts: all, labelled, ready, available, terminating."""
    numbers = [*counts, *[0] * (5 - len(counts))]
    return ReplicaSetStatus(
        replicas=numbers[0],
        fully_labeled_replicas=numbers[1] or None,
        ready_replicas=numbers[2] or None,
        available_replicas=numbers[3] or None,
        terminating_replicas=numbers[4],
        observed_generation=1,
        **fields,
    )


def reported(owner: Any, status: Any) -> Request:
    return Request(
        "update", REPLICA_SETS, "default", "web", "status", body=replace(owner, status=status)
    )


def report_of(found: Plan) -> list[Request]:
    assert all(one.because for one in found.last)
    return [replace(one, because="") for one in found.last]


def mine(name: str, **parts: Any) -> Any:
    return pod(name, OURS, **parts)


# --- plans


def test_rs_1_rs_4_missing_pods_are_created():
    found = plan(OURS, mine("a"))
    made = pod_from_template(OURS.spec.template, owners.controller_reference(OURS))
    note = Note(OURS, "SuccessfulCreate", "Created pod: {name}")
    creation = Request("create", PODS, "default", body=made, note=note)
    assert [one for wave in requests_of(found) for one in wave] == [creation] * 2
    assert [one.because for wave in found.waves for one in wave] == ["2 of 3 pods are missing"] * 2
    assert report_of(found) == [reported(OURS, status_of(1, 1))]
    assert found.last[0].because == "1 of 3 pods exist, 0 ready, 0 available"
    assert (found.wake_at, found.notes) == (None, ())
    one = replica_set("web", replicas=None)
    assert len(requests_of(plan(one))) == 1


def test_rs_4_a_plan_is_bounded():
    many = of_set.creations(OURS, of_set.BURST_MAX + 7, 600)
    assert len(many) == of_set.BURST_MAX
    with_note = [one for one in many if one.note is not None]
    assert len(with_note) == of_set.NOTES_MAX and many[: of_set.NOTES_MAX] == tuple(with_note)
    assert replace(many[0], note=None) == many[-1] and many[0].body is many[-1].body
    few = of_set.creations(OURS, 2, 3)
    assert [one.note is not None for one in few] == [True, True]
    assert of_set.creations(change(OURS, template=None), 2, 3) == ()


def test_rs_1_rs_5_surplus_pods_are_deleted():
    owner = change(OURS, replicas=1)
    pods = [mine("a", ready=True), mine("b"), mine("c", node_name="n"), mine("d", phase="Failed")]
    found = plan(owner, *pods, mine("e", deletion_timestamp=ago(1)))
    note = Note(owner, "SuccessfulDelete", "Deleted pod: {name}")

    def deletion(name: str) -> Request:
        options = DeleteOptions(preconditions=Preconditions(uid=f"uid-{name}"))
        return Request("delete", PODS, "default", name, body=options, note=note)

    ranked = [one.metadata.name for one in rank_for_deletion(pods[:3], [], NOW)]
    assert requests_of(found) == [[deletion(ranked[0]), deletion(ranked[1])]]
    assert {one.because for one in found.waves[0]} == {"2 too many pods"}
    assert report_of(found) == [reported(owner, status_of(3, 3, 1, 1, 1))]


def test_rs_3_an_owner_that_is_being_deleted_only_reports():
    going = change(OURS, deletion_timestamp=ago(1))
    for count in (1, 5):
        pods = [mine(f"p{n}") for n in range(count)]
        found = plan(going, *pods)
        assert found.waves == () and report_of(found) == [reported(going, status_of(count, count))]
    assert RS.reconcile(view_of(RS), "default/web", NOW, Local()) == NOTHING


def test_rs_12_a_status_that_is_right_is_not_written():
    owner = change(OURS, replicas=2)
    right = replace(owner, status=status_of(2, 2, 1, 1))
    pods = [mine("a", ready=True), mine("b")]
    assert plan(right, *pods) == Plan((), (), None, ())
    wrong = replace(owner, status=status_of(2, 2, 2, 1))
    assert report_of(plan(wrong, *pods)) == [reported(wrong, status_of(2, 2, 1, 1))]


def test_rs_8_a_pod_that_becomes_available_wakes_its_owner():
    owner = change(OURS, replicas=4, min_ready_seconds=20)

    def since(name: str, seconds: Any) -> Any:
        at = None if seconds is None else ago(seconds)
        ready = (PodCondition(type="Ready", status="True", last_transition_time=at),)
        return mine(name, conditions=ready)

    found = plan(owner, since("a", 20), since("b", 5), since("c", 9), since("d", None))
    assert report_of(found) == [reported(owner, status_of(4, 4, 4, 1))]
    assert found.wake_at == NOW + 11 * SECOND


def test_own_5_an_adoption_waits_for_nothing_else():
    orphan = pod("o")
    done, away = pod("f", phase="Failed"), pod("x", labels={"app": "other"})
    loose = mine("l", labels={"app": "other"})
    found = plan(OURS, mine("a"), orphan, done, away, loose)
    reference = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "web",
        "uid": "uid-web",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    adopted = {"metadata": {"uid": "uid-o", "ownerReferences": [reference]}}
    released = {
        "metadata": {"uid": "uid-l", "ownerReferences": [{"$patch": "delete", "uid": "uid-web"}]}
    }
    assert requests_of(found) == [
        [Request("update", REPLICA_SETS, "default", "web", "status", body=OURS)],
        [
            Request("patch", PODS, "default", "o", body=Patch(STRATEGIC, adopted)),
            Request("patch", PODS, "default", "l", body=Patch(STRATEGIC, released)),
        ],
    ]
    assert found.last == () and found.notes == ()


def test_own_8_no_pod_is_created_that_would_not_be_owned():
    stray = change(OURS, template=replace(template(), metadata=ObjectMeta(labels={"app": "db"})))
    found = plan(stray)
    words = "the selector does not select the labels of the template"
    condition = ReplicaSetCondition(
        type="ReplicaFailure",
        status="True",
        reason="FailedCreate",
        message=words,
        last_transition_time=timestamp(NOW),
    )
    assert found.waves == ()
    assert found.notes == (Note(stray, "FailedCreate", f"Error creating: {words}", "Warning"),)
    assert report_of(found) == [reported(stray, status_of(0, conditions=(condition,)))]
    [note] = plan(change(stray, replicas=1)).notes
    assert note.message == f"Error creating: {words}"
    enough = change(stray, replicas=0)
    assert plan(enough).notes == ()


def refused(code: int = 403, message: Any = "no", **details: Any) -> Local:
    body = failure(code, "Forbidden", message, StatusDetails(**details) if details else None)
    return Local(failures=1, failure=Response(code, body))


@pytest.mark.parametrize(
    ("local", "words"),
    [
        (Local(), None),
        (refused(), "no"),
        (refused(kind="pods"), "no"),
        (refused(kind="replicasets"), None),
        (refused(kind="ReplicaSet"), None),
        (refused(causes=(StatusCause(reason="NamespaceTerminating"),)), None),
        (refused(causes=(StatusCause(reason="Other"),)), "no"),
        (refused(code=500, message=""), "the API server answered 500"),
        (Local(failures=1, failure=Response(500, "text")), "the API server answered 500"),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_rs_11_a_rejection_is_told(local, words, count):
    owner = change(OURS, replicas=2)
    pods = [mine(f"p{n}") for n in range(count)]
    found = plan(owner, *pods, local=local)
    told = words is not None and count != 2
    reason, start = (
        ("FailedCreate", "Error creating") if count < 2 else ("FailedDelete", "Error deleting")
    )
    assert found.notes == ((Note(owner, reason, f"{start}: {words}", "Warning"),) if told else ())
    [request] = found.last
    condition = ReplicaSetCondition(
        type="ReplicaFailure",
        status="True",
        reason=reason,
        message=words,
        last_transition_time=timestamp(NOW),
    )
    assert request.body.status == status_of(count, count, conditions=(condition,) if told else None)


def test_rs_11_the_first_rejection_stays_until_the_number_is_right():
    first = ReplicaSetCondition(
        type="ReplicaFailure", status="True", reason="FailedCreate", message="first"
    )
    other = ReplicaSetCondition(type="Other", status="True")
    owner = replace(OURS, status=ReplicaSetStatus(replicas=0, conditions=(first, other)))

    def conditions(missing: int, words: Any, of: Any = owner) -> Any:
        return of_set.compute_conditions(of_set.REPLICA_SET, of, missing, words, NOW)

    assert conditions(1, "second") == conditions(1, None) == (first, other)
    assert conditions(0, "second") == conditions(0, None) == (other,)
    bare = replace(owner, status=ReplicaSetStatus(replicas=0, conditions=(other,)))
    assert conditions(2, None, bare) == (other,)
    for missing, reason in ((2, "FailedCreate"), (-1, "FailedDelete")):
        added = ReplicaSetCondition(
            type="ReplicaFailure",
            status="True",
            reason=reason,
            message="w",
            last_transition_time=timestamp(NOW),
        )
        assert conditions(missing, "w", bare) == (other, added)


def test_rs_2_a_replication_controller_follows_the_same_rules():
    rc = ReplicationControllerReconciler()
    spec = ReplicationControllerSpec(replicas=1, selector=LABELS, template=template())
    metadata = ObjectMeta(name="rc", namespace="default", uid="uid-rc", generation=1)
    owner = ReplicationController(metadata=metadata, spec=spec)
    made = rc.reconcile(view_of(rc, owner), "default/rc", NOW, Local())
    [[request]] = requests_of(made)
    assert request.body.metadata.owner_references[0].kind == "ReplicationController"
    [report] = made.last
    assert (report.resource, report.body.status.replicas) == (REPLICATION_CONTROLLERS, 0)
    assert not hasattr(report.body.status, "terminating_replicas")
    assert (
        len(
            requests_of(
                rc.reconcile(
                    view_of(rc, owner, pod("p", owner), pod("q", owner)), "default/rc", NOW, Local()
                )
            )[0]
        )
        == 1
    )


def test_rs_5_the_relatives_are_the_pods_of_the_same_owner():
    deployment = reference_to(replica_set("d"))
    one = change(OURS, owner_references=(deployment,))
    sibling = change(replica_set("old"), owner_references=(deployment,))
    stranger = replica_set("x")
    pods = [pod("a", one), pod("b", sibling), pod("c", stranger), pod("d")]
    view = view_of(RS, one, sibling, stranger, *pods)
    found = [each.metadata.name for each in of_set.relatives(view, of_set.REPLICA_SET, one)]
    assert sorted(found) == ["a", "b"]
    assert list(of_set.relatives(view, of_set.REPLICA_SET, stranger)) == []
    crowded = [change(each, node_name="n") for each in (pod("a", one), pod("b", sibling))]
    alone = change(pod("z", one), node_name="m")
    found = plan(change(one, replicas=1), sibling, *crowded, alone)
    [[request]] = requests_of(found)
    assert request.name == "a", "two relatives are on its node"


# --- counts


def test_rs_7_rs_9_pods_are_counted():
    owner = change(OURS, template=PodTemplateSpec(metadata=ObjectMeta(labels={"a": "b"})))
    ready = (PodCondition(type="Ready", status="True", last_transition_time=ago(5)),)
    shared = {"a": "b", "c": "d"}
    pods = [
        pod("a", labels=shared),
        pod("b", labels=shared, conditions=ready),
        pod("c", labels={"a": "x"}),
        pod("d", labels=None, conditions=ready),
        pod("e", labels=None),
    ]
    found = replicas.read_replicas(owner, pods, [pod("t")] * 2, NOW)
    assert found == Replicas(5, 2, 2, 2, 2, None)
    waiting = replicas.read_replicas(change(owner, min_ready_seconds=5), pods, [], NOW)
    assert waiting == Replicas(5, 2, 2, 2, 0, None)
    waiting = replicas.read_replicas(change(owner, min_ready_seconds=7), pods, [], NOW)
    assert waiting == Replicas(5, 2, 2, 0, 0, NOW + 2 * SECOND)
    bare = change(OURS, template=None)
    assert replicas.template_labels(bare) == {} and replicas.template_labels(OURS) == LABELS
    assert replicas.read_replicas(bare, pods[3:], [], NOW) == Replicas(2, 2, 1, 1, 0)


def counts_of(*changes: tuple[Any, Any]) -> Any:
    found: Any = Map()
    for old, new in changes:
        found = replicas.count_replicas(found, PODS, old, new)
    return {owner: dict(groups) for owner, groups in found.items()}


def test_rs_7_the_groups_of_pods():
    owner = ("default", "web", "uid-web")
    labels = frozenset(LABELS.items())
    ready, plain = mine("a", ready=True), mine("a")
    going = mine("a", deletion_timestamp=ago(1))
    assert counts_of((None, plain)) == {owner: {(labels, "unready"): 1}}
    assert counts_of((None, ready)) == {owner: {(labels, "ready"): 1}}
    assert (
        counts_of((None, going))
        == counts_of((None, change(ready, deletion_timestamp=ago(1))))
        == {owner: {(labels, "terminating"): 1}}
    )
    assert counts_of((None, mine("a", labels=None))) == {owner: {(frozenset(), "unready"): 1}}
    assert counts_of((None, plain), (plain, ready)) == {owner: {(labels, "ready"): 1}}
    assert counts_of((None, plain), (None, mine("b"))) == {owner: {(labels, "unready"): 2}}
    assert counts_of((None, plain), (None, ready)) == {
        owner: {(labels, "unready"): 1, (labels, "ready"): 1}
    }
    for nothing in (pod("a"), mine("a", phase="Failed"), mine("a", phase="Succeeded")):
        assert counts_of((None, nothing)) == counts_of((None, plain), (plain, nothing)) == {}
    assert counts_of((None, plain), (plain, None)) == {}
    other = pod("a", replica_set("other"))
    assert counts_of((None, plain), (plain, other)) == {
        ("default", "other", "uid-other"): {(labels, "unready"): 1}
    }


def test_rs_7_the_numbers_of_groups():
    wanted = {**LABELS, "more": "m"}
    owner = change(OURS, template=PodTemplateSpec(metadata=ObjectMeta(labels=wanted)))
    pods = [
        mine("a", labels=wanted, ready=True),
        mine("b", labels=wanted),
        mine("c"),
        mine("d", ready=True),
        mine("e", deletion_timestamp=ago(1)),
        mine("f", labels={"app": "db"}, deletion_timestamp=ago(1)),
    ]
    selected = owners.selects(owner.spec.selector)

    def known(of: Any, *more: Any) -> Any:
        return replicas.known_replicas(view_of(RS, *pods, *more), of, selected)

    assert known(owner) == Replicas(4, 2, 2, 2, 1)
    assert known(change(owner, min_ready_seconds=1)) is None
    stray = mine("g", labels={"app": "db"})
    assert known(owner, stray) is None
    assert known(change(owner, deletion_timestamp=ago(1)), stray) == Replicas(4, 2, 2, 2, 1)
    more = mine("h", labels=wanted, deletion_timestamp=ago(1))
    assert known(owner, more) == Replicas(4, 2, 2, 2, 2)
    assert known(change(owner, uid="other")) == Replicas(0, 0, 0, 0, 0)


# --- the order of deletions


def ranked(*pods: Any, relatives: Any = ()) -> list[str]:
    return [one.metadata.name for one in rank_for_deletion(pods, relatives, NOW)]


def ready_since(seconds: Any) -> Any:
    at = None if seconds is None else ago(seconds)
    return (PodCondition(type="Ready", status="True", last_transition_time=at),)


def sidecar(count: int, name: str = "s") -> dict[str, Any]:
    return {
        "init_containers": (Container(name="s", restart_policy="Always"), Container(name="i")),
        "init_container_statuses": (ContainerStatus(name=name, restart_count=count),),
    }


COST = "controller.kubernetes.io/pod-deletion-cost"
LADDER: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"node_name": "n"}),
    ({"node_name": ""}, {"node_name": "n"}),
    ({"phase": "Pending"}, {"phase": "Unknown"}),
    ({"phase": None}, {"phase": "Unknown"}),
    ({"phase": ""}, {"phase": "Unknown"}),
    ({"phase": "Unknown"}, {"phase": "Running"}),
    ({"phase": "Unknown"}, {"phase": "Odd"}),
    ({}, {"conditions": ready_since(5)}),
    ({"annotations": {COST: "-1"}}, {}),
    ({}, {"annotations": {COST: "1"}}),
    ({"annotations": {COST: "9"}}, {"annotations": {COST: "10"}}),
    ({"annotations": {COST: str(-(2**31))}}, {"annotations": {COST: "-5"}}),
    ({}, {"annotations": {COST: str(2**31 - 1)}}),
    ({"conditions": ready_since(5)}, {"conditions": ready_since(500)}),
    ({"conditions": ready_since(None)}, {"conditions": ready_since(-5)}),
    ({"conditions": ready_since(-5)}, {"conditions": ready_since(5)}),
    ({"container_statuses": (ContainerStatus(name="c", restart_count=3),)}, {"container_statuses": (ContainerStatus(name="c", restart_count=2), ContainerStatus(name="d", restart_count=1))}),
    ({"container_statuses": (ContainerStatus(name="c", restart_count=1),)}, {}),
    (sidecar(2), sidecar(1)),
    (sidecar(1), sidecar(9, name="i")),
    ({"creation_timestamp": ago(5)}, {"creation_timestamp": ago(500)}),
    ({"creation_timestamp": None}, {"creation_timestamp": ago(-5)}),
    ({"creation_timestamp": ago(-5)}, {"creation_timestamp": ago(5)}),
]  # fmt: skip


@pytest.mark.parametrize(("first", "last"), LADDER)
def test_rs_5_which_of_two_pods_is_deleted_first(first, last):
    assert ranked(pod("b", uid="b", **last), pod("a", uid="a", **first)) == ["a", "b"]
    assert ranked(pod("a", uid="a", **last), pod("b", uid="b", **first)) == ["b", "a"]


@pytest.mark.parametrize("cost", ["+1", "01", "1.0", "x", "", str(2**31), str(-(2**31) - 1), "99999999999"])  # fmt: skip
def test_rs_5_a_cost_that_is_none_is_0(cost):
    odd = {"annotations": {COST: cost}}
    assert ranked(pod("b", uid="b"), pod("a", uid="a", **odd)) == ["a", "b"]
    assert ranked(pod("a", uid="a"), pod("b", uid="b", **odd)) == ["a", "b"]
    assert deletion_order._cost(pod("a", **odd)) == 0


def test_rs_5_an_unknown_phase_is_as_running():
    for one, other in (("Odd", "Running"), ("Running", "Odd")):
        pods = [pod("b", uid="b", phase=one), pod("a", uid="a", phase=other)]
        assert ranked(*pods) == ["a", "b"]
        assert [each.metadata.name for each in sorted(pods, key=active_key)] == ["a", "b"]


def test_rs_5_neighbours_and_ages():
    on = {"node_name": "n"}
    relatives = [
        pod("r", **on),
        pod("s", **on),
        pod("t", node_name="m"),
        pod("u", node_name="m", phase="Failed"),
        pod("v", node_name="m", deletion_timestamp=ago(1)),
    ]
    assert ranked(pod("a", node_name="m"), pod("b", **on), relatives=relatives) == ["b", "a"]
    near, far = (
        pod("a", creation_timestamp=ago(5), uid="z"),
        pod("b", creation_timestamp=ago(6), uid="y"),
    )
    assert ranked(near, far) == ["b", "a"], "both ages have one logarithm, so the uid decides"
    assert [deletion_order._age(at, NOW) for at in (None, ago(-1), ago(0), ago(1))] == [
        -2,
        -1,
        -1,
        29,
    ]
    assert deletion_order._age(timestamp(NOW - SECOND), NOW) == (10**9).bit_length() - 1


JOBS = [
    ({}, {"node_name": "n"}), ({"phase": "Pending"}, {"phase": "Unknown"}), ({"phase": "Unknown"}, {"phase": "Running"}),
    ({}, {"conditions": ready_since(5)}), ({"conditions": ready_since(5)}, {"conditions": ready_since(6)}),
    ({"container_statuses": (ContainerStatus(name="c", restart_count=1),)}, {}), (sidecar(2), sidecar(1)),
    ({"creation_timestamp": ago(5)}, {"creation_timestamp": ago(6)}),
]  # fmt: skip


@pytest.mark.parametrize(("first", "last"), JOBS)
def test_job_14_which_of_two_pods_of_a_job_is_deleted_first(first, last):
    for one, other in (("a", "b"), ("b", "a")):
        pods = [pod(other, uid=other, **last), pod(one, uid=one, **first)]
        assert [each.metadata.name for each in sorted(pods, key=active_key)] == [one, other]
    odd = {"phase": "Odd", "creation_timestamp": None}
    same = [pod("b", uid="b", **odd), pod("a", uid="a", **odd)]
    assert [each.metadata.name for each in sorted(same, key=active_key)] == ["a", "b"]
    undated = pod("a", conditions=ready_since(None), creation_timestamp=None, uid="u")
    assert active_key(undated) == (False, 0, True, 0, 0, 0, 0, "u")


# --- owners


def test_own_1_the_reference_of_a_controller():
    assert owners.controller_reference(OURS) == OwnerReference(
        api_version="apps/v1",
        kind="ReplicaSet",
        name="web",
        uid="uid-web",
        controller=True,
        block_owner_deletion=True,
    )


EXISTS = LabelSelectorRequirement(key="a", operator="Exists")


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        (None, {"a": "b"}, False), (LabelSelector(), {"a": "b"}, False),
        (LabelSelector(match_labels={"a": "b"}), {"a": "b", "c": "d"}, True),
        (LabelSelector(match_labels={"a": "b"}), {"a": "x"}, False),
        (LabelSelector(match_expressions=(EXISTS,)), {"a": "x"}, True),
        (LabelSelector(match_expressions=(EXISTS,)), {"b": "x"}, False),
        (LabelSelector(match_labels={"c": "d"}, match_expressions=(EXISTS,)), {"a": "x"}, False),
        (LabelSelector(match_expressions=(LabelSelectorRequirement(key="a", operator="Odd"),)), {"a": "x"}, False),
    ],
)  # fmt: skip
def test_own_1_what_a_selector_selects(selector, labels, expected):
    assert owners.selects(selector)(labels) is expected
    assert (owners.why_not_created(owners.selects(selector), labels) is None) is expected
    assert owners.why_not_created(owners.selects(selector), None) == owners.NOT_SELECTED


def test_own_2_the_orphans_of_a_namespace():
    pods = [
        pod("a"),
        pod("b", labels={"app": "web", "x": "y"}),
        mine("c"),
        pod("d", namespace="other"),
        pod("e", labels=None),
        change(mine("f"), owner_references=(reference_to(OURS, controller=False),)),
    ]
    view = view_of(RS, *pods)

    def found(selector: Any, namespace: str = "default") -> str:
        return "".join(
            [one.metadata.name for one in owners.list_orphans(view, PODS, namespace, selector)]
        )

    assert found(LabelSelector(match_labels={"app": "web"})) == "abf"
    assert found(LabelSelector(match_labels={"x": "y"})) == "b"
    assert found(LabelSelector(match_labels={"x": "y", "app": "web"})) == "abf"
    assert found(LabelSelector(match_expressions=(EXISTS,))) == "abef"
    assert found(LabelSelector(match_labels={"app": "web"}), "other") == "d"
    assert found(None) == found(LabelSelector()) == ""
    index = owners.orphan_index(PODS)
    assert index.part(mine("c")) == (mine("c").metadata.owner_references, LABELS)
    bare = change(pod("a"), namespace=None, labels=None)
    assert owners._orphan_entries(bare) == [""] and owners._orphan_entries(mine("c")) == []


STATES: dict[str, Any] = {
    "own": (reference_to(OURS),), "plain": (reference_to(OURS, controller=False),), "other": (reference_to(replica_set("o")),),
    "uid": (reference_to(change(OURS, uid="x")),), "name": (reference_to(change(OURS, name="x")),), "none": None,
}  # fmt: skip


@pytest.mark.parametrize("state", sorted(STATES))
@pytest.mark.parametrize("labels", [LABELS, {"app": "db"}, None])
@pytest.mark.parametrize("going", [None, ago(1)])
@pytest.mark.parametrize("owner_goes", [None, ago(1)])
@pytest.mark.parametrize("is_member", [None, True, False])
def test_own_1_own_4_the_table_of_claims(state, labels, going, owner_goes, is_member):
    owner = change(OURS, deletion_timestamp=owner_goes)
    one = change(pod("p"), owner_references=STATES[state], labels=labels, deletion_timestamp=going)
    member = None if is_member is None else lambda _: is_member
    found = owners.claim(owner, [one], [one], owners.selects(owner.spec.selector), member)
    selected = labels == LABELS and is_member is not False
    is_free = state in ("plain", "none")
    expected = [
        [one] if state == "own" and selected else [],
        [one] if is_free and selected and going is None and owner_goes is None else [],
        [one] if state == "own" and not selected and owner_goes is None else [],
    ]
    assert [found.owned, found.adopt, found.release] == expected
    assert found.is_settled is (not expected[1] and not expected[2])
    far = change(one, namespace="far")
    elsewhere = owners.claim(owner, [far], [], owners.selects(owner.spec.selector), member)
    assert (elsewhere.owned, elsewhere.release) == ([], [])


def test_own_1_labels_are_compared_for_each_map():
    pods = [
        mine(name, labels=labels)
        for name, labels in (
            ("a", LABELS),
            ("b", LABELS),
            ("c", {"app": "db"}),
            ("d", None),
            ("e", None),
            ("f", LABELS),
        )
    ]
    found = owners.claim(OURS, pods, [], owners.selects(OURS.spec.selector))
    assert [one.metadata.name for one in found.owned] == ["a", "b", "f"]
    assert [one.metadata.name for one in found.release] == ["c", "d", "e"]


def test_own_1_members_and_objects_without_labels():
    pods = [mine("a"), mine("b"), mine("c", labels=None)]
    orphans = [pod("d"), pod("e")]
    found = owners.claim(OURS, pods, orphans, owners.selects(OURS.spec.selector), lambda one: one.metadata.name in ("b", "e"))  # fmt: skip
    assert [one.metadata.name for one in found.owned] == ["b"]
    assert [one.metadata.name for one in found.release] == ["a", "c"]
    assert [one.metadata.name for one in found.adopt] == ["e"]
    without = LabelSelectorRequirement(key="app", operator="DoesNotExist")
    selector = LabelSelector(match_expressions=(without,))
    bare = [mine("c", labels=None), mine("d", labels=None), mine("a")]
    found = owners.claim(OURS, bare, [], owners.selects(selector))
    assert [one.metadata.name for one in found.owned] == ["c", "d"]


@pytest.mark.parametrize("finalizer", ["", "a.b/c"])
@pytest.mark.parametrize(("adopt", "release"), [(("a", "b"), ()), ((), ("c",)), (("a",), ("c",))])
def test_own_5_the_requests_of_a_claim(finalizer, adopt, release):
    claimed = owners.Claim([], [pod(name) for name in adopt], [pod(name) for name in release])
    waves = owners.claim_waves(
        OURS, REPLICA_SETS, PODS, claimed, finalizer, lambda one: one.metadata.name == "a"
    )
    *check, changes = [[replace(one, because="") for one in wave] for wave in waves]
    assert check == (
        [[Request("update", REPLICA_SETS, "default", "web", "status", body=OURS)]] if adopt else []
    )
    reference = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "web",
        "uid": "uid-web",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    expected = []
    for name in adopt:
        more = {"finalizers": [finalizer]} if finalizer and name == "a" else {}
        expected.append((name, {"ownerReferences": [reference], **more}))
    for name in release:
        more = {"$deleteFromPrimitiveList/finalizers": [finalizer]} if finalizer else {}
        expected.append(
            (name, {"ownerReferences": [{"$patch": "delete", "uid": "uid-web"}], **more})
        )
    assert changes == [
        Request(
            "patch",
            PODS,
            "default",
            name,
            body=Patch(STRATEGIC, {"metadata": {"uid": f"uid-{name}", **content}}),
        )
        for name, content in expected
    ]
    assert all(one.because for wave in waves for one in wave)
    if adopt:
        default = owners.claim_waves(OURS, REPLICA_SETS, PODS, claimed, "a.b/c")
        assert all(
            "finalizers" in one.body.document["metadata"] for one in default[1][: len(adopt)]
        )


def test_own_6_a_deletion_is_of_this_object():
    note = Note(OURS, "R", "w")
    options = DeleteOptions(preconditions=Preconditions(uid="uid-p"))
    assert owners.deletion(PODS, pod("p"), "why", note) == Request(
        "delete", PODS, "default", "p", body=options, because="why", note=note
    )
    assert owners.deletion(PODS, pod("p"), "why").note is None
    assert owners.deletion(PODS, change(pod("p"), namespace=None), "why").namespace == ""


OTHER = replica_set("other")
JOB_REFERENCE = (
    OwnerReference(api_version="batch/v1", kind="Job", name="j", uid="uj", controller=True),
)
DEPENDENTS = {
    "none": None, "ours": pod("p", OURS), "other": pod("p", OTHER), "free": pod("p"), "away": pod("p", labels={"app": "db"}),
    "job": change(pod("p"), owner_references=JOB_REFERENCE), "blank": pod("p", labels=None),
    "plain": change(pod("p"), owner_references=(reference_to(OURS, controller=False),)),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), [*product(DEPENDENTS, repeat=2)])
def test_own_7_which_owners_a_change_concerns(before, after):
    old, new = DEPENDENTS[before], DEPENDENTS[after]
    keys = owners.dependent_keys("ReplicaSet", REPLICA_SETS, lambda one: one.spec.selector)
    second = change(replica_set("second"), namespace="default")
    far = change(replica_set("far"), namespace="far")
    view = view_of(
        RS,
        OURS,
        second,
        far,
        change(replica_set("db"), selector=LabelSelector(match_labels={"app": "db"})),
    )
    controllers = {"ours": "default/web", "other": "default/other"}
    expected = []
    if after in controllers:
        expected.append(controllers[after])
    if before in controllers and controllers[before] not in expected:
        expected.append(controllers[before])
    controlled = ("ours", "other", "job")
    if new is not None and after not in controlled:
        changed = old is None or before in controlled or old.metadata.labels != new.metadata.labels
        selecting = {
            "free": ["default/second", "default/web"],
            "plain": ["default/second", "default/web"],
            "away": ["default/db"],
            "blank": [],
        }
        expected += [key for key in selecting[after] if changed and key not in expected]
    assert sorted(keys(view, old, new)) == sorted(expected)


def test_own_7_a_change_of_another_field_concerns_the_controller():
    keys = owners.dependent_keys("ReplicaSet", REPLICA_SETS, lambda one: one.spec.selector)
    view = view_of(RS, OURS)
    job = change(pod("p"), owner_references=JOB_REFERENCE)
    assert keys(view, job, change(job, phase="Failed")) == []
    assert keys(view, mine("p"), change(mine("p"), phase="Failed")) == ["default/web"]
    several = change(
        mine("p"), owner_references=(reference_to(OTHER, controller=False), reference_to(OURS))
    )
    assert keys(view, several, change(several, phase="Failed")) == ["default/web"]
