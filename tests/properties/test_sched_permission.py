"""Reserve, permit and what plugins write, function by function and without a cluster: each answer of a
plugin, and the whole memory after it (SCHED-62 to SCHED-66 in spec/scheduler_profiles.md).

`test_sched_permit.py` shows the same rules in a running scheduler."""

from __future__ import annotations

import pytest
from immutables import Map
from msgspec.structs import replace
from sched_worlds import a_node, a_pod, placed
from test_sched_extended import BACKOFF, NAME, NOW
from workload_helpers import change

from refk8s.core.api.core_v1 import Binding, ObjectReference
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.context import MINUTE, SECOND
from refk8s.core.loop.plan import NOTHING, Note, Plan
from refk8s.core.scheduler.arguments import Arguments
from refk8s.core.scheduler.hints import SCHEDULE
from refk8s.core.scheduler.memory import NOT_ASKED, Decision, Memory, Permits, Waits
from refk8s.core.scheduler.nominated import Nomination
from refk8s.core.scheduler.permit import Permission, expect, give_up, reject_preempted
from refk8s.core.scheduler.plugin import WAIT_MAX, Denied, ExternalPlugins, Wait
from refk8s.core.scheduler.plugin_writes import (
    PluginFailed,
    after_binding,
    before_binding,
    binding_of,
    default_binding,
)
from refk8s.core.scheduler.profile import make_profile
from refk8s.core.scheduler.queue import Queue
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.reservations import reserve, without
from refk8s.core.scheduler.snapshot import facts_of, info_of, recompute

TRUTH = recompute([a_node("a"), a_node("b")], [])


def pod_named(name, **parts):
    return placed(a_pod(name, **parts), "", f"u-{name}")


def remembering(*pods, node="a", permits=NOT_ASKED, released=(), nodes=None, **parts):
    """A memory with decisions about these pods, which are not permitted yet."""
    queue, decisions, assumed = Queue(), {}, {}
    for number, pod in enumerate(pods):
        info, key = info_of(pod), f"default/{pod.metadata.name}"
        queue = queue.admit(key, info)
        place = (nodes or {}).get(pod.metadata.name, node)
        given = {"permitted": False, "reserves": True, **parts}
        waiting = replace(queue.pods[key], blocked="before", release=("c",), seen=TRUTH.last_change)
        decisions[key] = Decision(waiting, place, None, **given)
        assumed[place] = assumed.get(place, Map()).set(info.uid, info)
        assert queue.pods[key].number == number + 1
    waits = dict.fromkeys(decisions, permits)
    return Memory(
        decisions=Map(decisions), assumed=Map(assumed), waits=Map(waits), released=tuple(released)
    )


def planned(memory, plugins=(), reserving=(), pods=(), now=NOW, truth=TRUTH):
    profile = make_profile(plugins=ExternalPlugins(permit=tuple(plugins), reserve=tuple(reserving)))
    known = {f"default/{pod.metadata.name}": pod for pod in pods}
    return Permission(
        memory, truth, {"default-scheduler": profile}, known.get, now, BACKOFF, NAME
    ).plan()


class Says:
    """A plugin that answers the same for every pod, or by name."""

    def __init__(self, name, answer):
        self.name, self.answer, self.asked = name, answer, []

    def permit(self, pod, node, snapshot):
        self.asked.append((pod.name, node.name, sorted(snapshot.load(node.name).pods)))
        found = self.answer.get(pod.name) if isinstance(self.answer, dict) else self.answer
        if isinstance(found, Exception):
            raise found
        return found


def due(*names):
    return tuple((NAME, f"default/{name}" if name != SCHEDULE else SCHEDULE) for name in names)


# --- permit ---------------------------------------------------------------------------------------


