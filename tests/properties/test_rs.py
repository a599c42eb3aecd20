"""ReplicaSet and ReplicationController (spec/workloads/replica_set.md): as many pods as asked,
whatever happens."""

from functools import cmp_to_key

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
    remove,
    replica_set,
    sent,
    settle,
    started,
    stored,
    template,
    view_of,
    with_status,
)

from refk8s.core.actions import Arrive, Compact, Elapse
from refk8s.core.api.core_v1 import (
    ContainerStatus,
    PodCondition,
    ReplicationController,
    ReplicationControllerSpec,
)
from refk8s.core.api.meta_v1 import ObjectMeta, StatusCause, StatusDetails
from refk8s.core.api.request import Response
from refk8s.core.api.resources import EVENTS, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS
from refk8s.core.api.status import failure
from refk8s.core.cluster.enabled import enabled
from refk8s.core.cluster.step import start_all, step
from refk8s.core.context import SECOND, parse_timestamp
from refk8s.core.controllers.deletion_order import DELETION_COST
from refk8s.core.controllers.replica_set import BURST_MAX, ReplicaSetReconciler
from refk8s.core.controllers.replication_controller import ReplicationControllerReconciler
from refk8s.core.loop.plan import Local
from refk8s.core.properties.predicates.owners import own_1_acts_only_on_its_own
from refk8s.core.properties.predicates.replica_set import (
    rs_1_settled,
    rs_2_never_above_replicas,
    rs_2_never_below_replicas,
    rs_3_no_pods_change_while_being_deleted,
)
from refk8s.core.value import evolve

RS = ReplicaSetReconciler()
RC = ReplicationControllerReconciler()
OURS = replica_set("web")


def replication_controller(name="web", replicas=3, **parts):
    metadata = ObjectMeta(name=name, namespace="default", uid=f"uid-{name}", generation=1)
    spec = ReplicationControllerSpec(replicas=replicas, selector=LABELS, template=template())
    return change(ReplicationController(metadata=metadata, spec=spec), **parts)


ready_times = st.sampled_from(
    [None, ago(1), ago(2), ago(29), ago(30), ago(31), ago(5000), ago(-60)]
)


@st.composite
def own_pods(draw, owner=OURS, least=0, most=8, costs=("5", "-1", "much")):
    """Pods of one owner in every state that counts, with deletion costs of which one may be no
    number."""
    noted = [None, None, *[{DELETION_COST: cost} for cost in costs]]
    pods = []
    for n in range(draw(st.integers(least, most))):
        conditions = None
        ready = draw(st.sampled_from(["True", "False", None]))
        if ready is not None:
            conditions = (
                PodCondition(type="Initialized", status="True"),
                PodCondition(type="Ready", status=ready, last_transition_time=draw(ready_times)),
            )
        restarts = draw(st.sampled_from([0, 0, 1, 7]))
        pods.append(
            pod(
                f"p{n}",
                owner,
                labels=draw(st.sampled_from([LABELS, {**LABELS, "more": "m"}])),
                node_name=draw(st.sampled_from([None, "n1", "n2"])),
                phase=draw(
                    st.sampled_from(
                        ["Pending", "Running", "Running", "Unknown", "Failed", "Succeeded"]
                    )
                ),
                deletion_timestamp=draw(st.sampled_from([None, None, None, ago(1)])),
                conditions=conditions,
                creation_timestamp=draw(st.sampled_from([ago(10), ago(11), ago(4000)])),
                annotations=draw(st.sampled_from(noted)),
                container_statuses=(ContainerStatus(name="c", restart_count=restarts),),
            )
        )
    return pods


def active(pods):
    return [
        p
        for p in pods
        if p.metadata.deletion_timestamp is None and p.status.phase not in ("Failed", "Succeeded")
    ]


# --- the count ------------------------------------------------------------------------------------


