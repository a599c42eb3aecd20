"""What is asked about lost nodes and their pods, in full and beside a plain reading: NODE-2 to
NODE-9, PODGC-1 to PODGC-3.

(spec/workloads/node.md)
"""

from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map
from workload_helpers import NOW, ago, change, pod, sent, view_of

from refk8s.core.api.core_v1 import (
    Node,
    NodeCondition,
    NodeSpec,
    NodeStatus,
    PodCondition,
    Taint,
    Toleration,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Response
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers import node_lifecycle as lifecycle
from refk8s.core.controllers import pod_gc
from refk8s.core.controllers.node_lifecycle import NodeLifecycle, Zones, fold_zones
from refk8s.core.controllers.pod_gc import QUARANTINE, TOO_MANY, PodGarbageCollector
from refk8s.core.controllers.taint_eviction import TaintEviction, end_of
from refk8s.core.loop.plan import NOTHING, Local, Note
from refk8s.core.pods.tolerations import tolerates

STRATEGIC = "application/strategic-merge-patch+json"


def node(name="n", taints=(), conditions=(("Ready", "True"),), **metadata):
    return Node(
        metadata=ObjectMeta(name=name, uid=f"uid-{name}", creation_timestamp=ago(99), **metadata),
        spec=NodeSpec(taints=tuple(taints) or None),
        status=NodeStatus(
            conditions=tuple(NodeCondition(type=type, status=status) for type, status in conditions)
        ),
    )


def bound(name="p", **parts):
    return pod(name, node_name="n", **parts)


def keys_of(reconciler, resource):
    return next(interest.keys for interest in reconciler.interests if interest.resource is resource)


def patched(request, pod_name, status):
    """The request is a patch of that very pod's status, and says why."""
    assert (request.verb, request.resource, request.namespace, request.name, request.subresource) == (
        "patch", PODS, "default", pod_name, "status",
    )  # fmt: skip
    assert request.body.media_type == STRATEGIC and request.because
    assert request.body.document == {"metadata": {"uid": f"uid-{pod_name}"}, "status": status}


def deleted(request, pod_name, grace=None):
    assert (request.verb, request.resource, request.namespace, request.name) == (
        "delete",
        PODS,
        "default",
        pod_name,
    )
    assert (request.body.preconditions.uid, request.body.grace_period_seconds) == (
        f"uid-{pod_name}",
        grace,
    )
    assert request.because


# --- taints and tolerations -----------------------------------------------------------------------

texts = st.sampled_from([None, "", "a", "b"])
tolerations = st.builds(
    Toleration,
    key=texts,
    value=texts,
    operator=st.sampled_from([None, "Equal", "Exists"]),
    effect=st.sampled_from([None, "", "NoExecute", "NoSchedule"]),
    toleration_seconds=st.sampled_from([None, None, -5, 0, 1, 60]),
)
taints = st.builds(
    Taint,
    key=st.sampled_from(["a", "b"]),
    value=texts,
    effect=st.just("NoExecute"),
    time_added=st.sampled_from([None, ago(30)]),
)


@settings(max_examples=5 * settings.default.max_examples)
@given(st.lists(tolerations, max_size=3), taints)
def test_node_8_a_pod_stays_as_long_as_the_shortest_toleration_that_matches(drawn, taint):
    def matches(one):
        if (one.effect or taint.effect) != taint.effect or (one.key or taint.key) != taint.key:
            return False
        same = (one.value or "") == (taint.value or "")
        return one.operator == "Exists" or (one.operator in (None, "", "Equal") and same)

    assert [tolerates(one, taint) for one in drawn] == [matches(one) for one in drawn]
    matching = [one for one in drawn if matches(one)]
    limits = [
        max(one.toleration_seconds, 0) for one in matching if one.toleration_seconds is not None
    ]
    start = NOW - 30 * SECOND if taint.time_added else NOW - 7 * SECOND
    expected = start if not matching else start + min(limits) * SECOND if limits else None
    assert end_of(taint, tuple(drawn), NOW - 7 * SECOND) == expected


@settings(max_examples=5 * settings.default.max_examples)
@given(
    st.lists(st.sampled_from(["NoExecute", "NoSchedule"]), max_size=2),
    st.none() | st.integers(0, 20),
    st.none() | st.integers(1, 30),
    st.sampled_from(["bound", "dying", "unbound", "absent"]),
)
def test_node_8_node_9_when_a_pod_is_evicted_and_when_that_is_called_off(
    effects, tolerated, since, state
):
    """It tolerates such a taint for so long (None: not at all) and has been on its way out for so
    long (None: it has not)."""
    evictor = TaintEviction()
    given_up = Toleration(
        key="k", operator="Exists", effect="NoExecute", toleration_seconds=tolerated
    )
    one = bound(tolerations=None if tolerated is None else (given_up,))
    if state == "dying":
        one = bound(deletion_timestamp=ago(1))
    elif state == "unbound":
        one = pod("p")
    memory = Map({"uid-p": NOW - since * SECOND} if since else {})
    objects = [node(taints=[Taint(key="k", effect=effect) for effect in effects])] + (
        [] if state == "absent" else [one]
    )
    plan = evictor.reconcile(view_of(evictor, *objects), "default/p", NOW, Local(memory))
    if state != "bound":
        assert plan == NOTHING
    elif "NoExecute" not in effects:
        assert (
            plan == NOTHING
            if not since
            else (not plan.waves and plan.memory == Map() and plan.wake_at is None)
        )
    elif tolerated is not None and tolerated > (since or 0):
        assert not plan.waves and plan.wake_at == NOW + (tolerated - (since or 0)) * SECOND
        assert plan.memory == Map({"uid-p": NOW - (since or 0) * SECOND})
    else:
        (asked,), (told,), (gone,) = plan.waves
        assert (asked.verb, asked.resource, asked.subresource, asked.body) == (
            "update",
            NODES,
            "status",
            objects[0],
        )
        patched(
            told,
            "p",
            {
                "conditions": [
                    condition_of(
                        "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"
                    )
                ]
            },
        )
        deleted(gone, "p")
        assert plan.notes == (
            Note(one, "TaintManagerEviction", "Marking for deletion Pod default/p"),
        )
        assert plan.memory == Map()


def condition_of(reason, message):
    """Of a pod whose generation is not known, so that there is none to tell."""
    told = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": timestamp(NOW),
    }
    return {**told, "observedGeneration": None}