def test_sched_63_a_pod_is_permitted_when_every_plugin_has_approved():
    p, q = pod_named("p"), pod_named("q")
    first, second = Says("A", None), Says("B", None)
    plan = planned(remembering(p, q), (first, second))
    assert plan.enqueue == due("p", "q") and plan.wake_at is None
    assert not plan.memory.waits and all(one.permitted for one in plan.memory.decisions.values())
    assert first.asked == second.asked == [("p", "a", ["u-p", "u-q"]), ("q", "a", ["u-p", "u-q"])]
    assert plan.notes == plan.problems == plan.waves == ()
    idle = planned(remembering())
    assert idle.enqueue == () and idle.wake_at is None


def test_sched_63_a_pod_waits_for_each_plugin_that_says_so():
    memory, late = remembering(pod_named("p")), Wait("r", 9 * MINUTE)
    plugins = (Says("A", None), Says("B", Wait("not yet", MINUTE)), Says("C", late))
    plan = planned(memory, plugins)
    waits = {"B": Waits("not yet", NOW + MINUTE, MINUTE), "C": Waits("r", NOW + 9 * MINUTE, 9 * MINUTE)}  # fmt: skip
    assert plan.memory.waits == Map({"default/p": Permits(("A",), waits)})
    assert plan.wake_at == NOW + MINUTE and plan.enqueue == due("p")
    (decision,) = plan.memory.decisions.values()
    assert not decision.permitted
    # the same answer later: the timeout stays, and the pod's key is not due again
    again = planned(plan.memory, plugins, now=NOW + SECOND)
    assert again.memory.waits == plan.memory.waits and again.enqueue == ()
    assert again.wake_at == NOW + MINUTE and len(plugins[0].asked) == 1  # an approval is final
    plugins[1].answer = Wait("other words", 5 * MINUTE)
    changed = planned(plan.memory, plugins, now=NOW + SECOND)
    assert changed.memory.waits["default/p"].waits["B"] == Waits("other words", NOW + MINUTE, MINUTE)  # fmt: skip
    assert changed.enqueue == due("p")
    plugins[1].answer = {"q": Wait("longer", 3 * MINUTE), "p": Wait("not yet", MINUTE)}
    both = planned(remembering(pod_named("p"), pod_named("q")), plugins[:2])
    assert both.wake_at == NOW + MINUTE and len(both.memory.waits) == 2
    plugins[1].answer = None
    fewer = planned(plan.memory, plugins, now=NOW + SECOND)
    assert fewer.memory.waits["default/p"] == Permits(("A", "B"), {"C": waits["C"]})
    assert fewer.wake_at == NOW + 9 * MINUTE


@pytest.mark.parametrize(
    ("asked", "kept"), [(-5, 0), (0, 0), (1, 1), (WAIT_MAX, WAIT_MAX), (WAIT_MAX + 1, WAIT_MAX)]
)
def test_sched_63_a_wait_has_a_limit(asked, kept):
    plan = planned(remembering(pod_named("p")), (Says("A", Wait("r", asked)),))
    assert plan.memory.waits["default/p"].waits == {"A": Waits("r", NOW + kept, kept)}
    assert plan.wake_at == NOW + kept


def is_back(plan, name, message, is_error=False):
    """The pod has lost its node, and is parked with this message."""
    memory, key = plan.memory, f"default/{name}"
    waiting = memory.queue.pods[key]
    assert (waiting.message, waiting.is_error) == (message, is_error)
    assert (waiting.blocked, waiting.release, waiting.seen) == ("", (), None)
    assert (waiting.attempts, waiting.not_before) == (1, NOW + BACKOFF.first)
    assert waiting.parked_at == NOW
    assert key not in memory.decisions and key not in memory.waits
    assert all(f"u-{name}" not in pods for pods in memory.assumed.values())
    return True


def wrong(words):
    return f"0/1 nodes are available: 1 {words}."


