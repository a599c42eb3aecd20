"""Decisions in which extenders take part, and pods that an extender binds, function by function: what the
extenders are asked, and what follows from each answer (SCHED-57 to SCHED-61 in
spec/scheduler_profiles.md).

`test_sched_extenders.py` shows the same rules in a running scheduler."""

from __future__ import annotations

import pytest
from immutables import Map
from msgspec.structs import replace
from sched_worlds import a_node, a_pod, placed
from test_sched_choices import Claims, Odd, plainly
from test_sched_extenders_by_hand import GPU, POD, URL, posted
from test_sched_relations import ZONE
from workload_helpers import change, view_of

from refk8s.core.api.core_v1 import (
    Affinity,
    Container,
    LabelSelector,
    PodAffinity,
    PodAffinityTerm,
    ResourceRequirements,
)
from refk8s.core.context import SECOND
from refk8s.core.loop.plan import Note, Plan
from refk8s.core.ports import Failed, Posted
from refk8s.core.scheduler import extended as module
from refk8s.core.scheduler.arguments import Arguments
from refk8s.core.scheduler.binder import after_reply, ask_binder, binder_of
from refk8s.core.scheduler.claimed import NOTHING_CLAIMED
from refk8s.core.scheduler.consult import Needed, Question
from refk8s.core.scheduler.cycle import Scheduler
from refk8s.core.scheduler.extended import NO_CANDIDATE, ExtendedBatch, consult_of
from refk8s.core.scheduler.extenders import BadAnswer, Extender, ask_to_bind
from refk8s.core.scheduler.hints import SCHEDULE
from refk8s.core.scheduler.memory import Decision, Memory
from refk8s.core.scheduler.nominated import Nominated, Nomination
from refk8s.core.scheduler.placement import Chooser
from refk8s.core.scheduler.plugin import Denied, ExternalPlugins
from refk8s.core.scheduler.preempt import Eviction, rank_of
from refk8s.core.scheduler.profile import DEFAULT_PROFILE, make_profile
from refk8s.core.scheduler.queue import Backoff, Queue
from refk8s.core.scheduler.reasons import Refusal, explain
from refk8s.core.scheduler.snapshot import Change, info_of, recompute

# --- a pod that an extender binds -----------------------------------------------------------------

BINDER = Extender(URL, bind_verb="b")
NOW, NAME = 1_000 * SECOND, "kube-scheduler"
BACKOFF = Backoff(3 * SECOND, 9 * SECOND)


def decided(pod=POD, node="a", **parts):
    """A memory with a decision about the pod, which is assumed on the node."""
    info = info_of(pod)
    waiting = Queue().admit("default/p", info).pods["default/p"]
    waiting = replace(waiting, blocked="before", seen=Change("x", None, 1))
    decision = Decision(waiting, node, None, **parts)
    memory = Memory(
        decisions=Map({"default/p": decision}), assumed=Map({node: Map({info.uid: info})})
    )
    return memory, decision


def test_sched_61_the_first_extender_with_a_bind_verb_that_is_interested():
    managing = Extender(URL, bind_verb="b", managed=frozenset({GPU}))
    container = Container(name="c", resources=ResourceRequirements(requests={GPU: "1"}))
    special = replace(POD, spec=replace(POD.spec, containers=(container,)))
    silent = Extender(URL, filter_verb="f")
    assert binder_of((), POD) is None and binder_of((silent, managing), POD) is None
    assert binder_of((silent, managing, BINDER), POD) is BINDER
    assert binder_of((silent, managing, BINDER), special) is managing


def test_sched_61_the_question_of_the_binding():
    memory, decision = decided()
    plan = ask_binder(BINDER, memory, "default/p", POD, decision)
    assert plan.runs == (ask_to_bind(BINDER, POD, "a"),) and plan.waves == ()
    (after,) = plan.memory.decisions.values()
    assert after.sent and not decision.sent and after.waiting is decision.waiting
    assert list(plan.memory.decisions) == ["default/p"] and plan.memory.assumed is memory.assumed