@given(st.booleans(), st.booleans(), st.sampled_from(["changes", "comes", "goes"]))
def test_node_8_who_hears_of_a_node_and_of_a_pod(before, after, how):
    """Whether the node wants pods out, before and after."""
    evictor = TaintEviction()
    out = [Taint(key="k", effect="NoExecute")]
    old, new = (
        node(taints=out if before else []),
        node(taints=out if after else [Taint(key="x", effect="NoSchedule")]),
    )
    old, new = (None if how == "comes" else old), (None if how == "goes" else new)
    view = view_of(
        evictor, bound(), pod("elsewhere", node_name="m"), pod("nowhere"), *([new] if new else [])
    )
    changed = (before and old is not None) != (after and new is not None)
    assert list(keys_of(evictor, NODES)(view, old, new)) == (["default/p"] if changed else [])
    wanted_out = new is not None and after
    for was, is_ in ((bound(), bound()), (None, bound()), (bound(), None)):
        assert list(keys_of(evictor, PODS)(view, was, is_)) == (["default/p"] if wanted_out else [])
    assert not list(keys_of(evictor, PODS)(view, None, pod("nowhere")))


# --- pods of nodes that are gone ------------------------------------------------------------------


@given(
    st.none() | st.integers(0, 60),
    st.booleans(),
    st.sampled_from(["Running", "Failed", "Succeeded"]),
    st.sampled_from(["gone", "gone", "there", "unbound"]),
)
def test_podgc_1_podgc_2_a_pod_goes_after_the_quarantine_and_a_clear_answer(
    missing, looked_up, phase, state
):
    """Its node has been out of view for so many seconds (None: nobody has noticed yet)."""
    collector = PodGarbageCollector()
    memory = pod_gc.Memory(
        missing=Map({} if missing is None else {"n": NOW - missing * SECOND}),
        gone=Map({"n": True} if looked_up else {}),
    )
    one = pod("p", phase=phase) if state == "unbound" else bound(phase=phase)
    view = view_of(collector, one, *([node()] if state == "there" else []))
    plan = collector.reconcile(view, "default/p", NOW, Local(memory))
    since = NOW - (missing or 0) * SECOND
    if state != "gone":
        assert plan == NOTHING
        return
    assert plan.memory.missing == Map({"n": since})
    if since + QUARANTINE > NOW:
        assert not plan.waves and not plan.queries and plan.wake_at == since + QUARANTINE
    elif not looked_up:
        [ask] = plan.queries
        assert (ask.verb, ask.resource, ask.namespace, ask.name) == (
            "get",
            NODES,
            "",
            "n",
        ) and ask.because
        assert plan.wake_at == NOW + QUARANTINE and not plan.waves
    else:
        *told, (gone,) = plan.waves
        deleted(gone, "p", grace=0)
        assert len(told) == (phase == "Running")
        for (request,) in told:
            condition = condition_of("DeletionByPodGC", "PodGC: node no longer exists")
            patched(request, "p", {"phase": "Failed", "conditions": [condition]})


