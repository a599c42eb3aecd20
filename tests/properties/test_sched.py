"""The scheduler in a cluster (spec/scheduler.md): whatever comes late, is lost or crashes."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from runs import faults, settle
from sched_worlds import (
    NAME,
    START,
    a_node,
    a_pod,
    deleted,
    new_cluster,
    operate,
    patched,
    steps,
    stored,
    with_node,
    with_pod,
    worlds,
)

from refk8s.core.actions import Answer, Arrive, Crash, Elapse, LoseRequest, Submit
from refk8s.core.api import status
from refk8s.core.api.core_v1 import PodSchedulingGate, Taint, Toleration
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import EVENTS, NODES, PODS, PRIORITY_CLASSES
from refk8s.core.api.scheduling_v1 import PriorityClass
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.enabled import enabled
from refk8s.core.cluster.state import Cluster
from refk8s.core.cluster.step import step
from refk8s.core.context import MINUTE, SECOND
from refk8s.core.loop.loop import Loop
from refk8s.core.properties.predicates.scheduler import (
    sched_1_no_node_over_capacity,
    sched_25_no_pod_moves,
    why_not,
)
from refk8s.core.scheduler.cycle import TRUTH, Scheduler, catch_up
from refk8s.core.scheduler.snapshot import Snapshot, recompute
from refk8s.core.value import evolve


def memory_of(cluster: Cluster):
    return cluster.components[NAME].state.memories["default-scheduler"]


def view_of(cluster: Cluster):
    return cluster.components[NAME].state.view


def plain(snapshot: Snapshot):
    """A snapshot as plain values."""
    loads = {}
    for name, load in snapshot.loads.items():
        sums = (
            load.cpu,
            load.memory,
            load.ephemeral_storage,
            load.extended,
            load.scored_cpu,
            load.scored_memory,
        )
        loads[name] = (sorted(load.pods), sums, load.ports, dict(load.kin))
    return dict(snapshot.nodes), loads


def new_bindings(before: Cluster, after: Cluster):
    """What has just been decided and sent for the first time: (pod, node). What is sent again is no
    new decision."""
    same_life = before.components[NAME].life == after.components[NAME].life
    known = memory_of(before).decisions if same_life else {}
    for key, decision in sorted(memory_of(after).decisions.items()):
        earlier = known.get(key)
        if decision.sent and not (
            earlier is not None and earlier.sent and earlier.pod.uid == decision.pod.uid
        ):
            yield key, decision.node


def all_is_well(before: Cluster, after: Cluster) -> list[str]:
    """What must hold after every step."""
    pods = stored(after, PODS)
    wrong = sched_1_no_node_over_capacity(stored(after, NODES), pods)
    wrong += sched_25_no_pod_moves(
        {p.metadata.uid: p for p in stored(before, PODS)}, {p.metadata.uid: p for p in pods}
    )
    view, memory = view_of(after), memory_of(after)
    truth = view.fold(TRUTH)
    if plain(truth) != plain(recompute(view.list(NODES), view.list(PODS))):
        wrong.append("SCHED-3: the snapshot is not what the view says")
    expected = truth
    for _, decision in sorted(memory.decisions.items()):
        if decision.pod.uid not in expected.load(decision.node).pods:
            expected = expected.with_load(
                decision.node, expected.load(decision.node).plus(decision.pod)
            )
    if plain(catch_up(memory, truth).working) != plain(expected):
        wrong.append("SCHED-22: the working snapshot is not the truth plus what is assumed")
    seen = {pod.metadata.uid: pod for pod in view.list(PODS)}
    assumed = {d.pod.uid: d.node for _, d in memory.decisions.items()}
    for key, name in new_bindings(before, after):
        pod, node = view.get(PODS, key), view.get(NODES, name)
        if pod is None or node is None:
            wrong.append(f"SCHED-28: {key} to {name}, and one of them is not there")
            continue
        there = [
            p
            for uid, p in seen.items()
            if uid != pod.metadata.uid and (p.spec.node_name or assumed.get(uid)) == name
        ]
        there = [
            p for p in there if p.status is None or p.status.phase not in ("Succeeded", "Failed")
        ]
        wrong += [f"SCHED-28: {key} to {name}: {reason}" for reason in why_not(pod, node, there)]
    return wrong


def flights(cluster: Cluster) -> list:
    """What is on its way, in a fixed order."""
    return [(channel, cluster.flying[channel]) for channel in sorted(cluster.flying)]


def crash(cluster: Cluster) -> Cluster:
    """The scheduler dies, and with its connections what it had sent and what had not arrived
    yet."""
    for id in sorted(cluster.flying):
        if id in cluster.flying and cluster.flying[id].answer is None:
            cluster = step(cluster, LoseRequest(id))
    return step(cluster, Crash(NAME))


def refuse(cluster: Cluster, which: int) -> Cluster:
    """The API server refuses a request of the scheduler, for reasons of its own."""
    waiting = [
        id
        for id, f in flights(cluster)
        if f.answer is None and f.request.verb in ("create", "patch")
    ]
    if not waiting:
        return cluster
    id = waiting[which % len(waiting)]
    answer = Response(503, status.unavailable("not now"))
    return evolve(cluster, flying=cluster.flying.set(id, evolve(cluster.flying[id], answer=answer)))


def run(cluster: Cluster, drawn, world, allowed=()) -> Cluster:
    specs, spare = world
    for kind, which in drawn:
        before = cluster
        if kind >= 13 and allowed:
            if "crash" in allowed and kind == 15:
                cluster = crash(cluster)
            elif "refuse" in allowed and kind >= 14:
                cluster = refuse(cluster, which)
            else:
                odd = faults(
                    cluster, [fault for fault in allowed if fault not in ("crash", "refuse")]
                )
                cluster = step(cluster, odd[which % len(odd)]) if odd else cluster
        elif kind >= 6:
            cluster = operate(cluster, which, specs, spare)
        elif kind == 5:
            cluster = step(cluster, Elapse(cluster.now + which % 4 * SECOND // 2))
        else:
            normal = list(enabled(cluster))
            cluster = step(cluster, normal[which % len(normal)]) if normal else cluster
        wrong = all_is_well(before, cluster)
        assert not wrong, wrong[0]
    return cluster


def waiting_but_welcome(cluster: Cluster) -> list[str]:
    """SCHED-26: pods without a node that some node would take."""
    there = stored(cluster, PODS)
    found = []
    for pod in there:
        if (
            pod.spec.node_name
            or pod.metadata.deletion_timestamp is not None
            or pod.spec.scheduling_gates
        ):
            continue
        for node in stored(cluster, NODES):
            others = [
                p
                for p in there
                if p.spec.node_name == node.metadata.name
                and p.status.phase not in ("Succeeded", "Failed")
            ]
            if not why_not(pod, node, others):
                found.append(
                    f"SCHED-26: {pod.metadata.name} waits, and {node.metadata.name} can run it"
                )
    return found


@given(worlds, steps)
def test_sched_1_sched_25_sched_28_late_watches_and_answers_never_overfill_a_node(world, drawn):
    """SCHED-1, SCHED-25, SCHED-28."""
    cluster = run(new_cluster(), drawn, world)
    cluster = settle(cluster, all_is_well)
    assert not waiting_but_welcome(cluster)


@given(worlds, steps)
def test_sched_22_sched_26_lost_requests_and_answers_neither_overfill_a_node_nor_strand_a_pod(
    world, drawn
):
    cluster = run(new_cluster(), drawn, world, ["lose", "give up", "cut", "compact"])
    cluster = settle(cluster, all_is_well)
    assert not waiting_but_welcome(cluster)
    assert not len(memory_of(cluster).assumed), (
        "SCHED-22: everything is settled, and a pod is still assumed"
    )


@given(worlds, steps)
def test_sched_1_sched_26_after_a_crash_a_fresh_list_brings_back_all_that_matters(world, drawn):
    cluster = run(new_cluster(), drawn, world, ["crash", "lose", "cut"])
    cluster = settle(cluster, all_is_well)
    assert not waiting_but_welcome(cluster)


@given(worlds, steps)
def test_sched_3_sched_4_sched_22_refused_bindings_give_their_room_back(world, drawn):
    cluster = run(new_cluster(), drawn, world, ["refuse", "cut"])
    cluster = settle(cluster, all_is_well)
    assert not waiting_but_welcome(cluster)
    assert not len(memory_of(cluster).assumed)


@given(worlds, steps)
def test_sched_10_sched_11_every_refused_pod_says_why_and_then_there_is_silence(world, drawn):
    cluster = settle(run(new_cluster(), drawn, world, ["lose"]), all_is_well)
    for pod in stored(cluster, PODS):
        if pod.spec.node_name:
            continue
        condition = next(c for c in pod.status.conditions if c.type == "PodScheduled")
        assert (condition.status, condition.reason) == ("False", "Unschedulable")
        assert condition.message
    revision = cluster.history.revision
    cluster = settle(cluster, all_is_well, seconds_max=240)
    assert cluster.history.revision == revision, (
        "SCHED-11: nothing changes, and something is written"
    )


@given(worlds, steps)
def test_sched_29_the_same_events_give_the_same_decisions(world, drawn):
    one, other = (run(new_cluster(), drawn, world, ["lose"]) for _ in range(2))
    assert one.history.revision == other.history.revision
    assert [p.spec.node_name for p in stored(one, PODS)] == [
        p.spec.node_name for p in stored(other, PODS)
    ]


@given(worlds, steps, st.integers(1, 5))
def test_sched_17_forgetting_what_has_been_worked_out_changes_nothing(world, drawn, every):
    class Forgetful(Scheduler):
        count = 0

        def reconcile(self, view, key, now, local):
            self.count += 1
            if self.count % every == 0:
                self.forget()
            return super().reconcile(view, key, now, local)

    forgetful = Loop(NAME, [Forgetful()], component="default-scheduler")
    one, other = run(new_cluster(), drawn, world), run(new_cluster(forgetful), drawn, world)
    assert {p.metadata.uid: p.spec.node_name for p in stored(one, PODS)} == {
        p.metadata.uid: p.spec.node_name for p in stored(other, PODS)
    }


# --- examples of single rules ---------------------------------------------------------------------


def quiet(cluster: Cluster, seconds: int = 60, check=all_is_well) -> Cluster:
    return settle(cluster, check, seconds_max=seconds)


def pod_named(cluster: Cluster, name: str):
    return next(pod for pod in stored(cluster, PODS) if pod.metadata.name == name)


def condition_of(cluster: Cluster, name: str):
    return next(
        (c for c in pod_named(cluster, name).status.conditions or () if c.type == "PodScheduled"),
        None,
    )


def events(cluster: Cluster, reason: str):
    found = [event for event in stored(cluster, EVENTS) if event.reason == reason]
    return [
        (event.involved_object.name, event.message, event.series.count if event.series else 1)
        for event in found
    ]


def test_sched_19_a_pod_waits_for_a_node_that_fits_and_says_why():
    cluster = with_node(new_cluster(), a_node("small", cpu="1"))
    cluster = with_node(cluster, a_node("tainted", taints=(Taint(key="k", effect="NoSchedule"),)))
    cluster = quiet(with_pod(cluster, a_pod("p", {"cpu": "1500m"})))
    message = (
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s). no new claims to deallocate, "
        "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )
    assert condition_of(cluster, "p").message == message
    assert events(cluster, "FailedScheduling") == [("p", message, 1)]
    cluster = quiet(with_node(cluster, a_node("big")))
    assert pod_named(cluster, "p").spec.node_name == "big"
    assert condition_of(cluster, "p").status == "True"
    assert events(cluster, "Scheduled") == [("p", "Successfully assigned default/p to big", 1)]


def test_sched_10_without_nodes_the_message_says_so():
    cluster = quiet(with_pod(new_cluster(), a_pod("p")))
    assert condition_of(cluster, "p").message == "no nodes available to schedule pods"


def test_sched_4_a_finished_pod_frees_its_node_and_a_terminating_one_does_not():
    cluster = quiet(with_pod(with_node(new_cluster(), a_node("n", pods="1")), a_pod("one")))
    cluster = quiet(with_pod(cluster, a_pod("two")))
    assert "Too many pods" in condition_of(cluster, "two").message
    cluster = quiet(deleted(cluster, pod_named(cluster, "one"), now=False))
    assert not pod_named(cluster, "two").spec.node_name
    cluster = quiet(patched(cluster, PODS, "one", {"status": {"phase": "Succeeded"}}, "status"))
    assert pod_named(cluster, "two").spec.node_name == "n"


def test_sched_5_uncordoning_lets_a_waiting_pod_in_and_a_toleration_never_waits():
    cluster = with_node(new_cluster(), a_node("n", unschedulable=True))
    tolerant = Toleration(
        key="node.kubernetes.io/unschedulable", operator="Exists", effect="NoSchedule"
    )
    cluster = quiet(
        with_pod(with_pod(cluster, a_pod("plain")), a_pod("tolerant", tolerations=(tolerant,)))
    )
    assert pod_named(cluster, "tolerant").spec.node_name == "n"
    assert "1 node(s) were unschedulable" in condition_of(cluster, "plain").message
    cluster = quiet(patched(cluster, NODES, "n", {"spec": {"unschedulable": None}}))
    assert pod_named(cluster, "plain").spec.node_name == "n"


def test_sched_23_a_pod_of_another_scheduler_or_with_a_node_is_left_alone():
    cluster = with_node(new_cluster(), a_node("n", pods="0"))
    cluster = with_pod(
        with_pod(cluster, a_pod("other", scheduler_name="nobody")), a_pod("direct", node_name="n")
    )
    cluster = quiet(cluster, check=lambda before, after: [])
    for name in ("other", "direct"):
        assert condition_of(cluster, name) is None
    assert not pod_named(cluster, "other").spec.node_name
    assert not stored(cluster, EVENTS)


def test_sched_24_a_gated_pod_is_not_scheduled_until_its_last_gate_is_gone():
    gates = (PodSchedulingGate(name="a"), PodSchedulingGate(name="b"))
    cluster = quiet(
        with_pod(with_node(new_cluster(), a_node("n")), a_pod("p", scheduling_gates=gates))
    )
    assert condition_of(cluster, "p").reason == "SchedulingGated"
    assert not pod_named(cluster, "p").spec.node_name
    cluster = quiet(patched(cluster, PODS, "p", {"spec": {"schedulingGates": [{"name": "b"}]}}))
    assert not pod_named(cluster, "p").spec.node_name
    cluster = quiet(patched(cluster, PODS, "p", {"spec": {"schedulingGates": None}}))
    assert pod_named(cluster, "p").spec.node_name == "n"


def test_sched_22_a_binding_whose_answer_is_lost_keeps_its_room():
    cluster = with_node(new_cluster(), a_node("n", pods="1"))
    cluster = with_pod(cluster, a_pod("one"))
    while not (
        bindings := [id for id, f in flights(cluster) if f.request.subresource == "binding"]
    ):
        cluster = step(cluster, next(enabled(cluster)))
    cluster = step(cluster, LoseRequest(bindings[0]))  # never arrives, and nobody knows
    cluster = with_pod(cluster, a_pod("two"))
    while not isinstance(action := next(enabled(cluster)), Elapse):
        cluster = step(cluster, action)
    assert "1 Too many pods" in condition_of(cluster, "two").message
    cluster = quiet(cluster)
    assert pod_named(cluster, "one").spec.node_name == "n"
    assert not pod_named(cluster, "two").spec.node_name


def test_sched_20_a_refused_pod_is_tried_again_after_its_back_off_only():
    cluster = quiet(
        with_pod(with_node(new_cluster(), a_node("n", unschedulable=True)), a_pod("p")), seconds=0
    )
    assert condition_of(cluster, "p").reason == "Unschedulable"
    cluster = patched(cluster, NODES, "n", {"spec": {"unschedulable": None}})
    cluster = quiet(cluster, seconds=0)
    assert not pod_named(cluster, "p").spec.node_name
    assert cluster.now == START
    assert next(enabled(cluster)) == Elapse(START + SECOND)
    cluster = quiet(cluster, seconds=1)
    assert pod_named(cluster, "p").spec.node_name == "n"


@given(st.integers(1, 5), st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_sched_20_sched_26_no_pod_starves_behind_important_ones_that_fit_nowhere(crowd, waits):
    """Each wait ends with a change that makes the scheduler look at all pods again."""
    important = PriorityClass(metadata=ObjectMeta(name="high"), value=1000)
    cluster = with_node(new_cluster(), a_node("n", cpu="4", labels={"zone": "x"}))
    cluster = step(cluster, Submit(Request("create", PRIORITY_CLASSES, body=important, user=ADMIN)))
    for number in range(crowd):
        large = a_pod(f"large{number}", {"cpu": str(9 + number)}, priority_class_name="high")
        cluster = with_pod(cluster, large)
    cluster = with_pod(cluster, a_pod("late", {"cpu": "1"}, node_selector={"zone": "y"}))
    for number, seconds in enumerate(waits):
        cluster = quiet(cluster, seconds)
        turn = {"metadata": {"labels": {"turn": str(number)}}}
        cluster = quiet(patched(cluster, NODES, "n", turn), seconds=0)
        small = a_pod(f"small{number}", {"cpu": "100m"})
        cluster = quiet(with_pod(cluster, small), seconds=0)
        assert pod_named(cluster, f"small{number}").spec.node_name == "n"
    cluster = patched(cluster, NODES, "n", {"metadata": {"labels": {"zone": "y"}}})
    cluster = quiet(cluster, seconds=10)  # the longest back-off
    assert pod_named(cluster, "late").spec.node_name == "n"


def test_sched_21_what_has_been_parked_for_five_minutes_says_what_is_true_now():
    cluster = quiet(
        with_pod(with_node(new_cluster(), a_node("n", cpu="1")), a_pod("p", {"cpu": "3"}))
    )
    cluster = quiet(with_node(cluster, a_node("m", cpu="1")))
    assert condition_of(cluster, "p").message.startswith("0/1 nodes")
    cluster = settle(cluster, all_is_well, seconds_max=5 * MINUTE // SECOND)
    assert condition_of(cluster, "p").message.startswith("0/2 nodes")


def test_sched_28_a_decision_that_the_view_has_overtaken_is_taken_anew():
    """The write of the condition is still on its way when the pod is decided; before it is answered
    the node is cordoned."""
    cluster = with_pod(with_node(new_cluster(), a_node("n", cpu="1")), a_pod("p", {"cpu": "2"}))
    while not any(
        f.request.verb == "patch" and f.request.resource == PODS for _, f in cluster.flying.items()
    ):
        cluster = step(cluster, next(enabled(cluster)))
    patches = [
        id for id, f in flights(cluster) if f.request.verb == "patch" and f.request.resource == PODS
    ]

    def go_on(cluster, until):
        while cluster.now < until:
            actions = [
                a
                for a in enabled(cluster)
                if not (isinstance(a, (Arrive, Answer)) and a.flying in patches)
            ]
            cluster = step(
                cluster, actions[0] if actions else Elapse(min(until, cluster.now + SECOND // 2))
            )
        return cluster

    cluster = with_node(cluster, a_node("big", cpu="4"))
    cluster = go_on(cluster, START + 3 * SECOND)
    assert memory_of(cluster).decisions["default/p"].node == "big"
    cluster = patched(cluster, NODES, "big", {"spec": {"unschedulable": True}})
    cluster = go_on(cluster, START + 4 * SECOND)
    cluster = quiet(cluster)
    assert not pod_named(cluster, "p").spec.node_name


def test_sched_26_a_pod_that_has_ended_before_its_binding_is_answered_frees_its_room():
    """Found by the properties: the room was free and nobody looked for five minutes."""
    cluster = with_pod(with_node(new_cluster(), a_node("n", pods="1")), a_pod("one"))
    while not (
        bindings := [id for id, f in flights(cluster) if f.request.subresource == "binding"]
    ):
        cluster = step(cluster, next(enabled(cluster)))
    cluster = step(cluster, Arrive(bindings[0]))
    cluster = with_pod(cluster, a_pod("two"))
    cluster = patched(cluster, PODS, "one", {"status": {"phase": "Succeeded"}}, "status")
    while not isinstance(
        action := next(a for a in enabled(cluster) if a != Answer(bindings[0])), (Elapse, Answer)
    ):
        cluster = step(cluster, action)
    cluster = quiet(cluster)
    assert pod_named(cluster, "two").spec.node_name == "n"


# --- sometimes ------------------------------------------------------------------------------------

SPECS = [
    a_pod("", {"cpu": "1", "memory": "1Gi"}).spec,
    a_pod(
        "",
        {"cpu": "300m"},
        tolerations=(Toleration(key="node.kubernetes.io/unschedulable", operator="Exists"),),
    ).spec,
    a_pod("", {"cpu": "3"}).spec,
]
SPARE = [a_node("n0"), a_node("n1", pods="3"), a_node("n2", cpu="4")]


def seen_in(before: Cluster, after: Cluster) -> set[str]:
    """Which interesting things this step has shown."""
    memory, view = memory_of(after), view_of(after)
    found = set()
    if any(len(pods) > 1 for _, pods in memory.assumed.items()):
        found.add("two pods are assumed on one node at once")
    if len(memory.queue.parked) and len(memory.decisions):
        found.add("one pod is parked while another is on its way")
    if any(decision.waiting.attempts for _, decision in memory.decisions.items()):
        found.add("a pod that was refused once is on its way")
    if before.components[NAME].life != after.components[NAME].life and len(
        memory_of(before).assumed
    ):
        found.add("a crash forgets an assumed pod")
    sends = [
        f.tries
        for _, f in after.components[NAME].state.flights.items()
        if f.request.subresource == "binding"
    ]
    if any(tries > 0 for tries in sends):
        found.add("a binding is sent again")
    for key, decision in memory.decisions.items():
        pod = view.get(PODS, key)
        if pod is None or pod.metadata.deletion_timestamp is not None:
            found.add("a pod goes while its binding is on its way")
        elif pod.spec.node_name and pod.status.phase == "Succeeded" and decision.sent:
            found.add("a pod has ended before its binding is answered")
    return found


def test_sched_sometimes_the_runs_reach_what_the_rules_are_about():
    wanted = {
        "two pods are assumed on one node at once",
        "one pod is parked while another is on its way",
        "a pod that was refused once is on its way",
        "a crash forgets an assumed pod",
        "a binding is sent again",
        "a pod goes while its binding is on its way",
        "a pod has ended before its binding is answered",
    }
    # mostly steps, and few faults: after a crash there are many lists
    kinds = [*([*range(5)] * 12), *([*range(5, 13)] * 3), 13, 14, 15]
    for seed in range(200):
        chance, cluster = Random(seed), new_cluster()
        for _ in range(200):
            before = cluster
            drawn = [(chance.choice(kinds), chance.randrange(2**16))]
            cluster = run(
                cluster,
                drawn,
                (SPECS, SPARE),
                ["crash", "lose", "refuse"] if seed % 2 else ["lose", "give up"],
            )
            wanted -= seen_in(before, cluster)
        if not wanted:
            return
    raise AssertionError(f"never seen: {sorted(wanted)}")