def replied(result, extenders=(BINDER,), now=NOW, timeout=60 * SECOND, at=NOW - 5 * SECOND):
    memory, decision = decided(sent=True, reply=result, replied_at=at)
    profile = make_profile(arguments=Arguments(bind_timeout=timeout))
    return decision, after_reply(
        extenders, memory, "default/p", POD, decision, now, profile, BACKOFF, NAME
    )


def test_sched_61_a_pod_that_is_bound_is_waited_for_and_then_tried_again():
    ok = posted({})
    until = NOW - 5 * SECOND + 60 * SECOND
    for extenders in ((BINDER,), ()):  # an extender that is no longer there has bound it too
        for now in (NOW, until - 1):
            assert replied(ok, extenders, now)[1] == Plan(wake_at=until)
        decision, plan = replied(ok, extenders, until)
        memory = plan.memory
        assert not memory.decisions and not memory.assumed and list(memory.touched) == ["a"]
        (again,) = memory.queue.pods.values()
        assert (again.attempts, again.not_before, again.parked_at) == (1, until + 3 * SECOND, None)
        assert list(memory.queue.active) == ["default/p"] and again.pod is decision.pod
        assert plan.enqueue == ((NAME, SCHEDULE),)
        assert plan.notes == plan.waves == plan.runs == ()


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (posted({"Error": "no room"}), "no room"),
        (Posted(500, b""), None),
        (Failed("E", "refused"), None),
    ],
)
def test_sched_61_after_an_error_the_pod_waits_with_it_as_the_reason(result, why):
    decision, plan = replied(result)
    memory = plan.memory
    assert not memory.decisions and not memory.assumed
    (waiting,) = memory.queue.pods.values()
    assert waiting.message and (why is None or waiting.message == why)
    assert (waiting.is_error, waiting.blocked, waiting.seen) == (True, "", None)
    assert (waiting.attempts, waiting.not_before, waiting.parked_at) == (1, NOW + 3 * SECOND, NOW)
    (note,) = plan.notes
    assert note == Note(
        POD, "FailedScheduling", waiting.message, "Warning", action="Scheduling", component="default-scheduler"
    )  # fmt: skip
    assert plan.enqueue == ((NAME, "default/p"), (NAME, SCHEDULE)) and plan.wake_at is None
    assert decision.waiting.message == ""
    managing = replace(BINDER, managed=frozenset({GPU}))
    assert replied(result, (managing,))[1].wake_at  # it is not interested in this pod
    ignorable = replace(BINDER, is_ignorable=True)
    assert replied(result, (ignorable,))[1] is None  # the scheduler binds it itself
    assert replied(posted({}), (ignorable,))[1] == replied(posted({}))[1]


def test_sched_61_an_error_without_words_is_one_too(monkeypatch):
    def silent(binder, reply):
        raise BadAnswer("")

    from refk8s.core.scheduler import binder as of_binder

    monkeypatch.setattr(of_binder, "read_binding", silent)
    (waiting,) = replied(posted({}))[1].memory.queue.pods.values()
    assert waiting.message == "the extender has not bound the pod"


# --- decisions ------------------------------------------------------------------------------------


class Asked:
    """Answers of extenders: the nodes that they reject, their points, and what they leave of
    victims. An answer that is an exception is raised."""

    def __init__(self, rejects=(), points=None, victims=None, is_turn=True, concerns=True):
        self.rejects, self.given, self.left = rejects, points or {}, victims
        self.turn, self.concerns = is_turn, concerns
        self.calls = []

    def concerned(self, pod):
        assert pod.metadata.name == "p"
        return [(0, BINDER)] if self.concerns else []

    def is_turn_of(self, waiting):
        assert waiting.key == "default/p"
        return self.turn

    def filter(self, concerned, pod, names):
        self.calls.append(("filter", concerned, pod.metadata.name, list(names)))
        if isinstance(self.rejects, Exception):
            raise self.rejects
        found = {name: Refusal(URL, ("no",), True) for name in names if name in self.rejects}
        return [name for name in names if name not in found], found

    def points(self, concerned, pod, names):
        self.calls.append(("points", concerned, pod.metadata.name, list(names)))
        if isinstance(self.given, Exception):
            raise self.given
        return self.given

    def victims(self, concerned, pod, candidates, around, started):
        candidates = list(candidates)
        self.calls.append(("victims", concerned, pod.metadata.name, [one.node for one in candidates]))  # fmt: skip
        assert started(info_of(pod)) == "" and around.nodes
        if isinstance(self.left, Exception):
            raise self.left
        return [one for one in candidates if self.left is None or one.node in self.left]

    def ask(self, waiting, needed):
        self.calls.append(("ask", waiting.key, needed))

    def end(self):
        self.calls.append(("end",))