@given(st.sampled_from([None, 200, 404, 500]))
def test_podgc_2_only_a_clear_no_counts_and_a_yes_begins_the_wait_anew(code):
    collector = PodGarbageCollector()
    memory = pod_gc.Memory(missing=Map({"n": NOW, "m": NOW}))
    view = view_of(collector, bound())
    [ask] = collector.reconcile(view, "default/p", NOW + QUARANTINE, Local(memory)).queries
    after, keys = collector.answered(
        memory, "default/p", ask, None if code is None else Response(code, None), NOW
    )
    assert after.gone == Map({"n": True} if code == 404 else {})
    assert after.missing == (memory.missing if code in (None, 404) else Map({"m": NOW}))
    assert list(keys) == (["default/p"] if code == 404 else [])


def test_podgc_1_who_hears_of_pods_and_nodes():
    collector = PodGarbageCollector()
    view = view_of(collector, bound(), pod("elsewhere", node_name="m"), node("m"))
    assert list(keys_of(collector, PODS)(view, None, bound())) == ["default/p"]
    assert not keys_of(collector, PODS)(view, bound(), None)
    assert not keys_of(collector, PODS)(view, None, pod("free")) and not keys_of(collector, PODS)(
        view, None, pod("q", node_name="m")
    )
    assert keys_of(collector, NODES)(view, node(), None) == ["default/p"]
    assert not keys_of(collector, NODES)(view, node(), node())
    assert keys_of(collector, NODES)(view, None, node()) == [pod_gc.BACK + "n"]


def test_podgc_1_podgc_2_a_node_that_came_back_is_waited_for_and_looked_up_anew_when_it_goes_again():
    collector = PodGarbageCollector()
    memory = pod_gc.Memory(
        missing=Map({"n": NOW - 999 * SECOND, "m": NOW}), gone=Map({"n": True, "m": True})
    )
    back = collector.reconcile(view_of(collector, node()), pod_gc.BACK + "n", NOW, Local(memory))
    assert (back.memory.missing, back.memory.gone) == (Map({"m": NOW}), Map({"m": True}))
    assert (
        collector.reconcile(view_of(collector), pod_gc.BACK + "n", NOW, Local(memory)) == NOTHING
    ), "it has gone again unseen"
    assert (
        collector.reconcile(view_of(collector, node()), pod_gc.BACK + "n", NOW, Local(back.memory))
        == NOTHING
    )
    plan = collector.reconcile(view_of(collector, bound()), "default/p", NOW, Local(back.memory))
    assert not plan.waves and plan.wake_at == NOW + QUARANTINE


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, ago(3), ago(2), ago(1)]),
            st.sampled_from(["Running", "Failed", "Succeeded"]),
        ),
        max_size=7,
    )
)
def test_podgc_3_as_many_finished_pods_go_as_exceed_the_bound_the_oldest_first(drawn):
    """With a bound of two."""
    collector, bound_before = PodGarbageCollector(), pod_gc.FINISHED_MAX
    pods = [
        pod(f"p{n}", creation_timestamp=created, phase=phase)
        for n, (created, phase) in enumerate(drawn)
    ]
    pod_gc.FINISHED_MAX = 2
    try:
        view = view_of(collector, *pods)
        plan = collector.reconcile(view, TOO_MANY, NOW, Local(pod_gc.Memory()))
        finished = sorted(
            (p.metadata.creation_timestamp or "", p.metadata.name)
            for p in pods
            if p.status.phase != "Running"
        )
        heard = keys_of(collector, PODS)(view, None, pod("p", phase="Failed"))
    finally:
        pod_gc.FINISHED_MAX = bound_before
    requests = [request for wave in plan.waves for request in wave]
    assert [request.name for request in requests] == [
        name for _, name in finished[: max(len(finished) - 2, 0)]
    ]
    for request in requests:
        deleted(request, request.name, grace=0)
    assert heard == ([TOO_MANY] if len(finished) > 2 else [])


