"""Extenders of the scheduler (spec/scheduler_profiles.md, SCHED-57 to SCHED-61)."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from extender_world import URL, answering, asked, extended, only
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sched_worlds import a_node, a_pod, patched, with_node, with_pod
from test_sched import condition_of, events, pod_named, quiet
from test_sched_inter_pod import submitted
from test_sched_preemption import classed, names, with_classes
from workload_helpers import change

from refk8s.core.actions import Operate, Submit
from refk8s.core.api.core_v1 import Binding, ObjectReference
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.enabled import enabled
from refk8s.core.cluster.step import step
from refk8s.core.context import MINUTE, SECOND
from refk8s.core.ports import Failed, Posted
from refk8s.core.scheduler.extenders import (
    BadAnswer,
    Extender,
    ask_about,
    read_binding,
    read_scores,
    read_verdict,
    read_victims,
)
from refk8s.core.scheduler_configuration.read import BadConfiguration, read_configuration

GPU = "example.com/gpu"
API = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}


def read(*extenders):
    return read_configuration({**API, "extenders": list(extenders)}, {})


def nodes(cluster, *names, **sizes):
    for name in names:
        cluster = with_node(cluster, a_node(name, **sizes))
    return quiet(cluster)


def with_gpu(name, amount):
    pod = a_pod(name, {GPU: amount})
    (container,) = pod.spec.containers
    resources = replace(container.resources, limits={GPU: amount})
    return change(pod, containers=(replace(container, resources=resources),))


def node_of(cluster, name="p"):
    return pod_named(cluster, name).spec.node_name


# --- the file


def test_sched_57_the_file_names_the_extenders():
    found = read(
        {
            "urlPrefix": URL, "filterVerb": "filter", "prioritizeVerb": "prioritize", "weight": 3,
            "bindVerb": "bind", "preemptVerb": "preempt", "httpTimeout": "1m2s", "ignorable": True,
            "nodeCacheCapable": True, "enableHTTPS": True,
            "managedResources": [{"name": GPU, "ignoredByScheduler": True}, {"name": "a.com/b"}],
        },
        {"urlPrefix": "https://x", "tlsConfig": {"insecure": True, "serverName": "y", "caData": "aGk="}},
    )  # fmt: skip
    first, second = found.extenders
    assert first == Extender(
        URL, "filter", "prioritize", "preempt", "bind", 3, True, frozenset({GPU, "a.com/b"}), True,
        62.0, first.tls,
    )  # fmt: skip
    assert not first.tls.is_verified and not second.tls.is_verified
    assert (second.tls.server_name, second.tls.authorities, second.seconds) == ("y", b"hi", 5.0)
    assert second.address("v") == "https://x/v"
    # Shows SCHED-57.b.
    assert found.profiles[0].arguments.ignored_resources == (GPU,)
    assert read({"urlPrefix": "https://x"}).extenders[0].tls.is_verified


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prioritizeVerb": "p"}, "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it"),
        ({"weight": 10**9}, "extenders[0].weight"),
        ({"managedResources": [{"name": "cpu"}]}, 'extenders[0].managedResources[0].name: Invalid value: "cpu": is an invalid extended resource name'),
        ({"managedResources": [{"name": GPU}, {"name": GPU}]}, "duplicate extender managed resource name"),
        ({"urlPrefix": "ftp://x"}, "extenders[0].urlPrefix"),
        ({"urlPrefix": "http://x y"}, "extenders[0].urlPrefix"),
        ({"filterVerb": "a\r\nb"}, "extenders[0].filterVerb"),
        ({"httpTimeout": "soon"}, "extenders[0].httpTimeout"),
        ({"httpTimeout": "-1s"}, "extenders[0].httpTimeout"),
        ({"tlsConfig": {"keyData": "?"}}, "extenders[0].tlsConfig.keyData"),
        ({"filter": "x"}, 'unknown field "extenders[0].filter"'),
    ],
)  # fmt: skip
def test_sched_54_an_extender_that_cannot_be_asked_is_refused(fields, words):
    with pytest.raises(BadConfiguration) as refused:
        read({"urlPrefix": URL, **fields})
    assert words in str(refused.value)


def test_sched_54_only_one_extender_binds_and_there_are_at_most_sixteen():
    with pytest.raises(BadConfiguration, match="only one extender can implement bind"):
        read({"urlPrefix": URL, "bindVerb": "b"}, {"urlPrefix": URL, "bindVerb": "b"})
    with pytest.raises(BadConfiguration, match="at most 16 extenders"):
        read(*[{"urlPrefix": URL}] * 17)


# --- questions and answers


def test_sched_57_a_question_has_names_or_whole_nodes():
    # Shows SCHED-57.c.
    pod, node = a_pod("p"), a_node("n")
    for has_cache in (True, False):
        post = ask_about(Extender(f"{URL}/", "f", has_node_cache=has_cache), "f", pod, [node])
        assert (post.url, post.seconds) == (f"{URL}/f", 5.0)
        tree = msgspec.json.decode(post.body)
        assert set(tree) == {"Pod", "Nodes", "NodeNames"} and tree["Pod"]["metadata"]["name"] == "p"
        assert tree["NodeNames"] == (["n"] if has_cache else None)
        if not has_cache:
            assert tree["Nodes"]["items"][0]["metadata"]["name"] == "n"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["a", "b", "x"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["NodeNames", "nodes", "items", "metadata", "name", "FailedNodes", "Error", "Host", "score", "a", "b",
             "failedAndUnresolvableNodes", "NodeNameToMetaVictims", "Pods", "UID", "NumPDBViolations"]
        ),
        inner, max_size=3,
    ),
    max_leaves=12,
)  # fmt: skip
results = st.one_of(
    anything.map(lambda tree: Posted(200, msgspec.json.encode(tree))),
    st.binary(max_size=6).map(lambda body: Posted(200, body)),
    st.just(Posted(200, b"[" * 100_000)),
    st.integers(100, 599).map(lambda code: Posted(code, b"{}")),
    st.just(Failed("Unanswered", "x" * 5_000)),
)


@given(results, st.booleans(), st.booleans())
def test_sched_61_no_answer_can_do_more_than_it_may(result, has_cache, is_ignorable):
    """It rejects nodes, adds points and chooses among victims, or it cannot be used. Shows
    SCHED-61.d."""
    extender = Extender(URL, "f", "p", "v", "b", 2, has_cache, is_ignorable=is_ignorable)
    try:
        verdict = read_verdict(extender, ["a", "b"], result)
        assert verdict.passing <= {"a", "b"}
        assert set(verdict.refusals) == {"a", "b"} - verdict.passing
    except BadAnswer as error:
        assert len(str(error)) <= 1_024
    with suppress(BadAnswer):
        assert all(0 <= points <= 200 * 3 for points in read_scores(extender, result).values())
    candidates = {"a": frozenset({"a", "x"}), "b": frozenset({"b"})}
    with suppress(BadAnswer):
        for node, victims in read_victims(extender, candidates, result).items():
            assert set(victims.uids) <= candidates[node] and victims.uids
            assert 0 <= victims.violations <= len(victims.uids)
    try:
        read_binding(extender, result)
    except BadAnswer as error:
        assert len(str(error)) <= 1_024


def test_d_411_what_an_extender_cannot_do():
    extender = Extender(URL, "f", "p", weight=1)
    names = [f"n{at}" for at in range(100)]
    failed = {name: f"{name}: {'x' * 999}" for name in names} | {"strange": "y"}
    body = msgspec.json.encode({"FailedNodes": failed})
    refusals = read_verdict(extender, names, Posted(200, body)).refusals
    texts = {text for refusal in refusals.values() for text in refusal.messages}
    assert len(texts) == 50 and max(map(len, texts)) == 256 and set(refusals) == set(names)
    nodes = {"Nodes": {"items": [{"metadata": {"name": "strange"}}]}}
    with pytest.raises(BadAnswer, match='claims a filtered node "strange" which is not found'):
        read_verdict(extender, names, Posted(200, msgspec.json.encode(nodes)))
    scores = [{"Host": "a", "Score": 99}, {"Host": "b", "Score": -1}]
    assert read_scores(extender, Posted(200, msgspec.json.encode(scores))) == {"a": 100, "b": 0}


# --- decisions


def test_sched_58_a_pod_runs_only_where_every_extender_lets_it():
    """Each is asked about the nodes that the one before it left. Shows SCHED-58.a, SCHED-58.b."""
    first = Extender(URL, filter_verb="one", has_node_cache=True)
    second = Extender(URL, filter_verb="two", has_node_cache=True)
    answers = {"one": only("b", "c"), "two": only("a", "c")}
    cluster = nodes(extended(answers, first, second), "a", "b", "c")
    cluster = quiet(with_pod(cluster, a_pod("p")))
    assert node_of(cluster) == "c"
    assert [(verb, question["NodeNames"]) for verb, question in asked(cluster)] == [
        ("one", ["a", "b", "c"]),
        ("two", ["b", "c"]),
    ]


def test_sched_58_the_message_counts_what_extenders_say():
    """The node a is full; b and c are rejected, c without a word. Shows SCHED-58.c."""
    answers = {"filter": only(FailedNodes={"b": "no license"})}
    cluster = nodes(extended(answers), "b", "c", cpu="4")
    cluster = nodes(cluster, "a", cpu="1")
    cluster = quiet(with_pod(cluster, a_pod("p", {"cpu": "2"})), seconds=0)
    condition = condition_of(cluster, "p")
    assert condition.message.startswith(
        "0/3 nodes are available: 1 Insufficient cpu, 1 no license. "
    )
    assert condition.reason == "Unschedulable" and events(cluster, "FailedScheduling")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda _: OSError(f'Post "{URL}/filter": EOF'), f'Post "{URL}/filter": EOF'),
        (lambda _: 500, f"failed filter with extender at URL {URL}/filter, code 500"),
        (lambda _: {"Error": "out of order"}, "out of order"),
        (lambda _: b"<html>", "the answer is not JSON"),
        (lambda _: {"NodeNames": ["z"]}, f'extender "{URL}" claims a filtered node "z" which is not found in the input node list'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_ignorable", [False, True])
def test_sched_58_without_a_usable_answer_the_pod_waits(answer, words, is_ignorable):
    # Shows SCHED-58.d, SCHED-58.e, SCHED-58.f.
    cluster = nodes(extended({"filter": answer}, is_ignorable=is_ignorable), "a")
    cluster = quiet(with_pod(cluster, a_pod("p")), seconds=0)
    if is_ignorable:
        assert node_of(cluster) == "a"
        return
    condition = condition_of(cluster, "p")
    assert condition.reason == "SchedulerError" and condition.message.startswith(words)
    assert not node_of(cluster)
    many = len(asked(cluster))
    cluster = quiet(cluster, seconds=60)
    assert 4 <= len(asked(cluster)) - many <= 10, "it is tried again after its back-off"
    cluster = quiet(answering(cluster, filter=only("a")), seconds=10)
    assert node_of(cluster) == "a"


def test_sched_58_a_rejected_pod_is_tried_again_after_a_change_only():
    """A second pod that is rejected too changes nothing. Shows SCHED-58.g."""
    cluster = nodes(extended({"filter": only("z")}), "a")
    cluster = quiet(with_pod(cluster, a_pod("p")))
    assert len(asked(cluster)) == 1 and not node_of(cluster)
    cluster = quiet(with_pod(cluster, a_pod("q")))
    assert len(asked(cluster)) == 2
    cluster = quiet(with_node(cluster, a_node("z")))
    assert node_of(cluster) == node_of(cluster, "q") == "z" and len(asked(cluster)) == 4


def test_sched_57_only_pods_that_request_a_managed_resource_are_asked_about():
    # Shows SCHED-57.a.
    cluster = nodes(extended({"filter": only("b")}, managed=frozenset({GPU})), "a", "b")
    cluster = quiet(with_pod(cluster, a_pod("plain")))
    assert node_of(cluster, "plain") and not asked(cluster)
    cluster = quiet(with_pod(cluster, with_gpu("p", "1")))
    assert not asked(cluster) and not node_of(cluster), "no node has the resource"
    cluster = quiet(with_pod(cluster, with_gpu("q", "0")))
    assert node_of(cluster, "q") == "b"


def test_d_410_other_pods_do_not_wait_for_an_extender():
    # Shows SCHED-57.d, SCHED-57.f.
    cluster = nodes(extended({"filter": only("b")}, managed=frozenset({GPU})), "a", "b")
    cluster = with_pod(cluster, with_gpu("p", "0"))
    while not cluster.operations:
        cluster = step(cluster, next(iter(enabled(cluster))))
    held = without_operations(with_pod(cluster, a_pod("plain")))
    assert node_of(held, "plain") and not node_of(held)
    assert node_of(quiet(held)) == "b"


def cordoned(cluster, name):
    return patched(cluster, NODES, name, {"spec": {"unschedulable": True}})


def without_operations(cluster):
    """The cluster moves on, and no extender answers."""
    while actions := [one for one in enabled(cluster) if not isinstance(one, Operate)]:
        if cluster.now > 1_700_000_000 * SECOND + 5 * SECOND:
            break
        cluster = step(cluster, actions[0])
    return cluster


def test_sched_57_the_node_is_decided_on_the_newest_snapshot():
    """While the extender is asked, the better node becomes unschedulable. Shows SCHED-57.e."""
    cluster = nodes(extended({"filter": only("a", "b")}), "a", cpu="8")
    cluster = with_pod(nodes(cluster, "b"), a_pod("p"))
    while not cluster.operations:
        cluster = step(cluster, next(iter(enabled(cluster))))
    cluster = without_operations(cordoned(cluster, "a"))
    assert node_of(quiet(cluster)) == "b"


@given(st.lists(st.integers(-5, 15), min_size=3, max_size=3), st.integers(1, 3))
def test_sched_59_points_of_extenders_are_added(scores, weight):
    """Equal nodes: the best score wins, within 0 to 10."""
    hosts = [{"Host": name, "Score": score} for name, score in zip("abc", scores, strict=True)]
    cluster = nodes(extended({"prioritize": lambda _: hosts}, weight=weight), "a", "b", "c")
    cluster = quiet(with_pod(cluster, a_pod("p")))
    limited = [min(max(score, 0), 10) for score in scores]
    assert node_of(cluster) == "abc"[limited.index(max(limited))]


def test_sched_59_an_extender_that_does_not_answer_gives_no_points():
    silent = Extender(f"{URL}/x", prioritize_verb="silent", has_node_cache=True)
    other = Extender(URL, prioritize_verb="other", has_node_cache=True)
    answers = {"silent": lambda _: OSError("EOF"), "other": lambda _: [{"host": "b", "score": 1}]}
    cluster = nodes(extended(answers, silent, other), "a", "b")
    cluster = quiet(with_pod(cluster, a_pod("p")))
    assert node_of(cluster) == "b" and [verb for verb, _ in asked(cluster)] == ["silent", "other"]


# --- preemption


def crowded(answer, **fields):
    """Two nodes, each full of one pod, the second of higher priority; a more important pod
    comes."""
    cluster = with_classes(nodes(extended({"preempt": answer}, **fields), "a", "b"))
    for name, priority, node in (("low", "low", "a"), ("middle", "mid", "b")):
        cluster = submitted(cluster, classed(name, priority, "2", node_name=node))
    return quiet(submitted(quiet(cluster), classed("p", "high", "2")), seconds=0)


def victims_of(*nodes):
    """The extender leaves these nodes, with the victims that it got."""

    def answer(question):
        found = question["NodeNameToMetaVictims"]
        return {"NodeNameToMetaVictims": {name: found[name] for name in nodes}}

    return answer


def test_sched_60_an_extender_chooses_the_node_of_the_victims():
    """Without it the least important pod is deleted."""
    cluster = quiet(crowded(victims_of("b")), seconds=10)
    assert names(cluster) == ["low", "p"] and node_of(cluster) == "b"
    assert names(quiet(crowded(victims_of("a", "b")), seconds=10)) == ["middle", "p"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (victims_of(), "no candidate node for preemption"),
        (lambda _: 404, f"failed preempt with extender at URL {URL}/preempt, code 404"),
        (lambda _: {"NodeNameToMetaVictims": {"a": {"Pods": []}}}, 'expected at least one victim pod on node "a"'),
        (lambda _: {"NodeNameToMetaVictims": {"a": {"Pods": [{"UID": "z"}]}}}, f"extender: {URL} claims to preempt pod (UID: z) on node: a, but the pod is not found on that node"),
    ],
)  # fmt: skip
def test_sched_60_no_pod_is_deleted_without_the_extenders_consent(answer, words):
    cluster = quiet(crowded(answer), seconds=0)
    assert names(cluster) == ["low", "middle", "p"]
    message = condition_of(cluster, "p").message
    assert message.endswith(f"no new claims to deallocate, preemption: {words}")


def test_sched_60_an_ignorable_extender_keeps_no_pod_from_preempting():
    cluster = quiet(crowded(lambda _: 500, is_ignorable=True), seconds=10)
    assert names(cluster) == ["middle", "p"]


# --- binding


def bind(cluster, node):
    binding = Binding(
        metadata=ObjectMeta(name="p", namespace="default"),
        target=ObjectReference(kind="Node", name=node),
    )
    request = Request("create", PODS, "default", "p", "binding", body=binding, user=ADMIN)
    return step(cluster, Submit(request))


def test_sched_61_an_extender_binds_the_pod_and_the_scheduler_waits():
    # Shows SCHED-61.a, SCHED-61.b.
    cluster = nodes(extended({"bind": lambda _: {"Error": ""}}), "a")
    cluster = quiet(with_pod(cluster, a_pod("p")), seconds=1)
    assert not node_of(cluster)
    (question,) = [question for verb, question in asked(cluster) if verb == "bind"]
    assert question == {
        "PodName": "p", "PodNamespace": "default", "PodUID": pod_named(cluster, "p").metadata.uid,
        "Node": "a",
    }  # fmt: skip
    cluster = quiet(bind(cluster, "a"))
    assert node_of(cluster) == "a" and events(cluster, "Scheduled")
    assert len(asked(cluster)) == 1


def test_sched_61_a_pod_that_is_not_bound_is_tried_again():
    # Shows SCHED-61.c.
    cluster = nodes(extended({"bind": lambda _: {}}), "a")
    cluster = quiet(with_pod(cluster, a_pod("p")), seconds=60)
    assert len(asked(cluster)) == 1
    cluster = quiet(cluster, seconds=15 * MINUTE // SECOND)
    assert len(asked(cluster)) == 2


@pytest.mark.parametrize("is_ignorable", [False, True])
def test_sched_61_after_an_error_the_pod_waits_or_the_scheduler_binds_it(is_ignorable):
    answers = {"bind": lambda _: {"Error": "no"}}
    cluster = nodes(extended(answers, is_ignorable=is_ignorable), "a")
    cluster = quiet(with_pod(cluster, a_pod("p")), seconds=0)
    if is_ignorable:
        assert node_of(cluster) == "a"
        return
    condition = condition_of(cluster, "p")
    assert (condition.reason, condition.message) == ("SchedulerError", "no")
    cluster = quiet(answering(cluster, bind=lambda _: 200), seconds=10)
    assert len(asked(cluster)) >= 2