CONCERNED = [(0, BINDER)]
TRUTH = Change("x", None, 1)


def a_batch(asked, nodes, pods=(), nominations=None, profile=DEFAULT_PROFILE, claimed=None, budgets=()):  # fmt: skip
    nominated = Nominated(recompute(nodes, pods), nominations or {})
    return ExtendedBatch(
        {"default-scheduler": Chooser(profile)}, nominated, {}, lambda pod: "", lambda: budgets,
        lambda pod, around, in_flight: claimed or NOTHING_CLAIMED, Map(), consult=asked, truth=TRUTH,
    )  # fmt: skip


def waiting_for(of, **parts):
    return replace(Queue().admit("default/p", info_of(of)).pods["default/p"], **parts)


def decide(asked, nodes, pods=(), pod=None, waiting=None, **more):
    pod = pod or placed(a_pod("p", {"cpu": "1"}, priority=5), "", "u-p")
    batch = a_batch(asked, nodes, pods, **more)
    batch.decide(waiting or waiting_for(pod), pod)
    assert batch.problems == [] and batch.gone == []
    return batch


def node_of(batch):
    ((_, node, _),) = batch.placed
    return node


THREE = [a_node("a"), a_node("b"), a_node("c")]


def test_sched_58_sched_59_a_pod_goes_where_the_extenders_say():
    base = dict.fromkeys("abc", 0)
    for rejects, points, node in (
        ("", {}, "a"), ("a", {}, "b"), ("ab", {}, "c"), ("", {"c": 1}, "c"), ("", {"b": 5, "c": 4}, "b"),
        ("b", {"b": 50, "c": 4}, "c"), ("", {**base, "x": 9}, "a"),
    ):  # fmt: skip
        asked = Asked(rejects, points)
        batch = decide(asked, THREE)
        assert node_of(batch) == node and batch.refused == [] == batch.failures
        left = [name for name in "abc" if name not in rejects]
        expected = [("filter", CONCERNED, "p", list("abc"))]
        expected += [("points", CONCERNED, "p", left)] if len(left) > 1 else []
        assert asked.calls == [*expected, ("end",)]
    unwilling = [a_node("a", cpu="1m"), *THREE[1:]]
    asked = Asked()
    assert node_of(decide(asked, unwilling)) == "b"
    assert asked.calls[0] == ("filter", CONCERNED, "p", ["b", "c"])


def test_sched_59_points_of_plugins_count_too_and_then_the_number_of_pods():
    pods = [placed(a_pod("q", {"cpu": "1"}), "a", "u-q"), placed(a_pod("r"), "b", "u-r")]
    pod = placed(a_pod("p", {"cpu": "1"}), "", "u-p")
    snapshot = recompute(THREE, pods)
    points, _, _, _ = plainly(info_of(pod), snapshot, DEFAULT_PROFILE)
    assert points["a"] < points["b"] < points["c"]
    for name in "ab":
        less = points["c"] - points[name]
        for more, node in ((0, "c"), (less - 1, "c"), (less, "c"), (less + 1, name)):
            assert node_of(decide(Asked(points={name: more}), THREE, pods, pod)) == node
    flat = make_profile(weights={})
    assert node_of(decide(Asked(), THREE, pods, pod, profile=flat)) == "c"  # the fewest pods
    assert node_of(decide(Asked("c"), THREE, pods, pod, profile=flat)) == "a"
    tainted = [a_node("a", labels={"disk": "1"}), a_node("b"), a_node("c")]
    assert node_of(decide(Asked("bc"), tainted, (), pod)) == "a"