@pytest.mark.parametrize(
    ("answer", "message", "is_error"),
    [
        (Denied("not today"), wrong("not today"), False),
        ("yes", """running Permit plugin "A": 'yes' is neither None nor Denied nor Wait""", True),
        (False, 'running Permit plugin "A": False is neither None nor Denied nor Wait', True),
        (ValueError("boom"), 'running Permit plugin "A": boom', True),
    ],
)
def test_sched_63_a_pod_that_is_not_permitted_goes_back_with_the_reason(answer, message, is_error):
    p, q = pod_named("p"), pod_named("q")
    plugin = Says("A", {"p": answer})
    plan = planned(remembering(p, q), (plugin,), pods=(p, q))
    assert is_back(plan, "p", message, is_error)
    # the other is asked again without it
    assert [name for name, _, _ in plugin.asked] == ["p", "q", "q"]
    assert plugin.asked[-1] == ("q", "a", ["u-q"])
    assert plan.memory.decisions["default/q"].permitted and "default/q" not in plan.memory.waits
    note = Note(p, "FailedScheduling", message, "Warning", action="Scheduling", component="default-scheduler")  # fmt: skip
    assert plan.notes == (note,)
    assert plan.enqueue == due("p", SCHEDULE, "q") and plan.problems == ()
    gone = planned(remembering(p, q), (plugin,), pods=(q,))
    assert is_back(gone, "p", message, is_error) and gone.notes == ()
    memory = remembering(p)
    said = replace(memory.decisions["default/p"].waiting, message=message)
    memory = replace(memory, decisions=Map({"default/p": replace(memory.decisions["default/p"], waiting=said)}))  # fmt: skip
    assert planned(memory, (plugin,), pods=(p,)).notes == ()  # it has been said


def test_sched_63_after_the_timeout_a_pod_goes_back():
    p = pod_named("p")
    waits = Permits((), {"A": Waits("r", NOW + 1, 90 * SECOND), "B": Waits("r", NOW + 5, MINUTE)})
    plugins = (Says("A", Wait("r", MINUTE)), Says("B", None))
    early = planned(remembering(p, permits=waits), plugins)
    assert early.memory.waits["default/p"] == Permits(("B",), {"A": waits.waits["A"]})
    for number, words in ((0, "1m30s at plugin A"), (4, "1m30s at plugin A")):
        until = Permits((), {"A": Waits("r", NOW - number, 90 * SECOND), "B": waits.waits["B"]})
        plan = planned(remembering(p, permits=until), plugins, pods=(p,))
        assert is_back(plan, "p", wrong(f"rejected due to timeout after waiting {words}"))
    gone = planned(remembering(p, node="c"), plugins, pods=(p,))
    assert is_back(gone, "p", wrong('node "c" not found'))


def test_sched_18_sched_63_pods_are_asked_in_the_order_of_their_decisions():
    pods = [pod_named("c"), pod_named("a", priority=5), pod_named("b"), pod_named("d", priority=5)]
    plugin = Says("A", None)
    planned(remembering(*pods, nodes={"c": "b"}), (plugin,))
    assert [name for name, _, _ in plugin.asked] == ["a", "d", "c", "b"]
    assert [node for _, node, _ in plugin.asked] == ["a", "a", "b", "a"]
    assert plugin.asked[2][2] == ["u-c"] and plugin.asked[0][2] == ["u-a", "u-b", "u-d"]


# --- unreserve ------------------------------------------------------------------------------------


class Reserves:
    def __init__(self, name, answer, log):
        self.name, self.answer, self.log = name, answer, log

    def unreserve(self, pod, node, waiting):
        self.log.append((self.name, pod.name, node, sorted(waiting)))
        found = self.answer.get(pod.name, {})
        if isinstance(found, Exception):
            raise found
        return found