@given(st.integers(0, 12), own_pods(), st.booleans())
def test_rs_1_rs_2_rs_3_a_plan_makes_up_exactly_for_what_is_missing_or_too_much(
    replicas, pods, dying
):
    """RS-1, RS-2, RS-3."""
    owner = replica_set("web", replicas, deletion_timestamp=ago(3) if dying else None)
    plan = plan_for(RS, owner, *pods)
    view = view_of(RS, owner, *pods)
    assert not [
        *own_1_acts_only_on_its_own(view, owner, PODS, plan),
        *rs_2_never_above_replicas(view, owner, plan),
        *rs_2_never_below_replicas(view, owner, plan),
        *rs_3_no_pods_change_while_being_deleted(owner, plan),
    ]
    missing = 0 if dying else replicas - len(active(pods))
    assert len(sent(plan, "create", PODS)) == max(missing, 0)
    assert len(sent(plan, "delete", PODS)) == max(-missing, 0)


def converges(
    reconciler_kind,
    owner,
    pods,
    drawn,
    faults,
    check,
    kinds=("ready", "unready", "finish", "die", "vanish"),
    users=(),
):
    """Any start, any order of things, then peace: the owner has what it asks for, says so, and is
    silent."""
    cluster = start_all(create(new_cluster(), owner, *pods))
    cluster = live(cluster, drawn, check, kinds, faults, users)
    for p in stored(cluster, PODS):  # nodes let go of what is dying
        if p.metadata.deletion_timestamp is not None:
            cluster = remove(cluster, PODS, p.metadata.name, grace_period_seconds=0)
    cluster = settle(cluster, check, seconds_max=60)
    for one in stored(cluster, reconciler_kind):
        assert not list(rs_1_settled(one, stored(cluster, PODS)))
    return cluster


class Highest:
    """RS-2 over a whole run: no more active pods than the owner has ever asked for."""

    def __init__(self, *, adoptable: int = 0) -> None:
        self.most = 0
        self.slack = adoptable

    def __call__(self, before, after):
        for owner in stored(after, REPLICA_SETS):
            self.most = max(self.most, owner.spec.replicas)
            count = len(active(pods_of(after, owner)))
            if count > max(self.most, self.slack):
                yield f"RS-2: {count} active pods where never more than {self.most} were asked for"


def scale(replicas):
    return lambda cluster: patch(cluster, REPLICA_SETS, "web", {"spec": {"replicas": replicas}})


USERS = [scale(n) for n in (0, 1, 3, 5)]


@given(choices)
def test_rs_2_one_life_never_creates_above_replicas_however_late_the_news(drawn):
    """Late watches, lost requests and answers, cut and compacted watches; pods that come, go and
    finish; but no crash."""
    converges(
        REPLICA_SETS,
        fresh(3),
        [],
        drawn,
        ["lose", "give up", "cut", "compact"],
        Highest(),
        users=USERS,
    )


def fresh(replicas, **parts):
    return replica_set("web", replicas, uid=None, **parts)


def quiet(before, after):
    return ()


@given(choices, st.data())
def test_rs_1_as_many_pods_as_asked_from_any_start_after_any_crash(drawn, data):
    """The start has pods of every kind, the run every fault."""
    pods = [
        replace(p, metadata=replace(p.metadata, uid=None, deletion_timestamp=None))
        for p in data.draw(own_pods(owner=None, most=5, costs=("5", "-1")))  # VAL-81
    ]
    node = data.draw(st.sampled_from(["", "n1"]))
    owner = replica_set("web", data.draw(st.integers(0, 4)), uid=None, template=template(node=node))
    converges(
        REPLICA_SETS,
        owner,
        pods,
        drawn,
        ["crash", "lose", "give up", "cut", "compact"],
        quiet,
        users=USERS,
    )


@given(choices)
def test_rs_1_a_replication_controller_converges_too(drawn):
    converges(
        REPLICATION_CONTROLLERS,
        replication_controller("web", 2, uid=None),
        [],
        drawn,
        ["crash", "lose", "cut", "compact"],
        quiet,
    )


def test_loop_9_rs_1_a_pod_that_came_and_went_unseen_is_made_again():
    """It was deleted before the watch told of it, and what happened in between is compacted: the
    list shows that nothing has changed.

    The status has said before that there is no pod, so its write makes nothing due either.
    """
    cluster, _ = settle_refusing(start_all(create(new_cluster(RS), fresh(1))), QUOTA, seconds_max=1)
    while not stored(cluster, PODS):
        cluster = step(cluster, next(enabled(cluster)))
    cluster = remove(cluster, PODS, stored(cluster, PODS)[0].metadata.name)
    cluster = settle(step(cluster, Compact(cluster.history.revision)))
    assert len(stored(cluster, PODS)) == 1