def test_sched_41_points_and_refusals_of_claims_count_with_extenders():
    import random

    claims = Claims(random.Random(0), "")
    claims.early_, claims.late_, claims.given = {}, {"c": Refusal("Late", ("late",), False)}, {"b": 100}  # fmt: skip
    claims.blocked, claims.devices, claims.release, claims.outcome = "", None, (), ""
    pod = placed(a_pod("p", {"cpu": "1"}), "", "u-p")
    info = replace(info_of(pod), claims=("default/x",))
    waiting = waiting_for(pod, pod=info)
    asked = Asked()
    assert node_of(decide(asked, THREE, (), pod, waiting, claimed=claims)) == "b"
    assert asked.calls[0] == ("filter", CONCERNED, "p", ["a", "b"])
    claims.blocked, claims.is_about_devices = "unbound", False
    blocked = Asked()
    batch = decide(blocked, THREE, (), pod, waiting, claimed=claims)
    (refused,) = batch.refused
    assert refused.blocked == "unbound" and not batch.placed and blocked.calls == [("end",)]
    assert batch.failures == [(pod, info, refused.message)]
    claims.blocked, claims.release, claims.outcome = "", ("default/c",), "claims were freed"
    freed = decide(Asked("ab"), THREE, (), pod, waiting, claimed=claims)
    assert freed.refused[0].release == ("default/c",)
    assert "claims were freed" in freed.refused[0].message
    quiet = make_profile(frees_claims=False)
    freed = decide(Asked("ab"), THREE, (), pod, waiting, claimed=claims, profile=quiet)
    assert "claims were freed" not in freed.refused[0].message


def test_sched_37_a_nominated_pod_goes_to_its_node_if_the_extenders_let_it():
    pod = placed(a_pod("p", {"cpu": "1"}, priority=5), "", "u-p")
    mine = {"default/p": Nomination(info_of(pod), "c")}
    asked = Asked()
    assert node_of(decide(asked, THREE, (), pod, nominations=mine)) == "c"
    assert [one[0] for one in asked.calls] == ["filter", "end"]
    assert node_of(decide(Asked("c"), THREE, (), pod, nominations=mine)) == "a"
    other = {"default/q": Nomination(info_of(placed(a_pod("q", priority=5), "", "u-q")), "c")}
    assert node_of(decide(Asked("b"), THREE, (), pod, nominations=other)) == "a"
    # the nomination is of another pod, which had the same name
    former = replace(info_of(pod), uid="u-former")
    asked = Asked(points={"b": 50})
    assert node_of(decide(asked, THREE, (), pod, nominations={"default/p": Nomination(former, "c")})) == "b"  # fmt: skip
    assert [one[0] for one in asked.calls] == ["filter", "points", "end"]


def needing(label):
    term = PodAffinityTerm(topology_key=ZONE, label_selector=LabelSelector(match_labels={"app": label}))  # fmt: skip
    return Affinity(pod_affinity=PodAffinity(required_during_scheduling_ignored_during_execution=(term,)))  # fmt: skip


def test_sched_37_a_node_must_suit_the_pod_without_the_nominated_ones_too():
    """A nominated pod that this one wants to be near may never be bound."""
    nodes = [a_node(name, labels={ZONE: name}) for name in "abc"]
    near = placed(change(a_pod("p", {"cpu": "1"}, priority=5), affinity=needing("x")), "", "u-p")
    wanted = placed(a_pod("q", priority=9), "", "u-q", labels={"app": "x"})
    nominations = {"default/q": Nomination(info_of(wanted), "b")}
    asked = Asked()
    batch = decide(asked, nodes, (), near, nominations=nominations)
    assert not batch.placed and asked.calls[0] == ("filter", CONCERNED, "p", [])
    (refused,) = batch.refused
    assert refused.message.startswith("0/3 nodes are available: 3 node(s) didn't match pod affinity rules")  # fmt: skip
    (only,) = decide(Asked(), nodes[1:2], (), near, nominations=nominations).refused
    assert only.message.startswith("0/1 nodes are available: 1 node(s) didn't match pod affinity")
    there = placed(a_pod("r"), "c", "u-r", labels={"app": "x"})
    asked = Asked()
    assert node_of(decide(asked, nodes, [there], near, nominations=nominations)) == "c"
    assert asked.calls[0] == ("filter", CONCERNED, "p", ["c"])
    plain = placed(a_pod("p", {"cpu": "1"}, priority=5), "", "u-p")
    asked = Asked()
    assert node_of(decide(asked, nodes, (), plain, nominations=nominations)) == "a"
    assert asked.calls[0][3] == ["a", "b", "c"]