@given(
    st.lists(
        st.tuples(
            st.sampled_from("pq"),
            st.none() | st.tuples(st.sampled_from(["Running", "Failed"]), st.integers(1, 2)),
        ),
        max_size=10,
    )
)
def test_podgc_3_finished_pods_are_known_with_their_age(steps):
    known, there = Map(), {}
    for name, state in steps:
        old = there.pop(name, None)
        new = None if state is None else pod(name, phase=state[0], creation_timestamp=ago(state[1]))
        if old is None and new is None:
            continue
        known = pod_gc.fold_finished(known, PODS, old, new)
        if new is not None:
            there[name] = new
        assert set(known) == {
            f"default/{name}" for name, p in there.items() if p.status.phase == "Failed"
        }


# --- silent nodes ---------------------------------------------------------------------------------

statuses = st.sampled_from(["True", "False", "Unknown"])


@given(
    st.dictionaries(
        st.sampled_from(["Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "Other"]),
        statuses,
    )
)
def test_node_2_what_a_lost_node_says(drawn):
    before = node(conditions=sorted(drawn.items()))
    lost = lifecycle.lose(before, NOW)
    watched = lifecycle.WATCHED_CONDITIONS
    if all(drawn.get(type) == "Unknown" for type in watched):
        assert lost is None
        return
    told = {condition.type: condition for condition in lost.status.conditions}
    assert set(told) == {*drawn, *watched}
    for condition in before.status.conditions:
        if condition.type in watched and condition.status != "Unknown":
            words = ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
            after = told[condition.type]
            assert (
                after.status,
                after.reason,
                after.message,
            ) == words and after.last_transition_time == timestamp(NOW)
        else:
            assert told[condition.type] == condition
    for type in set(watched) - set(drawn):
        assert told[type] == NodeCondition(
            type=type,
            status="Unknown",
            reason="NodeStatusNeverUpdated",
            message="Kubelet never posted node status.",
            last_heartbeat_time=ago(99),
            last_transition_time=timestamp(NOW),
        )


def test_node_2_a_lost_node_is_written_first_and_then_its_ready_pods():
    controller = NodeLifecycle()
    ready = (PodCondition(type="Other", status="True"), PodCondition(type="Ready", status="True"))
    unready = (
        PodCondition(type="Other", status="True"),
        PodCondition(type="Ready", status="False"),
    )
    pods = [
        bound("a", conditions=ready),
        bound("b", conditions=unready),
        bound("c"),
        pod("d", node_name="m", conditions=ready),
    ]
    view = view_of(controller, node(), *pods)
    first = controller.reconcile(view, "n", NOW, Local(lifecycle.Memory()))
    assert not first.waves and first.wake_at == NOW + lifecycle.STARTUP_GRACE
    plan = controller.reconcile(view, "n", first.wake_at, Local(first.memory))
    (status,), told = plan.waves
    assert (status.verb, status.resource, status.namespace, status.name, status.subresource) == (
        "update",
        NODES,
        "",
        "n",
        "status",
    )
    assert status.because and {c.status for c in status.body.status.conditions} == {"Unknown"}
    [one] = told
    assert (one.name, one.namespace, one.subresource, one.body.media_type) == (
        "a",
        "default",
        "status",
        STRATEGIC,
    )
    [condition] = one.body.document["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"], condition["message"]) == (
        "Ready", "False", "NodeNotReady", "Node is not ready",
    )  # fmt: skip
    assert one.body.document["metadata"] == {"uid": "uid-a"} and one.because
    assert (one.note.reason, one.note.message, one.note.type) == (
        "NodeNotReady",
        "Node is not ready",
        "Warning",
    )
    assert one.note.regarding.metadata.name == one.name
    assert plan.notes == (Note(node(), "NodeNotReady", "Node n status is now: NodeNotReady"),)


@given(
    statuses,
    st.lists(
        st.tuples(
            st.sampled_from(["k", lifecycle.NOT_READY]),
            st.sampled_from(["NoSchedule", "NoExecute"]),
        ),
        max_size=2,
        unique=True,
    ),
)
def test_node_3_node_4_node_5_the_taints_are_written_where_they_are_not_what_they_should_be(
    ready, there
):
    controller = NodeLifecycle()
    before = node(
        conditions=[("Ready", ready)],
        taints=[Taint(key=key, effect=effect) for key, effect in there],
    )
    plan = controller.reconcile(
        view_of(controller, before, node("well")), "n", NOW, Local(lifecycle.Memory())
    )
    ours = {"True": None, "False": lifecycle.NOT_READY, "Unknown": lifecycle.UNREACHABLE}[ready]
    wanted = {("k", effect) for key, effect in there if key == "k"} | (
        {(ours, "NoSchedule"), (ours, "NoExecute")} if ours else set()
    )
    requests = [request for wave in plan.waves for request in wave]
    if wanted == set(there):
        assert not requests
        return
    [request] = requests
    assert (
        request.verb,
        request.resource,
        request.namespace,
        request.name,
        request.subresource,
    ) == ("update", NODES, "", "n", "")
    assert {
        (taint.key, taint.effect) for taint in request.body.spec.taints or ()
    } == wanted and request.because
    for taint in request.body.spec.taints or ():
        is_new = (taint.key, taint.effect) not in there
        assert taint.time_added == (timestamp(NOW) if is_new else None)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"), st.none() | st.tuples(st.sampled_from(["", "z"]), statuses)
        ),
        max_size=10,
    )
)
def test_node_4_zones_are_counted(steps):
    zones, there = Zones(), {}
    for name, state in steps:
        old = there.pop(name, None)
        new = None
        if state is not None:
            labels = {"topology.kubernetes.io/zone": state[0]} if state[0] else None
            new = there[name] = node(name, conditions=[("Ready", state[1])], labels=labels)
        zones = fold_zones(zones, NODES, old, new)
        for zone in ("/", "/z"):
            mine = [one for one in there.values() if lifecycle.zone_of(one) == zone]
            assert zones.counts.get(zone, (0, 0)) == (
                len(mine),
                sum(1 for one in mine if one.status.conditions[0].status == "True"),
            )