def test_rs_1_a_deleted_pod_is_replaced_by_one_with_another_name_and_uid():
    cluster = started(fresh(1))
    [first] = stored(cluster, PODS)
    cluster = settle(remove(cluster, PODS, first.metadata.name))
    [second] = stored(cluster, PODS)
    assert second.metadata.generate_name == "web-"
    assert second.metadata.name != first.metadata.name and second.metadata.uid != first.metadata.uid


def test_rs_1_rs_7_a_finished_pod_does_not_count_and_stays():
    cluster = started(fresh(1))
    [first] = stored(cluster, PODS)
    cluster = settle(
        patch(cluster, PODS, first.metadata.name, {"status": {"phase": "Failed"}}, "status")
    )
    assert len(stored(cluster, PODS)) == 2
    assert (
        get(cluster, PODS, first.metadata.name).metadata.owner_references
        == first.metadata.owner_references
    )
    assert get(cluster, REPLICA_SETS, "web").status.replicas == 1


def test_rs_2_sometimes_a_surplus_is_adopted_and_the_ready_pod_stays():
    cluster = started(fresh(1))
    [first] = stored(cluster, PODS)
    cluster = settle(make_ready(cluster, first.metadata.name))
    cluster = settle(create(cluster, pod("late", uid=None)))
    assert [p.metadata.name for p in stored(cluster, PODS)] == [first.metadata.name]


# --- bursts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [1, 2, 3, 6, 7, 8, 500, 501, 1200])
def test_rs_4_creations_start_slowly_and_stop_at_the_burst(replicas):
    plan = plan_for(RS, replica_set("web", replicas))
    sizes = [len(wave) for wave in plan.waves if wave]
    assert sum(sizes) == min(replicas, BURST_MAX)
    assert sizes[:-1] == [2**n for n in range(len(sizes) - 1)] and sizes[-1] <= 2 ** (
        len(sizes) - 1
    )


def test_rs_4_deletions_go_together_and_stop_at_the_burst():
    plan = plan_for(RS, replica_set("web", 100), *[pod(f"p{n:04}", OURS) for n in range(700)])
    assert [len(wave) for wave in plan.waves] == [BURST_MAX]


def test_rs_4_sometimes_a_refusal_stops_the_rest():
    """Seven are missing: each plan sends one creation, however often it is made."""
    cluster, _ = settle_refusing(start_all(create(new_cluster(), fresh(7))), QUOTA, seconds_max=60)
    assert not stored(cluster, PODS)
    for mine in (1, 3, 7):  # pods that the quota would have let through: waves of one, two and four
        cluster, attempts = settle_refusing(
            start_all(create(new_cluster(), fresh(7))), QUOTA, seconds_max=0, after=mine
        )
        assert len(stored(cluster, PODS)) == mine and attempts <= 12


# --- which go first -------------------------------------------------------------------------------

YOUNG, OLD = ago(10), ago(100_000)


def ready_since(text):
    return (PodCondition(type="Ready", status="True", last_transition_time=text),)


LADDER = [
    ("unassigned before assigned", {"node_name": None}, {"node_name": "n1"}),
    ("pending before unknown", {"phase": "Pending"}, {"phase": "Unknown"}),
    ("unknown before running", {"phase": "Unknown"}, {"phase": "Running"}),
    ("not ready before ready", {"conditions": None}, {"conditions": ready_since(OLD)}),
    ("cheap before dear", {"annotations": {DELETION_COST: "-3"}}, {"annotations": None}),
    (
        "ready for a short time before ready for long",
        {"conditions": ready_since(YOUNG)},
        {"conditions": ready_since(OLD)},
    ),
    (
        "restarted before steady",
        {"container_statuses": (ContainerStatus(name="c", restart_count=3),)},
        {"container_statuses": (ContainerStatus(name="c", restart_count=1),)},
    ),
    ("young before old", {"creation_timestamp": YOUNG}, {"creation_timestamp": OLD}),
]