def test_sched_57_d_410_a_pod_waits_for_its_turn_and_for_answers():
    pod = placed(a_pod("p", {"cpu": "1"}), "", "u-p")
    asked = Asked(is_turn=False)
    batch = decide(asked, THREE)
    assert batch.placed == batch.refused == batch.failures == [] and asked.calls == []
    free = Asked(is_turn=False, concerns=False)
    assert node_of(decide(free, THREE)) == "a" and free.calls == []
    needed = Needed(())
    for asked in (Asked(needed), Asked(points=needed)):
        batch = decide(asked, THREE)
        assert batch.placed == batch.refused == batch.failures == []
        assert asked.calls[-1] == ("ask", "default/p", needed) and ("end",) not in asked.calls
    bad = BadAnswer("what is wrong")
    waiting = waiting_for(pod, message="before", blocked="b", release=("x",), seen=TRUTH)
    for asked in (Asked(bad), Asked(points=bad)):
        batch = decide(asked, THREE, (), pod, waiting)
        (refused,) = batch.refused
        assert (refused.message, refused.blocked, refused.release) == ("what is wrong", "", ())
        assert refused.is_error and refused.seen is None and refused.key == "default/p"
        assert batch.failures == [(pod, waiting.pod, "what is wrong")] and asked.calls[-1] == ("end",)  # fmt: skip
    same = decide(Asked(bad), THREE, (), pod, waiting_for(pod, message="what is wrong"))
    assert len(same.refused) == 1 and same.failures == []


def test_sched_58_a_pod_that_no_node_can_run_has_all_reasons():
    nodes = [a_node("a", cpu="1m"), a_node("b"), a_node("c")]
    pod = placed(a_pod("p", {"cpu": "1"}), "", "u-p")
    rejected, short = Refusal(URL, ("no",), True), Refusal("NodeResourcesFit", ("Insufficient cpu",), False)  # fmt: skip
    why = "preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod."  # fmt: skip
    batch = decide(Asked("bc"), nodes, (), pod)
    (refused,) = batch.refused
    assert refused.message.startswith("0/3 nodes are available: 1 Insufficient cpu, 2 no.")
    assert refused.message.endswith(why) and explain({rejected: 2, short: 1}, 3, "")[:50] == refused.message[:50]  # fmt: skip
    assert (refused.blocked, refused.release, refused.is_error) == ("", (), False)
    assert refused.seen is TRUTH and batch.failures == [(pod, refused.pod, refused.message)]
    before = waiting_for(pod, blocked="before", is_error=True)
    (after,) = decide(Asked("bc"), nodes, (), pod, before).refused
    assert (after.blocked, after.is_error) == ("", False)
    unconcerned = decide(Asked(concerns=False), nodes[:1], (), pod)
    assert unconcerned.failures == [(pod, unconcerned.refused[0].pod, unconcerned.refused[0].message)]  # fmt: skip
    again = decide(Asked("bc"), nodes, (), pod, waiting_for(pod, message=refused.message))
    assert len(again.refused) == 1 and again.failures == []
    alone = decide(Asked(), [a_node("a", cpu="1m")], (), pod, waiting_for(pod, seen=TRUTH))
    assert alone.refused[0].seen is None  # no extender has rejected a node
    none = decide(Asked(), [], (), pod)
    assert none.refused[0].message == "no nodes available to schedule pods"
    never = change(pod, preemption_policy="Never")
    assert "not eligible due to preemptionPolicy=Never" in decide(Asked("bc"), nodes, (), never).refused[0].message  # fmt: skip
    without = make_profile(has_preemption=False)
    assert "preemption:" not in decide(Asked("bc"), nodes, (), pod, profile=without).refused[0].message  # fmt: skip


