"""Reserve, permit and bind: plugins of other packages between the decision and the binding
(spec/scheduler_profiles.md, SCHED-62 to SCHED-66), and what `explain` says about them (EXPLAIN-6).
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from sched_worlds import a_node, a_pod, deleted, new_cluster, with_node, with_pod
from test_sched import (
    condition_of,
    events,
    memory_of,
    pod_named,
    quiet,
    view_of,
)
from test_sched_permit_runs import Coscheduling, later, the_scheduler
from test_sched_preemption import classed, with_classes

from refk8s.core.actions import Crash
from refk8s.core.api.resources import PODS
from refk8s.core.cluster.step import step
from refk8s.core.context import MINUTE, SECOND, duration_text
from refk8s.core.explain.pod import explain_pod, tree_of
from refk8s.core.explain.pod_text import pod_text
from refk8s.core.pods.requests import patch_status
from refk8s.core.scheduler.cycle import scheduler
from refk8s.core.scheduler.plugin import WAIT_MAX, Denied, ExternalPlugins, Wait
from refk8s.core.scheduler.plugin_writes import default_binding
from refk8s.core.scheduler.profile import make_profile
from refk8s.core.scheduler_configuration.read import BadConfiguration, read_configuration

NAME, MIN = (
    "pod-group.scheduling.sigs.k8s.io/name",
    "pod-group.scheduling.sigs.k8s.io/min-available",
)
API = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}


# --- examples


def grouped(name, group="training", wanted="3", requests=None, **spec):
    pod = a_pod(name, requests, **spec)
    labels = {NAME: group, MIN: wanted}
    return replace(pod, metadata=replace(pod.metadata, labels=labels))


def with_example(*nodes, seconds=60):
    plugin = Coscheduling({"permitWaitingTimeSeconds": seconds})
    cluster = new_cluster(the_scheduler(reserve=[plugin], permit=[plugin]))
    for node in nodes:
        cluster = with_node(cluster, node)
    return cluster


def node_of(cluster, name):
    return pod_named(cluster, name).spec.node_name


def test_sched_63_the_pods_of_a_group_are_bound_together():
    cluster = with_example(a_node("n"))
    for name in ("a", "b"):
        cluster = quiet(with_pod(cluster, grouped(name)), 5)
    assert not node_of(cluster, "a") and not node_of(cluster, "b")
    assert pod_named(cluster, "a").status.nominated_node_name == "n"
    assert condition_of(cluster, "a") is None, "it is neither rejected nor scheduled"
    cluster = quiet(with_pod(cluster, grouped("c")), 5)
    assert {node_of(cluster, name) for name in "abc"} == {"n"}
    assert not pod_named(cluster, "a").status.nominated_node_name, "API-17"
    cluster = quiet(with_pod(cluster, a_pod("alone")), 5)
    assert node_of(cluster, "alone") == "n"


def test_sched_63_three_pods_that_arrive_at_once_do_not_wait():
    cluster = with_example(a_node("n"))
    for name in "abc":
        cluster = with_pod(cluster, grouped(name))
    cluster = quiet(cluster, 0)
    assert {node_of(cluster, name) for name in "abc"} == {"n"}


def test_sched_22_sched_63_a_waiting_pod_counts_on_its_node():
    cluster = with_example(a_node("n", cpu="1"))
    cluster = quiet(with_pod(cluster, grouped("a", requests={"cpu": "1"})), 5)
    cluster = quiet(with_pod(cluster, a_pod("b", {"cpu": "1"})), 5)
    assert not node_of(cluster, "b") and "Insufficient cpu" in condition_of(cluster, "b").message
    cluster = quiet(deleted(cluster, pod_named(cluster, "a"), True), 15)
    assert node_of(cluster, "b") == "n", "the wait ends when the pod is deleted"
    assert not memory_of(cluster).waits


TIMEOUT = (
    "0/1 nodes are available: 1 rejected due to timeout after waiting 1m0s at plugin Coscheduling."
)


def test_sched_62_sched_63_after_the_timeout_the_group_gives_up_and_tries_again():
    cluster = with_example(a_node("n", cpu="2"))
    for name in ("a", "b"):
        cluster = later(with_pod(cluster, grouped(name, requests={"cpu": "1"})), 5)
    cluster = quiet(with_pod(cluster, a_pod("other", {"cpu": "2"})), 5)
    cluster = later(cluster, 45)
    assert not node_of(cluster, "other")
    cluster = later(cluster, 20)
    assert node_of(cluster, "other") == "n"
    messages = {name: message for name, message, _ in events(cluster, "FailedScheduling")}
    assert messages["a"].startswith(TIMEOUT) or "Insufficient" in messages["a"]
    reasons = [m for name, m, _ in events(cluster, "FailedScheduling") if name in ("a", "b")]
    assert TIMEOUT in reasons
    gave_up = "0/1 nodes are available: 1 a pod of group training gave up its node."
    assert gave_up in reasons, "SCHED-62: unreserve rejects the rest of the group"
    for name in ("a", "b"):
        assert condition_of(cluster, name).reason == "Unschedulable"
        assert not pod_named(cluster, name).status.nominated_node_name


def test_sched_63_a_timeout_begins_with_the_first_wait_and_has_a_limit():
    class Slow:
        name = "Slow"

        def permit(self, pod, node, snapshot):
            return Wait("for ever", 2 * WAIT_MAX)

    cluster = with_node(new_cluster(the_scheduler(permit=[Slow()])), a_node("n"))
    cluster = quiet(with_pod(cluster, a_pod("p")), 60)
    (permits,) = memory_of(cluster).waits.values()
    until = permits.waits["Slow"].until
    assert until <= cluster.now + WAIT_MAX
    cluster = quiet(with_node(cluster, a_node("m")), 60)
    (permits,) = memory_of(cluster).waits.values()
    assert permits.waits["Slow"].until == until, "a further answer does not extend the wait"
    cluster = quiet(cluster, 15 * 60)
    assert "after waiting 15m0s at plugin Slow" in condition_of(cluster, "p").message
    assert duration_text(WAIT_MAX // SECOND) == "15m0s" and WAIT_MAX == 15 * MINUTE


class Says:
    """A permit plugin with a fixed answer, which counts how often it was asked."""

    def __init__(self, name, answer):
        self.name, self.answer, self.count = name, answer, 0

    def permit(self, pod, node, snapshot):
        self.count += 1
        assert pod.uid in snapshot.load(node.name).pods
        return self.answer


def test_sched_63_every_plugin_must_approve_and_an_approval_is_final():
    approves, waits = Says("Approves", None), Says("Waits", Wait("not yet", MINUTE))
    cluster = with_node(new_cluster(the_scheduler(permit=[approves, waits])), a_node("n"))
    cluster = quiet(with_pod(cluster, a_pod("p")), 10)
    cluster = quiet(with_node(cluster, a_node("m")), 10)
    assert not node_of(cluster, "p") and approves.count == 1 and waits.count > 1
    waits.answer = None
    cluster = quiet(with_node(cluster, a_node("l")), 10)
    assert node_of(cluster, "p") and approves.count == 1


@pytest.mark.parametrize(
    ("answer", "reason", "message"),
    [
        (Denied("not today"), "Unschedulable", "0/1 nodes are available: 1 not today."),
        ("yes", "SchedulerError", """running Permit plugin "P": 'yes' is neither None nor Denied nor Wait"""),
    ],
)  # fmt: skip
def test_sched_63_a_denied_pod_says_why_and_is_tried_again(answer, reason, message):
    plugin = Says("P", answer)
    cluster = with_node(new_cluster(the_scheduler(permit=[plugin])), a_node("n"))
    cluster = quiet(with_pod(cluster, a_pod("p")), 30)
    condition = condition_of(cluster, "p")
    assert (condition.reason, condition.message) == (reason, message)
    assert len(events(cluster, "FailedScheduling")) == 1, "SCHED-11"
    assert 3 <= plugin.count <= 10, "SCHED-20: with back-off"
    plugin.answer = None
    assert node_of(quiet(cluster, 30), "p") == "n"


def test_sched_64_preemption_rejects_a_waiting_pod_and_deletes_none():
    cluster = with_classes(with_example(a_node("n", cpu="1")))
    cluster = quiet(with_pod(cluster, grouped("low", requests={"cpu": "1"})), 5)
    uid = pod_named(cluster, "low").metadata.uid
    assert memory_of(cluster).waits
    cluster = quiet(with_pod(cluster, classed("vip", "high", "1")), 30)
    assert node_of(cluster, "vip") == "n"
    low = pod_named(cluster, "low")
    assert low.metadata.uid == uid and low.metadata.deletion_timestamp is None
    reasons = [message for name, message, _ in events(cluster, "FailedScheduling") if name == "low"]
    assert reasons[0] == "0/1 nodes are available: 1 preempted."


def test_d_565_sched_62_a_denied_reservation_leaves_nothing_and_unreserves_all():
    class Keeps:
        name, log = "Keeps", []

        def reserve(self, pod, node, reserved):
            self.log.append(("reserve", pod.name, len(reserved)))
            return pod.name

        def unreserve(self, pod, node, waiting):
            self.log.append(("unreserve", pod.name, node))
            return {}

    class Denies(Keeps):
        name = "Denies"

        def reserve(self, pod, node, reserved):
            return Denied("full")

        def unreserve(self, pod, node, waiting):
            self.log.append(("unreserve first", pod.name, node))
            return {}

    cluster = with_node(new_cluster(the_scheduler(reserve=[Keeps(), Denies()])), a_node("n"))
    cluster = quiet(with_pod(cluster, a_pod("p")), 0)
    assert Keeps.log == [
        ("reserve", "p", 0),
        ("unreserve first", "p", "n"),
        ("unreserve", "p", "n"),
    ]
    assert not memory_of(cluster).reserved and not memory_of(cluster).decisions
    assert condition_of(cluster, "p").message == "0/1 nodes are available: 1 full."


# --- preBind, bind, postBind


def marked(word):
    return {"conditions": [{"type": f"example.com/{word}", "status": "True"}]}


def has(pod, word):
    return any(one.type == f"example.com/{word}" for one in pod.status.conditions or ())


class Marks:
    """Writes a condition before the binding, binds with a label, and writes another one after."""

    name = "Marks"

    def pre_bind(self, pod, node, view):
        return () if has(pod, "before") else (patch_status(pod, marked("before"), "its node"),)

    def bind(self, pod, node):
        request = default_binding(pod, node)
        body = replace(request.body, metadata=replace(request.body.metadata, labels={"bound": "1"}))
        return replace(request, body=body)

    def post_bind(self, pod, node):
        return (patch_status(pod, marked("after"), "it is bound"),)


def test_sched_65_sched_66_requests_before_at_and_after_the_binding():
    plugin = Marks()
    machine = the_scheduler(pre_bind=[plugin], bind=[plugin], post_bind=[plugin])
    cluster = quiet(with_pod(with_node(new_cluster(machine), a_node("n")), a_pod("p")), 5)
    pod = pod_named(cluster, "p")
    assert pod.spec.node_name == "n"
    assert pod.metadata.labels["bound"] == "1" and has(pod, "before") and has(pod, "after")
    changes = cluster.history.changes(PODS.prefix, 0)
    writes = [one.record.value for one in changes if one.record is not None]
    assert next(one for one in writes if has(one, "before")).spec.node_name is None
    assert next(one for one in writes if has(one, "after")).spec.node_name == "n"


def elsewhere(pod, node):
    request = default_binding(pod, node)
    target = replace(request.body.target, name="m")
    return replace(request, body=replace(request.body, target=target))


def another_pod(pod, node):
    request = default_binding(pod, node)
    metadata = replace(request.body.metadata, uid=None)
    return replace(request, body=replace(request.body, metadata=metadata))


@pytest.mark.parametrize(
    "bind", [elsewhere, another_pod, lambda pod, node: "yes", lambda p, n: 1 // 0]
)
def test_d_566_sched_66_a_plugin_cannot_bind_otherwise_than_decided(bind):
    class Binds:
        name = "Binds"

    plugin = Binds()
    plugin.bind = bind
    cluster = with_node(new_cluster(the_scheduler(bind=[plugin])), a_node("n"))
    cluster = with_node(cluster, a_node("m", unschedulable=True))
    cluster = quiet(with_pod(cluster, a_pod("p")), 10)
    assert not node_of(cluster, "p")
    condition = condition_of(cluster, "p")
    assert condition.reason == "SchedulerError" and '"Binds"' in condition.message
    assert not memory_of(cluster).reserved


def test_sched_66_without_a_plugin_that_binds_the_pod_goes_back_to_the_queue():
    class Skips:
        name = "Skips"

        def bind(self, pod, node):
            return None

    machine = scheduler(
        (make_profile(plugins=ExternalPlugins(bind=(Skips(),), has_default_binder=False)),)
    )
    cluster = quiet(with_pod(with_node(new_cluster(machine), a_node("n")), a_pod("p")), 10)
    assert condition_of(cluster, "p").message == "no bind plugin binds the pod"
    machine = the_scheduler(bind=[Skips()])
    cluster = quiet(with_pod(with_node(new_cluster(machine), a_node("n")), a_pod("p")), 10)
    assert node_of(cluster, "p") == "n"


def test_sched_65_a_refused_request_sends_the_pod_back():
    class Wrong:
        name, count = "Wrong", 0

        def pre_bind(self, pod, node, view):
            Wrong.count += 1
            other = replace(pod, metadata=replace(pod.metadata, uid="another"))
            return (patch_status(other, marked("x"), "this is refused"),)

    cluster = with_node(new_cluster(the_scheduler(pre_bind=[Wrong()])), a_node("n"))
    cluster = quiet(with_pod(cluster, a_pod("p")), 30)
    assert not node_of(cluster, "p") and 2 <= Wrong.count <= 30


def test_sched_65_a_request_that_is_always_missing_ends_at_the_timeout():
    class Endless:
        name = "Endless"

        def pre_bind(self, pod, node, view):
            count = sum(one.type.startswith("example.com") for one in pod.status.conditions or ())
            return (patch_status(pod, marked(count), "one more"),)

    class Keeps:
        name, unreserved = "Keeps", 0

        def reserve(self, pod, node, reserved):
            return 1

        def unreserve(self, pod, node, waiting):
            Keeps.unreserved += 1
            return {}

    from refk8s.core.scheduler.arguments import Arguments

    plugins = ExternalPlugins(pre_bind=(Endless(),), reserve=(Keeps(),))
    profile = make_profile(plugins=plugins, arguments=Arguments(bind_timeout=0))
    cluster = with_node(new_cluster(scheduler((profile,))), a_node("n"))
    cluster = quiet(with_pod(cluster, a_pod("p")), 3)
    assert not node_of(cluster, "p") and Keeps.unreserved >= 1


# --- the configuration


def read(plugin, **plugins):
    factories = {plugin.name: lambda args: plugin}
    tree = {**API, "profiles": [{"plugins": plugins}]}
    return read_configuration(tree, factories).profiles[0].plugins


def test_sched_56_a_plugin_works_at_the_points_that_it_implements():
    marks, example = Marks(), Coscheduling(None)
    found = read(marks, multiPoint={"enabled": [{"name": "Marks"}]})
    assert found.pre_bind == (marks,) and found.post_bind == (marks,)
    assert found.bind == (), "DefaultBinder is before it, and binds every pod"
    assert not found.reserve and not found.permit and not found.filter and not found.score
    found = read(marks, bind={"enabled": [{"name": "Marks"}]})
    assert found.bind == (marks,) and found.has_default_binder and not found.pre_bind
    found = read(marks, bind={"enabled": [{"name": "Marks"}], "disabled": [{"name": "*"}]})
    assert found.bind == (marks,) and not found.has_default_binder
    for point in ("reserve", "permit"):
        found = read(example, **{point: {"enabled": [{"name": "Coscheduling"}]}})
        assert (found.reserve, found.permit) == (
            ((example,), ()) if point == "reserve" else ((), (example,))
        )
    for point, interface in (("preBind", "PreBind"), ("bind", "Bind"), ("postBind", "PostBind"), ("filter", "Filter")):  # fmt: skip
        with pytest.raises(BadConfiguration, match=f"does not extend {interface}Plugin plugin"):
            read(example, **{point: {"enabled": [{"name": "Coscheduling"}]}})


def test_sched_17_plugins_that_do_not_decide_leave_the_rankings():
    assert not ExternalPlugins(permit=(Coscheduling(None),)).decides


# --- explain


def test_explain_6_says_for_what_the_pod_waits():
    plugin = Coscheduling(None)
    profile = make_profile(plugins=ExternalPlugins(reserve=(plugin,), permit=(plugin,)))
    cluster = with_node(with_node(new_cluster(scheduler((profile,))), a_node("n")), a_node("m"))
    for name in ("a", "b"):
        cluster = quiet(with_pod(cluster, grouped(name)), 5)
    profiles = {profile.scheduler_name: profile}
    account = explain_pod(view_of(cluster), "default/a", profiles)
    node = pod_named(cluster, "a").status.nominated_node_name
    text = pod_text(account)
    assert f"Answer:     {node} is reserved for it, and it waits there for Coscheduling" in text
    reason = "2 of 3 pods of group training have a node"
    assert f"Permit:     Coscheduling: wait: {reason} (for 1m0s at most)" in text
    assert tree_of(account)["permit"] == [
        {"plugin": "Coscheduling", "answer": "wait", "reason": reason, "timeoutSeconds": 60}
    ]
    # one that the scheduler has not seen: the two others count
    later = quiet(with_pod(step(cluster, Crash("kube-scheduler")), grouped("c")), 0)
    account = explain_pod(view_of(quiet(later, 5)), "default/c", profiles)
    assert account.node, "three pods are enough"