@pytest.mark.parametrize(("rung", "first", "second"), LADDER, ids=[rung for rung, _, _ in LADDER])
@pytest.mark.parametrize("swapped", [False, True])
def test_rs_5_each_rung_decides_which_pod_goes(rung, first, second, swapped):
    common = {
        "node_name": "n1",
        "phase": "Running",
        "conditions": ready_since(OLD),
        "creation_timestamp": OLD,
    }
    names = ("b", "a") if swapped else ("a", "b")
    doomed, kept = (
        pod(names[0], OURS, **{**common, **first}),
        pod(names[1], OURS, **{**common, **second}),
    )
    [deletion] = sent(plan_for(RS, replica_set("web", 1), doomed, kept), "delete", PODS)
    assert deletion.name == doomed.metadata.name


@pytest.mark.parametrize("upper", range(len(LADDER) - 1))
def test_rs_5_a_higher_rung_outweighs_all_lower_ones(upper):
    common = {
        "node_name": "n1",
        "phase": "Running",
        "conditions": ready_since(OLD),
        "creation_timestamp": OLD,
    }
    doomed, kept = dict(common), dict(common)
    for _, first, second in LADDER[upper + 1 :]:  # by every lower rung the other one would go
        doomed.update(second)
        kept.update(first)
    doomed.update(LADDER[upper][1])
    kept.update(LADDER[upper][2])
    plan = plan_for(RS, replica_set("web", 1), pod("a", OURS, **doomed), pod("b", OURS, **kept))
    assert [r.name for r in sent(plan, "delete", PODS)] == ["a"]


def test_rs_5_of_two_nodes_the_one_with_more_relatives_gives_up_a_pod():
    deployment = reference_to(change(replica_set("d"), uid="uid-d"))
    owner, sibling = (
        replica_set("web", 1, owner_references=(deployment,)),
        replica_set("old", 2, owner_references=(deployment,)),
    )
    common = {
        "node_name": "n1",
        "phase": "Running",
        "conditions": ready_since(OLD),
        "creation_timestamp": OLD,
    }
    ours = [pod("a", owner, **common), pod("b", owner, **{**common, "node_name": "n2"})]
    others = [pod(f"c{n}", sibling, **{**common, "node_name": "n2"}) for n in range(2)]
    assert [r.name for r in sent(plan_for(RS, owner, sibling, *ours, *others), "delete")] == ["b"]
    gone = [change(other, deletion_timestamp=ago(1)) for other in others]
    free_choice = sent(plan_for(RS, owner, sibling, *ours, *gone), "delete")
    assert [r.name for r in free_choice] == ["a"]  # equals: the uid decides


def precedes(a, b):
    """Negative where a goes before b by the rule in words; 0 where only chance decides. Relatives
    are left out."""

    def ready(p):
        return next(
            (c for c in p.status.conditions or () if c.type == "Ready" and c.status == "True"), None
        )

    def power(text):
        age = (NOW - parse_timestamp(text)) * 1_000
        return -1 if age <= 0 else len(bin(age)) - 3

    def compare_times(x, y):
        if x is None or y is None:
            return (x is not None) - (y is not None)
        return power(x) - power(y)

    rungs = [
        bool(a.spec.node_name) - bool(b.spec.node_name),
        ["Pending", "Unknown", "Running"].index(a.status.phase)
        - ["Pending", "Unknown", "Running"].index(b.status.phase),
        (ready(a) is not None) - (ready(b) is not None),
        cost(a) - cost(b),
    ]
    if ready(a) is not None and ready(b) is not None:
        rungs.append(compare_times(ready(a).last_transition_time, ready(b).last_transition_time))
    rungs.append(
        b.status.container_statuses[0].restart_count - a.status.container_statuses[0].restart_count
    )
    rungs.append(compare_times(a.metadata.creation_timestamp, b.metadata.creation_timestamp))
    return next((rung for rung in rungs if rung), 0)


def cost(p):
    text = (p.metadata.annotations or {}).get(DELETION_COST, "0")
    return int(text) if text.lstrip("-").isdigit() else 0