def full(*names, priority=0):
    """A pod on each of these nodes, which leaves no room."""
    return [placed(a_pod(f"v{name}", {"cpu": "2"}, priority=priority), name, f"u-v{name}") for name in names]  # fmt: skip


def test_sched_60_the_extenders_choose_among_the_nodes_with_victims():
    pod = placed(a_pod("p", {"cpu": "1"}, priority=5), "", "u-p")
    pods = full("a", "b", "c")
    for left, node in ((None, "a"), ("abc", "a"), ("bc", "b"), ("c", "c")):
        asked = Asked(victims=left)
        batch = decide(asked, THREE, pods, pod)
        assert batch.nominated.nominations["default/p"].node == node
        assert [(victim.uid, by.uid, where) for victim, by, where in batch.victims] == [(f"u-v{node}", "u-p", node)]  # fmt: skip
        assert asked.calls[0] == ("filter", CONCERNED, "p", [])
        assert asked.calls[1:] == [("victims", CONCERNED, "p", ["a", "b", "c"]), ("end",)]
        (refused,) = batch.refused
        assert refused.message.startswith("0/3 nodes are available: 3 Insufficient cpu.")
        assert "preemption" not in refused.message and refused.seen is None
    none = decide(Asked(victims=""), THREE, pods, pod)
    assert none.refused[0].message.endswith(f"preemption: {NO_CANDIDATE}") and none.victims == []
    assert NO_CANDIDATE == "no candidate node for preemption"
    bad = decide(Asked(victims=BadAnswer("broken")), THREE, pods, pod)
    assert bad.refused[0].message.endswith("preemption: broken") and not bad.refused[0].is_error
    assert bad.nominated.nominations == {}
    needed = Asked(victims=Needed(()))
    batch = decide(needed, THREE, pods, pod)
    assert batch.refused == [] and needed.calls[-1][0] == "ask"


def test_sched_60_nodes_that_an_extender_rejects_are_tried_too():
    pod = placed(a_pod("p", {"cpu": "1"}, priority=5), "", "u-p")
    light = placed(a_pod("w", priority=0), "b", "u-w")
    asked = Asked("b")
    batch = decide(asked, [a_node("b")], [light], pod)
    # the extender may accept the node without the pod; the scheduler's own filters need no victim
    assert asked.calls[0] == ("filter", CONCERNED, "p", ["b"])
    assert "victims" not in [one[0] for one in asked.calls] and batch.victims == []
    assert 'expected at least one victim pod on node "b"' in batch.refused[0].message
    for rejects, nodes in (("", ["a", "c"]), ("b", ["a", "c"])):
        asked = Asked(rejects)
        batch = decide(asked, [*THREE, a_node("d", cpu="1m")], full("a", "c"), pod) if rejects else decide(asked, THREE, full("a", "b", "c")[:3:2] + full("b"), pod)  # fmt: skip
        found = [one[3] for one in asked.calls if one[0] == "victims"]
        assert found == [nodes if rejects else ["a", "b", "c"]]


def test_sched_60_a_pod_without_candidates_loses_its_nomination():
    pod = placed(a_pod("p", {"cpu": "3"}, priority=5), "", "u-p")
    high = full("a", "b", "c", priority=9)
    nominations = {"default/p": Nomination(info_of(pod), "a")}
    asked = Asked()
    batch = decide(asked, THREE, high, pod, nominations=nominations)
    assert batch.nominated.nominations == {} and batch.victims == []
    assert "victims" not in [one[0] for one in asked.calls]
    assert batch.refused[0].message.endswith("preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.")  # fmt: skip
    busy = full("a", "b", "c", priority=9)
    small = placed(a_pod("p", {"cpu": "1"}, priority=5), "", "u-p")
    batch = decide(Asked(), THREE, busy, small)
    assert batch.refused[0].message.endswith("3 No preemption victims found for incoming pod.")
    held = change(full("a")[0], deletion_timestamp="2026-01-01T00:00:00Z")
    waits = {"default/p": Nomination(info_of(small), "a", (info_of(held),))}
    batch = decide(Asked(), THREE[:1], [held], small, nominations=waits)
    assert "terminating" in batch.refused[0].message and "default/p" in batch.nominated.nominations


