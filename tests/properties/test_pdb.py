"""PodDisruptionBudgets and evictions (spec/workloads/disruption.md, PDB-1 to PDB-6; spec/api.md,
API-18)."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from api_world import World
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from workload_helpers import (
    LABELS,
    NOW,
    ago,
    change,
    choices,
    create,
    deployment,
    get,
    live,
    new_cluster,
    pod,
    reference_to,
    replica_set,
    sent,
    settle,
    stored,
    view_of,
)

from refk8s.core.api import resources
from refk8s.core.api.apps_v1 import DaemonSet, StatefulSet, StatefulSetSpec
from refk8s.core.api.core_v1 import PodCondition, ReplicationController, ReplicationControllerSpec
from refk8s.core.api.meta_v1 import (
    Condition,
    DeleteOptions,
    LabelSelector,
    LabelSelectorRequirement,
    ObjectMeta,
    Preconditions,
)
from refk8s.core.api.policy_v1 import (
    Eviction,
    PodDisruptionBudget,
    PodDisruptionBudgetSpec,
    PodDisruptionBudgetStatus,
)
from refk8s.core.api.request import Options, Request
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.outcome import Commit
from refk8s.core.cluster.step import start_all, submit
from refk8s.core.context import MINUTE, SECOND, Context, SeededChance, timestamp
from refk8s.core.controllers.disruption import DELETION_TIMEOUT, POD, DisruptionController
from refk8s.core.loop.plan import Local
from refk8s.core.store import Conflict, commit

PDBS, PODS = resources.POD_DISRUPTION_BUDGETS, resources.PODS


WEB = LabelSelector(match_labels=LABELS)


def budget(
    name: str = "b", selector: LabelSelector | None = WEB, **spec: Any
) -> PodDisruptionBudget:
    metadata = ObjectMeta(
        name=name, namespace="default", uid=f"uid-{name}", generation=1, creation_timestamp=ago(100)
    )
    return PodDisruptionBudget(
        metadata=metadata, spec=PodDisruptionBudgetSpec(selector=selector, **spec)
    )


def stateful_set(name: str, replicas: int) -> StatefulSet:
    metadata = ObjectMeta(name=name, namespace="default", uid=f"uid-{name}")
    return StatefulSet(
        metadata=metadata,
        spec=StatefulSetSpec(replicas=replicas, selector=LabelSelector(match_labels=LABELS)),
    )


def replication_controller(name: str, replicas: int) -> ReplicationController:
    metadata = ObjectMeta(name=name, namespace="default", uid=f"uid-{name}")
    return ReplicationController(
        metadata=metadata, spec=ReplicationControllerSpec(replicas=replicas, selector=LABELS)
    )


def plan_of(the_budget: PodDisruptionBudget, *others: Any, now: int = NOW) -> Any:
    return DisruptionController().reconcile(
        view_of(DisruptionController(), the_budget, *others), "default/b", now, Local()
    )


def status_of(
    the_budget: PodDisruptionBudget, *others: Any, now: int = NOW
) -> PodDisruptionBudgetStatus:
    """The status that the controller writes; the present one where it writes none."""
    written = sent(plan_of(the_budget, *others, now=now), "update", PDBS, "status")
    assert len(written) <= 1
    return written[0].body.status if written else the_budget.status


# --- the numbers, against a plain reference

OWNERS: dict[str, list[Any]] = {
    "rs": [replica_set("rs", 3)],
    "rs-of-deployment": [
        change(replica_set("rd", 2), owner_references=(reference_to(deployment("d", 7)),)),
        deployment("d", 7),
    ],
    "rc": [replication_controller("rc", 4)],
    "sts": [stateful_set("sts", 5)],
}
SCALES = {"rs": 3, "rs-of-deployment": 7, "rc": 4, "sts": 5}

amounts = st.integers(0, 9) | st.integers(0, 100).map(lambda n: f"{n}%")


def drawn_pod(number: int, owner: str, ready: bool, going: bool, other: bool) -> Any:
    made = pod(f"p{number}", OWNERS[owner][0] if owner else None, ready)
    if going:
        made = change(made, deletion_timestamp=ago(0))
    return change(made, labels={"app": "other"}) if other else made


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", *OWNERS]),
            st.booleans(),
            st.booleans(),
            st.integers(0, 3).map(lambda n: n == 0),
        ),
        max_size=8,
    ),
    st.sampled_from(["max", "min"]),
    amounts,
)
def test_pdb_1_pdb_2_the_status_is_what_the_pods_and_their_controllers_say(drawn, which, amount):
    pods = [drawn_pod(number, *one) for number, one in enumerate(drawn)]
    the_budget = budget(**{"max_unavailable" if which == "max" else "min_available": amount})
    owners = [obj for objects in OWNERS.values() for obj in objects]
    status = status_of(the_budget, *pods, *owners)

    mine = [one for one in drawn if not one[3]]
    healthy = len([1 for _, ready, going, _ in mine if ready and not going])
    wanted = sum(SCALES[name] for name in {owner for owner, *_ in mine if owner})

    def of(total: int) -> int:
        return amount if isinstance(amount, int) else ceil(Fraction(int(amount[:-1]) * total, 100))

    if which == "max":
        expected, desired = wanted, max(wanted - of(wanted), 0)
    elif isinstance(amount, int):
        expected, desired = len(mine), amount
    else:
        expected, desired = wanted, of(wanted)
    allowed = max(healthy - desired, 0) if expected else 0
    assert (status.current_healthy, status.desired_healthy, status.expected_pods) == (
        healthy,
        desired,
        expected,
    )
    assert (status.disruptions_allowed, status.observed_generation, status.disrupted_pods) == (
        allowed,
        1,
        None,
    )
    reason = "SufficientPods" if allowed else "InsufficientPods"
    assert status.conditions == (
        Condition(
            type="DisruptionAllowed", status="True" if allowed else "False", reason=reason, message="",
            last_transition_time=timestamp(NOW), observed_generation=1,
        ),
    )  # fmt: skip
    assert not sent(plan_of(replace(the_budget, status=status), *pods, *owners), "update"), (
        "said once"
    )


@pytest.mark.parametrize(
    ("selector", "healthy"),
    [
        (None, 0),
        (LabelSelector(), 2),
        (LabelSelector(match_labels={"app": "web"}), 1),
        (
            LabelSelector(match_expressions=(LabelSelectorRequirement(key="app", operator="Odd"),)),
            0,
        ),
    ],
)
def test_pdb_1_an_empty_selector_is_everything_and_an_absent_one_nothing(selector, healthy):
    others = (
        pod("a", ready=True),
        change(pod("b", ready=True), labels={"app": "x"}),
        change(pod("c", ready=True), namespace="other"),
    )
    assert status_of(budget(selector=selector, min_available=0), *others).current_healthy == healthy


def test_pdb_1_the_time_of_the_condition_is_that_of_its_last_change():
    first = status_of(budget(min_available=1), pod("a", ready=True), pod("b", ready=True))
    later = status_of(
        replace(budget(min_available=1), status=first),
        pod("a", ready=True),
        *map(pod, "bc"),
        now=NOW + MINUTE,
    )
    assert (
        later.conditions[0].last_transition_time == timestamp(NOW + MINUTE)
        and later.disruptions_allowed == 0
    )
    more = [pod(name, ready=True) for name in "abcd"]
    still = status_of(replace(budget(min_available=1), status=first), *more, now=NOW + MINUTE)
    assert still.disruptions_allowed == 3 and still.conditions[0].last_transition_time == timestamp(
        NOW
    )


def test_pdb_2_pods_without_a_controller_are_told():
    plan = plan_of(budget(max_unavailable=1), pod("a", ready=True))
    assert [(note.reason, note.type) for note in plan.notes] == [("UnmanagedPods", "Warning")]
    assert [
        note.reason for note in plan_of(budget(min_available=1), pod("a", ready=True)).notes
    ] == []
    assert [(note.reason, note.type) for note in plan_of(budget(min_available=1)).notes] == [
        ("NoPods", "Normal")
    ]


# --- evicted pods


@given(st.integers(0, 400), st.booleans())
@example(120, False)
@example(121, False)
def test_pdb_3_an_evicted_pod_counts_as_unhealthy_for_two_minutes(seconds, going):
    evicted = PodDisruptionBudgetStatus(
        disrupted_pods={"a": timestamp(NOW), "gone": timestamp(NOW)}
    )
    a = pod("a", ready=True)
    a = change(a, deletion_timestamp=ago(0)) if going else a
    now = NOW + seconds * SECOND
    the_budget = replace(budget(min_available=0), status=evicted)
    plan = plan_of(the_budget, a, pod("b", ready=True), now=now)
    status = status_of(the_budget, a, pod("b", ready=True), now=now)
    waits = not going and seconds <= 120
    assert status.disrupted_pods == ({"a": timestamp(NOW)} if waits else None)
    assert status.current_healthy == (1 if waits or going else 2)
    assert plan.wake_at == (NOW + DELETION_TIMEOUT + 1 if waits else None)
    assert [note.reason for note in plan.notes] == ([] if waits or going else ["NotDeleted"])


# --- what cannot be computed


def daemon_set() -> DaemonSet:
    return DaemonSet(metadata=ObjectMeta(name="ds", namespace="default", uid="uid-ds"))


@pytest.mark.parametrize(
    ("owner", "there", "words"),
    [
        (daemon_set(), True, "daemonsets.apps does not implement the scale subresource"),
        (replica_set("rs", 3), False, 'found no controllers for pod "a"'),
        (change(replica_set("rs", 3), uid="another"), True, 'found no controllers for pod "a"'),
    ],
)
def test_pdb_4_a_budget_that_cannot_be_computed_allows_nothing(owner, there, words):
    a = pod("a", owner, ready=True)
    before = PodDisruptionBudgetStatus(
        current_healthy=4,
        desired_healthy=1,
        expected_pods=4,
        disruptions_allowed=3,
        observed_generation=1,
    )
    others = [replica_set("rs", 3)] if there else []
    status = status_of(replace(budget(max_unavailable=1), status=before), a, *others)
    assert (
        replace(status, conditions=None, disruptions_allowed=3) == before
        and status.disruptions_allowed == 0
    )
    [condition] = status.conditions
    assert (condition.status, condition.reason, condition.message) == ("False", "SyncFailed", words)
    assert status_of(budget(min_available=1), a, *others).disruptions_allowed == 0
    assert status_of(budget(min_available=0), a, *others).disruptions_allowed == 1, (
        "a number needs no controller"
    )


@given(
    amounts | st.sampled_from(["abc", "999999999999999999%", 2**31 - 1, ""]),
    st.integers(0, 2**31 - 1),
)
def test_pdb_4_no_amount_stops_the_controller(amount, replicas):
    owners = [replica_set("rs", replicas), stateful_set("sts", 2**31 - 1)]
    pods = [pod(one.metadata.name, one, ready=True) for one in owners]
    for spec in ({"max_unavailable": amount}, {"min_available": amount}):
        status = status_of(budget(**spec), *pods, *owners)
        assert (
            0 <= status.disruptions_allowed <= 2
            and status.expected_pods < 2**31
            and status.desired_healthy < 2**31
        )


# --- stale conditions


@given(
    st.integers(0, 300), st.sampled_from(["EvictionByEvictionAPI", "PreemptionByScheduler", "TerminationByKubelet"]),
    st.sampled_from(["True", "False"]), st.sampled_from(["Running", "Failed"]), st.booleans(),
)  # fmt: skip
def test_pdb_5_a_condition_that_came_to_nothing_is_taken_back(
    seconds, reason, is_set, phase, going
):
    condition = PodCondition(
        type="DisruptionTarget",
        status=is_set,
        reason=reason,
        message="m",
        last_transition_time=timestamp(NOW),
    )
    a = change(pod("a", ready=True), conditions=(condition,), phase=phase)
    a = change(a, deletion_timestamp=ago(0)) if going else a
    view = view_of(DisruptionController(), a)
    plan = DisruptionController().reconcile(
        view, POD + "default/a", NOW + seconds * SECOND, Local()
    )
    stays = reason == "TerminationByKubelet" or is_set == "False" or phase == "Failed" or going
    taken = sent(plan, "patch", PODS, "status")
    assert bool(taken) == (not stays and seconds >= 120)
    assert plan.wake_at == (NOW + 120 * SECOND if not stays and seconds < 120 else None)
    [pod_interest] = [one for one in DisruptionController.interests if one.resource is PODS]
    assert (POD + "default/a" in pod_interest.keys(view, None, a)) == (not stays)


def test_pdb_5_in_a_cluster_it_is_false_after_two_minutes():
    condition = PodCondition(
        type="DisruptionTarget",
        status="True",
        reason="PreemptionByScheduler",
        last_transition_time=timestamp(NOW),
    )
    a = change(pod("a", ready=True), conditions=(condition,))
    cluster = settle(start_all(create(new_cluster(DisruptionController()), a)), seconds_max=130)
    [found] = [c for c in get(cluster, PODS, "a").status.conditions if c.type == "DisruptionTarget"]
    assert (found.status, found.reason, found.message) == ("False", None, None)


# --- evictions and the controller together


def healthy(cluster: Any) -> list[str]:
    return [
        one.metadata.name
        for one in stored(cluster, PODS)
        if one.metadata.deletion_timestamp is None
        and any(c.type == "Ready" and c.status == "True" for c in one.status.conditions or ())
    ]


def evict(name: str, **options: Any) -> Any:
    body = Eviction(
        metadata=ObjectMeta(name=name), delete_options=DeleteOptions(**options) if options else None
    )
    return lambda cluster: submit(
        cluster, Request("create", PODS, "default", name, "eviction", body, user=ADMIN)
    )[0]


def keeps_the_budget(before: Any, after: Any) -> list[str]:
    """PDB-6: whoever takes a healthy pod away leaves as many as the budget wants."""
    lost = set(healthy(before)) - set(healthy(after))
    least = before.history.get(PDBS.key("default", "b")).value.spec.min_available
    return (
        [f"{sorted(lost)} went and {healthy(after)} are left"]
        if lost and len(healthy(after)) < least
        else []
    )


@given(choices, st.integers(1, 5), st.integers(0, 5), st.sets(st.integers(0, 4)), st.booleans())
def test_pdb_6_evictions_leave_a_budget_its_healthy_pods(drawn, count, least, unready, held):
    """Whatever the controller has seen by then, and whether or not a finalizer keeps the pods."""
    pods = [
        change(pod(f"p{n}", ready=n not in unready), finalizers=("x/y",) if held else None)
        for n in range(count)
    ]
    cluster = start_all(
        create(new_cluster(DisruptionController()), budget(min_available=least), *pods)
    )
    users = [
        evict(f"p{n}", **options)
        for n in range(count)
        for options in ({}, {"grace_period_seconds": 0})
    ]
    cluster = live(cluster, drawn, keeps_the_budget, ("ready",), ("crash", "lose", "delay"), users)
    cluster = settle(cluster, keeps_the_budget)
    status = get(cluster, PDBS, "b").status
    assert status.current_healthy == len(healthy(cluster)), "PDB-1"
    for one in users:
        cluster = one(cluster)
    cluster = settle(cluster, keeps_the_budget)


def test_pdb_6_the_controller_does_not_give_back_what_an_eviction_has_spent():
    """Its write was decided before the eviction, and arrives after it."""
    pods = [pod(name, ready=True) for name in "abc"]
    cluster = create(new_cluster(DisruptionController()), budget(min_available=2), *pods)
    cluster = settle(start_all(cluster))
    found = get(cluster, PDBS, "b")
    assert found.status.disruptions_allowed == 1
    before = replace(found, status=replace(found.status, disruptions_allowed=0))
    [write] = plan_of(before, *pods).requests
    assert write.body.status.disruptions_allowed == 1
    cluster = evict("a")(cluster)
    assert get(cluster, PDBS, "b").status.disruptions_allowed == 0
    cluster, _ = submit(cluster, replace(write, user=ADMIN))
    assert get(cluster, PDBS, "b").status.disruptions_allowed == 0


def test_pdb_6_two_evictions_decided_on_one_state_do_not_both_take_effect():
    cluster = create(
        new_cluster(DisruptionController()),
        budget(min_available=1),
        pod("a", ready=True),
        pod("b", ready=True),
    )
    cluster = settle(start_all(cluster))
    assert get(cluster, PDBS, "b").status.disruptions_allowed == 1
    outcomes = []
    for name in "ab":
        asked = Request(
            "create",
            PODS,
            "default",
            name,
            "eviction",
            Eviction(metadata=ObjectMeta(name=name)),
            user=ADMIN,
        )
        outcomes.append(
            handle(
                Exchange(asked, cluster.history, Context(cluster.now, SeededChance(name.encode())))
            )
        )
    history = cluster.history
    results = []
    for outcome in outcomes:
        assert isinstance(outcome, Commit)
        history, result = commit(history, outcome.txn, stamp)
        results.append(isinstance(result, Conflict))
    assert results == [False, True]


# --- the table of API-18


def world_of(
    policy: str | None = None, ready: str = "False", phase: str = "Running", **status: Any
) -> World:
    world = World()
    made = budget(min_available=1, unhealthy_pod_eviction_policy=policy)
    world.do(
        Request(
            "create", PDBS, "default", body=replace(made, metadata=ObjectMeta(name="b")), user=ADMIN
        )
    )
    there = world.get(PDBS, "b")
    said = PodDisruptionBudgetStatus(**{"observed_generation": 1, **status})
    assert (
        world.do(
            Request(
                "update", PDBS, "default", "b", "status", replace(there, status=said), user=ADMIN
            )
        ).response.code
        == 200
    )
    a = pod("a")
    spec = replace(a.spec, node_name="node-1", termination_grace_period_seconds=30)
    world.do(
        Request(
            "create",
            PODS,
            "default",
            body=replace(a, metadata=ObjectMeta(name="a", labels=LABELS), spec=spec),
            user=ADMIN,
        )
    )
    conditions = (PodCondition(type="Ready", status=ready, last_transition_time=ago(5)),)
    there = world.get(PODS, "a")
    told = replace(there, status=replace(there.status, phase=phase, conditions=conditions))
    world.do(Request("update", PODS, "default", "a", "status", told, user=ADMIN))
    return world


def ask_eviction(world: World, **options: Any) -> Any:
    query = Options(dry_run=options.pop("query_dry", False))
    body = Eviction(
        metadata=ObjectMeta(name="a"), delete_options=DeleteOptions(**options) if options else None
    )
    return world.do(Request("create", PODS, "default", "a", "eviction", body, query, user=ADMIN))


@pytest.mark.parametrize(
    ("parts", "code", "spends"),
    [
        ({"ready": "True", "disruptions_allowed": 1}, 201, True),
        ({"ready": "True", "disruptions_allowed": 0}, 429, False),
        ({"ready": "True", "disruptions_allowed": 2, "observed_generation": None}, 429, False),
        (
            {
                "ready": "True",
                "disruptions_allowed": 2,
                "disrupted_pods": {f"p{n}": ago(1) for n in range(2001)},
            },
            403,
            False,
        ),
        (
            {"ready": "True", "disruptions_allowed": 0, "current_healthy": 3, "desired_healthy": 1},
            429,
            False,
        ),
        ({"phase": "Pending", "disruptions_allowed": 0}, 201, False),
        ({"phase": "Succeeded", "disruptions_allowed": 0}, 201, False),
        ({"disruptions_allowed": 0, "current_healthy": 1, "desired_healthy": 2}, 429, False),
        ({"disruptions_allowed": 0, "current_healthy": 2, "desired_healthy": 2}, 201, False),
        ({"disruptions_allowed": 0, "current_healthy": 0, "desired_healthy": 0}, 429, False),
        ({"disruptions_allowed": 1, "current_healthy": 1, "desired_healthy": 2}, 201, True),
        (
            {
                "policy": "IfHealthyBudget",
                "disruptions_allowed": 0,
                "current_healthy": 1,
                "desired_healthy": 2,
            },
            429,
            False,
        ),
        (
            {
                "policy": "AlwaysAllow",
                "disruptions_allowed": 0,
                "current_healthy": 0,
                "desired_healthy": 2,
            },
            201,
            False,
        ),
        (
            {
                "policy": "AlwaysAllow",
                "ready": "True",
                "disruptions_allowed": 0,
                "desired_healthy": 2,
            },
            429,
            False,
        ),
    ],
)
def test_api_18_which_evictions_are_let_through_and_which_spend(parts, code, spends):
    # Shows API-18.a, API-18.b, API-18.c, API-18.e, API-18.f, API-18.g, API-18.h.
    world = world_of(**parts)
    before = world.get(PDBS, "b").status
    taken = ask_eviction(world)
    after, left = world.get(PDBS, "b").status, world.get(PODS, "a")
    assert taken.response.code == code
    if code != 201:
        assert (
            not taken.changes
            and taken.response.body.reason == {429: "TooManyRequests", 403: "Forbidden"}[code]
        )
        return
    assert before.disruptions_allowed - after.disruptions_allowed == spends
    assert ("a" in (after.disrupted_pods or {})) == spends
    if left is None:
        assert parts.get("phase") == "Succeeded"
        return
    [condition] = [c for c in left.status.conditions if c.type == "DisruptionTarget"]
    assert (condition.status, condition.reason) == ("True", "EvictionByEvictionAPI")
    assert (
        left.metadata.deletion_timestamp is not None
        and left.metadata.deletion_grace_period_seconds == 30
    )
    if spends:
        [allowed] = [c for c in after.conditions if c.type == "DisruptionAllowed"]
        assert allowed.status == ("True" if after.disruptions_allowed else "False")
    again = ask_eviction(world)
    assert again.response.code == 201 and not again.changes, "it is going already"


@pytest.mark.parametrize(
    "options",
    [{"query_dry": True}, {"dry_run": ("All",)}, {"query_dry": True, "dry_run": ("All",)}],
)
def test_api_18_a_dry_run_evicts_nobody(options):
    # Shows API-18.j.
    world = world_of(ready="True", disruptions_allowed=1)
    taken = ask_eviction(world, **options)
    assert taken.response.code == 201 and not taken.changes
    refused = ask_eviction(world_of(ready="True", disruptions_allowed=0), **options)
    assert refused.response.code == 429, "it is asked all the same"


@pytest.mark.parametrize("wrong", [{"uid": "1-2-3"}, {"resource_version": "1"}])
def test_api_18_preconditions_that_do_not_hold_refuse_an_eviction(wrong):
    # Shows API-18.k.
    world = world_of(ready="True", disruptions_allowed=1)
    taken = ask_eviction(world, preconditions=Preconditions(**wrong))
    assert taken.response.code == 409 and not taken.changes
    there = world.get(PODS, "a").metadata
    right = Preconditions(uid=there.uid, resource_version=there.resource_version)
    assert ask_eviction(world, preconditions=right).response.code == 201


def test_api_18_two_budgets_are_an_error_and_a_foreign_name_too():
    # Shows API-18.d API-14.f.
    world = world_of(ready="True", disruptions_allowed=1)
    world.do(
        Request(
            "create",
            PDBS,
            "default",
            body=replace(budget(min_available=0), metadata=ObjectMeta(name="other")),
            user=ADMIN,
        )
    )
    taken = ask_eviction(world)
    assert taken.response.code == 500 and taken.response.body.reason is None and not taken.changes
    body = Eviction(metadata=ObjectMeta(name="b"))
    assert (
        world.do(
            Request("create", PODS, "default", "a", "eviction", body, user=ADMIN)
        ).response.code
        == 400
    )


FAILED = Condition(
    type="DisruptionAllowed",
    status="False",
    reason="SyncFailed",
    message="why",
    last_transition_time=ago(1),
)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            {"current_healthy": 2, "desired_healthy": 2},
            "The disruption budget b needs 2 healthy pods and has 2 currently",
        ),
        (
            {"current_healthy": 3, "desired_healthy": 2},
            "The disruption budget b does not allow evicting pods currently",
        ),
        (
            {"conditions": (FAILED,)},
            "The disruption budget b does not allow evicting pods currently because it "
            "failed sync: why",
        ),
        (
            {"observed_generation": None},
            "The disruption budget b is still being processed by the server.",
        ),
    ],
)
def test_api_18_a_refusal_says_why(parts, words):
    said = ask_eviction(world_of(ready="True", **parts)).response.body
    [cause] = said.details.causes
    assert (cause.reason, cause.message) == ("DisruptionBudget", words)
    assert said.details.retry_after_seconds == (10 if "processed" in words else None)