def test_sched_62_the_last_plugin_is_told_first_and_may_reject_those_that_wait():
    p, q, r = (pod_named(name) for name in "pqr")
    log, boom = [], ValueError("boom")
    plugins = (
        Reserves("A", {"x": {"default/q": "with x", "default/none": "?"}}, log),
        Reserves("B", {"x": boom}, log),
        Reserves("C", {"q": {"default/r": 5}}, log),
    )
    released = ((info_of(pod_named("x")), "b"), (info_of(pod_named("y")), "a"))
    plan = planned(remembering(p, q, r, released=released), (), plugins, (p, q, r))
    everyone = ["default/p", "default/q", "default/r"]
    assert log[:3] == [(name, "x", "b", everyone) for name in "CBA"]
    left = ["default/p", "default/r"]
    assert log[3:6] == [(name, "y", "a", left) for name in "CBA"]
    # q had reserved something too, and r goes with it
    assert log[6] == ("C", "q", "a", left)
    assert log[7:9] == [(name, "q", "a", ["default/p"]) for name in "BA"]
    assert log[9:] == [(name, "r", "a", ["default/p"]) for name in "CBA"]
    assert plan.problems == (boom,) and plan.memory.released == ()
    assert is_back(plan, "q", wrong("with x")) and is_back(plan, "r", wrong("5"))
    assert plan.enqueue == due("q", SCHEDULE, "r")
    assert len(plan.notes) == 2


def test_sched_62_a_pod_that_plugins_reserve_nothing_for_is_not_told_of():
    p, log = pod_named("p"), []
    plan = planned(remembering(p, reserves=False), (Says("A", Denied("no")),), (Reserves("R", {}, log),), (p,))  # fmt: skip
    assert is_back(plan, "p", wrong("no")) and log == [] and plan.memory.released == ()
    plan = planned(remembering(p), (Says("A", Denied("no")),), (Reserves("R", {}, log),), (p,))
    assert log == [("R", "p", "a", [])]


# --- waiting and preempted pods -------------------------------------------------------------------


def test_sched_63_the_node_of_a_waiting_pod_is_in_its_status():
    pod = pod_named("p")
    waits = Permits((), {"A": Waits("r", 1, 1), "B": Waits("r", 1, 1)})
    memory = remembering(pod, permits=waits)
    decision = memory.decisions["default/p"]
    for there in (pod, change(pod, nominated_node_name="b")):
        ((request,),) = expect(memory, "default/p", there, decision).waves
        assert (request.verb, request.subresource, request.name) == ("patch", "status", "p")
        assert request.body.document["status"] == {"nominatedNodeName": "a"}
        assert request.because == "it waits for A, B on a"
    done = change(pod, nominated_node_name="a")
    assert expect(memory, "default/p", done, decision) is NOTHING
    assert expect(remembering(pod), "default/p", pod, decision) is NOTHING


def test_sched_64_victims_that_wait_are_rejected_and_others_are_deleted():
    low, held, other = pod_named("low"), pod_named("held"), pod_named("other")
    by = pod_named("by", priority=9)
    memory = remembering(low, held)
    victims = tuple(info_of(one) for one in (other, low, held))
    memory = memory.nominate("default/by", Nomination(info_of(by), "a", victims))
    known = {"default/low": low, "default/held": held}
    renewed = replace(info_of(held), uid="former")
    after, notes, keys = reject_preempted(
        memory, [(victims[0], info_of(by), "a"), (renewed, info_of(by), "a"), (victims[1], info_of(by), "a")],
        known.get, NOW, BACKOFF,
    )  # fmt: skip
    assert keys == ["default/low"] and len(notes) == 1
    assert is_back(Plan(memory=after), "low", wrong("preempted"))
    assert list(after.waits) == ["default/held"]
    assert [one.uid for one in after.nominations["default/by"].victims] == ["u-other", "u-held"]
    assert after.nominations["default/by"].node == "a"
    both, notes, keys = reject_preempted(
        memory, [(one, info_of(by), "a") for one in victims], known.get, NOW, BACKOFF
    )
    assert keys == ["default/low", "default/held"] and len(notes) == 2 and not both.waits
    assert [one.uid for one in both.nominations["default/by"].victims] == ["u-other"]
    alone, _, keys = reject_preempted(
        memory.nominate("default/by", None), [(victims[1], info_of(by), "a")], known.get, NOW, BACKOFF
    )  # fmt: skip
    assert keys == ["default/low"] and not alone.nominations
    permitted = replace(memory, waits=Map())
    assert reject_preempted(permitted, [(victims[1], info_of(by), "a")], known.get, NOW, BACKOFF) == (permitted, (), [])  # fmt: skip
    bound = replace(memory, decisions=Map())
    assert reject_preempted(bound, [(victims[1], info_of(by), "a")], known.get, NOW, BACKOFF)[2] == []  # fmt: skip