@given(own_pods(least=2, most=7), st.integers(0, 3))
def test_rs_5_none_that_stays_should_have_gone_before_one_that_goes(pods, replicas):
    plan = plan_for(RS, replica_set("web", replicas), *pods)
    doomed = [r.name for r in sent(plan, "delete", PODS)]
    alive = active(pods)
    for one in alive:
        for other in alive:
            if one.metadata.name in doomed and other.metadata.name not in doomed:
                assert precedes(one, other) <= 0
    assert sorted(alive, key=cmp_to_key(precedes)) is not None


@pytest.mark.parametrize(
    "text", ["+5", "05", "5.0", "", "99999999999999999999", "2147483648", "１２"]
)
def test_rs_5_a_cost_that_is_no_plain_number_is_none(text):
    common = {"node_name": "n1", "ready": True}
    pods = [
        pod("a", OURS, annotations={DELETION_COST: "1"}, **common),
        pod("b", OURS, annotations={DELETION_COST: text}, **common),
    ]
    assert [r.name for r in sent(plan_for(RS, replica_set("web", 1), *pods), "delete")] == ["b"]


# --- what a pod is made of ------------------------------------------------------------------------


def test_rs_6_pods_are_made_of_the_template():
    made = template(annotations={"a": "1"}, finalizers=("example.com/hold",))
    cluster = started(fresh(1, template=made))
    owner = get(cluster, REPLICA_SETS, "web")
    [one] = stored(cluster, PODS)
    assert one.metadata.generate_name == "web-" and one.metadata.name.startswith("web-")
    assert one.metadata.labels == LABELS and one.metadata.annotations == {"a": "1"}
    assert one.metadata.finalizers == ("example.com/hold",)
    assert one.metadata.owner_references == (reference_to(owner),)
    assert one.spec.containers[0].image == "app:1"


def test_rs_6_a_thousand_requests_share_one_pod():
    requests = sent(plan_for(RS, replica_set("web", 500)), "create", PODS)
    assert len({id(request.body) for request in requests}) == 1


# --- the status -----------------------------------------------------------------------------------


@given(own_pods(), st.sampled_from([0, 1, 30]))
def test_rs_7_rs_8_rs_9_rs_10_the_status_counts_what_is_there(pods, min_ready):
    """RS-7, RS-8, RS-9, RS-10."""
    labelled = replace(template(), metadata=ObjectMeta(labels={**LABELS, "more": "m"}))
    owner = replica_set(
        "web", len(active(pods)), min_ready_seconds=min_ready or None, template=labelled
    )
    plan = plan_for(RS, owner, *pods)
    [report] = sent(plan, "update", REPLICA_SETS, "status")
    status, alive = report.body.status, active(pods)

    def since(p):
        return [
            c.last_transition_time
            for c in p.status.conditions or ()
            if (c.type, c.status) == ("Ready", "True")
        ]

    ready = [p for p in alive if since(p)]
    available = [
        p
        for p in ready
        if not min_ready
        or (since(p)[0] and parse_timestamp(since(p)[0]) + min_ready * SECOND <= NOW)
    ]
    assert status.replicas == len(alive)
    assert (status.ready_replicas or 0) == len(ready)
    assert (status.available_replicas or 0) == len(available)
    assert (status.fully_labeled_replicas or 0) == len(
        [p for p in alive if "more" in p.metadata.labels]
    )
    dying = [
        p
        for p in pods
        if p.metadata.deletion_timestamp and p.status.phase not in ("Failed", "Succeeded")
    ]
    assert status.terminating_replicas == len(dying)
    assert status.observed_generation == 1
    waiting = [
        parse_timestamp(since(p)[0]) + min_ready * SECOND
        for p in ready
        if p not in available and since(p)[0]
    ]
    assert plan.wake_at == min(waiting, default=None)