def test_sched_60_the_best_of_what_is_left_is_chosen_by_rank():
    pod = placed(a_pod("p", {"cpu": "1"}, priority=5), "", "u-p")
    pods = [*full("a", priority=3), *full("b", priority=1), *full("c", priority=2)]
    for left, node in ((None, "b"), ("ac", "c"), ("a", "a")):
        batch = decide(Asked(victims=left), THREE, pods, pod)
        assert batch.nominated.nominations["default/p"].node == node
    info = info_of(full("a")[0])
    one = Eviction("a", (info,), 0, rank_of("a", (info,), 0, lambda pod: ""))
    assert one.rank[-1] == "a"


def test_sched_57_the_questions_of_a_view():
    view = view_of(Scheduler(), *THREE, POD)
    question = Question("default/p", "u")
    assert consult_of((BINDER,), question, view).question is question
    consult = consult_of((BINDER,), None, view)
    assert consult.question is None and consult.concerned(POD) == [(0, BINDER)]
    assert consult._pod_of("default/p") is POD and consult._node_of("b") is THREE[1]
    assert consult._pod_of("default/x") is consult._node_of("x") is None
    assert module.NO_CANDIDATE


def test_sched_56_sched_62_plugins_of_other_packages_take_part():
    pod = placed(a_pod("p", {"cpu": "1"}, priority=5), "", "u-p")
    scoring = make_profile(weights={"Odd": 3}, plugins=ExternalPlugins(score=(Odd("Odd"),)))
    full_of = [placed(a_pod(f"q{n}"), "b", f"u-q{n}") for n in range(3)]
    assert node_of(decide(Asked(), THREE, full_of, pod, profile=scoring)) == "b"

    class Denies:
        name = "Denies"

        def reserve(self, pod, node, reserved):
            return Denied("full")

    denying = make_profile(plugins=ExternalPlugins(reserve=(Denies(),)))
    batch = decide(Asked(), THREE, (), pod, profile=denying)
    assert batch.failures == [(pod, batch.refused[0].pod, batch.refused[0].message)]


def test_sched_58_sched_60_a_decision_knows_namespaces_claims_and_budgets(monkeypatch):
    """What is handed on when every node is surveyed, judged and emptied."""
    pod = placed(a_pod("p", {"cpu": "1"}, priority=5), "", "u-p")
    surveys, refusing, tried, judged = [], [], [], []
    real = Chooser.survey, Chooser.refusing, module.evictions, module.judge
    monkeypatch.setattr(Chooser, "survey", lambda self, *given: surveys.append(given) or real[0](self, *given))  # fmt: skip
    monkeypatch.setattr(Chooser, "refusing", lambda self, *given: refusing.append(given) or real[1](self, *given))  # fmt: skip
    monkeypatch.setattr(module, "evictions", lambda *given: tried.append(given) or real[2](*given))
    monkeypatch.setattr(module, "judge", lambda *given: judged.append(given) or real[3](*given))
    nominated = {"default/q": Nomination(info_of(placed(a_pod("q", priority=9), "", "u-q")), "b")}
    near = change(pod, affinity=needing("x"))
    there = placed(a_pod("r"), "c", "u-r", labels={"app": "x"})
    nodes = [a_node(name, labels={ZONE: name}) for name in "abc"]
    names, budgets = {"default": None}, ()
    batch = a_batch(Asked(), nodes, [there], nominated, budgets=budgets)
    batch._namespaces = names
    batch.decide(waiting_for(near), near)
    assert surveys[0][2] is names and surveys[0][3] is batch._claimed
    assert [given[3] is names for given in judged] == [True]
    assert judged[0][4] is DEFAULT_PROFILE
    batch = a_batch(Asked(), THREE, full("a", "b", "c"), budgets=budgets)
    batch._namespaces = names
    batch.decide(waiting_for(pod), pod)
    assert refusing[0][2] is names and refusing[0][3] is NOTHING_CLAIMED and len(refusing[0]) == 4
    assert tried[0][3] is names and tried[0][5] is budgets
    assert tried[0][6] is DEFAULT_PROFILE and tried[0][7] is NOTHING_CLAIMED