def test_sched_65_a_plugin_that_fails_before_the_binding_sends_the_pod_back():
    pod = pod_named("p")
    plan = give_up(remembering(pod), "default/p", pod, ValueError("boom"), NOW, BACKOFF, NAME)
    assert is_back(plan, "p", "boom", True) and plan.enqueue == due("p", SCHEDULE)
    (note,) = plan.notes
    assert note == Note(pod, "FailedScheduling", "boom", "Warning", action="Scheduling", component="default-scheduler")  # fmt: skip


# --- reservations ---------------------------------------------------------------------------------


class Keeps:
    def __init__(self, name, value):
        self.name, self.value, self.asked = name, value, []

    def reserve(self, pod, node, reserved):
        self.asked.append((pod.name, node.name, dict(reserved)))
        return self.value


def test_sched_62_reservations_by_plugin_and_pod():
    node = facts_of(a_node("a"))
    first, second = Keeps("A", 1), Keeps("B", 2)
    profile = make_profile("mine", plugins=ExternalPlugins(reserve=(first, second)))
    p, q = info_of(pod_named("p")), info_of(pod_named("q"))
    one = reserve(profile, "default/p", p, node, Map())
    both = reserve(profile, "default/q", q, node, one)
    a, b = ("mine", "A"), ("mine", "B")
    assert one == Map({a: Map({"default/p": 1}), b: Map({"default/p": 2})})
    assert both == Map({a: Map({"default/p": 1, "default/q": 1}), b: Map({"default/p": 2, "default/q": 2})})  # fmt: skip
    assert first.asked == [("p", "a", {}), ("q", "a", {"default/p": 1})]
    assert second.asked == [("p", "a", {}), ("q", "a", {"default/p": 2})]
    assert without(both, "default/q") == one and without(both, "default/x") == both
    assert without(without(both, "default/q"), "default/p") == Map()
    second.value = Denied("full")
    refusal = reserve(profile, "default/q", q, node, one)
    assert refusal == Refusal("B", ("full",), resolvable=False)
    assert reserve(make_profile("other"), "default/p", p, node, one) is one


# --- what plugins write ---------------------------------------------------------------------------

POD = pod_named("p")
WANTED = Request("get", NODES, "", "x")


class Writes:
    """A plugin of the points around the binding, with fixed answers."""

    def __init__(self, name, found):
        self.name, self.found, self.asked = name, found, []

    def pre_bind(self, pod, node, view):
        self.asked.append((pod, node, view))
        return self.bind(pod, node)

    def bind(self, pod, node):
        if pod is not POD or node not in ("a", "n"):
            return ["another pod or node"]
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    post_bind = bind


def before(plugins, since=0, now=NOW, failure=None):
    memory = remembering(POD, since=since)
    profile = make_profile(plugins=ExternalPlugins(pre_bind=tuple(plugins)), arguments=Arguments(bind_timeout=MINUTE))  # fmt: skip
    again = Plan(wake_at=1)
    found = before_binding(
        "view", memory, "default/p", POD, memory.decisions["default/p"], now, profile, failure, lambda: again
    )  # fmt: skip
    return "again" if found is again else found


