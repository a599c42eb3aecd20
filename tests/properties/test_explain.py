"""Explanations (spec/explain.md, EXPLAIN-1 to EXPLAIN-5)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sched_worlds import (
    a_node,
    a_pod,
    new_cluster,
    operate,
    with_node,
    with_pod,
    worlds,
)
from test_sched import condition_of, pod_named, quiet
from test_sched_preemption import classed, with_classes
from test_sched_profiles import whole_worlds
from test_sched_volumes import LAZY, using
from test_vol import a_claim
from workload_helpers import stored, view_of

from refk8s.components.explain import _history
from refk8s.components.files import CannotRun
from refk8s.core.api import codec
from refk8s.core.api.core_v1 import PodSchedulingGate, Taint
from refk8s.core.api.resources import (
    EVENTS,
    NAMESPACES,
    NODES,
    POD_DISRUPTION_BUDGETS,
    PODS,
)
from refk8s.core.context import MINUTE, SECOND
from refk8s.core.explain.object import HIDDEN, explain_object, history_of
from refk8s.core.explain.object_text import object_text
from refk8s.core.explain.pod import FINISHED, FOREIGN, GATED, PENDING, explain_pod, tree_of
from refk8s.core.explain.pod_text import NODES_MAX, pod_text
from refk8s.core.scheduler.cycle import Scheduler
from refk8s.core.scheduler.profile import DEFAULT_PROFILE
from refk8s.core.store import Put, Txn
from refk8s.store.sqlite import SqliteEngine

PROFILES = {"default-scheduler": DEFAULT_PROFILE}
SEEN = (PODS, NODES, NAMESPACES, POD_DISRUPTION_BUDGETS)


def account_in(cluster, name):
    objects = [one for resource in SEEN for one in stored(cluster, resource)]
    return explain_pod(view_of(Scheduler(), *objects), f"default/{name}", PROFILES)


# --- a pod


@settings(max_examples=15)
@given(worlds, st.lists(st.integers(0, 2**16), min_size=5, max_size=20))
def test_explain_1_the_message_is_the_one_that_the_scheduler_writes(world, drawn):
    """After five minutes every condition is current (SCHED-21)."""
    specs, spare = world
    cluster = with_node(new_cluster(), spare[0])
    for which in drawn:
        cluster = quiet(operate(cluster, which, specs, spare))
    cluster = quiet(cluster, 6 * MINUTE // SECOND)
    for pod in stored(cluster, PODS):
        account = account_in(cluster, pod.metadata.name)
        if account.state == PENDING and pod.metadata.deletion_timestamp is None:
            assert not account.best
            assert account.message == condition_of(cluster, pod.metadata.name).message


def test_explain_1_what_the_scheduler_wrote_and_where_it_would_go_now():
    cluster = new_cluster()
    for name, cpu in (("a", "1"), ("b", "2")):
        cluster = with_node(cluster, a_node(name, cpu=cpu))
    cluster = quiet(with_pod(cluster, a_pod("big", {"cpu": "4"})))
    account = account_in(cluster, "big")
    assert account.message == condition_of(cluster, "big").message == account.condition
    cluster = quiet(with_pod(cluster, a_pod("small", {"cpu": "100m"})))
    small = account_in(cluster, "small")
    assert small.node == pod_named(cluster, "small").spec.node_name == small.best
    assert "it would be chosen again now" in pod_text(small)


def test_explain_1_a_pod_does_not_stand_in_its_own_way():
    """It uses all of its node. Shows EXPLAIN-1.c."""
    cluster = quiet(
        with_pod(with_node(new_cluster(), a_node("n", cpu="1")), a_pod("p", {"cpu": "1"}))
    )
    assert account_in(cluster, "p").best == "n"
    assert account_in(cluster, "missing") is None


@pytest.mark.parametrize(
    ("spec", "state", "words"),
    [
        ({"scheduler_name": "other"}, FOREIGN, "no profile has the name other"),
        ({"node_name": "n"}, "bound", "it is bound to n; it would be chosen again now"),
        ({}, PENDING, "n would be chosen now"),
    ],
)
def test_explain_1_every_state_of_a_pod_has_an_answer(spec, state, words):
    pod = a_pod("p", **spec)
    account = explain_pod(view_of(Scheduler(), a_node("n"), pod), "default/p", PROFILES)
    assert account.state == state and words in pod_text(account)


def test_explain_1_finished_and_gated_pods():
    gated = a_pod("g", scheduling_gates=(PodSchedulingGate(name="x"),))
    done = a_pod("d")
    done = replace(done, status=replace(done.status, phase="Succeeded"))
    view = view_of(Scheduler(), a_node("n"), gated, done)
    assert explain_pod(view, "default/d", PROFILES).state == FINISHED
    account = explain_pod(view, "default/g", PROFILES)
    assert account.state == GATED
    assert "removed (x); n would be chosen now" in pod_text(account)


def test_explain_1_a_pod_whose_claims_are_not_ready_says_which():
    view = view_of(Scheduler(), a_node("n"), using("c"))
    account = explain_pod(view, "default/p", PROFILES)
    assert account.message == (
        '0/1 nodes are available: persistentvolumeclaim "c" not found. not found'
    )
    view = view_of(Scheduler(), a_node("n"), using("c"), a_claim(storage_class="fast"), LAZY)
    account = explain_pod(view, "default/p", PROFILES)
    assert [one.plugin for one in account.nodes[0].refusals] == ["VolumeBinding"]


def test_explain_2_all_plugins_that_reject_a_node_are_named_the_first_counts():
    tainted = a_node("t", cpu="1", taints=(Taint(key="a", effect="NoSchedule"),))
    view = view_of(Scheduler(), a_node("n", cpu="1"), tainted, a_pod("p", {"cpu": "2"}))
    account = explain_pod(view, "default/p", PROFILES)
    plugins = {one.name: [each.plugin for each in one.refusals] for one in account.nodes}
    assert plugins == {"n": ["NodeResourcesFit"], "t": ["TaintToleration", "NodeResourcesFit"]}
    assert account.message.startswith(
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s)."
    )
    text = pod_text(account)
    assert "t      TaintToleration    node(s) had untolerated taint(s)   does not help" in text


def test_explain_2_the_victims_that_preemption_would_choose():
    cluster = with_classes(new_cluster())
    for name in ("a", "b"):
        cluster = with_node(cluster, a_node(name, cpu="1"))
    for name, kind in (("x", "low"), ("y", "mid")):
        cluster = quiet(with_pod(cluster, classed(name, kind, "1")))
    vip = with_pod(cluster, classed("vip", "high", "1"))
    account = account_in(vip, "vip")
    assert [one.victims[0][0] for one in account.candidates] == ["default/x", "default/y"]
    after = quiet(vip)
    assert pod_named(after, "vip").spec.node_name == account.candidates[0].node
    polite = account_in(with_pod(cluster, classed("p", "polite", "1")), "p")
    assert polite.preemption == "not eligible due to preemptionPolicy=Never."


@given(whole_worlds())
def test_explain_2_the_json_form_has_all_of_it(world):
    nodes, pods, pod = world
    view = view_of(Scheduler(), *nodes, *pods, pod)
    account = explain_pod(view, f"{pod.metadata.namespace}/p", PROFILES)
    tree = tree_of(account)
    assert json.loads(json.dumps(tree)) == tree
    assert {one["name"] for one in tree["nodes"]} == {node.metadata.name for node in nodes}
    for one in tree["nodes"]:
        if one["filters"]:
            assert one["total"] is None and not one["scores"]
        else:
            assert one["total"] == sum(each["weighted"] for each in one["scores"])
    assert tree["best"] in pod_text(account)


def test_explain_2_the_text_is_bounded():
    nodes = [a_node(f"n{at:03}") for at in range(NODES_MAX + 7)]
    view = view_of(Scheduler(), *nodes, a_pod("p"))
    text = pod_text(explain_pod(view, "default/p", PROFILES))
    assert "and 7 more (-o json has all)" in text and len(text.splitlines()) < NODES_MAX + 15


# --- an object


def of_cluster(cluster, pod):
    tree = codec.to_tree(pod_named(cluster, pod))
    events = [
        codec.to_tree(event)
        for event in stored(cluster, EVENTS)
        if event.involved_object.uid == tree["metadata"]["uid"]
    ]
    return explain_object(tree, events=events)


def test_explain_3_the_scheduler_wrote_the_condition_and_said_why():
    cluster = quiet(with_pod(with_node(new_cluster(), a_node("n")), a_pod("p", {"cpu": "9"})))
    account = of_cluster(cluster, "p")
    (write,) = [one for one in account.writes if one.subresource == "status"]
    assert "scheduler" in write.manager
    values = {field.path: field.value for field in write.fields}
    assert values['status.conditions[type="PodScheduled"].reason'] == '"Unschedulable"'
    assert [event.reason for event in write.events] == ["FailedScheduling"]
    text = object_text(account)
    assert "FailedScheduling" in text and "PodScheduled" in text
    assert account.key == "default/p" and account.kind == "Pod"


def test_explain_3_fields_are_named_by_their_path():
    owned = {
        "f:spec": {
            "f:replicas": {},
            "f:containers": {'k:{"name":"c"}': {".": {}, "f:image": {}, "f:gone": {}}},
            "f:list": {"i:1": {}, 'v:"x"': {}},
        }
    }
    tree = {
        "kind": "K",
        "metadata": {"name": "n", "managedFields": [{"manager": "m", "fieldsV1": owned}]},
        "spec": {
            "replicas": 2,
            "containers": [{"name": "b"}, {"name": "c", "image": "nginx"}],
            "list": ["x", "y"],
        },
    }
    (write,) = explain_object(tree).writes
    assert [(field.path, field.value) for field in write.fields] == [
        ("spec.replicas", "2"),
        ('spec.containers[name="c"].image', '"nginx"'),
        ('spec.containers[name="c"].gone', ""),
        ("spec.list[1]", '"y"'),
        ('spec.list[="x"]', '"x"'),
    ]


def test_explain_3_the_values_of_a_secret_are_not_shown():
    owned = {"f:data": {"f:password": {}}}
    applied = {"kubectl.kubernetes.io/last-applied-configuration": "hunter2"}
    tree = {
        "kind": "Secret",
        "metadata": {
            "name": "s",
            "annotations": applied,
            "managedFields": [{"manager": "m", "fieldsV1": owned}],
        },
        "data": {"password": "aHVudGVyMg=="},
    }
    text = object_text(explain_object(tree, history=history_of([("1", tree), ("2", tree)])))
    assert "aHVudGVyMg" not in text and "hunter2" not in text and HIDDEN in text
    other = {**tree, "data": {"password": "b3RoZXI="}}
    assert "b3RoZXI" not in str(history_of([("1", tree), ("2", other)]))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["metadata", "managedFields", "fieldsV1", "f:a", "k:{}", 'k:{"a":1}', "v:1", "i:0", ".",
             "name", "kind", "status", "conditions", "ownerReferences", "finalizers", "time",
             "deletionTimestamp", "series", "source", "spec", "data"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
trees = st.dictionaries(
    st.sampled_from(["kind", "metadata", "status", "spec", "data"]), anything, max_size=4
)


@settings(max_examples=300)
@given(trees, st.lists(trees, max_size=2))
def test_explain_5_whatever_an_object_contains_there_is_text(tree, events):
    assert object_text(explain_object(tree, events=events))
    assert history_of([("1", tree), ("2", events[0] if events else None)])


def test_explain_4_a_history_has_each_version():
    """Shows EXPLAIN-4.a."""
    entry = {"manager": "kubectl", "time": "2026-01-01T00:00:00Z"}
    first = {"metadata": {"name": "n", "managedFields": [entry]}, "spec": {"replicas": 1}}
    scaled = {"manager": "me", "time": "2026-01-01T00:00:01Z", "subresource": "scale"}
    second = {"metadata": {"name": "n", "managedFields": [entry, scaled]}, "spec": {"replicas": 2}}
    steps = history_of([("revision 5", first), ("revision 9", second), ("revision 12", None)])
    assert [step.lines for step in steps] == [
        ("created by kubectl at 2026-01-01T00:00:00Z",),
        ("written by me at 2026-01-01T00:00:01Z (scale)", "spec.replicas: 1 -> 2"),
        ("deleted",),
    ]


def test_explain_4_the_lines_of_a_story_that_name_the_object():
    story = (
        "0.1 s  user creates Pod default/web  [revision 1]",
        "0.2 s  user creates Pod other/web  [revision 2]",
        "0.3 s  user creates Pod default/web-2  [revision 3]",
        "0.4 s  scheduler binds Pod default/web, because a is the best node for it",
    )
    tree = {"kind": "Pod", "metadata": {"namespace": "default", "name": "web"}}
    assert explain_object(tree, story=story).story == (story[0], story[3])


def test_explain_4_the_journal_of_a_stopped_store_is_read_and_a_running_one_is_refused(tmp_path):
    engine = SqliteEngine(tmp_path / "store.db", lambda value: value, lambda key, data: data)
    key = f"{PODS.prefix}default/p"
    for value in (b'{"spec":{"a":1}}', b'{"spec":{"a":2}}'):
        engine.commit_batch([Txn((), (Put(key, value),))])
    with pytest.raises(CannotRun, match="while the API server is stopped"):
        _history(str(tmp_path), PODS, "default", "p")
    engine.close()
    before = (tmp_path / "store.db").read_bytes()
    steps = _history(str(tmp_path), PODS, "default", "p")
    assert [step.lines[1:] for step in steps] == [(), ("spec.a: 1 -> 2",)]
    assert (tmp_path / "store.db").read_bytes() == before
    with pytest.raises(CannotRun, match=r"has no store\.db"):
        _history(str(tmp_path / "x"), PODS, "default", "p")