@given(own_pods(), st.sampled_from([1, 30]))
def test_rs_8_waking_when_asked_finds_one_more_available(pods, min_ready):
    owner = replica_set("web", len(active(pods)), min_ready_seconds=min_ready)
    plan = plan_for(RS, owner, *pods)
    if plan.wake_at is not None:
        [report] = sent(plan, "update", REPLICA_SETS, "status")
        assert plan.wake_at > NOW
        [later] = sent(
            plan_for(RS, report.body, *pods, now=plan.wake_at), "update", REPLICA_SETS, "status"
        )
        assert (later.body.status.available_replicas or 0) > (
            report.body.status.available_replicas or 0
        )
        assert not sent(
            plan_for(RS, report.body, *pods, now=plan.wake_at - 1), "update", REPLICA_SETS, "status"
        )


def test_rs_8_sometimes_availability_comes_by_time_alone():
    cluster = started(fresh(1, min_ready_seconds=2))
    [one] = stored(cluster, PODS)
    cluster = settle(make_ready(cluster, one.metadata.name), seconds_max=1)
    assert get(cluster, REPLICA_SETS, "web").status.available_replicas is None
    cluster = settle(cluster, seconds_max=10)
    assert get(cluster, REPLICA_SETS, "web").status.available_replicas == 1


def test_rs_10_what_is_dying_is_told_apart_and_replaced_at_once():
    cluster = started(fresh(1, template=template(finalizers=("example.com/hold",))))
    [first] = stored(cluster, PODS)
    cluster = settle(remove(cluster, PODS, first.metadata.name))
    status = get(cluster, REPLICA_SETS, "web").status
    assert (status.replicas, status.terminating_replicas) == (1, 1)
    assert len(stored(cluster, PODS)) == 2


def test_rs_10_a_replication_controller_does_not_count_them():
    plan = plan_for(
        RC,
        replication_controller("web", 0),
        pod("p", replication_controller("web"), deletion_timestamp=ago(1)),
    )
    [report] = sent(plan, "update", REPLICATION_CONTROLLERS, "status")
    assert report.body.status.replicas == 0 and not hasattr(
        report.body.status, "terminating_replicas"
    )


# --- refusals -------------------------------------------------------------------------------------

QUOTA = Response(
    403,
    failure(
        403,
        "Forbidden",
        'pods "web-x" is forbidden: exceeded quota',
        StatusDetails(kind="pods", name="web-x"),
    ),
)
LATE = Response(
    409,
    failure(
        409,
        "Conflict",
        "the object has been modified",
        StatusDetails(kind="replicasets", group="apps", name="web"),
    ),
)
ENDING = Response(
    403,
    failure(
        403,
        "Forbidden",
        "namespace ends",
        StatusDetails(kind="pods", causes=(StatusCause(reason="NamespaceTerminating"),)),
    ),
)


def after_failure(owner, *pods, response=QUOTA):
    plan = plan_for(RS, owner, *pods, local=Local(failures=1, failure=response))
    reports = sent(plan, "update", REPLICA_SETS, "status")
    return plan, (reports[0].body.status.conditions if reports else owner.status.conditions)


def test_rs_11_a_refused_creation_is_told_once_and_withdrawn_when_the_count_is_right():
    plan, conditions = after_failure(OURS)
    [condition] = conditions
    assert (condition.type, condition.status, condition.reason) == (
        "ReplicaFailure",
        "True",
        "FailedCreate",
    )
    assert condition.message == QUOTA.body.message
    [note] = plan.notes
    assert (note.type, note.reason, note.message) == (
        "Warning",
        "FailedCreate",
        f"Error creating: {QUOTA.body.message}",
    )
    assert len(sent(plan, "create", PODS)) == 3  # and it is tried again
    failed = with_status(OURS, conditions=conditions)
    assert after_failure(failed)[1] == conditions  # the instant stays
    # after a crash nobody knows of the failure, but pods are still missing
    assert after_failure(failed, response=None)[1] == conditions
    assert after_failure(failed, *[pod(f"p{n}", OURS) for n in range(3)], response=None)[1] is None


def test_rs_11_a_refused_deletion_is_told():
    plan, conditions = after_failure(OURS, *[pod(f"p{n}", OURS) for n in range(5)])
    assert [c.reason for c in conditions] == ["FailedDelete"]
    assert [note.reason for note in plan.notes] == ["FailedDelete"]


