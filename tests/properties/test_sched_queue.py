"""The scheduler's queue beside a plain reading of its table (SCHED-18 to SCHED-21), and what it
asks for, in full (SCHED-11, SCHED-35)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import astuple, replace
from sched_worlds import a_node, a_pod, placed, pod_specs

from refk8s.core.api.core_v1 import Pod, PodCondition, PodStatus
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, Preconditions
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import PODS
from refk8s.core.context import MINUTE, SECOND, timestamp
from refk8s.core.loop.plan import Local
from refk8s.core.loop.view import Table, View
from refk8s.core.pods.status import is_finished
from refk8s.core.scheduler.cycle import SCHEDULE, Scheduler, scheduler
from refk8s.core.scheduler.memory import Decision, Memory
from refk8s.core.scheduler.placement import Chooser
from refk8s.core.scheduler.preempt import preempt
from refk8s.core.scheduler.profile import make_profile
from refk8s.core.scheduler.queue import DEFAULT_BACKOFF, Backoff, Queue
from refk8s.core.scheduler.reservations import NOTHING_RESERVED
from refk8s.core.scheduler.snapshot import EMPTY, IDLE, info_of, recompute
from refk8s.core.scheduler.writes import evict, write_status

# --- the queue beside a plain reading

KEYS = [f"d/{name}" for name in "abcdef"]
NOWHERE, SOMEWHERE = 1, 2  # CPUs that pods ask for: no node has room for the first


def plain_back_off(attempts: int) -> int:
    return min(SECOND * 2**attempts, 10 * SECOND)


def is_welcome(pod) -> bool:
    return pod.needs.cpu == 1000 * SOMEWHERE


happenings = st.lists(
    st.tuples(
        st.sampled_from(["admit", "admit", "park", "park", "activate", "without", "flush"]),
        st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True),
        st.sampled_from([NOWHERE, SOMEWHERE]),
        st.integers(-1, 1),
        st.sampled_from([0, 1, SECOND, 3 * SECOND, MINUTE, 5 * MINUTE - 1]),
    ),
    min_size=1,
    max_size=25,
)


@given(happenings, st.frozensets(st.sampled_from(KEYS), max_size=2))
def test_sched_18_to_sched_21_the_queue_is_the_plain_table_of_who_waits(happening, nominated):
    """A row: who came when, tried how often, not before when, parked since when. Nothing else may
    decide who is tried."""
    queue, now, arrivals = Queue(), 0, 0
    rows: dict[str, list] = {}
    for what, keys, cpu, priority, later in happening:
        now += later
        if what == "admit":
            for key in keys:
                arrivals += 1
                info = info_of(
                    placed(a_pod(key[2:], {"cpu": str(cpu)}, priority=priority), "", f"u{arrivals}")
                )
                queue = queue.admit(key, info)
                rows[key] = [info, arrivals, 0, 0, None]
        elif what == "park":
            queue = queue.park([queue.pods[key] for key in keys if key in rows], now)
            for key in rows.keys() & set(keys):
                info, number, attempts, _, _ = rows[key]
                rows[key] = [info, number, attempts + 1, now + plain_back_off(attempts), now]
        elif what == "activate":
            queue = queue.activate(queue.pods[key] for key in keys if key in rows)
            for key in rows.keys() & set(keys):
                rows[key][4] = None
        elif what == "without":
            queue = queue.without(keys)  # who does not wait is no concern
            for key in keys:
                rows.pop(key, None)
        else:
            queue = queue.flush(now)
            for row in rows.values():
                row[4] = None if row[4] is not None and row[4] + 5 * MINUTE <= now else row[4]
            assert queue.flush(now) is queue or queue.alarm is None, "what is flushed is flushed"

        assert {
            key: [w.pod, w.number, w.attempts, w.not_before, w.parked_at]
            for key, w in queue.pods.items()
        } == rows
        parked = {key: row for key, row in rows.items() if row[4] is not None}
        assert sorted(queue.active) == sorted(rows.keys() - parked.keys())
        assert sorted(key for among in queue.parked.values() for key in among) == sorted(parked)
        assert all(len(among) for among in queue.parked.values()), (
            "no kind is kept that nobody is of"
        )
        assert not parked or (
            queue.alarm is not None
            and queue.alarm <= min(row[4] for row in parked.values()) + 5 * MINUTE
        )
        assert what != "flush" or queue.alarm is None or queue.alarm > now, (
            "an alarm that has rung does not ring again at once"
        )
        tried = [row for key, row in rows.items() if key not in parked or is_welcome(row[0])]
        ready, next_ready = queue.ready(now, is_welcome, sorted(nominated))
        in_order = sorted(
            (row for row in tried if row[3] <= now), key=lambda row: (-row[0].priority, row[1])
        )
        assert [w.number for w in ready] == [row[1] for row in in_order]
        assert next_ready == min((row[3] for row in tried if row[3] > now), default=None)


def test_sched_19_pods_of_one_kind_are_asked_for_once_and_the_nominated_each_by_itself():
    queue = Queue()
    for name in "abcd":
        queue = queue.admit(f"d/{name}", info_of(placed(a_pod(name, {"cpu": "1"}), "", name)))
    queue = queue.park(list(queue.pods.values()), 0)
    asked: list[str] = []

    def only_the_nominated(pod) -> bool:
        asked.append(pod.name)
        return pod.name == "c"

    ready, _ = queue.ready(MINUTE, only_the_nominated, ["d/c", "d/gone"])
    assert [waiting.key for waiting in ready] == ["d/c"]
    assert len(asked) == 2
    assert "c" in asked


def queue_of(names, now=0, backoff=DEFAULT_BACKOFF):
    """These pods of one kind, parked at this instant."""
    queue = Queue()
    for name in names:
        queue = queue.admit(f"d/{name}", info_of(placed(a_pod(name, {"cpu": "1"}), "", name)))
    return queue.park(list(queue.pods.values()), now, backoff)


def parked(queue):
    return sorted(key for key, waiting in queue.pods.items() if waiting.parked_at is not None)


def test_sched_21_a_parked_pod_becomes_active_after_five_minutes_and_no_sooner():
    """Two pods that were parked a minute apart, and one that became active meanwhile."""
    queue = queue_of("abc")
    later = [queue.pods["d/b"]]
    queue = queue.activate(later).park(later, MINUTE)
    queue = queue.activate([queue.pods["d/c"]])
    assert parked(queue) == ["d/a", "d/b"] and sorted(queue.active) == ["d/c"]
    for now in (1, MINUTE, 5 * MINUTE - 1):
        assert queue.flush(now) is queue, "nothing is looked at until then"
    queue = queue.flush(5 * MINUTE)
    assert parked(queue) == ["d/b"] and sorted(queue.active) == ["d/a", "d/c"]
    assert queue.flush(6 * MINUTE - 1) is queue and queue.alarm == 6 * MINUTE
    queue = queue.flush(6 * MINUTE)
    assert parked(queue) == [] and queue.alarm is None
    assert queue.flush(100 * MINUTE) is queue


def test_sched_20_the_back_off_of_a_configuration_counts_for_parked_pods():
    backoff = Backoff(2 * SECOND, 5 * SECOND)
    queue, now = queue_of("a", 0, backoff), 0
    for seconds in (2, 4, 5, 5):
        waiting = queue.pods["d/a"]
        assert waiting.not_before == now + seconds * SECOND
        now += MINUTE
        queue = queue.activate([waiting]).park([waiting], now, backoff)


def test_sched_19_a_kind_of_which_every_pod_is_nominated_is_asked_for_pod_by_pod():
    ready, _ = queue_of("a").ready(MINUTE, lambda pod: True, ["d/a"])
    assert [waiting.key for waiting in ready] == ["d/a"]
    assert queue_of("a").ready(MINUTE, lambda pod: False, ["d/a"]) == ([], None)


def test_sched_18_a_pod_whose_requirements_change_is_another_one_for_the_queue():
    pod = info_of(placed(a_pod("a", {"cpu": "1"}), "", "u"))
    waiting = Queue().admit("d/a", pod).pods["d/a"]
    assert waiting.is_about(replace(pod, priority=9))
    other = info_of(placed(a_pod("a", {"cpu": "2"}), "", "u"))
    for changed in (
        {"uid": "v"}, {"labels": {"a": "b"}}, {"needs": other.needs}, {"devices": (None,)},
    ):  # fmt: skip
        assert not waiting.is_about(replace(pod, **changed)), changed


# --- what is asked for, in full

NOW = 90 * SECOND


def a_waiting_pod(
    *conditions: PodCondition, generation: int | None = None, nominated: str | None = None
):
    pod = placed(a_pod("p"), "", "uid-p")
    return replace(
        pod,
        metadata=replace(pod.metadata, generation=generation),
        status=PodStatus(conditions=list(conditions) or None, nominated_node_name=nominated),
    )


def patched(pod, tree) -> Patch:
    return Patch(
        "application/strategic-merge-patch+json",
        {"metadata": {"uid": pod.metadata.uid}, "status": tree},
    )


def plain(request: Request) -> Request:
    """Without the reason, which is for people."""
    assert request.because
    return replace(request, because="")


def asked_of(pod, tree) -> tuple[Request, ...]:
    return (Request("patch", PODS, pod.metadata.namespace, "p", "status", body=patched(pod, tree)),)


@given(
    st.sampled_from(
        [
            None,
            ("False", "Unschedulable", "no room"),
            ("False", "SchedulingGated", "no room"),
            ("True", "", ""),
        ]
    ),
    st.sampled_from([None, 4]),
    st.sampled_from([None, "n1"]),
    st.sampled_from(["", "n1", "n2"]),
)
def test_sched_11_the_condition_says_why_and_is_written_only_where_it_says_something_new(
    found, generation, before, nominated
):
    others = [PodCondition(type="Ready", status="False", reason="Unschedulable", message="no room")]
    conditions = [
        *others,
        *(
            [PodCondition(type="PodScheduled", status=found[0], reason=found[1], message=found[2])]
            if found
            else []
        ),
    ]
    pod = a_waiting_pod(*conditions, generation=generation, nominated=before)
    tree = {}
    if found != ("False", "Unschedulable", "no room"):
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "no room",
        }
        condition |= {"observedGeneration": generation} if generation else {}
        condition |= (
            {"lastTransitionTime": timestamp(NOW)} if found is None or found[0] == "True" else {}
        )
        tree["conditions"] = [condition]
    if (before or "") != nominated:
        tree["nominatedNodeName"] = nominated or None
    asked = tuple(map(plain, write_status(pod, "Unschedulable", "no room", nominated, NOW)))
    assert asked == (asked_of(pod, tree) if tree else ())


@given(st.booleans())
def test_sched_35_a_victim_is_told_once_why_it_has_to_go_and_only_that_very_pod_is_deleted(is_told):
    told_before = [PodCondition(type="DisruptionTarget", status="True")] if is_told else []
    pod = a_waiting_pod(PodCondition(type="Ready", status="True"), *told_before)
    told, delete = evict(pod, "mine", NOW)
    reason = "mine: preempting to accommodate a higher priority pod"
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": reason,
    }
    condition |= {
        "lastTransitionTime": timestamp(NOW),
        "observedGeneration": pod.metadata.generation,
    }
    assert tuple(map(plain, told)) == (
        () if is_told else asked_of(pod, {"conditions": [condition]})
    )
    options = DeleteOptions(preconditions=Preconditions(uid="uid-p"))
    assert plain(delete) == Request("delete", PODS, pod.metadata.namespace, "p", body=options)


# --- what becomes of a decision, and what it counts with


@given(st.integers(0, 5))
def test_sched_20_sched_22_a_pod_whose_binding_was_refused_waits_anew_and_its_room_is_free(
    attempts,
):
    """Every refusal counts as an attempt, so that a pod which the API server never lets go does not
    come round at once for ever."""
    pod = placed(a_pod("p"), "", "uid-p")
    waiting = replace(Queue().admit("default/p", info_of(pod)).pods["default/p"], attempts=attempts)
    decided = [Decision(waiting, "n1", None, sent=True)]
    memory = Memory().assume(decided, Queue(), EMPTY, {}, Map(), NOTHING_RESERVED, ())
    view = View(Map({PODS.prefix: Table(objects=Map({"default/p": pod}))}))
    plan = Scheduler().reconcile(view, "default/p", NOW, Local(memory, 1, Response(409, None)))
    again = plan.memory.queue.pods["default/p"]
    assert (again.attempts, again.not_before, again.parked_at) == (
        attempts + 1,
        NOW + plain_back_off(attempts),
        None,
    )
    assert (
        dict(plan.memory.decisions),
        dict(plan.memory.assumed),
        sorted(plan.memory.touched),
    ) == ({}, {}, ["n1"])
    assert (plan.waves, plan.enqueue) == ((), ((Scheduler().name, SCHEDULE),))


@given(
    st.lists(st.tuples(pod_specs(), st.sampled_from(["", "owner"])), min_size=1, max_size=4),
    st.data(),
)
def test_sched_4_who_leaves_a_node_leaves_nothing_of_himself(kinds, data):
    pods = [
        info_of(
            placed(
                Pod(
                    metadata=ObjectMeta(name=f"p{at}", namespace="default"),
                    spec=spec,
                    status=PodStatus(),
                ),
                "n1",
                f"u{at}",
                owner,
            )
        )
        for at, (spec, owner) in enumerate(kinds)
    ]
    load, goes = IDLE, data.draw(st.sampled_from(pods))
    for pod in pods:
        load = load.plus(pod)
    plain = IDLE
    for pod in pods:
        plain = plain.plus(pod) if pod is not goes else plain
    assert astuple(load.minus(goes)) == astuple(plain)
    for pod in pods:
        load = load.minus(pod)
    assert astuple(load) == astuple(IDLE)


def test_sched_4_a_pod_has_finished_when_its_phase_says_so():
    phases = ["Pending", "Running", "Succeeded", "Failed", "Unknown", None]
    found = [is_finished(replace(a_pod("p"), status=PodStatus(phase=phase))) for phase in phases]
    assert found == [False, False, True, True, False, False]


def test_sched_36_the_first_hundred_nodes_that_would_do_are_compared_and_no_more():
    names = [f"n{at:03}" for at in range(100 + 1)]
    pod = info_of(placed(a_pod("p", {"cpu": "2"}, priority=1000), "", "p"))
    for cheapest, chosen in ((99, 99), (100, 0)):
        there = [
            placed(
                a_pod(f"r{at}", {"cpu": "2"}, priority=1 if at == cheapest else 10), name, f"u{at}"
            )
            for at, name in enumerate(names)
        ]
        snapshot = recompute([a_node(name) for name in names], there)
        eviction, _ = preempt(
            pod,
            Chooser().refusing(pod, snapshot),
            snapshot,
            {},
            lambda victim: "2026-01-01T00:00:00Z",
        )
        assert eviction is not None
        assert eviction.node == names[chosen]


def test_sched_23_what_a_scheduler_tells_it_tells_under_the_name_that_pods_ask_for():
    assert (
        scheduler((make_profile("mine"),)).component,
        Scheduler((make_profile("mine"),)).name,
    ) == ("mine", "mine")