def test_sched_65_the_first_plugin_with_requests_is_waited_for_until_the_timeout():
    quiet, writes, later = Writes("A", ()), Writes("B", [WANTED]), Writes("C", [WANTED, WANTED])
    assert before(()) is before((quiet,)) is None
    assert quiet.asked == [(POD, "a", "view")]
    plan = before((quiet, writes, later))
    assert plan.waves == ((WANTED,),) and plan.wake_at == NOW + MINUTE and later.asked == []
    assert plan.memory.decisions["default/p"].since == NOW
    for since, now, expected in ((NOW - 5, NOW, NOW - 5), (NOW - MINUTE + 1, NOW, NOW - MINUTE + 1)):  # fmt: skip
        plan = before((writes,), since, now)
        assert plan.wake_at == expected + MINUTE
        assert plan.memory.decisions["default/p"].since == expected
    assert before((writes,), NOW - MINUTE) == "again" == before((writes,), NOW - MINUTE - 1)
    assert before((writes,), failure="refused") == "again"
    assert before((quiet,), failure="refused") is None
    for found, words in (
        (ValueError("boom"), 'running PreBind plugin "X": boom'), (["no"], """running PreBind plugin "X": 'no' is not a Request"""),
    ):  # fmt: skip
        with pytest.raises(PluginFailed) as failed:
            before((Writes("X", found), writes))
        assert str(failed.value) == words


def test_sched_66_the_binding_in_full():
    request = default_binding(POD, "n")
    metadata = ObjectMeta(namespace="default", name="p", uid="u-p")
    assert request == Request(
        "create", PODS, "default", "p", "binding", because="n is the best node for it",
        body=Binding(metadata=metadata, target=ObjectReference(kind="Node", name="n")),
    )  # fmt: skip
    nameless = default_binding(replace(POD, metadata=ObjectMeta()), "n")
    assert (nameless.namespace, nameless.name) == ("", "")


def binding(found, has_default=True, *more):
    listed = (Writes("X", found), *more)
    plugins = ExternalPlugins(bind=listed, has_default_binder=has_default)
    return binding_of(make_profile(plugins=plugins), POD, "n")


def test_sched_66_the_first_plugin_that_binds_the_pod():
    wanted = default_binding(POD, "n")
    body = replace(wanted.body, metadata=replace(wanted.body.metadata, labels={"a": "b"}))
    labelled = replace(wanted, body=body)
    assert binding(None) == wanted == binding_of(make_profile(), POD, "n")
    assert binding(labelled) is labelled is binding(None, True, Writes("Y", labelled))
    assert binding(labelled, False, Writes("Y", None)) is labelled
    with pytest.raises(PluginFailed, match=r"^no bind plugin binds the pod$"):
        binding(None, False)
    with pytest.raises(PluginFailed, match=r'^running Bind plugin "X": boom$'):
        binding(ValueError("boom"))
    body = wanted.body
    for other in (
        "yes", replace(wanted, body=None), replace(wanted, verb="update"), replace(wanted, resource=NODES),
        replace(wanted, subresource=""), replace(wanted, namespace="x"), replace(wanted, name="q"),
        replace(wanted, body=replace(body, metadata=replace(body.metadata, name="q"))),
        replace(wanted, body=replace(body, metadata=replace(body.metadata, uid=None))),
        replace(wanted, body=replace(body, target=replace(body.target, name="m"))),
        replace(wanted, body=replace(body, target=replace(body.target, kind="Pod"))),
    ):  # fmt: skip
        with pytest.raises(PluginFailed) as failed:
            binding(other)
        assert str(failed.value) == 'bind plugin "X" does not bind the pod to node "n"'


def test_sched_66_what_plugins_write_after_the_binding():
    boom = ValueError("boom")
    plugins = tuple(Writes(name, found) for name, found in (("A", [WANTED]), ("B", boom), ("C", ()), ("D", ["no"]), ("E", [WANTED, WANTED])))  # fmt: skip
    requests, problems = after_binding(
        make_profile(plugins=ExternalPlugins(post_bind=plugins)), POD, "n"
    )
    assert requests == (WANTED,) * 3 and problems[0] is boom
    assert [type(one) for one in problems] == [ValueError, TypeError]
    assert after_binding(make_profile(), POD, "n") == ((), ())
