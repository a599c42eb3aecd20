"""What the disruption controller counts, says and is called for, beside a plain reading of its
rules: PDB-1 to PDB-5 (spec/workloads/disruption.md)."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_pdb import PDBS, PODS, budget, plan_of, replication_controller, stateful_set, status_of
from workload_helpers import (
    LABELS,
    NOW,
    ago,
    change,
    deployment,
    pod,
    reference_to,
    replica_set,
    sent,
    view_of,
    without_reasons,
)

from refk8s.core.api.core_v1 import PodCondition
from refk8s.core.api.meta_v1 import Condition
from refk8s.core.api.policy_v1 import PodDisruptionBudgetStatus
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import DEPLOYMENTS, REPLICA_SETS
from refk8s.core.context import MINUTE, SECOND, timestamp
from refk8s.core.controllers.disruption import DELETION_TIMEOUT, POD, DisruptionController
from refk8s.core.loop.plan import NOTHING, Local, Note

CONTROLLER = DisruptionController()
KEYS = {interest.resource: interest.keys for interest in DisruptionController.interests}


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6))
@example(3, 2, 5)
@example(2, 2, 5)
def test_pdb_1_what_is_healthy_beyond_what_is_desired_may_be_disrupted(ready, least, seconds):
    other = Condition(type="Other", status="True", last_transition_time=ago(9))
    before = PodDisruptionBudgetStatus(conditions=(other,))
    pods = [pod(f"p{n}", ready=True) for n in range(ready)]
    the_budget = replace(budget(min_available=least), status=before)
    now = NOW + seconds * SECOND
    plan = plan_of(the_budget, *pods, now=now)
    allowed = max(0, ready - least)
    condition = Condition(
        type="DisruptionAllowed",
        status="True" if allowed else "False",
        reason="SufficientPods" if allowed else "InsufficientPods",
        message="",
        last_transition_time=timestamp(now),
        observed_generation=1,
    )
    status = PodDisruptionBudgetStatus(
        current_healthy=ready,
        desired_healthy=least,
        expected_pods=ready,
        disruptions_allowed=allowed,
        observed_generation=1,
        conditions=(other, condition),
    )
    body = replace(the_budget, status=status)
    assert without_reasons(plan.requests) == [
        Request("update", PDBS, "default", "b", "status", body=body)
    ]
    silent = Note(the_budget, "NoPods", "No matching pods found", "Normal")
    assert plan.notes == (() if pods else (silent,))


# --- which changes concern it ---------------------------------------------------------------------

facts = st.fixed_dictionaries(
    {
        "labels": st.sampled_from([LABELS, {"app": "other"}, {"app": "third"}]),
        "going": st.booleans(),
        "ready": st.booleans(),
        "owner": st.sampled_from([None, "rs", "rc"]),
        "uid": st.sampled_from(["1", "1", "2"]),
        "beat": st.integers(0, 1),
    }
)
OWNERS = {"rs": replica_set("rs"), "rc": replication_controller("rc", 1)}
BUDGETS = (
    budget("b"),
    budget("c", replace(budget().spec.selector, match_labels={"app": "other"})),
    change(budget("d"), namespace="elsewhere"),
    budget("none", None),
)
SELECTED = {"web": "default/b", "other": "default/c"}


def pod_with(namespace, labels, going, ready, owner, uid, beat):
    one = pod("p", OWNERS.get(owner), ready)
    parts = {"deletion_timestamp": ago(1) if going else None, "annotations": {"beat": f"{beat}"}}
    return change(one, labels=labels, uid=uid, namespace=namespace, **parts)


@given(facts | st.none(), facts, st.booleans(), st.sampled_from(["default", "elsewhere"]))
def test_pdb_1_a_budget_is_due_when_what_it_counts_has_changed(before, after, gone, namespace):
    """And only then: most changes of a pod are of its status."""
    view = view_of(CONTROLLER, *BUDGETS)
    old = pod_with(namespace, **before) if before is not None else None
    new = pod_with(namespace, **after)
    counted = [{k: v for k, v in each.items() if k != "beat"} for each in (before, after) if each]
    same = len(counted) == 2 and counted[0] == counted[1]
    selecting = SELECTED if namespace == "default" else {"web": "elsewhere/d"}
    apps = [each["labels"]["app"] for each in counted]
    if gone:  # deleted, from the state before
        same, apps = False, apps[:1] if before is not None else []
        found = KEYS[PODS](view, old, None) if old is not None else []
    else:
        found = KEYS[PODS](view, old, new)
    expected = {selecting[app] for app in apps if app in selecting} if not same else set()
    assert sorted(found) == sorted(expected)
    assert list(KEYS[PODS](view_of(CONTROLLER), old, new)) == [], "without budgets"


@given(st.integers(0, 2), st.integers(0, 2), st.booleans(), st.booleans(), st.sampled_from("12"))
def test_pdb_2_the_budgets_of_the_namespace_are_due_when_a_controller_is_scaled(
    before, after, has_owner, gets_owner, uid
):
    def one(replicas, owned, uid="1", note="x"):
        references = (reference_to(deployment("d")),) if owned else None
        made = replica_set("rs", replicas, annotations={"note": note}, owner_references=references)
        return change(made, uid=uid)

    view = view_of(CONTROLLER, *BUDGETS)
    everyone = ["default/b", "default/c", "default/none"]
    keys = KEYS[REPLICA_SETS]
    old, new = one(before, has_owner), one(after, gets_owner, uid, "y")
    is_same = before == after and has_owner == gets_owner and uid == "1"
    assert sorted(keys(view, old, new)) == ([] if is_same else everyone)
    assert sorted(keys(view, None, new)) == sorted(keys(view, old, None)) == everyone
    elsewhere = change(new, namespace="elsewhere")
    assert list(KEYS[DEPLOYMENTS](view, None, elsewhere)) == ["elsewhere/d"]


# --- controllers ----------------------------------------------------------------------------------


def of_version(owner, api_version, **parts):
    """A pod whose controller is named with this version."""
    reference = replace(reference_to(owner), api_version=api_version, **parts)
    return change(pod("a", ready=True), owner_references=(reference,))


def test_pdb_2_an_owner_without_replicas_has_one_and_each_counts_once():
    owner = change(replica_set("rs"), replicas=None)
    pods = [pod(name, owner, ready=True) for name in "ab"]
    plan = plan_of(budget(max_unavailable=0), *pods, owner)
    (write,) = sent(plan, "update", PDBS, "status")
    assert write.body.status.expected_pods == 1 and plan.notes == ()


def test_pdb_2_a_budget_without_bounds_expects_nothing():
    status = status_of(budget(), pod("a", ready=True))
    assert (status.expected_pods, status.desired_healthy, status.disruptions_allowed) == (0, 0, 0)
    assert plan_of(budget(), pod("a", ready=True)).notes == ()


def test_pdb_2_the_groups_that_a_reference_may_name():
    above = replace(reference_to(deployment("d", 7)), api_version="extensions/v1beta1")
    owner = change(replica_set("rs", 2), owner_references=(above,))
    the_budget = budget(max_unavailable=0)
    for version in ("apps/v1", "extensions/v1beta1"):
        found = status_of(the_budget, of_version(owner, version), owner, deployment("d", 7))
        assert found.expected_pods == 7
    foreign = replace(above, api_version="example.com/v1")
    owner = change(owner, owner_references=(foreign,))
    assert status_of(the_budget, pod("a", owner), owner, deployment("d", 7)).expected_pods == 2


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        (of_version(replica_set("rs"), "example.com/v1"), 'found no controllers for pod "a"'),
        (of_version(stateful_set("rs", 1), "v1"), 'found no controllers for pod "a"'),
        (of_version(replica_set("rs"), "x/v1", kind="Rock"), 'found no controllers for pod "a"'),
        (
            of_version(replica_set("rs"), "v1", kind="Node"),
            "nodes does not implement the scale subresource",
        ),
    ],
)
def test_pdb_4_what_cannot_be_computed_is_told_in_full(reference, why):
    the_budget = budget(max_unavailable=1)
    plan = plan_of(the_budget, reference, replica_set("rs"), stateful_set("rs", 1))
    (write,) = sent(plan, "update", PDBS, "status")
    (condition,) = write.body.status.conditions
    assert (condition.message, condition.last_transition_time) == (why, timestamp(NOW))
    words = f"Failed to calculate the number of expected pods: {why}"
    assert plan.notes == (Note(the_budget, "CalculateExpectedPodCountFailed", words, "Warning"),)


def test_pdb_4_an_amount_that_is_no_number_is_named():
    for spec in ({"max_unavailable": "abc"}, {"min_available": "abc"}):
        (condition,) = status_of(budget(**spec), pod("a", ready=True)).conditions
        assert condition.reason == "SyncFailed"
        assert condition.message == (
            "invalid value for IntOrString: invalid type: string is not a percentage"
        )


# --- evicted pods, stale conditions, events -------------------------------------------------------


def test_pdb_3_the_next_instant_is_that_of_the_first_pod_and_events_name_each():
    at = {"b": 150, "c": 20, "d": 10, "e": 30, "f": 200}
    evicted = PodDisruptionBudgetStatus(disrupted_pods={k: ago(v) for k, v in at.items()})
    going = change(pod("d", ready=True), deletion_timestamp=ago(1))
    pods = [pod(name, ready=True) for name in "abcef"]
    the_budget = replace(budget(min_available=0), status=evicted)
    plan = plan_of(the_budget, going, *pods)
    assert plan.wake_at == NOW - 30 * SECOND + DELETION_TIMEOUT + 1
    words = "the budget default/b expected this pod to be deleted"
    assert plan.notes == tuple(
        Note(one, "NotDeleted", words, "Warning") for one in (pods[1], pods[4])
    )
    status = status_of(the_budget, going, *pods)
    assert status.disrupted_pods == {"c": ago(20), "e": ago(30)} and status.current_healthy == 3
    again = plan_of(replace(the_budget, status=status), going, *pods)
    assert not again.requests and again.wake_at == plan.wake_at


def test_pdb_2_pods_without_a_controller_are_told_of_the_budget():
    the_budget = budget(max_unavailable=1)
    (note,) = plan_of(the_budget, pod("a", ready=True)).notes
    assert note.regarding == the_budget
    assert note.message.startswith("some of the selected pods have no controller")


def test_pdb_5_the_write_in_full():
    condition = PodCondition(type="DisruptionTarget", status="True", reason="x", message="m")
    a = change(pod("a", ready=True), conditions=(condition,))
    plan = CONTROLLER.reconcile(view_of(CONTROLLER, a), POD + "default/a", NOW, Local())
    (request,) = without_reasons(plan.requests)
    assert (request.verb, request.resource, request.key) == ("patch", PODS, "default/a")
    assert request.subresource == "status" and isinstance(request.body, Patch)
    assert request.body.document["status"] == {
        "conditions": [
            {
                "type": "DisruptionTarget",
                "status": "False",
                "reason": None,
                "message": None,
                "lastTransitionTime": timestamp(NOW),
            }
        ]
    }
    gone = CONTROLLER.reconcile(view_of(CONTROLLER), POD + "default/a", NOW, Local())
    assert gone == NOTHING


def test_pdb_1_a_budget_that_is_gone_needs_nothing():
    assert CONTROLLER.reconcile(view_of(CONTROLLER), "default/b", NOW, Local()) == NOTHING
    assert DELETION_TIMEOUT == 2 * MINUTE