@pytest.mark.parametrize(
    "response", [LATE, ENDING], ids=["our own late status write", "the end of the namespace"]
)
def test_rs_11_what_is_no_failure_of_pods_is_not_told(response):
    plan, conditions = after_failure(OURS, response=response)
    assert conditions is None and not plan.notes


def test_rs_11_sometimes_a_refusal_reaches_the_status_and_goes_again():
    """A quota refuses pods for two minutes."""
    cluster, attempts = settle_refusing(
        start_all(create(new_cluster(), fresh(2))), QUOTA, seconds_max=120
    )
    [condition] = get(cluster, REPLICA_SETS, "web").status.conditions
    assert (condition.reason, condition.message) == ("FailedCreate", QUOTA.body.message)
    assert [e.reason for e in stored(cluster, EVENTS)] == ["FailedCreate"]
    # LOOP-5: the waits double, and one refusal is enough to stop a plan
    assert 10 <= attempts <= 20
    cluster = settle(cluster, seconds_max=400)
    assert (
        get(cluster, REPLICA_SETS, "web").status.conditions is None
        and len(stored(cluster, PODS)) == 2
    )


def settle_refusing(cluster, answer, seconds_max, after=0):
    """Go on until nothing but time is left, while every creation of a pod beyond so many is
    answered so. Also: how many those were."""
    end, attempts = cluster.now + seconds_max * SECOND, 0
    while True:
        action = next(enabled(cluster), None)
        if action is None or (isinstance(action, Elapse) and action.to > end):
            return cluster, attempts
        flying = cluster.flying.get(action.flying) if isinstance(action, Arrive) else None
        is_creation = (
            flying is not None
            and flying.request.verb == "create"
            and flying.request.resource is PODS
        )
        if is_creation and len(stored(cluster, PODS)) >= after:
            cluster = evolve(
                cluster, flying=cluster.flying.set(action.flying, evolve(flying, answer=answer))
            )
            attempts += 1
        else:
            cluster = step(cluster, action)


# --- silence --------------------------------------------------------------------------------------


@given(own_pods(), st.integers(0, 5))
def test_rs_12_a_status_that_is_written_is_not_written_again(pods, replicas):
    owner = replica_set("web", replicas)
    for report in sent(plan_for(RS, owner, *pods), "update", REPLICA_SETS, "status"):
        assert report.body.metadata == owner.metadata and report.body.spec == owner.spec
        assert not sent(plan_for(RS, report.body, *pods), "update", REPLICA_SETS, "status")


def test_rs_12_a_settled_replica_set_is_silent():
    cluster = started(fresh(2))
    revision = cluster.history.revision
    assert settle(cluster, seconds_max=3600).history.revision == revision


def test_rs_12_zero_counts_are_absent_and_replicas_is_written():
    [report] = sent(plan_for(RS, replica_set("web", 0)), "update", REPLICA_SETS, "status")
    status = report.body.status
    assert (
        status.replicas,
        status.ready_replicas,
        status.available_replicas,
        status.fully_labeled_replicas,
    ) == (0, None, None, None)


# --- events ---------------------------------------------------------------------------------------


def test_event_3_what_was_done_is_told_with_the_name_of_the_object():
    cluster = started(fresh(1))
    [one] = stored(cluster, PODS)
    [event] = stored(cluster, EVENTS)
    assert (event.reason, event.message) == (
        "SuccessfulCreate",
        f"Created pod: {one.metadata.name}",
    )
    assert (event.involved_object.kind, event.involved_object.name) == ("ReplicaSet", "web")
    assert event.source.component == "replicaset-controller"
    cluster = settle(patch(cluster, REPLICA_SETS, "web", {"spec": {"replicas": 0}}))
    assert ("SuccessfulDelete", f"Deleted pod: {one.metadata.name}") in [
        (e.reason, e.message) for e in stored(cluster, EVENTS)
    ]


def test_event_3_what_was_refused_is_not_told_as_done():
    cluster, _ = settle_refusing(start_all(create(new_cluster(), fresh(1))), QUOTA, seconds_max=1)
    assert {e.reason for e in stored(cluster, EVENTS)} == {"FailedCreate"}