def test_node_9_pods_are_found_by_their_node():
    index = lifecycle.pods_by_node()
    assert (index.name, index.resource) == ("node", PODS)
    assert tuple(index.values(bound())) == ("n",) and tuple(index.values(pod("p"))) == ()


@given(
    st.booleans(),
    st.sampled_from(["", "n"]),
    st.sampled_from(["Pending", "Failed", "Succeeded", None]),
)
def test_podgc_4_a_pod_that_is_deleted_without_a_node_has_failed(is_going, where, phase):
    collector = PodGarbageCollector()
    leaving = "2026-01-01T00:00:00Z" if is_going else None
    one = change(pod("p"), deletion_timestamp=leaving, node_name=where or None, phase=phase)
    view = view_of(collector, one, node())
    plan = collector.reconcile(view, "default/p", NOW, Local(collector.start_memory(NOW)))
    ends = is_going and not where and phase not in ("Failed", "Succeeded")
    requests = sent(plan, "patch", PODS, "status")
    assert [r.body.document for r in requests] == (
        [{"metadata": {"uid": "uid-p"}, "status": {"phase": "Failed"}}] if ends else []
    )
    assert not sent(plan, "delete")
    heard = next(interest for interest in collector.interests if interest.resource is PODS).keys(
        view, one, one
    )
    assert ("default/p" in heard) == ends
